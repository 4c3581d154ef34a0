"""HAProxy's times: whole milliseconds, rounded up, and at most 24.8 days.

As `parse_time_err` of HAProxy's src/tools.c does it. A number without a unit is in milliseconds.
"""

from __future__ import annotations

import re

_TIME = re.compile(r"([0-9]+)(us|ms|s|m|h|d)?(.*)", re.DOTALL)
_UNIT_US = {"us": 1, "ms": 1000, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6, "d": 86400 * 10**6}
_MS_MAX = 2**31 - 1
_DIGITS_MAX = 20  # of what HAProxy counts in


def read_ms(text: str) -> int | str:
    """Read a time in milliseconds; in words why it is none, if so."""
    found = _TIME.fullmatch(text)
    if found is None or (found[2] is None and found[3]):
        return "which is no time (write it like 250ms)"
    digits = found[1].lstrip("0") or "0"
    ms = -(-int(digits[: _DIGITS_MAX + 1]) * _UNIT_US[found[2] or "ms"] // 1000)
    if len(digits) > _DIGITS_MAX or ms > _MS_MAX:
        return "which is longer than HAProxy's timers (24 days at most)"
    return ms


def read_count(text: str) -> int | str:
    """Read a whole number; in words why it is none, if so. HAProxy's `atol` takes more."""
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        return "which is no whole number"
    return int(text)
