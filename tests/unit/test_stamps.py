"""When a line of the proxy's log came: by the kernel's stamp, unless the wall clock was set."""

from __future__ import annotations

import socket
import struct

import pytest
from wall_clock import SECOND, Clock

from chaosd.system.stamps import SO_TIMESTAMPNS, Stamps


def stamped(clock: Clock) -> list[tuple[int, int, bytes]]:
    """What the kernel says of a datagram that comes now."""
    data = struct.pack("@qq", *divmod(clock.unix_ns(), SECOND))
    return [(socket.SOL_SOCKET, SO_TIMESTAMPNS, data)]


def test_a_line_came_when_the_kernel_had_it() -> None:
    clock = Clock()
    stamps, about = Stamps(clock), stamped(clock)
    clock.at_ns += 3 * SECOND
    assert stamps.instant(about) == (100 * SECOND, 0)


def test_a_slewed_clock_is_believed() -> None:
    clock = Clock()
    stamps = Stamps(clock)
    clock.at_ns += 60 * SECOND
    clock.ahead_ns += 30_000_000
    about = stamped(clock)
    clock.at_ns += SECOND
    assert stamps.instant(about) == (160 * SECOND, 0)


@pytest.mark.parametrize("leap_s", [5, 0.1, -0.1, -3600, 3600])
def test_a_clock_that_was_set_between_stamp_and_look_is_not(leap_s) -> None:
    """Set forward by a little, it looks as if the line had waited for so long."""
    clock = Clock()
    stamps, waiting = Stamps(clock), [stamped(clock), stamped(clock)]
    clock.at_ns += SECOND // 100
    clock.ahead_ns += round(leap_s * SECOND)
    now_ns = clock.at_ns
    assert [stamps.instant(about) for about in waiting] == [(now_ns, 0)] * 2
    # From then on it is believed again.
    about = stamped(clock)
    clock.at_ns += SECOND // 100
    assert stamps.instant(about) == (now_ns, 0)


def test_without_a_stamp_it_is_now() -> None:
    clock = Clock()
    assert Stamps(clock).instant([]) == (clock.at_ns, 0)
