# ruff: noqa: E501 - log lines are as long as they are
"""HAProxy's log lines: the wordings of the reference, and lines that 2.6.12 really sent."""

from __future__ import annotations

from typing import Any

import pytest

from chaosd.proxies.haproxy import log

SYSLOG = "<133>Nov 23 00:20:21 haproxy[9702]: "
STDERR = "[WARNING]  (9702) : "

# As the reference gives them, from the sources: up to 2.9, and 3.0 and later.
TABLE: list[tuple[str, str, dict[str, Any]]] = [
    (
        "b/s changed its IP from 127.0.1.1 to 127.0.1.2 by r/ns.",
        "address_changed",
        {"server": "b/s", "old": "127.0.1.1", "new": "127.0.1.2"},
    ),
    (
        "b/s changed its IP from (none) to 127.0.1.2 by DNS cache.",
        "address_changed",
        {"server": "b/s", "old": None, "new": "127.0.1.2"},
    ),
    (
        "b/s changed its IP from 10.0.0.1 to fd00::2 by DNS additional record.",
        "address_changed",
        {"server": "b/s", "old": "10.0.0.1", "new": "fd00::2"},
    ),
    (
        "b/s: IP changed from '127.0.1.1' to '127.0.1.2' by 'r/ns'.",
        "address_changed",
        {"server": "b/s", "old": "127.0.1.1", "new": "127.0.1.2"},
    ),
    (
        "b/s: IP changed from '(none)' to '127.0.1.2' by 'DNS cache'.",
        "address_changed",
        {"server": "b/s", "old": None, "new": "127.0.1.2"},
    ),
    (
        "b/s: IP changed from 'fd00::1' to 'fd00::2' by 'DNS additional record'.",
        "address_changed",
        {"server": "b/s", "old": "fd00::1", "new": "fd00::2"},
    ),
    (
        (
            "b/s: IP changed from '127.0.1.1' to '127.0.1.2', port changed from '80' to '81' "
            "by 'stats socket command'."
        ),
        "address_changed",
        {"server": "b/s", "old": "127.0.1.1", "new": "127.0.1.2"},
    ),
    (
        (
            "Server b/s is going DOWN for maintenance (DNS NX status). 0 active and 0 backup servers "
            "left. 0 sessions active, 0 requeued, 0 remaining in queue."
        ),
        "maint",
        {"server": "b/s", "reason": "DNS NX status"},
    ),
    (
        (
            "Server b/s ('app.net') is going DOWN for maintenance (No IP for server ). 1 active and 0 "
            "backup servers left."
        ),
        "maint",
        {"server": "b/s", "reason": "No IP for server"},
    ),
    (
        "Server b/s was DOWN and now enters maintenance (DNS timeout status).",
        "maint",
        {"server": "b/s", "reason": "DNS timeout status"},
    ),
    ("Server b/s ('app.net') is UP/READY (resolves again).", "up", {"server": "b/s"}),
    (
        "Server b/s ('app.net') is DOWN/READY (resolves again).",
        "down",
        {"server": "b/s", "reason": "resolves again"},
    ),
    (
        "Server b/s administratively READY thanks to valid DNS answer.",
        "ready",
        {"server": "b/s"},
    ),
    (
        (
            "Server b/s is DOWN, reason: Layer4 connection problem, check duration: 0ms. 0 active and "
            "0 backup servers left."
        ),
        "down",
        {"server": "b/s", "reason": "Layer4 connection problem"},
    ),
    (
        (
            "Backup Server b/t is DOWN, reason: Layer7 wrong status, code: 404, info: "
            '"HTTP status check returned code <404>", check duration: 2ms. 1 active and 0 backup '
            "servers left."
        ),
        "down",
        {
            "server": "b/t",
            "reason": 'Layer7 wrong status, code: 404, info: "HTTP status check returned code <404>"',
        },
    ),
    ("Backup Server b/t ('other.net') is UP/READY (resolves again).", "up", {"server": "b/t"}),
]

# Sent by HAProxy 2.6.12 to a datagram socket, line end and all.
REAL: list[tuple[str, tuple[str, dict[str, Any]] | None]] = [
    (
        (
            "<133>Nov 23 00:20:21 haproxy[9702]: b/app changed its IP from (none) to 127.64.9.1 by "
            "r/dns.\n"
        ),
        ("address_changed", {"server": "b/app", "old": None, "new": "127.64.9.1"}),
    ),
    (
        (
            "<133>Nov 23 00:20:21 haproxy[9702]: Server b/app ('app.chaosd') is UP/READY (resolves "
            "again).\n"
        ),
        ("up", {"server": "b/app"}),
    ),
    (
        (
            "<133>Nov 23 00:20:21 haproxy[9702]: Server b/app administratively READY thanks to valid "
            "DNS answer.\n"
        ),
        ("ready", {"server": "b/app"}),
    ),
    (
        (
            "<129>Nov 23 00:20:22 haproxy[9702]: Server b/app is DOWN, reason: Layer4 timeout, check "
            "duration: 501ms. 0 active and 0 backup servers left. 9983 sessions active, 0 requeued, 0 "
            "remaining in queue.\n"
        ),
        ("down", {"server": "b/app", "reason": "Layer4 timeout"}),
    ),
    ("<128>Nov 23 00:20:22 haproxy[9702]: backend b has no server available!\n", None),
    (
        (
            "<133>Nov 23 00:20:25 haproxy[9702]: Server b/app was DOWN and now enters maintenance (DNS "
            "NX status).\n"
        ),
        ("maint", {"server": "b/app", "reason": "DNS NX status"}),
    ),
    (
        (
            "<129>Nov 23 00:20:30 haproxy[9702]: Server b/app is DOWN, reason: Layer4 connection "
            'problem, info: "Connection refused", check duration: 0ms. 0 active and 0 backup servers '
            "left. 0 sessions active, 0 requeued, 0 remaining in queue.\n"
        ),
        (
            "down",
            {
                "server": "b/app",
                "reason": 'Layer4 connection problem, info: "Connection refused"',
            },
        ),
    ),
    (
        (
            "<133>Nov 23 00:20:34 haproxy[9702]: Server b/app is UP, reason: Layer4 check passed, "
            "check duration: 0ms. 1 active and 0 backup servers online. 0 sessions requeued, 0 total in "
            "queue.\n"
        ),
        ("up", {"server": "b/app"}),
    ),
]


@pytest.mark.parametrize("prefix", ["", SYSLOG, STDERR], ids=["bare", "syslog", "stderr"])
@pytest.mark.parametrize(("line", "what", "data"), TABLE, ids=[line[:40] for line, *_ in TABLE])
def test_what_a_line_says(prefix: str, line: str, what: str, data: dict[str, Any]) -> None:
    assert log.read(prefix + line) == (what, data)


@pytest.mark.parametrize(("line", "said"), REAL, ids=[line[37:70] for line, _ in REAL])
def test_lines_that_were_really_sent(line: str, said: tuple[str, dict[str, Any]] | None) -> None:
    assert log.read(line) == said


@pytest.mark.parametrize(
    "line",
    [
        "",
        "<133>",
        "Proxy door started.",
        "backend 'b' has no server available!",
        (
            "127.0.0.1:5 [23/Nov/2026:00:20:21.000] door app/app 0/0/0/1/1 200 99 - - ---- 1/1/0/0/0 "
            '0/0 "GET /is UP, reason: HTTP/1.1"'
        ),
        "Server b/s is UP-to-date",
        "Stopping backend app in 0 ms.",
        "\x00\xff",
    ],
)
def test_other_lines_say_nothing(line: str) -> None:
    assert log.read(line) is None
