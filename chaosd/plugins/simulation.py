"""The contract of a simulated proxy: what its model and a simulated world know of each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple, Protocol, runtime_checkable

from chaosd.plugins.timeline import Answer, Failure, Meets, RecordType

NEVER_NS = 2**63 - 1

# What answers a request; what refuses a connection at once.
ANSWERS = frozenset({Meets.LISTENING, Meets.IMPOSTER})
REFUSES = frozenset({Meets.REFUSE, Meets.UNREACHABLE})

# How a request ended: when, the proxy's own status (0 if it isn't the proxy's), and who answered.
Ended = Callable[[int, int, str | None], None]


def below(rng: Random, limit: int) -> int:
    """The same as `rng.randrange(limit)`, in a third of its time: simulations draw often."""
    bits = limit.bit_length()
    while (drawn := rng.getrandbits(bits)) >= limit:
        pass
    return drawn


class Reply(NamedTuple):
    """What the nameserver said, and how long that took; of SILENCE the time means nothing."""

    answer: Answer
    took_ns: int = 0
    partial: bool = False  # a failure of some nameservers, while others say nothing at all


def together(replies: Sequence[Reply]) -> Reply:
    """What nameservers that are asked at once come to: the first answer that has an address.

    Where none has, it is the failure that comes last, once all have answered.
    """
    if len(replies) == 1:
        return replies[0]
    valid = [reply for reply in replies if not isinstance(reply.answer, Failure)]
    said = valid or [reply for reply in replies if reply.answer != Failure.SILENCE]
    if not said:
        return Reply(Failure.SILENCE)
    times = [reply.took_ns for reply in said]
    chosen = said[times.index(min(times) if valid else max(times))]
    return chosen._replace(partial=not valid and len(said) < len(replies))


class Surroundings(Protocol):
    """What the proxy finds outside of itself at an instant, but for DNS."""

    def connect(self, now_ns: int, ip: str) -> Meets:
        """Say what a connect to the app's port meets there."""

    def said(self, at_ns: int, what: str, data: dict[str, Any]) -> None:
        """Take what the proxy logs: address_changed, up, down, maint, ready."""


class World(Surroundings, Protocol):
    """What the proxy of one name finds outside of itself at an instant."""

    def resolve(self, now_ns: int, record: RecordType) -> Reply:
        """Answer a query for the app's name."""


class Model(Protocol):
    """A proxy without its program. It has no clock: its owner says what time it is."""

    def next_ns(self) -> int:
        """When it has something to do next."""

    def advance(self, now_ns: int) -> None:
        """Do everything that is due up to and including this instant, in the order of its time."""

    def request(self, now_ns: int, ended: Ended) -> None:
        """Begin a request now. `ended` is called at the instant at which its fate is decided.

        That is within this call, or within a later `advance`.
        """


@runtime_checkable
class CanSimulate(Protocol):
    """A proxy plugin that has a model of itself."""

    def simulate(
        self, *, version: str, world: World, rng: Random, start_ns: int, servers: int
    ) -> Model:
        """Start it in this world, with one server for each instance of the app."""
