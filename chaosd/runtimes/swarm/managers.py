"""The managers among a cell's nodes: one may be lost, and without a leader none does anything."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from chaosd.errors import MachineError
from chaosd.runtimes.docker.endpoint import EngineAwayError
from chaosd.runtimes.docker.host import Host
from chaosd.system.clock import SECOND_NS, Clock, sleep

T = TypeVar("T")

ELECTION_S_MAX = 60.0  # a leader is missed after some 10 s, and more than one vote may be needed
ASK_PAUSE_S = 0.25
# What a manager says that has no leader, or can't reach the one that it had.
_UNDECIDED = re.compile(
    r"does not have a leader|code = (?:Unavailable|DeadlineExceeded|Canceled)|deadline exceeded"
)


class Managers:
    """One that answers is asked, always the same one while it does."""

    def __init__(self, hosts: Iterable[Host], clock: Clock) -> None:
        self._hosts, self._clock = deque(hosts), clock

    @property
    def host(self) -> Host:
        """The one that is asked first."""
        return self._hosts[0]

    async def do(self, call: Callable[[Any], T]) -> T:
        """Let one of them call the API. Raises what `Engine.do` raises.

        A swarm without a leader decides nothing, so it is asked again, for as long as an election
        may take: a call has to be one that may come twice. Where the engine went away in the middle
        of it, that is raised, and the next call goes to another one.
        """
        limit_ns = self._clock.now_ns() + round(ELECTION_S_MAX * SECOND_NS)
        while True:
            engine = self.host.engine
            try:
                return await (engine.do(call) if len(self._hosts) == 1 else engine.now(call))
            except EngineAwayError:
                self._hosts.rotate(-1)
                raise
            except MachineError as error:
                if not is_undecided(error) or self._clock.now_ns() > limit_ns:
                    raise
                self._hosts.rotate(-1)
            await sleep(self._clock, ASK_PAUSE_S)


def is_undecided(error: MachineError) -> bool:
    """Whether a manager says so: too few of them are there, or a leader is being elected."""
    return _UNDECIDED.search(str(error)) is not None
