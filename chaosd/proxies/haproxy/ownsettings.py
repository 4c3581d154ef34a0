"""The settings of the user's own haproxy.cfg, for the prediction: those that the algorithm goes by.

What is not understood is never guessed: there is no prediction then, and a line says why.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from chaosd.proxies.haproxy import own
from chaosd.proxies.haproxy.config import Config
from chaosd.proxies.haproxy.own import Line

_TIMES = {"inter": "inter", "fastinter": "fastinter", "downinter": "downinter"}
_COUNTS = {"fall": "fall", "rise": "rise"}
_NAMES = {
    "resolve-prefer": "resolve_prefer",
    "init-addr": "init_addr",
    "init-state": "init_state",
    "on-marked-down": "on_marked_down",
}
# With a value each, and nothing to do with when the app is found again.
_HARMLESS = (
    "resolvers",
    "weight",
    "maxconn",
    "minconn",
    "maxqueue",
    "cookie",
    "id",
    "pool-max-conn",
)
_TIMEOUTS = ("connect", "client", "server", "check")
# Options and directives that change how checks or retries go in ways that are not in the model.
_BEYOND_OPTIONS = (
    *("tcp-check", "ssl-hello-chk", "smtpchk", "mysql-check", "pgsql-check", "redis-check"),
    *("ldap-check", "spop-check", "external-check", "transparent", "http_proxy"),
)
_BEYOND = ("retry-on", "tcp-check", "external-check", "dispatch", "use-server", "email-alert")
_HTTP_CHECKS = ("expect", "send", "comment")  # they change what a check asks, not when or where
_BEYOND_GLOBAL = ("spread-checks", "dns-accept-family")


class _BeyondError(Exception):
    """The model does not reach this."""


class _Place(NamedTuple):
    path: Path
    line: Line

    def beyond(self, what: str) -> _BeyondError:
        return _BeyondError(f"{self.path}:{self.line.number}: no prediction with {what}")


def read(path: Path) -> tuple[Config | None, str | None]:
    """What the file says in chaosd's own words; or None, and why, in a line for the user.

    What it leaves out is HAProxy's own default, which is `resolve-prefer ipv6`, for instance.
    """
    try:
        lines = own.read_lines(path)
        return Config.model_validate(_settings(path, lines)), None
    except (OSError, UnicodeError):  # `own.problems` says so
        return None, None
    except _BeyondError as error:
        return None, str(error)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return None, f"{path}: no prediction: {where}: {first['msg'].removeprefix('Value error, ')}"


def _settings(path: Path, lines: list[Line]) -> dict[str, Any]:
    servers = own.app_servers(lines)
    if len(servers) != 1 or servers[0].words[0] != "server":
        raise _BeyondError(f"{path}: no prediction with more than one server for the app")
    if len({line.section for line in lines if _is_defaults(line)}) > 1:
        raise _BeyondError(f"{path}: no prediction with more than one defaults section")
    server = servers[0]
    words = own.server_words(server, lines)
    place = _Place(path, server)
    for line in lines:
        if line.section == "global" and line.words[0] in _BEYOND_GLOBAL:
            raise _Place(path, line).beyond(f"`{line.words[0]}`")
        beside = line.section == server.section and line.words[0] in ("server", "server-template")
        if beside and line != server:
            raise _Place(path, line).beyond("another server beside the app")
    section = f"resolvers {own.last('resolvers', words)}"
    return {
        "type": "haproxy",
        "server": _server(place, list(words)),
        "resolvers": _resolvers(path, [line for line in lines if line.section == section]),
        **_backend(path, [li for li in lines if _is_defaults(li) or li.section == server.section]),
    }


def _is_defaults(line: Line) -> bool:
    """It may have a name."""
    return line.section.split()[:1] == ["defaults"]


def _server(place: _Place, words: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"check": False, "resolve_prefer": "ipv6"}
    while words:
        word = words.pop(0)
        if word in ("check", "no-check"):
            found["check"] = word == "check"
        elif word in ("backup", "disabled", "agent-check", "track", "slowstart", "observe") or (
            word not in _TIMES | _COUNTS | _NAMES and word not in _HARMLESS
        ):
            raise place.beyond(f"`{word}` on the server line")
        elif not words:
            raise place.beyond(f"`{word}` without a value")
        else:
            value = _plain(place, words.pop(0))
            if word in _TIMES:
                found[_TIMES[word]] = _time(place, value)
            elif word in _COUNTS:
                found[_COUNTS[word]] = _count(place, value)
            elif word in _NAMES:
                found[_NAMES[word]] = value
    return found


def _resolvers(path: Path, lines: list[Line]) -> dict[str, Any]:
    found: dict[str, Any] = {"hold": {}}
    servers = 0
    for line in lines:
        place = _Place(path, line)
        word, *values = line.words
        servers += word == "nameserver"
        if word == "parse-resolv-conf" or servers > 1:
            raise place.beyond("more than one nameserver")
        if word == "timeout" and values[:1] in (["resolve"], ["retry"]) and values[1:]:
            found[f"timeout_{values[0]}"] = _time(place, _plain(place, values[1]))
        elif word == "hold" and len(values) > 1:
            found["hold"][values[0]] = _time(place, _plain(place, values[1]))
        elif word == "resolve_retries" and values:
            found[word] = _count(place, _plain(place, values[0]))
    return found


def _backend(path: Path, lines: list[Line]) -> dict[str, Any]:
    """What defaults and the backend say; what is said last holds."""
    timeouts: dict[str, Any] = {"check": None}
    found: dict[str, Any] = {"timeouts": timeouts}
    for line in sorted(lines, key=_is_defaults, reverse=True):
        place = _Place(path, line)
        word, *values = line.words
        if (
            word in _BEYOND
            or (word == "option" and values[:1] and values[0] in _BEYOND_OPTIONS)
            or (word == "http-check" and values[:1] and values[0] not in _HTTP_CHECKS)
        ):
            raise place.beyond(f"`{' '.join(line.words[:2])}`")
        if word == "timeout" and len(values) > 1 and values[0] in _TIMEOUTS:
            timeouts[values[0]] = _time(place, _plain(place, values[1]))
        elif word == "retries" and values:
            found["retries"] = _count(place, _plain(place, values[0]))
        elif values[:1] == ["redispatch"] and word == "option":
            every = values[1] if len(values) > 1 else ""
            found["redispatch"] = int(every) if every.lstrip("-").isdecimal() else True
        elif line.words[:3] == ("no", "option", "redispatch"):
            found["redispatch"] = False
        elif line.words[:3] == ("no", "option", "httpchk"):
            found["http_check"] = None
        elif values[:1] == ["httpchk"] and word == "option":
            found["http_check"] = next((v for v in values[1:] if v.startswith("/")), "/")
    if "connect" not in timeouts:
        raise _BeyondError(f"{path}: no prediction without `timeout connect`")
    return found


def _plain(place: _Place, text: str) -> str:
    value = text.strip("\"'")
    if "$" in value:
        raise place.beyond(f"`{text}`, whose value is not known here")
    return value


def _time(place: _Place, text: str) -> str:
    seconds = own.seconds(text, None)
    if seconds is None:
        raise place.beyond(f"`{text}`, which is no time")
    return f"{seconds * 1e3:.10g}ms"


def _count(place: _Place, text: str) -> int:
    if not text.isdecimal():
        raise place.beyond(f"`{text}`, which is no number")
    return int(text)
