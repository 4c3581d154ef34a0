"""A page that needs nothing else: no script, no request to anywhere. Mail, archive or print it."""

from __future__ import annotations

from importlib.resources import files

from chaosd.report.document import escape

POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def shell(title: str, body: str) -> str:
    """The whole page around its body; `title` is text."""
    style = (files(__package__) / "style.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} - chaosd</title><style>{style}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )
