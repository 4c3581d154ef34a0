"""What HAProxy's log lines say of its servers. Both wordings: up to 2.9, and 3.0 and later."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

# `<133>Sep  7 12:00:00 host haproxy[123]: ` of syslog, or `[WARNING]  (123) : ` of stderr.
_PREFIX = re.compile(r"^(?:<\d+>.*?\[\d+\]:|\[\w+\]\s+\(\d+\) :)\s*")
_SERVER = r"(?:(?:Backup )?Server )?(?P<server>[^\s/]+/[^\s:]+)"
_FQDN = r"(?: \('[^']*'\))?"

_REASON_END = r"(?:, check duration|\. \d+ active|$)"
_OLD, _NEW = r"'?(?P<old>[^\s']+)'?", r"'?(?P<new>[^\s',]+)'?"

_Data = Callable[[re.Match[str]], dict[str, Any]]


def _server(match: re.Match[str]) -> dict[str, Any]:
    return {"server": match["server"]}


def _server_and_reason(match: re.Match[str]) -> dict[str, Any]:
    return {"server": match["server"], "reason": match["reason"].strip()}


def _addresses(match: re.Match[str]) -> dict[str, Any]:
    old, new = match["old"], match["new"]
    return {
        "server": match["server"],
        "old": None if old == "(none)" else old,
        "new": None if new == "(none)" else new,
    }


_PATTERNS: tuple[tuple[re.Pattern[str], str, _Data], ...] = tuple(
    (re.compile(pattern), what, data)
    for pattern, what, data in (
        (
            rf"^{_SERVER}:? (?:changed its IP|IP changed) from {_OLD} to {_NEW}",
            "address_changed",
            _addresses,
        ),
        (
            rf"^{_SERVER}{_FQDN} is going DOWN for maintenance \((?P<reason>[^)]*)\)",
            "maint",
            _server_and_reason,
        ),
        (
            rf"^{_SERVER}{_FQDN} was DOWN and now enters maintenance \((?P<reason>[^)]*)\)",
            "maint",
            _server_and_reason,
        ),
        (rf"^{_SERVER}{_FQDN} is UP(?:/READY|, reason:|\.)", "up", _server),
        (rf"^{_SERVER}{_FQDN} is DOWN/READY \((?P<reason>[^)]*)\)", "down", _server_and_reason),
        (rf"^{_SERVER} administratively READY", "ready", _server),
        (
            rf"^{_SERVER}{_FQDN} is DOWN, reason: (?P<reason>.*?){_REASON_END}",
            "down",
            _server_and_reason,
        ),
    )
)


def read(line: str) -> tuple[str, dict[str, Any]] | None:
    """Say what a line tells: address_changed, up, down, maint or ready, and of which server.

    Ready is out of maintenance, whether usable or not.

    `server` is `backend/server`. None for everything else: traffic, start-up, other changes.
    """
    text = _PREFIX.sub("", line.strip(), count=1)
    for pattern, what, data in _PATTERNS:
        if match := pattern.match(text):
            return what, data(match)
    return None
