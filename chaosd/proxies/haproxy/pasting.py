"""The lines of haproxy.cfg that make some settings of the YAML: for people, to paste."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
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


# The names of chaosd's own sections are not those of the file that people have.
OWN = Sections(
    (f"{RESOLVERS}  # your resolvers section",),
    f"backend {BACKEND}  # your backend",
    "frontend entry  # your frontend",
    (SERVER,),
)


def pasted(values: Mapping[str, Any], sections: Sections | None) -> list[str]:
    """What these values, by paths such as `resolvers.timeout_resolve`, are in a haproxy.cfg.

    `sections` are those of the user's file; None: chaosd's own. Server words are said as a comment,
    for they belong to lines that have more.
    """
    places = OWN if sections is None else sections
    tree: dict[str, Any] = {"type": "haproxy"}
    for path, value in values.items():
        *before, last = path.split(".")
        if value is None or path.split(".")[0] not in OF_THE_FILE:
            continue
        here = tree
        for step in before:
            here = here.setdefault(step, {})
        here[last] = value
    found = overrides.of(Config.model_validate_json(json.dumps(tree)))
    lines: list[str] = []
    lines += _section("global", found.process.values())
    for name in places.resolvers if found.resolvers else ():
        lines += _section(f"resolvers {name}", found.resolvers.values())
    lines += _section(places.frontend, found.frontend.values())
    words = " ".join(found.server)
    servers = [f"# server {name} …: {words}" for name in places.servers] if words else []
    return lines + list(_section(places.backend, [*found.backend.values(), *servers]))


def _section(header: str, lines: Iterable[str]) -> Iterator[str]:
    texts = list(lines)
    if texts:
        yield header
        yield from (f"{_INDENT}{text}" for text in texts)
