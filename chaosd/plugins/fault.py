"""The contract of a fault: what we break."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from chaosd.errors import MachineError, NotUndoneError
from chaosd.history.cycles import CycleKind
from chaosd.history.disturbances import Disturbance
from chaosd.history.events import DeedDue
from chaosd.plugins.bases import FaultConfig, OldIp
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.timeline import Timeline, Unreached
from chaosd.system.clock import SECOND_NS


class Fault(Protocol):
    """What we break."""

    Config: ClassVar[type[FaultConfig]]  # a WindowedFaultConfig: it lasts for its `window`
    needs: ClassVar[Sequence[type]]  # the abilities that a stage must have
    kind: ClassVar[CycleKind]

    def __init__(self, config: Any) -> None: ...

    def disturb(
        self, stage: Any, cycle: CycleContext
    ) -> AbstractAsyncContextManager[Disturbance | None]:
        """Break it on the way in, calling `cycle.begin` at T0; undo it on the way out.

        Usually an async generator under `@asynccontextmanager` with one `yield`, which yields what
        it does to the world; None: nothing that could be said. What it has to remember is in local
        variables and not in `self`: the same fault makes many cycles. The engine leaves it at the
        end of its window, or when the observation is over. On the way in it may be
        cancelled at any await, and then it undoes what it has done so far. The undoing is never
        cancelled, but for a deadline of the engine's.
        """


@runtime_checkable
class NeedsNameservers(Protocol):
    """The config of a fault that is about one of several nameservers."""

    @property
    def nameservers_min(self) -> int:
        """How many there have to be at least."""


@asynccontextmanager
async def undoing(undo: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Undo what the body does, whatever happens in it. Raises NotUndoneError if that fails."""
    first: BaseException | None = None
    try:
        yield
    except BaseException as error:
        first = error
        raise
    finally:
        try:
            await undo()
        except (MachineError, OSError) as error:
            raise NotUndoneError(str(error) or type(error).__name__, first) from error


async def wait(cycle: CycleContext, seconds: float) -> None:
    """Let this much time pass between two deeds. How late the second one is can be told then."""
    due_ns = cycle.clock.now_ns() + round(seconds * SECOND_NS)
    cycle.record(DeedDue(), at_ns=due_ns)
    await cycle.clock.sleep_until(due_ns)


@runtime_checkable
class LeavesAddress(Protocol):
    """The config of a fault that leaves an address behind: what is found there afterwards."""

    @property
    def old_ip(self) -> OldIp: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What is known before a run of the world in which a fault will happen; in seconds."""

    app_start_s: float  # from an instance's start until it listens
    missing: str  # how a name without an address is answered; "stale": as before
    others: int  # instances that answer for the name, too
    answer_s: float  # how long the nameserver takes, beyond a round trip
    stop_s: float  # from T0 until the old instance is gone and its address is held
    publish_s: float  # from an instance's start until the name answers its address
    reach_s: float | None  # … until its host answers ARP; None: as soon as it is published
    held_s: float = 0.0  # from T0, so long the old address refuses; then something else holds it
    nameservers: int = 1


@runtime_checkable
class CanForetell(Protocol):
    """A fault that can say beforehand what the proxy will meet, for `chaosd check`."""

    def foretell(self, circumstances: Circumstances) -> Timeline | Unreached:
        """What the proxy meets, as far as that is known before a run; or why it is unknown."""


@runtime_checkable
class ForetellsBeside(Protocol):
    """A fault that can say beforehand what it makes of another one's timeline (`with:`)."""

    def beside(self, timeline: Timeline, begins_s: float) -> Timeline | Unreached:
        """The same timeline with this fault in it, which begins so long after T0."""


@runtime_checkable
class Prepares(Protocol):
    """A fault that does something before T0 that takes a while."""

    def prepares_s(self, circumstances: Circumstances) -> float:
        """From when the fault is started until T0."""
