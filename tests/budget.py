"""How much a test does: a share of it each time, all of it in `make test-long`."""

from __future__ import annotations

LONG = False  # conftest.py sets it, before any test file is imported


def of(quick: int, long: int) -> int:
    """A number of trials, of examples or of cycles.

    A test that takes one outside of hypothesis is marked `sized`: so `make test-long` finds it.
    """
    return long if LONG else quick
