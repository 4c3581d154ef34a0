"""The user's own haproxy.cfg: does it use what chaosd supplies, and what it would lack if not.

It is not judged here whether the file is valid: HAProxy itself does that (`haproxy -c`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

IDENTITY_HEADER = "X-Chaosd-Instance"
_SECTIONS = (
    *("global", "defaults", "frontend", "backend", "listen", "resolvers", "peers", "userlist"),
    *("mailers", "program", "http-errors", "ring", "log-forward", "cache", "fcgi-app", "crt-store"),
    *("traces", "acme", "log-profile"),
)
# HAProxy's own, where the file doesn't say.
_RESOLVE_S, _INTER_S = 1.0, 2.0
_TIME = re.compile(r"(\d{1,15})(us|ms|s|m|h|d)?")
_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
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


def problems(path: Path, *, by_address: bool = False) -> list[str]:
    """Say what keeps chaosd from measuring this file, one line each.

    With `by_address` its answers have to carry the address that they come from.
    """
    try:
        lines = read_lines(path)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        return [f"{path}: can't be read: {reason} (give the path of your haproxy.cfg)"]
    found = []
    if not any(line.words[0] == "bind" and line.uses("CHAOSD_LISTEN") for line in lines):
        found.append(
            f'{path}: nothing binds to "${{CHAOSD_LISTEN}}", so probes can\'t get in '
            '(add: bind "${CHAOSD_LISTEN}" to a frontend)'
        )
    servers = app_servers(lines)
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
    if by_address and not any(IDENTITY_HEADER in line.words for line in lines):
        found.append(
            f"{path}: nothing says which address an answer comes from, and the app does not say "
            f"who it is (add: http-response set-header {IDENTITY_HEADER} @%si to the backend, "
            "or let the app say it and set app.identity: header)"
        )
    return found + [
        complaint for line in servers if (complaint := _lookup(path, line, lines, asking))
    ]


def advice(path: Path) -> list[str]:
    """Say what would be known if the file were a little different; nothing here stops a run."""
    try:
        lines = read_lines(path)
    except (OSError, UnicodeError):
        return []
    found = []
    logging = [line for line in lines if line.words[0] == "log" and line.uses("CHAOSD_LOG")]
    if not logging:
        found.append(
            f'{path}: nothing logs to "${{CHAOSD_LOG}}", so when the proxy saw the move, and when '
            "its server came and went, is known by its stats socket at best, to some 30 ms "
            '(add: log "${CHAOSD_LOG}" local0 notice to global, and log global to defaults)'
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


def timers_s(path: Path) -> tuple[float, ...]:
    """`timeout resolve` and then `inter` of what is at the app, in seconds, each once.

    HAProxy's defaults where the file doesn't say, or says it by a variable.
    """
    try:
        lines = read_lines(path)
    except (OSError, UnicodeError):  # `problems` says so
        return (_RESOLVE_S, _INTER_S)
    resolve_s, inter_s = [], []
    for server in app_servers(lines):
        words = server_words(server, lines)
        resolve_s.append(_resolve_s(f"resolvers {last('resolvers', words)}", lines))
        switches = [word for word in words if word in ("check", "no-check")]
        if switches[-1:] == ["check"]:
            inter_s.append(_seconds(last("inter", words), _INTER_S))
    return tuple(dict.fromkeys([*resolve_s, *inter_s]))


def _resolve_s(section: str, lines: list[Line]) -> float:
    said = [
        line.words[2]
        for line in lines
        if line.section == section and line.words[:2] == ("timeout", "resolve") and line.words[2:]
    ]
    return _seconds(said[-1].strip("\"'") if said else None, _RESOLVE_S)


def _seconds(text: str | None, default_s: float) -> float:
    found = seconds(text, default_s)
    return default_s if found is None else found


def seconds(text: str | None, default_s: float | None) -> float | None:
    """Read a time as HAProxy writes it, in milliseconds if it has no unit."""
    found = _TIME.fullmatch(text or "")
    return int(found[1]) * _UNITS_S[found[2] or "ms"] if found else default_s


def app_servers(lines: list[Line]) -> list[Line]:
    """The servers that are the app."""
    return [
        line
        for line in lines
        if line.words[0] in ("server", "server-template") and line.uses("CHAOSD_APP")
    ]


def server_words(server: Line, lines: list[Line]) -> tuple[str, ...]:
    """The server's own words after those that it inherits; what is said last holds."""
    inherited: list[str] = []
    for place in ("defaults", server.section):
        for line in lines:
            in_place = line.section == place or line.section.startswith(f"{place} ")
            if line.words[0] == "default-server" and in_place and line.number < server.number:
                inherited += line.words[1:]
    return (*inherited, *server.words[3:])  # not its name, which may be any word


def _lookup(path: Path, server: Line, lines: list[Line], asking: set[str]) -> str | None:
    """Say why this server is never looked up at chaosd's nameserver, if so."""
    where = f"{path}:{server.number}"
    used = last("resolvers", server_words(server, lines))
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


def last(keyword: str, words: tuple[str, ...]) -> str | None:
    """What follows this word where it stands last."""
    values = [value for word, value in pairwise(words) if word == keyword]
    return values[-1].strip("\"'") if values else None


def read_lines(path: Path) -> list[Line]:
    """Read the file. Raises OSError and UnicodeError."""
    return list(_lines(path))


def _lines(path: Path) -> Iterator[Line]:
    section = ""
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        comment = _COMMENT.fullmatch(raw)
        words = tuple((comment[1] if comment else raw).split())
        if not words:
            continue
        if words[0] in _SECTIONS:
            section = " ".join(words[:2])
        else:
            yield Line(number, section, words)
