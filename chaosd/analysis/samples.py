"""What stored samples came to: a block of records after the other, folded. Pure."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from chaosd.analysis.statistics import Clusters, quantile_rank
from chaosd.history.events import StreamOpened, StreamPaced
from chaosd.history.values import ANYBODY, Outcome, rounded_ns

FOREVER_NS = 2**63 - 1
LAG_US_MAX = 100_000  # lags are counted to the microsecond up to here
KINDS = ("good", "masked", "failed", "misrouted", "dropped")  # but for the last, by gravity


def kinds(
    records: Any, names: Sequence[str], identities: Container[str], slow_after_us: float
) -> Any:
    """Which of KINDS each record of `outcome who took_us` is; `who` is into names.

    `identities` are the app's: good answers by others are misrouted.
    """
    everybody = ANYBODY in identities
    ours = np.array([everybody or name in identities for name in names], bool)
    answered = records["outcome"] == Outcome.OK
    good = answered & ours[records["who"]]
    found = np.full(len(records), KINDS.index("failed"), np.int64)
    found[good] = KINDS.index("good")
    found[good & (records["took_us"] > slow_after_us)] = KINDS.index("masked")
    found[answered & ~good] = KINDS.index("misrouted")
    found[records["outcome"] == Outcome.DROPPED] = KINDS.index("dropped")
    return found


def kind_of(
    outcome: int, who: str, took_ns: int, identities: Container[str], slow_after_ns: int
) -> str:
    """Which of KINDS one request is; the same rule as `kinds`, for a single one.

    `took_ns` counts to the microsecond, as it is stored: what is live is what is reported.
    """
    if outcome == Outcome.DROPPED:
        return "dropped"
    if outcome != Outcome.OK:
        return "failed"
    if who not in identities:
        return "misrouted"
    return "masked" if rounded_ns(took_ns) > slow_after_ns else "good"


def measuring(streams: Iterable[StreamOpened]) -> dict[str, int]:
    """The stream that measures, by cell: the first one through the proxy."""
    found: dict[str, int] = {}
    for opened in streams:
        if opened.via == "proxy":
            found.setdefault(opened.cell, opened.stream)
    return found


class Paces:
    """For how many requests of the full rate each one stands, by its stream and when it was due.

    Between cycles a stream with an idle rate asks seldom, so each of those requests stands for
    several that were not sent: shares of all requests are then shares of the time, as they are
    where it always asks at one rate.
    """

    def __init__(
        self, streams: Iterable[StreamOpened], paced: Iterable[tuple[int, StreamPaced]] = ()
    ) -> None:
        """`paced` are the changes of each stream, in order, and when they were."""
        self._idle_every = {s.stream: s.idle_every for s in streams if s.idle_every is not None}
        self._changes: dict[int, list[tuple[int, bool]]] = {s: [] for s in self._idle_every}
        for at_ns, change in paced:
            if change.stream in self._changes:
                self._changes[change.stream].append((at_ns, change.dense))

    def weights(self, stream: int, scheduled_ns: Any) -> Any:
        """Whole numbers, one for each of these instants."""
        idle_every = self._idle_every.get(stream)
        if idle_every is None:
            return np.ones(len(scheduled_ns), np.int64)
        changes = self._changes[stream]
        dense = np.array([False, *(dense for _, dense in changes)])
        since = np.array([at_ns for at_ns, _ in changes], np.int64)
        return np.where(dense[np.searchsorted(since, scheduled_ns, side="right")], 1, idle_every)


class Windows:
    """Requests of the measuring streams from one T0 to the next: what was lost together.

    Blocks of stored records are folded into how many were sent in each window, and how many of them
    were not answered well, each as often as `paces` says. `identities` are the app's, of each cell,
    `t0s_ns` those of its cycles.
    """

    def __init__(
        self,
        t0s_ns: Mapping[str, Iterable[int]],
        streams: Mapping[str, int],
        identities: Mapping[str, Container[str]],
        paces: Paces,
    ) -> None:
        self._streams, self._identities, self._paces = streams, identities, paces
        self._t0s = {cell: np.array(sorted(t0s_ns.get(cell, ())), np.int64) for cell in streams}
        self._before = {cell: Clusters() for cell in streams}
        self._counts = {
            cell: np.zeros((2, len(some) + 1), np.int64) for cell, some in self._t0s.items()
        }

    def add(self, records: Any, names: Sequence[str]) -> None:
        """Records of `stream scheduled_ns outcome who`, sorted by stream."""
        for cell, stream in self._streams.items():
            first, last = np.searchsorted(records["stream"], [stream, stream + 1])
            mine = records[first:last]
            sent = mine[mine["outcome"] != Outcome.DROPPED]
            found = kinds(sent, names, self._identities.get(cell, ()), math.inf)
            window = np.searchsorted(self._t0s[cell], sent["scheduled_ns"], side="right")
            weights = self._paces.weights(stream, sent["scheduled_ns"])
            lost = found != KINDS.index("good")
            for row, weight in enumerate((weights, weights * lost)):
                # Sums of whole numbers, far below where a float is not exact.
                sums = np.bincount(window, weight, minlength=len(self._t0s[cell]) + 1)
                self._counts[cell][row] += sums.astype(np.int64)

    def clusters(self) -> dict[str, Clusters]:
        """Those sent, and those lost of them, of all windows in which any was sent, by cell."""
        return {cell: self._of_cell(cell) for cell in self._counts}

    def _of_cell(self, cell: str) -> Clusters:
        found = Clusters()
        found.include(self._before[cell])
        for sent, lost in self._counts[cell].T.tolist():
            if sent:
                found.add(lost, sent)
        return found

    def state(self, open_from_ns: int) -> dict[str, Any]:
        """What was counted so far, for JSON; `restore` takes it up again.

        What ended before this instant is a sum; of what did not there may be more to come.
        """
        found = {}
        for cell, counts in self._counts.items():
            before, windows = Clusters(), []
            before.include(self._before[cell])
            ends = [*self._t0s[cell].tolist(), FOREVER_NS]
            for start_ns, end_ns, (sent, lost) in zip(
                [0, *ends[:-1]], ends, counts.T.tolist(), strict=True
            ):
                if sent and end_ns < open_from_ns:
                    before.add(lost, sent)
                elif sent:
                    windows.append((start_ns, sent, lost))
            found[cell] = {"before": asdict(before), "windows": windows}
        return found

    def restore(self, state: Mapping[str, Any]) -> None:
        """Add what another fold of the same streams has counted."""
        for cell, counted in state.items():
            if cell not in self._before:
                continue
            self._before[cell].include(Clusters(**counted["before"]))
            for start_ns, sent, lost in counted["windows"]:
                place = int(np.searchsorted(self._t0s[cell], start_ns, side="right"))
                self._counts[cell][:, place] += (sent, lost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """All samples of a stream, in cycles and between them."""

    cell: str
    probe: str
    via: str
    interval_s: float
    idle_interval_s: float | None = None  # between cycles, where that differs
    sent: int
    outcomes: dict[str, int]
    misrouted: int
    masked: int
    dropped: int
    lag_p50_s: float | None
    lag_p99_s: float | None
    lag_max_s: float | None


class ProbeFold:
    """Samples of all streams, a block of stored records after the other, folded into counts.

    Exact, in a fixed amount of memory for each stream. `identities` are the app's, of each cell.
    """

    def __init__(
        self,
        streams: Iterable[StreamOpened],
        identities: Mapping[str, Container[str]],
        slow_after_ns: int,
    ) -> None:
        self._streams = {opened.stream: opened for opened in streams}
        self._identities = identities
        self._slow_after_us = slow_after_ns / 1000
        self._outcomes = {stream: np.zeros(len(Outcome), np.int64) for stream in self._streams}
        self._lags = {stream: np.zeros(LAG_US_MAX + 1, np.int64) for stream in self._streams}
        self._lag_max_us = dict.fromkeys(self._streams, 0)
        self._misrouted = dict.fromkeys(self._streams, 0)
        self._masked = dict.fromkeys(self._streams, 0)

    def add(self, records: Any, names: Sequence[str]) -> None:
        """Records of `stream outcome who lag_us took_us`, sorted by stream; `who` is into names."""
        for stream, opened in self._streams.items():
            first, last = np.searchsorted(records["stream"], [stream, stream + 1])
            mine = records[first:last]
            if not len(mine):
                continue
            self._outcomes[stream] += np.bincount(mine["outcome"], minlength=len(Outcome))
            lags_us = mine["lag_us"][mine["outcome"] != Outcome.DROPPED]
            if len(lags_us):
                clipped = np.clip(lags_us, 0, LAG_US_MAX)
                self._lags[stream] += np.bincount(clipped, minlength=LAG_US_MAX + 1)
                self._lag_max_us[stream] = max(self._lag_max_us[stream], int(lags_us.max()))
            found = kinds(mine, names, self._identities.get(opened.cell, ()), self._slow_after_us)
            counts = np.bincount(found, minlength=len(KINDS))
            self._misrouted[stream] += int(counts[KINDS.index("misrouted")])
            self._masked[stream] += int(counts[KINDS.index("masked")])

    def state(self) -> dict[str, Any]:
        """What was counted so far, for JSON; `restore` takes it up again."""
        return {
            str(stream): {
                "outcomes": self._outcomes[stream].tolist(),
                "lags": {
                    str(lag): int(self._lags[stream][lag])
                    for lag in np.flatnonzero(self._lags[stream]).tolist()
                },
                "lag_max_us": self._lag_max_us[stream],
                "misrouted": self._misrouted[stream],
                "masked": self._masked[stream],
            }
            for stream in self._streams
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Add what another fold of the same streams has counted."""
        for name, counted in state.items():
            stream = int(name)
            if stream not in self._streams:
                continue
            self._outcomes[stream] += np.array(counted["outcomes"], np.int64)
            for lag, count in counted["lags"].items():
                self._lags[stream][int(lag)] += count
            self._lag_max_us[stream] = max(self._lag_max_us[stream], counted["lag_max_us"])
            self._misrouted[stream] += counted["misrouted"]
            self._masked[stream] += counted["masked"]

    def probes(self) -> list[Probe]:
        return [
            Probe(
                cell=opened.cell,
                probe=opened.probe,
                via=opened.via,
                interval_s=opened.interval_ns / 1e9,
                idle_interval_s=(
                    None
                    if opened.idle_every is None
                    else opened.interval_ns * opened.idle_every / 1e9
                ),
                sent=int(self._outcomes[stream].sum() - self._outcomes[stream][Outcome.DROPPED]),
                outcomes={
                    outcome.name.lower(): int(self._outcomes[stream][outcome])
                    for outcome in Outcome
                    if outcome != Outcome.DROPPED
                },
                misrouted=self._misrouted[stream],
                masked=self._masked[stream],
                dropped=int(self._outcomes[stream][Outcome.DROPPED]),
                lag_p50_s=self._lag_s(stream, 0.5),
                lag_p99_s=self._lag_s(stream, 0.99),
                lag_max_s=self._lag_s(stream, 1.0),
            )
            for stream, opened in sorted(self._streams.items())
        ]

    def _lag_s(self, stream: int, p: float) -> float | None:
        counts = np.cumsum(self._lags[stream])
        if not counts[-1]:
            return None
        lag_us = int(np.searchsorted(counts, quantile_rank(int(counts[-1]), p)))
        return (self._lag_max_us[stream] if lag_us == LAG_US_MAX else lag_us) / 1e6


class StoredCounts:
    """All counts that are kept of samples which are not: probes, and what was lost together."""

    def __init__(
        self,
        streams: Sequence[StreamOpened],
        identities: Mapping[str, Container[str]],
        t0s_ns: Mapping[str, Iterable[int]],
        slow_after_ns: int,
        paced: Iterable[tuple[int, StreamPaced]] = (),
    ) -> None:
        self._probes = ProbeFold(streams, identities, slow_after_ns)
        paces = Paces(streams, paced)
        self._windows = Windows(t0s_ns, measuring(streams), identities, paces)

    def restore(self, state: Mapping[str, Any]) -> None:
        self._probes.restore(state["probes"])
        self._windows.restore(state.get("windows", {}))

    def add(self, records: Any, names: Sequence[str]) -> None:
        self._probes.add(records, names)
        self._windows.add(records, names)

    def state(self, open_from_ns: int) -> dict[str, Any]:
        return {"probes": self._probes.state(), "windows": self._windows.state(open_from_ns)}
