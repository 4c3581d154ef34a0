"""The user's own haproxy.cfg: does it use what chaosd supplies, and what it would lack if not.

It is not judged here whether the file is valid: HAProxy itself does that (`haproxy -c`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_SECTIONS = (
    *("global", "defaults", "frontend", "backend", "listen", "resolvers", "peers", "userlist"),
    *("mailers", "program", "http-errors", "ring", "log-forward", "cache", "fcgi-app", "crt-store"),
    *("traces", "acme", "log-profile"),
)
# A backslash takes the next character as it is; quotes hide a `#`.
_COMMENT = re.compile(r"""((?:\\.|"(?:\\.|[^"\\])*"|'[^']*'|[^#\\"'])*)#.*""")


class Line(NamedTuple):
    """One line that says something, and the section that it stands in."""

    number: int
    section: str  # "backend app"
    words: tuple[str, ...]

    def uses(self, variable: str) -> bool:
        """Whether `$VARIABLE` or `${VARIABLE}` occurs in it."""
        return any(re.search(rf"\$\{{?{variable}\b", word) for word in self.words)


def problems(path: Path) -> list[str]:
    """Say what keeps chaosd from measuring this file, one line each."""
    try:
        lines = list(_lines(path))
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        return [f"{path}: can't be read: {reason} (give the path of your haproxy.cfg)"]
    found = []
    if not any(line.words[0] == "bind" and line.uses("CHAOSD_LISTEN") for line in lines):
        found.append(
            f'{path}: nothing binds to "${{CHAOSD_LISTEN}}", so probes can\'t get in '
            '(add: bind "${CHAOSD_LISTEN}" to a frontend)'
        )
    servers = [
        line
        for line in lines
        if line.words[0] in ("server", "server-template") and line.uses("CHAOSD_APP")
    ]
    if not servers:
        found.append(
            f'{path}: no server is at "${{CHAOSD_APP}}", so the app can\'t be reached '
            '(add: server app "${CHAOSD_APP}" check resolvers … to a backend)'
        )
    asking = {
        line.section.partition(" ")[2]
        for line in lines
        if line.section.startswith("resolvers")
        and line.words[0] == "nameserver"
        and line.uses("CHAOSD_DNS")
    }
    if not asking:
        found.append(
            f'{path}: no nameserver is at "${{CHAOSD_DNS}}", so moves can\'t be seen '
            '(add: nameserver dns "${CHAOSD_DNS}" to a resolvers section)'
        )
    return found + [
        complaint for line in servers if (complaint := _lookup(path, line, lines, asking))
    ]


def advice(path: Path) -> list[str]:
    """Say what would be known if the file were a little different; nothing here stops a run."""
    try:
        lines = list(_lines(path))
    except (OSError, UnicodeError):
        return []
    found = []
    logging = [line for line in lines if line.words[0] == "log" and line.uses("CHAOSD_LOG")]
    if not logging:
        found.append(
            f'{path}: nothing logs to "${{CHAOSD_LOG}}", so when the proxy saw the move, and when '
            'its server came and went, stays unknown (add: log "${CHAOSD_LOG}" local0 notice to '
            "global, and log global to defaults)"
        )
    elif all(line.section == "global" for line in logging) and not any(
        line.words[:2] == ("log", "global") for line in lines
    ):
        found.append(
            f"{path}:{logging[0].number}: this log is used by no backend, so nothing of its "
            "servers is heard (add: log global to defaults)"
        )
    if not any(line.words[:2] == ("stats", "socket") and line.uses("CHAOSD_API") for line in lines):
        found.append(
            f'{path}: no stats socket is at "${{CHAOSD_API}}", so the resolver counters stay '
            'unknown (add: stats socket "${CHAOSD_API}" mode 600 level admin to global)'
        )
    return found


def _lookup(path: Path, server: Line, lines: list[Line], asking: set[str]) -> str | None:
    """Say why this server is never looked up at chaosd's nameserver, if so."""
    where = f"{path}:{server.number}"
    used = _after("resolvers", server.words)
    if used is None:
        for line in lines:  # the nearest default-server wins, the section's own over defaults
            if line.words[0] == "default-server" and (
                line.section == server.section
                or (line.section.startswith("defaults") and line.number < server.number)
            ):
                used = _after("resolvers", line.words) or used
    if used is None:
        section = next(iter(sorted(asking)), "…")
        return (
            f"{where}: this server is looked up once and never again "
            f"(add: resolvers {section} to the line)"
        )
    if asking and used not in asking:
        known = ", ".join(sorted(asking))
        return (
            f'{where}: resolvers {used} has no nameserver at "${{CHAOSD_DNS}}" '
            f"(use: resolvers {known})"
        )
    return None


def _after(keyword: str, words: tuple[str, ...]) -> str | None:
    if keyword not in words[:-1]:
        return None
    return words[words.index(keyword) + 1].strip("\"'")


def _lines(path: Path) -> Iterator[Line]:
    section = ""
    for number, raw in enumerate(path.read_text().splitlines(), start=1):
        comment = _COMMENT.fullmatch(raw)
        words = tuple((comment[1] if comment else raw).split())
        if not words:
            continue
        if words[0] in _SECTIONS:
            section = " ".join(words[:2])
        else:
            yield Line(number, section, words)
