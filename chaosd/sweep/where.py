"""Where the rounds of a sweep are made: on this machine here, or on others (`machines/`)."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, TextIO

from chaosd import plan
from chaosd.engine import session
from chaosd.sweep import rounds
from chaosd.sweep.rounds import Prepared
from chaosd.sweep.store import Store


class Where(Protocol):
    """Makes rounds."""

    @property
    def width(self) -> int:
        """How many rounds it makes at once; 1: one after another."""
        ...

    def make(self, some: Sequence[Prepared]) -> bool:
        """Make them all: each is said in the store before, and is there as a whole afterwards.

        Returns whether somebody stopped it. Raises what `chaosd run` raises.
        """
        ...


class Here:
    """This machine, which makes one round after another."""

    width = 1

    def __init__(self, store: Store, stream: TextIO) -> None:
        self._store, self._stream = store, stream

    def make(self, some: Sequence[Prepared]) -> bool:
        return any(self._made(each) for each in some)

    def _made(self, prepared: Prepared) -> bool:
        built = rounds.planned(prepared.data, prepared.called)
        rehearsals = plan.rehearse(built)
        console = rounds.console_of(prepared, self._stream)
        with session.private(built, prepared.called):
            self._store.begin(replace(prepared.begun, host=platform.node()))
            directory = self._store.directory / prepared.begun.directory
            return rounds.make(built, rehearsals, directory, console)
