"""What people write: durations `250ms`, rates `100/s`, shares `99.9%`, times `0 3 * * mon`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}
_NUMBER = r"[0-9]{1,18}(?:\.[0-9]{1,30})?"  # \d would take any alphabet's digits
_PART = rf"({_NUMBER})(ns|us|ms|s|m|h|d)"
_DURATION = re.compile(rf"(?:{_PART})+")
_DURATION_MAX_NS = 366 * _UNITS_NS["d"]
_RATE = re.compile(rf"({_NUMBER})/(s|m|h)")
_PERCENT = re.compile(rf"({_NUMBER})%")
_RATE_MIN, _RATE_MAX = 1 / 3600, 100_000.0


class _Written:
    """A number that people write as text: `parse` reads it, `str` writes it, in YAML as in JSON."""

    json_schema: ClassVar[dict[str, Any]]

    @classmethod
    def parse(cls, text: Any) -> Self:
        """Read what a person wrote. Raises ValueError in words for the user."""
        raise NotImplementedError

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", **cls.json_schema}


class Duration(_Written, int):
    """A length of time in whole nanoseconds."""

    json_schema: ClassVar[dict[str, Any]] = {
        "pattern": rf"^({_PART.replace('?:', '')})+$",
        "examples": ["250ms", "10s", "1m30s"],
    }

    @classmethod
    def parse(cls, text: Any) -> Self:
        """Read `250ms`, `10s`, `1m30s`, or a plain 0. Raises ValueError in words for the user."""
        if isinstance(text, Duration):
            return cls(text)
        if text in (0, "0") and not isinstance(text, bool):
            return cls(0)
        if not isinstance(text, str):
            unit = f"{text}s or {text}ms" if isinstance(text, int | float) else "250ms or 10s"
            raise ValueError(f"a duration needs a unit (such as {unit})")
        compact = text.replace(" ", "")
        if not _DURATION.fullmatch(compact):
            raise ValueError("not a duration (write it like 250ms, 10s, 5m, 1m30s)")
        value_ns = sum(round(Fraction(n) * _UNITS_NS[u]) for n, u in re.findall(_PART, compact))
        if value_ns > _DURATION_MAX_NS:
            raise ValueError("a duration of more than 366 days")
        return cls(value_ns)

    @property
    def s(self) -> float:
        return self / 1e9

    def __str__(self) -> str:
        for unit in ("d", "h", "m", "s", "ms", "us"):
            if self >= _UNITS_NS[unit] and self * 1000 % _UNITS_NS[unit] == 0:
                whole, thousandths = divmod(self * 1000 // _UNITS_NS[unit], 1000)
                return f"{whole}.{thousandths:03}".rstrip("0").rstrip(".") + unit
        return f"{int(self)}ns" if self else "0s"

    __repr__ = __str__


class Offset(Duration):
    """A time before (negative) or after another one, in whole nanoseconds."""

    json_schema: ClassVar[dict[str, Any]] = {
        "pattern": rf"^-?({_PART.replace('?:', '')})+$",
        "examples": ["200ms", "-1s"],
    }

    @classmethod
    def parse(cls, text: Any) -> Self:
        """Read a duration, perhaps with a minus before it. Raises ValueError, as Duration does."""
        if isinstance(text, Duration):
            return cls(text)
        is_before = isinstance(text, str) and text.lstrip().startswith("-")
        size = Duration.parse(text.lstrip()[1:] if is_before else text)
        return cls(-size if is_before else size)

    def __str__(self) -> str:
        return f"-{Duration(-self)}" if self < 0 else Duration.__str__(self)

    __repr__ = __str__


def _positive(value: Duration) -> Duration:
    if not value:
        raise ValueError("should be more than 0s")
    return value


PositiveDuration = Annotated[Duration, AfterValidator(_positive)]


class Rate(_Written, float):
    """Events per second."""

    json_schema: ClassVar[dict[str, Any]] = {
        "pattern": r"^[0-9]+(\.[0-9]+)?/(s|m|h)$",
        "examples": ["100/s"],
    }

    @classmethod
    def parse(cls, text: Any) -> Self:
        """Read `100/s`, `6/m`. Raises ValueError in words for the user."""
        if isinstance(text, Rate):
            return cls(text)
        if not isinstance(text, str) or not (match := _RATE.fullmatch(text.replace(" ", ""))):
            raise ValueError("not a rate (write it like 100/s or 6/m)")
        value = cls(float(match[1]) / {"s": 1, "m": 60, "h": 3600}[match[2]])
        if not _RATE_MIN <= value <= _RATE_MAX:
            raise ValueError("a rate should be 1/h to 100000/s")
        return value

    @property
    def interval_ns(self) -> int:
        """Nanoseconds between two events, rounded to a whole number."""
        return round(1e9 / self)

    def __str__(self) -> str:
        for unit, seconds in (("s", 1), ("m", 60), ("h", 3600)):
            short = f"{self * seconds:.3f}".rstrip("0").rstrip(".")
            if self * seconds >= 1 and float(short) / seconds == self:
                return f"{short}/{unit}"
        return f"{float(self)!r}/s"

    __repr__ = __str__


class Percent(_Written, float):
    """A part of one, written as `99.9%`; a plain 0 is nothing."""

    json_schema: ClassVar[dict[str, Any]] = {
        "pattern": r"^[0-9]+(\.[0-9]+)?%$",
        "examples": ["99.9%", "0.1%"],
    }

    @classmethod
    def parse(cls, text: Any) -> Self:
        """Read `99.9%`. Raises ValueError in words for the user."""
        if isinstance(text, Percent):
            return cls(text)
        if text in (0, "0") and not isinstance(text, bool):
            return cls(0)
        match = _PERCENT.fullmatch(text.replace(" ", "")) if isinstance(text, str) else None
        if match is None:
            raise ValueError("not a share (write it like 99.9% or 0.1%, or 0 for none)")
        value = Fraction(match[1]) / 100
        if value > 1:
            raise ValueError("a share should be at most 100%")
        return cls(value)

    def __str__(self) -> str:
        return f"{self * 100:.10g}%"

    __repr__ = __str__


def _comes(cron: str) -> str:
    from apscheduler.triggers.cron import CronTrigger

    try:
        trigger = CronTrigger.from_crontab(cron, timezone=UTC)
    except (ValueError, TypeError) as error:
        what = f"not a cron time: {error} (five fields: minute hour day month weekday)"
        raise ValueError(what) from error
    if re.search(r"\d", re.sub(r"/\d+", "", cron.split()[4])):
        # APScheduler counts from Monday, every other cron from Sunday.
        raise ValueError("a weekday by number is ambiguous (name it: mon, tue, … sun)")
    if trigger.get_next_fire_time(None, datetime(2024, 1, 1, tzinfo=UTC)) is None:
        raise ValueError("a cron time that never comes")
    return cron


# Five cron fields that come true now and then.
Cron = Annotated[str, AfterValidator(_comes)]
