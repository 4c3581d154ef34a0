"""What becomes of requests that are under way while an instance moves."""

from __future__ import annotations

from random import Random

import pytest
from moving import MS, NEW, MoveWorld, S, config, move

from chaosd.plugins.timeline import Timeline
from chaosd.proxies.haproxy.model.algorithm import ProxyModel
from chaosd.proxies.haproxy.model.settings import Settings

# --- requests -------------------------------------------------------------------------------------


def begun_at(settings: Settings, move: Timeline, start_s: float) -> tuple[float, int, str | None]:
    """How long a request lasts that begins then, its status if it is the proxy's, who answered."""
    world = MoveWorld(move, t0_ns=10 * S)
    model = ProxyModel(
        settings, "3.0.11", world, Random(1), start_ns=0, poll_at_ns=7 * MS, check_at_ns=9 * MS
    )
    at_ns = world.t0_ns + round(start_s * S)
    ended: list[tuple[int, int, str | None]] = []
    model.request(at_ns, lambda *end: ended.append(end))
    while not ended:
        model.advance(model.next_ns())
    end_ns, status, ip = ended[0]
    return (end_ns - at_ns) / S, status, ip


@pytest.mark.parametrize(
    ("redispatch", "took_s", "status", "ip"),
    [
        (False, 5.0, 503, None),  # every retry goes to the old IP
        (True, 5.0, 0, NEW),  # the last retry looks the address up again
        (1, 1.0, 0, NEW),  # the next retry does
        (2, 2.0, 0, NEW),
    ],
)
def test_retries_keep_the_old_address(
    redispatch: bool | int, took_s: float, status: int, ip: str | None
) -> None:
    """Measured on four builds: retries 5, a request begun before the switch."""
    settings = config(
        retries=5, redispatch=redispatch, server={"inter": "20s"}, timeouts={"connect": "1s"}
    )
    result = begun_at(settings, move(published_s=0.0, listening_s=0.0), 0.01)
    assert result[0] == pytest.approx(took_s, abs=0.01)
    assert result[1:] == (status, ip)


@pytest.mark.parametrize(
    ("old_ip", "took_s", "status"),
    [("refuse", 1.5, 503), ("blackhole", 2.0, 503), ("tarpit", 4.0, 504), ("imposter", 0.0, 0)],
)
def test_how_a_request_to_the_old_address_ends(old_ip: str, took_s: float, status: int) -> None:
    """N·δ where refused, (N + 1)·Tc where nothing comes back."""
    settings = config(
        retries=3, server={"inter": "20s"}, timeouts={"connect": "500ms", "server": "4s"}
    )
    result = begun_at(settings, move(published_s=100.0, old_ip=old_ip), 0.3)
    assert result[0] == pytest.approx(took_s, abs=0.001)
    assert result[1] == status


def test_a_server_that_is_down_answers_503_at_once_and_redispatch_finds_nothing() -> None:
    away = move(published_s=100.0, listening_s=100.0)
    down = config(server={"inter": "200ms", "fall": 1}, redispatch=1)
    assert begun_at(down, away, 0.5) == (0.0, 503, None)
    took_s, status, _ = begun_at(down, away, 0.001)
    assert status == 503
    assert took_s == pytest.approx(1.0, abs=0.01)


def test_a_request_whose_server_is_lost_is_redispatched_before_its_last_retry() -> None:
    away = move(published_s=100.0, listening_s=100.0)
    for redispatch, took_s in ((True, 2.0), (False, 3.0)):
        down = config(server={"inter": "200ms", "fall": 1}, retries=3, redispatch=redispatch)
        found_s, status, _ = begun_at(down, away, 0.001)
        assert (found_s, status) == (pytest.approx(took_s, abs=0.01), 503)
