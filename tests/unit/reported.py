"""Runs that are made as the engine makes them, and their reports."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import fake
from fake import MS, NEW_IP, OLD_IP, SECOND
from hypothesis import settings

from chaosd.analysis.recovery import Identities, RecoveryFold, measure
from chaosd.analysis.reorder import Reorder
from chaosd.analysis.summary import Report, summarise
from chaosd.errors import Exit
from chaosd.history.cycles import Cycle, CycleOutcome
from chaosd.history.events import AnyEvent
from chaosd.history.values import Outcome, Sample
from chaosd.history.writer import RunStore
from chaosd.report import exit_code, words

FEW = settings(derandomize=True, max_examples=8, deadline=None)
MANIFEST = {
    "chaosd": "0.1.0",
    "name": "made",
    "run": "abc234",
    "seed": 7,
    "cells": ["c1"],
    "settings": asdict(fake.settings()),
    "host": {"cpus": 2},
}


# --- a run, made as the engine makes one ---


class Made:
    """Drives the store and the fold as the engine does: batches come late and out of order."""

    def __init__(self, directory: Path) -> None:
        self.store = RunStore(directory, MANIFEST, "name: made\n", threads=False, chunk_samples=999)
        self.identities = Identities()
        self.reorder = Reorder()
        self.samples: list[Sample] = []
        self.events: list[AnyEvent] = []
        self.at_ns = 5 * SECOND
        self.number = 0
        self.old = "app-0"
        self.say(fake.stream())
        self.say(fake.stream(2, probe="direct", via="direct"))
        self.say(fake.instance(self.old, OLD_IP))

    def say(self, event: AnyEvent) -> None:
        self.identities.event(event)
        self.events.append(event)
        self.store.event(event)

    def cycle(self, outage_ns: int, answer=None, *, listening: bool = True) -> Cycle:
        """One failover, its samples delivered in the order of their ends."""
        self.number += 1
        number, t0_ns, new = self.number, self.at_ns, f"app-{self.number}"
        self.events.clear()
        self.say(fake.instance(new, NEW_IP, at_ns=t0_ns, cycle=number))
        self.say(fake.begin(t0_ns, cycle=number, old=self.old, new=new))
        self.say(fake.action(t0_ns, "stop", "asked", cycle=number, identity=self.old))

        def said(ms: int, source: str, what: str, **data) -> None:
            self.say(fake.reading(t0_ns + ms * MS, source, what, cycle=number, **data))

        said(1, "dns", "withdrawn")
        said(200, "dns", "published", ips=[NEW_IP])
        if listening:
            said(250, "app", "listening", identity=new)
        moved = {"server": "s1", "old": OLD_IP, "new": NEW_IP}
        said(outage_ns // MS, "proxy.log", "address_changed", **moved)
        answer = answer or fake.failover(outage_ns, t0_ns=t0_ns, old=self.old, new=new)
        config = fake.settings()
        stop_ns = t0_ns + outage_ns + 4 * SECOND
        rows = fake.row(self.at_ns - SECOND, stop_ns, answer, lag_ns=35_321)
        rows += fake.row(
            t0_ns + 270 * MS, t0_ns + SECOND, lambda _: (777_777, Outcome.OK, new), stream=2
        )
        rows.sort(key=lambda s: s.done_ns)
        fold = RecoveryFold(t0_ns, new, self.identities, config)
        end_ns = None
        while end_ns is None:
            batch, rows = rows[:40], rows[40:]
            self.store.samples(batch)
            self.store.tick()
            self.samples += batch
            for sample in batch:
                if sample.stream == 1:
                    self.reorder.push(sample)
            waiting = [s.scheduled_ns for s in rows if s.stream == 1]
            complete_ns = min(waiting, default=stop_ns)
            for sample in self.reorder.release(complete_ns):
                fold.add(sample)
            end_ns = fold.over_at_ns(complete_ns)
        self.store.samples(rows)  # what was already under way at the end
        self.store.tick()
        bounds = {"lower_s": 0.3, "mean_s": 0.8, "upper_s": 1.31}
        said(0, "engine", "predicted", **bounds)
        self.say(fake.end(end_ns, cycle=number))
        finished = measure(
            self.events, self.samples, self.identities, settings=config, stream=1, direct=2
        )
        self.store.cycle(finished)
        self.reorder, self.samples = Reorder(), []
        self.at_ns, self.old = stop_ns + 2 * SECOND, new
        return finished


# --- the report ---


# --- the verdict ---


def verdict(*cycles: Cycle, **manifest) -> tuple[str, tuple[str, ...]]:
    found = summarise("made", MANIFEST | {"end_unix": 1.0} | manifest, cycles, [], {})
    assert exit_code(found) == (Exit.OK if found.verdict == "ok" else Exit.UNKNOWN)
    assert list(map(words.remark, found.doubts)) == words.reasons(found)
    return found.verdict, tuple(words.reasons(found))


INVALID = fake.cycle(outcome=CycleOutcome.INVALID, recovery_s=None, cause=fake.NOT_FRESH)
CUT_OFF = replace(
    INVALID,
    end_ns=fake.T0 + 50_100 * MS,
    cause=fake.STOPPED,
    cut_off=True,
)
LONGER = "without a recovery: the quantiles count them as longer than that"


def summarised(*cycles: Cycle) -> Report:
    return summarise("made", MANIFEST | {"end_unix": 1.0}, cycles, [], {})
