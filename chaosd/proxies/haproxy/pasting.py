"""The lines of haproxy.cfg that make some settings of the YAML: for people, to paste."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from chaosd.proxies.haproxy.config import OF_THE_FILE, Config
from chaosd.proxies.haproxy.render import BACKEND, RESOLVERS, SERVER
from chaosd.proxies.haproxy.rewire import overrides

_INDENT = "    "


class Sections(NamedTuple):
    """Where in a haproxy.cfg settings are said."""

    resolvers: tuple[str, ...]
    backend: str  # its header, as "backend api"
    frontend: str
    servers: tuple[str, ...]


OWN = Sections((RESOLVERS,), f"backend {BACKEND}", "frontend door", (SERVER,))


def pasted(config: Config, paths: Sequence[str], sections: Sections | None) -> list[str]:
    """What these paths (`resolvers.timeout_resolve`) of a config are in a haproxy.cfg.

    `sections` are those of the user's file; None: chaosd's own. Server words are said as a comment,
    for they belong to lines that have more.
    """
    places = OWN if sections is None else sections
    tree: dict[str, Any] = {"type": "haproxy"}
    whole = config.model_dump(mode="json")
    for path in paths:
        steps = path.split(".")
        if steps[0] in OF_THE_FILE:
            _copy(whole, tree, steps)
    found = overrides.of(Config.model_validate_json(json.dumps(tree)))
    lines: list[str] = []
    lines += _section("global", found.process.values())
    for name in places.resolvers if found.resolvers else ():
        lines += _section(f"resolvers {name}", found.resolvers.values())
    lines += _section(places.frontend, found.frontend.values())
    words = " ".join(found.server)
    servers = [f"# server {name} …: {words}" for name in places.servers] if words else []
    return lines + list(_section(places.backend, [*found.backend.values(), *servers]))


def _section(header: str, lines: Any) -> Iterator[str]:
    texts = list(lines)
    if texts:
        yield header
        yield from (f"{_INDENT}{text}" for text in texts)


def _copy(whole: Any, into: dict[str, Any], steps: Sequence[str]) -> None:
    for step in steps[:-1]:
        whole = whole.get(step) or {}
        into = into.setdefault(step, {})
    into[steps[-1]] = whole.get(steps[-1])
