from __future__ import annotations

from typing import Any

import budget
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from chaosd.units import Duration, Percent, PositiveDuration, Rate

YEAR_NS = 366 * 86_400 * 10**9


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1ns", 1),
        ("250ms", 250_000_000),
        ("10s", 10_000_000_000),
        ("0.5s", 500_000_000),
        ("1.5m", 90_000_000_000),
        ("1m30s", 90_000_000_000),
        ("1h 2m 3s", 3_723_000_000_000),
        ("2d", 172_800_000_000_000),
        ("0s", 0),
        (0, 0),
        ("0.1us", 100),
        ("365.999d", 31_622_313_600_000_000),  # more digits than a float has
    ],
)
def test_durations_are_read(text: Any, ns: int) -> None:
    assert Duration.parse(text) == ns


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (5, "a duration needs a unit (such as 5s or 5ms)"),
        (0.5, "a duration needs a unit (such as 0.5s or 0.5ms)"),
        (None, "a duration needs a unit (such as 250ms or 10s)"),
        (False, "a duration needs a unit"),
        ("5", "not a duration (write it like 250ms, 10s, 5m, 1m30s)"),
        ("-5s", "not a duration"),
        ("5 parsecs", "not a duration"),
        ("1s5", "not a duration"),
        ("", "not a duration"),
        ("1e3s", "not a duration"),
        ("٣s", "not a duration"),  # a three, and no 3
        ("9" * 400 + "s", "not a duration"),
        ("367d", "a duration of more than 366 days"),
    ],
)
def test_what_is_no_duration_is_said_in_words(text: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        Duration.parse(text)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_001, "1.001us"),
        (250_000_000, "250ms"),
        (1_043_000_000, "1.043s"),
        (10_000_000_000, "10s"),
        (600_000_000_000, "10m"),
        (100_000_000_000, "100s"),
    ],
)
def test_durations_are_written_short(ns: int, text: str) -> None:
    assert str(Duration(ns)) == text


@settings(derandomize=True, max_examples=budget.of(20, 500), deadline=None)
@given(st.integers(0, YEAR_NS) | st.integers(0, 366 * 86_400).map(lambda s: s * 10**9))
def test_a_duration_is_read_as_it_is_written(ns: int) -> None:
    assert Duration.parse(str(Duration(ns))) == ns


@pytest.mark.parametrize(
    ("text", "per_second", "interval_ns"),
    [
        ("100/s", 100, 10_000_000),
        ("6/m", 0.1, 10_000_000_000),
        ("1/h", 1 / 3600, 3_600_000_000_000),
        ("0.5 / s", 0.5, 2_000_000_000),
        ("3/s", 3, 333_333_333),
    ],
)
def test_rates_are_read(text: str, per_second: float, interval_ns: int) -> None:
    rate = Rate.parse(text)
    assert rate == pytest.approx(per_second)
    assert rate.interval_ns == interval_ns


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (100, "not a rate (write it like 100/s or 6/m)"),
        ("100", "not a rate"),
        ("100/d", "not a rate"),
        ("٣/s", "not a rate"),
        ("-1/s", "not a rate"),
        ("9" * 400 + "/s", "not a rate"),
        ("0.9/h", "a rate should be 1/h"),
        (True, "not a rate"),
        ("0/s", "a rate should be 1/h to 100000/s"),
        ("100001/s", "a rate should be 1/h to 100000/s"),
    ],
)
def test_what_is_no_rate_is_said_in_words(text: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        Rate.parse(text)
    assert str(caught.value).startswith(message)


@settings(derandomize=True, max_examples=budget.of(20, 500), deadline=None)
@given(
    st.decimals(1, 100_000, places=3).map(str) | st.integers(1, 100_000).map(str),
    st.sampled_from("smh"),
)
def test_a_rate_is_read_as_it_is_written(count: str, unit: str) -> None:
    rate = Rate.parse(f"{count}/{unit}")
    assert Rate.parse(str(rate)) == rate


@pytest.mark.parametrize("text", ["100/s", "50/s", "1000/s", "6/m", "1/h"])
def test_rates_are_written_as_people_do(text: str) -> None:
    assert str(Rate.parse(text)) == text


def test_a_positive_duration_is_more_than_nothing() -> None:
    adapter = TypeAdapter(PositiveDuration)
    assert adapter.validate_python("1ns") == 1
    with pytest.raises(ValidationError, match="should be more than 0s"):
        adapter.validate_python("0s")


# --- shares ---


@pytest.mark.parametrize(
    ("text", "value"), [("99.9%", 0.999), ("0.1 %", 0.001), ("100%", 1.0), ("0%", 0.0), (0, 0.0)]
)
def test_shares_are_read(text: Any, value: float) -> None:
    assert Percent.parse(text) == value


@pytest.mark.parametrize(
    "text", [1, 0.5, None, True, False, "5", "-1%", "1e1%", "", "%", "a%", "٣%"]
)
def test_what_is_no_share_is_said_in_words(text: Any) -> None:
    with pytest.raises(ValueError) as caught:
        Percent.parse(text)
    assert str(caught.value) == "not a share (write it like 99.9% or 0.1%, or 0 for none)"


def test_nothing_is_more_than_all() -> None:
    with pytest.raises(ValueError, match="at most 100%"):
        Percent.parse("100.1%")


@given(thousandths=st.integers(0, 100_000))
def test_shares_are_written_as_they_are_read(thousandths: int) -> None:
    share = Percent.parse(f"{thousandths / 1000}%")
    assert Percent.parse(str(share)) == share
