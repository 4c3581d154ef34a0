"""Sections that the files name and don't have: they may be in a file that was not given."""

from __future__ import annotations

import re
from collections.abc import Iterator

from chaosd.proxies.haproxy.cfg.source import Place, Section, Statement
from chaosd.proxies.haproxy.rewire.choose import is_followed
from chaosd.proxies.haproxy.rewire.edits import Drop, Edit, Insert
from chaosd.proxies.haproxy.rewire.reasons import Reason
from chaosd.proxies.haproxy.rewire.scene import Scene

_NAME = re.compile(r"^[A-Za-z0-9_.:-]+$")  # as HAProxy's sections may have it
_USERS = re.compile(r"\bhttp_auth(?:_group)?\(\s*([^)\s]+)\s*\)")


def sections(scene: Scene, end: Place) -> Iterator[Edit]:
    """Stand-ins for them, behind the last line."""
    named = {**_resolvers(scene), **_users(scene), **_backends(scene), **_fcgi_apps(scene)}
    for (kind, name), (place, reason) in named.items():
        scene.lose(place, reason, name)
        lines = ["", f"{kind} {name}"]
        if kind == "resolvers":
            lines.append(f"    nameserver chaosd {scene.ours.dns[0]}")
            lines += [f"    {text}" for text in scene.overrides.resolvers.values()]
        elif kind == "backend":
            lines += [f"    timeout {which} 60s" for which in ("connect", "server")]
        elif kind == "fcgi-app":
            lines.append("    docroot /")
        yield Insert(end, reason, name, lines=tuple(lines))


Named = dict[tuple[str, str], tuple[Place, Reason]]


def _resolvers(scene: Scene) -> Named:
    found: Named = {}
    for server in filter(is_followed, scene.effective.servers):
        name = str(server.values["resolvers"].value)
        if name not in scene.effective.resolvers:
            found.setdefault(("resolvers", name), (server.place, Reason.MISSING_RESOLVERS))
    return found


def _users(scene: Scene) -> Named:
    there = {s.name for s in scene.effective.document.sections if s.kind == "userlist"}
    found: Named = {}
    for _, line in scene.effective.document.statements():
        for text in line.texts[1:]:
            for name in _USERS.findall(text):
                if name not in there:
                    found.setdefault(("userlist", name), (line.place, Reason.MISSING_USERS))
    return found


def _backends(scene: Scene) -> Named:
    there = {p.name for p in scene.effective.proxies if p.kind in ("backend", "listen")}
    found: Named = {}
    for _, line in scene.effective.document.statements():
        if line.keyword not in ("use_backend", "default_backend") or not line.words[1:]:
            continue
        name = line.texts[1]
        if name not in there and _NAME.match(name):
            found.setdefault(("backend", name), (line.place, Reason.MISSING_BACKEND))
    return found


def _fcgi_apps(scene: Scene) -> Named:
    there = {s.name for s in scene.effective.document.sections if s.kind == "fcgi-app"}
    found: Named = {}
    for _, line in scene.effective.document.statements():
        if line.says("use-fcgi-app") and line.words[1:] and line.texts[1] not in there:
            found.setdefault(("fcgi-app", line.texts[1]), (line.place, Reason.MISSING_FCGI))
    return found


def fcgi_app(scene: Scene, section: Section, line: Statement) -> Iterator[Edit]:
    """`use-fcgi-app` of the backend that moves: the stand-in app speaks HTTP."""
    if scene.is_moved(section):
        scene.lose(line.place, Reason.PLAIN_PROTOCOL, " ".join(line.texts))
        yield Drop(line.place, Reason.PLAIN_PROTOCOL)
