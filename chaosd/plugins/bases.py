"""What a plugin's part of the config looks like: the classes that its `Config` extends."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from chaosd.plugins.config_parts import BASES, COMPANION, Plugin, at
from chaosd.plugins.config_parts import KeyPath as KeyPath  # noqa: PLC0414 - others take it from here
from chaosd.plugins.config_parts import Part as Part  # noqa: PLC0414
from chaosd.units import Cron, Duration, Offset, PositiveDuration, Rate


class RuntimeConfig(Part):
    """What every runtime's config has."""

    type: str


class ProxyConfig(Part):
    """What every proxy's config has."""

    type: str


class Between(Part):
    """A random time between two bounds, evenly spread."""

    min: Duration
    max: PositiveDuration

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"`min` ({self.min}) is more than `max` ({self.max})")
        return self


def _kind_of_every(value: Any) -> str:
    return "between" if isinstance(value, dict | Between) else "grid"


WAIT_MAX = Duration.parse("2m")  # of each wait of a fault; the engine has limits beyond it


def _not_for_ever(wait: Duration) -> Duration:
    if wait > WAIT_MAX:
        raise ValueError(f"should be at most {WAIT_MAX}")
    return wait


Wait = Annotated[Duration, AfterValidator(_not_for_ever)]
PositiveWait = Annotated[PositiveDuration, AfterValidator(_not_for_ever)]

Signal = Literal["KILL", "TERM"]

COMPANIONS_MAX = 8  # of a fault
_SCHEDULE = ("every", "cron", "jitter", "with")  # what a companion has not: it comes with its fault


def _near(at: Offset) -> Offset:
    if abs(at) > WAIT_MAX:
        raise ValueError(f"should be at most {WAIT_MAX} before or after T0")
    return at


EVERY_MIN = Duration.parse("100ms")  # below it a run would do nothing but record what it skipped


def _not_too_often(every: Duration | Between) -> Duration | Between:
    if (every.max if isinstance(every, Between) else every) < EVERY_MIN:
        raise ValueError(f"faults so often that none could settle (at least every {EVERY_MIN})")
    return every


Every = Annotated[
    Annotated[PositiveDuration, Tag("grid")] | Annotated[Between, Tag("between")],
    Discriminator(_kind_of_every),
    AfterValidator(_not_too_often),
]


class FaultConfig(Part):
    """What every fault's config has: its name and when it comes."""

    type: str
    name: str | None = Field(None, description="label in metrics and reports; the type if not set")
    every: Every | None = Field(
        None, description="a fixed grid (`5s`), or random within `{min: 4s, max: 9s}`"
    )
    cron: Cron | None = Field(
        None, description="five cron fields in UTC, instead of `every`; weekdays by name (mon-fri)"
    )
    jitter: Duration | None = Field(
        None,
        description="each fault of a grid comes up to this much later, evenly spread; not set: "
        "enough to cover the proxy's own timers, so that their phases don't lock",
    )

    at: Annotated[Offset, AfterValidator(_near)] | None = Field(
        None, description="of a fault in `with:`: how long after T0 it begins (-200ms: before it)"
    )
    companions: tuple[Annotated[FaultConfig, Plugin("faults", companion=True)], ...] = Field(
        (),
        alias="with",
        max_length=COMPANIONS_MAX,
        description="faults that come with this one in the same cycle, each with its own `at` and, "
        "if it has one, `window`",
    )

    @property
    def label(self) -> str:
        return self.name or "+".join([self.type, *(each.label for each in self.companions)])

    @property
    def offset(self) -> Offset:
        """When it begins, of a companion: after T0 in nanoseconds."""
        return self.at or Offset(0)

    @field_validator("jitter")
    @classmethod
    def _jitter_fits(cls, jitter: Duration | None, info: ValidationInfo) -> Duration | None:
        if jitter is None or (info.context or {}).get(COMPANION):
            return jitter  # a companion's is refused as a whole
        if "every" not in info.data:  # not there: `every` is wrong itself
            return jitter
        every = info.data["every"]
        if not isinstance(every, Duration):
            raise ValueError("`jitter` is for a fixed `every` (such as `every: 10s`)")
        if jitter > every:
            raise ValueError(f"more than `every` (at most {every})")
        return jitter

    @model_validator(mode="after")
    def _has_one_cadence(self, info: ValidationInfo) -> Self:
        if (info.context or {}).get(COMPANION):
            for key in _SCHEDULE:
                if getattr(self, "companions" if key == "with" else key):
                    what = f"a fault in `with:` has no `{key}`: it comes with its cycle's fault"
                    raise at((key,), f"{what} (it has `at`)")
            return self
        if self.at is not None:
            what = "is for faults in another's `with:`; this one begins at T0"
            raise at(("at",), f"{what} (leave it out)")
        if self.every is None and self.cron is None:
            raise ValueError("a fault needs `every` or `cron` (such as `every: 10s`)")
        if self.every is not None and self.cron is not None:
            raise ValueError("a fault has `every` or `cron`, not both")
        return self


class WindowedFaultConfig(FaultConfig):
    """The config of a fault that lasts for a while. The engine ends it at its time."""

    window: PositiveWait = Field(
        Duration.parse("5s"), description="how long it lasts, from T0; the app is probed meanwhile"
    )


class EndingFaultConfig(FaultConfig):
    """The config of a fault that ends an instance. A fault may have another default."""

    signal: Signal = Field("KILL", description="how an instance is told to go")
    grace: Wait = Field(
        Duration.parse("10s"), description="after TERM, how long before it is killed"
    )


class ProbeConfig(Part):
    """What every probe's config has."""

    type: str
    name: str | None = Field(None, description="label in metrics and reports; the type if not set")
    rate: Rate = Field(
        Rate(100.0), description="probes per second, sent whether or not earlier ones came back"
    )
    idle_rate: Rate | None = Field(
        None,
        description="probes per second between cycles; from a moment before each fault until its "
        "cycle is over it is `rate`. Not set: always `rate`",
    )
    timeout: PositiveDuration = Field(
        Duration.parse("2s"), description="counted from the scheduled time"
    )

    @property
    def label(self) -> str:
        return self.name or self.type

    @property
    def idle_every(self) -> int:
        """Of how many slots of the full rate one is used between cycles; 1: of each."""
        return 1 if self.idle_rate is None else round(self.rate / self.idle_rate)

    @field_validator("idle_rate")
    @classmethod
    def _idles_slowly(cls, idle_rate: Rate | None, info: ValidationInfo) -> Rate | None:
        rate = info.data.get("rate")
        if idle_rate is not None and rate is not None and idle_rate > rate / 2:
            raise ValueError(f"more than half of `rate` (at most {Rate(rate / 2)})")
        return idle_rate


BASES |= {
    "runtimes": RuntimeConfig,
    "proxies": ProxyConfig,
    "faults": FaultConfig,
    "probes": ProbeConfig,
}

OldIp = Literal["refuse", "imposter", "blackhole", "tarpit", "vacant"]
