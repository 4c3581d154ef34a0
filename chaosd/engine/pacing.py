"""Asks densely around each fault and sparsely between cycles, where a probe has an idle rate."""

from __future__ import annotations

from collections.abc import Sequence

from chaosd.engine.recorder import CellRecorder
from chaosd.history.events import StreamPaced
from chaosd.history.values import StreamSpec
from chaosd.plugins.probe import Prober

MARGIN_NS = 300_000_000  # densely from this long before a fault is due


class Pacing:
    """The streams of one cell that idle between its cycles; perhaps none."""

    def __init__(
        self, streams: Sequence[StreamSpec], prober: Prober, recorder: CellRecorder
    ) -> None:
        self._streams = [spec.stream for spec in streams if spec.idle_every > 1]
        self._prober = prober
        self._recorder = recorder
        self._dense = False

    def set(self, *, dense: bool) -> None:
        if dense == self._dense:
            return
        self._dense = dense
        for stream in self._streams:
            # Stored first: a sample must not be taken to stand for more than it does.
            self._recorder.record(StreamPaced(stream=stream, dense=dense))
            self._prober.pace(stream, dense=dense)
