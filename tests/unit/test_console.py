"""What a person sees, on a terminal and in a log."""

from __future__ import annotations

import io

import fake
import pytest
from fake import MS, T0

from chaosd.history.cycles import CycleKind, CycleOutcome
from chaosd.history.values import Outcome
from chaosd.live.console import CLEAR, PLAIN, RED, YELLOW, Console
from chaosd.report.text import sentence

CENSORED = fake.cycle(outcome=CycleOutcome.CENSORED, recovery_s=None, stable_recovery_s=None)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def shown(self) -> str:
        """What is left on the last line after everything that was drawn on it."""
        return self.getvalue().rsplit("\n", 1)[-1].rsplit(CLEAR, 1)[-1]


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")


def test_a_log_has_a_plain_line_per_cycle_and_nothing_else() -> None:
    log = io.StringIO()
    console = Console(log)
    console.say("metrics: http://127.0.0.1:9464/metrics")
    console.event(fake.stream())
    console.ready()
    console.samples([fake.sample(T0)])
    console.tick()
    console.cycle(fake.cycle())
    console.cycle(CENSORED)
    console.close()
    assert log.getvalue().splitlines() == [
        "metrics: http://127.0.0.1:9464/metrics",
        sentence(fake.cycle()),
        sentence(CENSORED),
    ]


def test_a_terminal_has_a_line_that_is_drawn_anew() -> None:
    terminal = Terminal()
    console = Console(terminal)
    console.tick()
    assert terminal.shown() == "setting up"
    console.ready()
    assert terminal.shown() == "0 cycles · 0 failed, 0 misrouted · 0 probes ended/s"
    console.samples([fake.sample(T0 + i, lag_ns=i * MS) for i in range(1, 101)])
    console.samples([fake.sample(T0, outcome=Outcome.DROPPED, lag_ns=-T0)])
    for recovery_s in (1.0, 2.0, 3.0):
        console.cycle(fake.cycle(recovery_s=recovery_s, failed=5, misrouted=1))
    console.cycle(fake.cycle(outcome=CycleOutcome.CONTROL, recovery_s=0.001))
    console.tick()
    assert terminal.shown() == (
        "4 cycles · last 3.00 s · p50 2.00 s, p95 3.00 s · 15 failed, 3 misrouted · "
        "101 probes ended/s · lag p99 99 ms"
    )
    # Nor are these in any quantile of the report.
    console.cycle(fake.cycle(recovery_s=99.0, doubt=fake.LATE))
    console.cycle(fake.cycle(recovery_s=99.0, kind=CycleKind.DNS))
    console.cycle(CENSORED)
    console.tick()
    assert "last 3.00 s · p50 2.00 s, p95 beyond the limit · 15 failed" in terminal.shown()
    # The sentences stand above it.
    lines = [line.rsplit(CLEAR, 1)[-1] for line in terminal.getvalue().split("\n")]
    assert sentence(CENSORED) in lines
    console.close()
    assert terminal.shown() == ""


def test_a_narrow_terminal_is_not_wrapped(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    terminal = Terminal()
    console = Console(terminal)
    console.ready()
    assert len(terminal.shown()) == 29


def test_colour_is_for_terminals_whose_owner_wants_it(monkeypatch) -> None:
    misrouted = fake.cycle(misrouted=1)
    odd = fake.cycle(anomaly=True)
    plain, coloured, dumb = Terminal(), Terminal(), Terminal()
    Console(plain).cycle(misrouted)
    assert RED not in plain.getvalue()
    monkeypatch.delenv("NO_COLOR")
    console = Console(coloured)
    for cycle in (misrouted, odd, fake.cycle()):
        console.cycle(cycle)
    assert f"{RED}{sentence(misrouted)}{PLAIN}\n" in coloured.getvalue()
    assert f"{YELLOW}{sentence(odd)}{PLAIN}\n" in coloured.getvalue()
    assert f"{CLEAR}{sentence(fake.cycle())}\n" in coloured.getvalue()
    monkeypatch.setenv("TERM", "dumb")
    Console(dumb).cycle(misrouted)
    assert dumb.getvalue() == sentence(misrouted) + "\n"


def test_several_cells_are_told_apart() -> None:
    log = io.StringIO()
    console = Console(log)
    for cell in ("c1", "c2"):
        console.event(fake.stream(cell=cell))
    console.cycle(fake.cycle())
    assert log.getvalue().startswith("c1 cycle 12: ")


def test_a_reader_that_has_gone_and_a_narrow_alphabet_end_nothing() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    Console(Gone()).cycle(fake.cycle())
    raw = io.BytesIO()
    log = io.TextIOWrapper(raw, encoding="ascii")
    Console(log).cycle(fake.cycle())
    assert raw.getvalue().startswith(
        b"cycle 12: app moved 127.64.0.5 \\u2192 127.64.0.6, recovered"
    )
