"""How a run ended: read from run.json of whatever format, said by report/ alone."""

from __future__ import annotations

import pytest

from chaosd.history.endings import Ending, EndKind, ending_of
from chaosd.report import words


@pytest.mark.parametrize(
    ("manifest", "found", "said"),
    [
        ({"exit": 0, "reason": "done"}, Ending(kind=EndKind.DONE), "done"),
        ({"exit": 1, "reason": "done"}, Ending(kind=EndKind.DONE), "done"),
        (
            {"exit": 0, "reason": "stopped"},
            Ending(kind=EndKind.STOPPED),
            "stopped before it was done",
        ),
        (
            {"exit": 3, "reason": "no space left"},
            Ending(kind=EndKind.FAILED, detail="no space left"),
            "failed: no space left",
        ),
        (
            {"exit": 70, "reason": "a bug of chaosd"},
            Ending(kind=EndKind.BUG),
            "failed: a bug of chaosd",
        ),
        ({}, None, None),  # it goes on, or was killed
    ],
)
def test_an_ending_is_a_value(manifest, found, said) -> None:
    ending = ending_of(manifest)
    assert ending == found
    assert (ending and words.ending(ending)) == said
