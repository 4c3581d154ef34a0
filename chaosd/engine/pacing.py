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
        idling = [spec for spec in streams if spec.idle_every > 1]
        self._through_proxy = [spec.stream for spec in idling if spec.via == "proxy"]
        self._direct = [spec.stream for spec in idling if spec.via == "direct"]
        self._prober = prober
        self._recorder = recorder
        self._dense: set[int] = set()

    def around_fault(self, *, dense: bool) -> None:
        """What goes through the proxy: densely from before a fault until its cycle is over."""
        self._set(self._through_proxy, dense=dense)

    def until_answered(self, *, dense: bool) -> None:
        """The control probe: densely until the new instance has answered it once."""
        self._set(self._direct, dense=dense)

    def _set(self, streams: Sequence[int], *, dense: bool) -> None:
        for stream in streams:
            if dense == (stream in self._dense):
                continue
            self._dense ^= {stream}
            # Stored first: a sample must not be taken to stand for more than it does.
            self._recorder.record(StreamPaced(stream=stream, dense=dense))
            self._prober.pace(stream, dense=dense)
