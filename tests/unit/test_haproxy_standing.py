"""A run's prediction for backends of any shape: one name moves, everything else stands still."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import shapes

from chaosd.dns.rules import Rule
from chaosd.history.cycles import Prediction
from chaosd.plugins.dns_trouble import disturbed
from chaosd.plugins.timeline import OLD, RECORD_TYPES, Clients, Timeline, Unreached, move
from chaosd.proxies.haproxy import HAProxy
from chaosd.proxies.haproxy.cfg.settings import settings_of
from chaosd.proxies.haproxy.model import trials
from chaosd.proxies.haproxy.model.backend import (
    Backend,
    Balance,
    CheckKind,
    Follows,
    Resolver,
    ServerLine,
)
from chaosd.proxies.haproxy.model.predicting import predict, predict_any
from chaosd.proxies.haproxy.model.settings import Holds
from chaosd.proxies.haproxy.model.standing import NOBODY, Standing

MS, S = 1_000_000, 1_000_000_000
HOLDS = Holds(
    valid_ns=10 * S,
    obsolete_ns=0,
    nx_ns=30 * S,
    refused_ns=30 * S,
    timeout_ns=30 * S,
    other_ns=30 * S,
)
RESOLVER = Resolver(
    name="r",
    nameservers=1,
    timeout_resolve_ns=S,
    timeout_retry_ns=S,
    resolve_retries=3,
    holds=HOLDS,
    families=RECORD_TYPES,
)
LINE = ServerLine(
    name="s",
    file="h.cfg",
    line=9,
    slots=1,
    host="app",
    port=80,
    follows=Follows.NAME,
    resolver=RESOLVER,
    prefers="A",
    allow_dup_ip=False,
    init_addr=("none",),
    init_state=None,
    check=CheckKind.CONNECTS,
    inter_ns=500 * MS,
    fastinter_ns=500 * MS,
    downinter_ns=500 * MS,
    fall=3,
    rise=2,
    backup=False,
    weight=1,
    shuts_sessions=False,
    observe=None,
    places=0,
    slowstart_ns=0,
)
BESIDE = replace(LINE, name="beside", host="other")
FIXED = replace(LINE, name="fixed", host=None, follows=Follows.FIXED, resolver=None)
VERSION = "3.0.11"


def backend(servers: Sequence[ServerLine], **changes: Any) -> Backend:
    values = {"name": "b", "file": "h.cfg", "line": 8, "timeout_server_ns": 5 * S}
    return shapes.backend(*servers, connect=1, **(values | changes))


def moved(others: int = 0, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "published_s": 0.2,
        "listening_s": 0.25,
        "missing_s": 0.0,
        "missing": "nxdomain",
        "old_ip": "refuse",
    }
    return move(**values | changes, others=others)


def predicted(
    *servers: ServerLine, others: int = 0, version: str = VERSION, **more: Any
) -> Prediction | Unreached:
    places = more.pop("places", {})
    standing = Standing(backend=backend(servers, **more), host="app", places=places)
    return predict_any(standing, version, moved(others))


def band(*servers: ServerLine, **more: Any) -> Prediction:
    found = predicted(*servers, **more)
    assert isinstance(found, Prediction)
    assert found.quantiles_s is not None
    assert found.lower_s <= found.quantiles_s["p05"] <= found.quantiles_s["p95"] <= found.upper_s
    return found


@pytest.mark.parametrize(
    ("obsolete_ns", "gap_s", "version", "is_tight"),
    [
        (0, 0.2, "2.6.12", True),
        (0, 2.5, "3.2.26", True),
        (0, 6.0, "2.2.9", True),
        (3 * S, 0.2, "3.0.11", False),  # the formula's lower bound is for a gap that no poll meets
        (0, 6.0, "2.8.25", False),  # its upper one does not count questions by failed checks
    ],
)
def test_of_the_simple_shape_it_says_what_the_closed_form_says(
    obsolete_ns: int, gap_s: float, version: str, is_tight: bool
) -> None:
    """Two descriptions of one algorithm: the band of trials is within a tenth of the formula's."""
    holds = replace(HOLDS, obsolete_ns=obsolete_ns)
    resolver = replace(RESOLVER, timeout_resolve_ns=970 * MS, holds=holds)
    alone = backend([replace(LINE, resolver=resolver)])
    settings = settings_of(alone)
    assert settings is not None
    happens = moved(published_s=gap_s, listening_s=gap_s)
    exact = predict(settings, version, happens)
    tried = predict_any(Standing(backend=alone, host="app"), version, happens)
    assert isinstance(exact, Prediction)
    assert isinstance(tried, Prediction)
    near_s = 0.1 * (exact.upper_s - exact.lower_s) + 0.02
    assert abs(tried.mean_s - exact.mean_s) < near_s
    low_s, high_s = tried.lower_s - exact.lower_s, tried.upper_s - exact.upper_s
    assert low_s > -near_s
    assert high_s < near_s
    if is_tight:
        assert max(low_s, -high_s) < near_s


def test_servers_beside_it_change_nothing_but_whose_turn_it_is() -> None:
    alone, among = band(LINE), band(LINE, BESIDE, FIXED)
    assert abs(among.mean_s - alone.mean_s) < 0.1
    assert alone.upper_s < among.upper_s + 0.1 < alone.upper_s + 0.3


def test_a_template_gives_the_slot_of_the_old_address_to_the_new_one() -> None:
    template = replace(LINE, slots=3)
    found = band(template, others=2)
    assert 0.25 <= found.lower_s < 0.35
    assert 1.0 < found.upper_s < 1.7


def test_a_spare_slot_takes_the_new_address_before_the_old_one_is_dropped() -> None:
    resolver = replace(RESOLVER, holds=replace(HOLDS, obsolete_ns=10 * S))
    full = replace(LINE, slots=2, resolver=resolver)
    assert band(full, others=1).lower_s > 8
    assert band(replace(full, slots=3), others=1).upper_s < 2


def test_a_backup_gets_nothing_while_others_answer(monkeypatch) -> None:
    monkeypatch.setattr(trials, "STEPS_OF_A_TRIAL_MAX", 2_000)  # of those that end in nothing
    backup = replace(LINE, backup=True)
    assert predicted(backup, FIXED) is Unreached.NO_RECOVERY
    dead = {"fixed": NOBODY}
    assert predicted(backup, replace(FIXED, check=CheckKind.NONE), places=dead) is (
        Unreached.NO_RECOVERY
    )
    band(replace(LINE, backup=False), replace(FIXED, backup=True))


def test_a_checked_server_where_nobody_is_leaves_the_backup_alone() -> None:
    backup = replace(LINE, backup=True)
    found = predicted(backup, FIXED, places={"fixed": NOBODY})
    # At T0 it is taken to be UP, as all are; three checks later it is not.
    assert isinstance(found, Prediction)


def test_two_lines_of_one_name_share_its_only_address() -> None:
    band(LINE, replace(LINE, name="t", port=81))


@pytest.mark.parametrize(
    ("servers", "others", "why"),
    [
        ([replace(LINE, follows=Follows.START, resolver=None)], 0, Unreached.LOOKED_UP_ONCE),
        ([replace(LINE, resolver=replace(RESOLVER, nameservers=0))], 0, Unreached.NO_NEW_ADDRESS),
        ([LINE], 2, Unreached.OTHER_TIMELINE),
    ],
)
def test_what_it_does_not_reach_is_said(
    servers: list[ServerLine], others: int, why: Unreached
) -> None:
    places = {"s": OLD}
    assert predicted(*servers, others=others, places=places) is why


def test_a_server_without_an_address_keeps_what_it_holds_before_2_5() -> None:
    holds = replace(HOLDS, obsolete_ns=60 * S, nx_ns=S)
    line = replace(LINE, resolver=replace(RESOLVER, holds=holds))
    assert predicted(line, BESIDE, version="2.2.9") is Unreached.OBSOLETE_IN_MAINTENANCE
    assert isinstance(predicted(line, BESIDE, version="2.6.12"), Prediction)


# --- the whole way, from a file ---

FILE = """\
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
resolvers r
    nameserver dns {dns}
frontend f
    bind {listen}
    default_backend b
backend b
    {backend}
    server s {app} check resolvers r
    {more}
"""
OURS = {"dns": "192.0.2.53:53", "listen": ":8080", "app": "app.example:80"}
BY_VARIABLES = {
    "dns": '"${CHAOSD_DNS}"',
    "listen": '"${CHAOSD_LISTEN}"',
    "app": '"${CHAOSD_APP}"',
}


def plugin(tmp_path: Path, where: dict[str, str], **parts: str) -> HAProxy:
    text = FILE.format(**{"backend": "", "more": "", **where, **parts})
    (tmp_path / "h.cfg").write_text(text)
    return HAProxy(HAProxy.Config(type="haproxy", config=tmp_path / "h.cfg"))


@pytest.mark.parametrize(
    ("where", "parts", "why"),
    [
        (OURS, {}, None),
        (OURS, {"more": "server t other.example:80 check resolvers r"}, None),
        (OURS, {"more": "server t 192.0.2.9:80 backup"}, None),
        (OURS, {"backend": "balance source"}, None),  # of one server
        (
            OURS,
            {"backend": "balance source", "more": "server t 192.0.2.9:80"},
            Unreached.LEFT_OUT,
        ),
        (OURS, {"more": "server t 192.0.2.9:80 observe layer4 check"}, None),
        (BY_VARIABLES, {}, None),
        (BY_VARIABLES, {"more": 'server t "${CHAOSD_APP}" backup resolvers r'}, None),
        (BY_VARIABLES, {"more": "server t 192.0.2.9:80"}, Unreached.OTHER_SERVERS),
        (BY_VARIABLES, {"more": "server t 192.0.2.9:80 inter 0"}, Unreached.UNREAD_SETTINGS),
    ],
)
def test_a_users_file_is_predicted_or_has_its_reason(
    tmp_path: Path, where: dict[str, str], parts: dict[str, str], why: Unreached | None
) -> None:
    found = plugin(tmp_path, where, **parts).predict(moved())
    if why is None:
        assert isinstance(found, Prediction)
    else:
        assert found is why


def test_where_requests_depend_on_each_other_no_more_is_said_than_is_known() -> None:
    standing = Standing(backend=backend([LINE, BESIDE], balance=Balance.LEAST), host="app")
    clients = Clients(patience_s=2.0, slow_after_s=0.25, until_s=30.0)
    known = predict_any(standing, VERSION, moved(), clients)
    assert isinstance(known, Prediction)
    assert known.failed_s is not None
    left_out = predict_any(
        standing, VERSION, moved()
    )  # as `predict` asks where `check` names a part
    assert isinstance(left_out, Prediction)
    assert (left_out.failed_s, left_out.masked_s, left_out.misrouted_s) == (None, None, None)
    some = [Rule(answer="servfail", share=0.5)]
    by_chance = disturbed(moved(), some, begins_s=0.0, ends_s=1.0)
    assert isinstance(by_chance, Timeline)
    assert predict_any(standing, VERSION, by_chance, clients) is Unreached.OTHER_ANSWERS
