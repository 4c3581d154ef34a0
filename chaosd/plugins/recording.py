"""What the engine hands to plugins: where deeds and readings are written."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from chaosd.history.deeds import Deed
from chaosd.history.events import What
from chaosd.history.values import Instance
from chaosd.system.clock import Clock


class Recorder(Protocol):
    """Where deeds and events go; bound to one cell and to the cycle that is going on."""

    clock: Clock

    def record(self, what: What, *, at_ns: int | None = None, error_ns: int = 0) -> None:
        """Store what happened. `at_ns` is now if not given."""

    def deed(self, deed: Deed) -> AbstractAsyncContextManager[None]:
        """Store `Asked` before the body runs and `Done` (or `Failed`) after it."""

    def tell(self, source: str, what: str, **details: Any) -> None:
        """Store something that no event class describes. Nothing is measured by it."""


class CycleContext(Recorder, Protocol):
    """What a fault knows of the cycle that it makes."""

    run: str  # the run's id
    cell: str
    number: int
    label: str  # of the fault; no other fault of this cycle has it
    chance: str  # seeds what the fault leaves to chance: another one in each cycle and cell
    began_ns: int | None  # when it called `begin`

    @property
    def ending(self) -> bool:
        """Whether the run ends: what is undone now is taken down right afterwards."""

    def expect(self, identity: str) -> None:
        """Declare that this instance belongs to the app from now on: call it before starting it.

        Otherwise its answers would count as misrouted. Its address is not known yet; once it is,
        the runtime stores it, the engine judges whether it is fresh, and the direct probe is aimed
        at it.
        """

    def begin(self, *, old: Instance | None, new: str | None, lasts: bool = False) -> None:
        """Declare T0 to be now: call it right before what takes the instance away.

        Inside of the action, so that nothing is written between this instant and the deed.

        `new`, expected before, is the identity of the instance whose first good answer ends the
        recovery. It is None in a control cycle that takes nothing away, where any instance of the
        app will do, and where nobody can tell it: then the first good answer after a bad one ends
        the recovery.

        With `lasts` the observation goes on at least until all of the fault is done, although the
        new instance may have answered long before.
        """
