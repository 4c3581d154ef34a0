"""What stands before a cell's proxy is started, and what its configuration has to name."""

from __future__ import annotations

from typing import NamedTuple

from chaosd.history.values import Address, Instance


class Surroundings(NamedTuple):
    """What stands when the proxy is started."""

    entry: str  # the IP of its entry
    dns: Address
    app: Address  # of an instance
    beside: Instance | None  # the app that never moves
    more_dns: tuple[Address, ...] = ()  # further nameservers
