"""What the proxy said of its servers, where a cycle is invalid or a cell does not come up."""

from __future__ import annotations

import fake

from chaosd.engine.complaints import Complaints
from chaosd.history.causes import Cause, CauseKind
from chaosd.report import words

S = 1_000_000_000
REFUSED = 'Layer4 connection problem, info: "Connection refused"'


def log(at_ns: int, what: str, server: str, reason: str | None = None):
    data = {"server": server} | ({} if reason is None else {"reason": reason})
    return fake.reading(at_ns, "proxy.log", what, **data)


def test_the_last_reason_of_each_server_that_is_out_of_use() -> None:
    complaints = Complaints()
    assert complaints.said(0) == ""
    for event in (
        log(S, "down", "b/s", "Layer4 timeout"),
        log(2 * S, "up", "b/s"),
        log(3 * S, "maint", "b/t", "DNS NX status"),
        log(4 * S, "down", "b/s", REFUSED),
        log(5 * S, "ready", "b/t"),
        fake.reading(5 * S, "proxy.api", "down", server="b/u"),  # which says no reason
    ):
        complaints.take(event)
    assert complaints.said(6 * S) == f"b/t was MAINT, DNS NX status; b/s DOWN, {REFUSED}"
    assert complaints.said(20 * S) == f"b/s DOWN, {REFUSED}"  # b/t has been back for long
    said = words.cause(Cause(kind=CauseKind.NOT_STEADY, detail=complaints.said(20 * S)))
    assert said == f"the app did not answer steadily before it (b/s DOWN, {REFUSED})"


def test_not_all_of_many_servers_are_named() -> None:
    complaints = Complaints()
    for number in range(40):
        complaints.take(log(number, "down", f"b/s{number}", "x"))
    said = complaints.said(S)
    assert said.startswith("b/s35 DOWN, x; ")
    assert said.endswith("; … (40 servers)")
