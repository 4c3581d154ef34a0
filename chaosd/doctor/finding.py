"""What a rule finds: plain values. Its sentence was made by the rule, its price by `price.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from chaosd.proxies.haproxy.cfg.effective import Origin
from chaosd.proxies.haproxy.cfg.source import Place
from chaosd.proxies.haproxy.model.backend import Happening, Scenario
from chaosd.proxies.haproxy.rewire.edits import Edit


class Severity(StrEnum):
    """How bad it is, the worst first."""

    ERROR = "error"  # requests are lost for ever, or HAProxy does not start
    WARNING = "warning"  # costs users something when a backend moves or DNS fails
    INFO = "info"  # idle, or costs DNS queries only

    @property
    def gravity(self) -> int:
        """The higher, the worse."""
        return {Severity.ERROR: 2, Severity.WARNING: 1, Severity.INFO: 0}[self]


class Confidence(StrEnum):
    """How sure it is that the file's owner wants to know."""

    HIGH = "high"
    MEDIUM = "medium"  # it depends on something that the file does not say
    LOW = "low"


class Ms(int):
    """A time in milliseconds; as text it has the unit that people use: `1.5 s`, `18 min`."""

    def __str__(self) -> str:
        return _time(int(self))

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


def _time(ms: int) -> str:
    for size, unit, limit in ((1, "ms", 1000), (1000, "s", 120_000)):
        if ms < limit:
            return f"{ms / size:.4g} {unit}" if ms else "0 s"
    if ms < 7_200_000:  # noqa: PLR2004 - two hours
        return f"{ms / 60_000:.3g} min"
    return f"{ms / 3_600_000:.3g} h"


Fact = str | int | float | bool | None  # times are Ms
Facts = Mapping[str, Fact]


@dataclass(frozen=True, slots=True)
class Spot:
    """A part of a line. Columns are counted from 1; both 0: the whole line."""

    place: Place
    start: int = 0
    end: int = 0  # the column after the last


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """What to do: edits of lines, and words where lines do not say all."""

    edits: tuple[Edit, ...] = ()
    advice: str = ""  # one sentence
    safe: bool = True  # False: `--fix` leaves it to people


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A number of an outlook in the file and in the mended file. Seconds, or queries per second."""

    now: float
    fixed: float

    @property
    def saved(self) -> float:
        """What the remedy saves; what lasts for ever counts as nothing else does."""
        return 0.0 if self.now == self.fixed else self.now - self.fixed


@dataclass(frozen=True, slots=True, kw_only=True)
class Toll:
    """What a happening takes from the users of a backend, in the file and in the mended file."""

    backend: str
    scenario: Scenario
    usual: bool  # False: it is asked about because of this finding
    recovery_s: Change  # p95
    never: Change  # the share of trials that do not recover, 0 to 1
    failed_s: Change  # means, in seconds' worth of requests
    misrouted_s: Change
    slow_s: Change  # answered well, but late
    slowest_s: Change

    @property
    def happening(self) -> Happening:
        return self.scenario.happening


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The price of a finding: by scenario the toll of the backend that it hurts most."""

    tolls: tuple[Toll, ...] = ()  # one for each scenario
    queries_per_s: Change = field(default_factory=lambda: Change(now=0.0, fixed=0.0))
    loss_s: float = 0.0  # of all tolls together; what findings are sorted by


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a rule says of a file."""

    rule: str
    severity: Severity
    confidence: Confidence
    spot: Spot
    message: str
    facts: Mapping[str, Fact] = field(default_factory=dict)
    origin: Origin = Origin.OWN  # who says the value; HAPROXY: nobody
    backends: tuple[str, ...] = ()  # whose users it is about
    also: tuple[Place, ...] = ()  # further lines of the same finding
    remedy: Remedy | None = None
    scenarios: tuple[Scenario, ...] = ()  # which show it, beside the usual three
    beyond: bool = False  # what it costs is in none of the scenarios: no price is asked for
    cost: Cost | None = None  # None: the model has no answer

    @property
    def places(self) -> tuple[Place, ...]:
        return (self.spot.place, *self.also)
