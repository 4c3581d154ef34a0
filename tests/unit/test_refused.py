"""Files that this machine's proxy refuses, and another version takes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from chaosd.cli import own_files
from chaosd.errors import ConfigError, RefusedError
from chaosd.proxies.haproxy import complaints

REFUSED = RefusedError("h.cfg:3: unknown", taken_by="2.2")
NOBODY = RefusedError("h.cfg:3: unknown", taken_by=None)


@pytest.mark.parametrize(
    "line",
    [
        "[ALERT] 330/165105 (24876) : parsing [/x.cfg:2] : unknown",
        "[ALERT]    (7) : config : parsing [/x.cfg:2] : unknown",
        "[ALERT]    (7) : parsing [/x.cfg:2] : unknown",
    ],
)
def test_a_refusal_is_read_as_each_version_says_it(line: str) -> None:
    assert complaints.alerts(f"[NOTICE] : no\n{line}\n") == ["parsing [/x.cfg:2] : unknown"]
    assert complaints.placed("parsing [/x.cfg:2] : unknown") == "/x.cfg:2: unknown"


def tried(error: ConfigError, **options: Any) -> list[str | None]:
    """The versions with which something is done that this error stops the first time."""
    found: list[str | None] = []

    def do(arguments: argparse.Namespace) -> int:
        found.append(arguments.proxy_version)
        if len(found) == 1:
            raise error
        return 0

    given = {"haproxy": [Path("h.cfg")], "proxy_version": None, **options}
    assert own_files.by_what_takes_them(argparse.Namespace(**given), do) == 0
    return found


def test_a_version_that_takes_the_files_is_used_and_said(capsys: pytest.CaptureFixture[str]):
    assert tried(REFUSED) == [None, "2.2"]
    assert capsys.readouterr().out == "h.cfg:3: unknown\nso HAProxy 2.2 is used\n\n"


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (REFUSED, {"proxy_version": "3.0"}),
        (REFUSED, {"quiet": True}),  # a gate
        (REFUSED, {"haproxy": []}),
        (NOBODY, {}),
        (ConfigError("else"), {}),
    ],
)
def test_otherwise_the_refusal_stands(error: ConfigError, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        tried(error, **options)
