"""Who else listens where a proxy of this machine does: HAProxy lets others share its address.

It is asked several times a second in a cycle. A socket that was the proxy's once is not looked at
again, so that mostly the kernel's list is all that is read.
"""

from __future__ import annotations

from collections.abc import Sequence

from chaosd.history.values import Address
from chaosd.system import listeners, processes


class EntryWatch:
    """The sockets at one proxy's entry, and which of them are known to be of this run."""

    def __init__(self, run_id: str, places: Sequence[Address]) -> None:
        """The proxy listens at these places, and nobody else did when it was started."""
        self._run_id = run_id
        self._places = places
        self._own: set[int] = set()
        self._renewed = False

    def renewed(self) -> None:
        """Another process of the proxy's takes over, and may have sockets of its own."""
        self._renewed = True

    def is_shared(self, proxy: int) -> bool:
        """Whether a process that is not this run's listens there; `proxy` is the proxy's process.

        If its descriptors can't be read, as of a program with capabilities, it has those that were
        there when it was first asked about, until another process takes over.
        """
        listening = self._listening()
        others = listening - self._own
        if not others:
            return False
        own = listeners.held_by(proxy)
        if own is None:
            if self._own or self._renewed:
                return not self._renewed
            self._own = others
            return False
        for pid in processes.of_run(self._run_id) if others - own else ():
            own |= listeners.held_by(pid) or set()
        self._own = listening & (self._own | own)  # the kernel gives numbers of closed ones anew
        # One that was closed meanwhile is nobody's any more, and need not have been a stranger's.
        return bool((others - own) & self._listening())

    def _listening(self) -> set[int]:
        return {inode for place in self._places for inode in listeners.sockets(*place)}
