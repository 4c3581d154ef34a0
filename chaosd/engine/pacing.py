"""Asks densely around each fault and sparsely between cycles, where a probe has an idle rate."""

from __future__ import annotations

from collections.abc import Sequence

from chaosd.engine.recorder import CellRecorder
from chaosd.history.events import StreamPaced
from chaosd.history.values import Sample, StreamSpec
from chaosd.plugins.probe import Prober


class Pacing:
    """The streams of one cell that idle between its cycles; perhaps none."""

    def __init__(
        self,
        streams: Sequence[StreamSpec],
        prober: Prober,
        recorder: CellRecorder,
        stable_for_ns: int,
    ) -> None:
        idling = [spec for spec in streams if spec.idle_every > 1]
        self._through_proxy = [spec.stream for spec in idling if spec.via == "proxy"]
        self._direct = [spec.stream for spec in idling if spec.via == "direct"]
        self._prober = prober
        self._recorder = recorder
        self._dense: set[int] = set()
        self._stable_for_ns = stable_for_ns
        self._good_since_ns: int | None = None  # as far as is known by now

    def around_fault(self, *, dense: bool) -> None:
        """What goes through the proxy: densely from before a fault until its cycle is over."""
        self._good_since_ns = None
        self._set(self._through_proxy, dense=dense)

    def heard(self, sample: Sample, *, good: bool, new: bool) -> None:
        """A sample of the measuring stream in a cycle with a new instance, in order of their ends.

        Once all that has come in says that the cycle is over, nothing is asked densely any more,
        though some probes may still hang. If one of those says otherwise it is dense again.
        """
        since_ns = self._good_since_ns
        if not good:
            if since_ns is not None and sample.scheduled_ns >= since_ns:
                self.around_fault(dense=True)
        elif since_ns is None:
            self._good_since_ns = sample.done_ns if new else None
        elif sample.scheduled_ns - since_ns > self._stable_for_ns:
            self._set(self._through_proxy, dense=False)

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
