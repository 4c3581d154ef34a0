"""What a run directory knows, whatever state it was left in: its cycles, and what explains samples.

A run may go on while it is read, and may have been killed: then its last cycles have no line yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from chaosd.analysis.recovery import STOPPED, Identities, Settings, measure
from chaosd.analysis.samples import measuring
from chaosd.analysis.summary import QueryFold
from chaosd.events import Cycle, Reading
from chaosd.sinks.reader import Block, RunReader

FOREVER_NS = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A run, up to some instant. `blocks` of samples can be gone through once."""

    cycles: list[Cycle]  # those that were going on, too
    blocks: Iterator[Block]
    folded: dict[str, Any] | None  # the counts of samples that are not kept any more
    streams: list[Reading]
    identities: dict[str, set[str]]  # the app's, by cell
    queries: QueryFold


def read(reader: RunReader) -> Known:
    """Read it all but the samples. Raises MachineError."""
    cycles = list(reader.cycles())
    # In this order: whoever answered a sample that is stored has been told of before.
    blocks, folded = reader.blocks(), reader.folded()
    streams: dict[int, Reading] = {}  # told again where a file of events begins
    queries = QueryFold()
    identities: dict[str, set[str]] = {}
    begun: dict[str, Reading] = {}  # the cycle that has begun and not ended, by cell
    for event in reader.events("stream", "instance", "queries", "begin", "end"):
        if not isinstance(event, Reading):
            continue
        if event.what == "stream":
            streams[event.data["stream"]] = event
        elif event.what == "queries":
            queries.add(event)
        elif event.what == "begin":
            begun[event.cell] = event
        elif event.what == "end":
            begun.pop(event.cell, None)
        else:
            identities.setdefault(event.cell, set()).add(event.data["identity"])
    cycles += _unfinished(reader, begun, measuring(streams.values()), identities)
    return Known(
        cycles=cycles,
        blocks=blocks,
        folded=folded,
        streams=list(streams.values()),
        identities=identities,
        queries=queries,
    )


def _unfinished(
    reader: RunReader,
    begun: Mapping[str, Reading],
    streams: Mapping[str, int],
    known: Mapping[str, set[str]],
) -> Iterator[Cycle]:
    """The cycles that were under way when the run was killed, or still are.

    Like those that are cut off by a stop: if there was no recovery yet, it takes longer than that.
    """
    if not begun or "settings" not in reader.manifest:
        return
    settings = Settings(**reader.manifest["settings"])
    for cell, begin in begun.items():
        samples = reader.samples(streams[cell], begin.at_ns - settings.lookback_ns, FOREVER_NS)
        if not samples or samples[-1].scheduled_ns < begin.at_ns:
            continue
        # What was sent later may have been answered, and the answer not been stored.
        end = replace(
            begin,
            at_ns=samples[-1].scheduled_ns + 1,
            what="end",
            data={"invalid": f"{STOPPED} in the middle of it"},
        )
        identities = Identities()
        for identity in known.get(cell, ()):
            identities.add(identity)
        events = [*reader.events_of([(cell, begin.cycle)]), end]
        yield measure(events, samples, identities, settings=settings, stream=streams[cell])
