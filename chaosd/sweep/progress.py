"""How far the model is with thousands of arms: a live line on a terminal, else nothing."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Self

CLEAR = "\r\x1b[2K"
FEW = 200  # arms that take no time worth a line


class Progress:
    """Writes over its own line, and leaves none."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._write(CLEAR)

    def predicted(self, done: int, wanted: int) -> None:
        if self._live and wanted > FEW:
            self._write(f"{CLEAR}predicted: {done:,} of {wanted:,} arms")

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
