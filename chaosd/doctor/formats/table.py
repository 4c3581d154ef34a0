"""The table of backends: what happenings do to their users, now and with all fixes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from chaosd.doctor.examine import Diagnosis, Outlooks, Row, same_rows
from chaosd.doctor.formats.numbers import arrow, rate, seconds
from chaosd.doctor.formats.unknown import why_unknown
from chaosd.doctor.price import NEGLIGIBLE_S
from chaosd.doctor.scenarios import TROUBLE_S
from chaosd.doctor.words import count
from chaosd.proxies.haproxy.cfg.wording import say_fixed, say_limit
from chaosd.proxies.haproxy.model.backend import Happening, Outlook, Unknown

TITLES = {
    Happening.MOVE: "a move",
    Happening.NODE_LOST: "a lost node",
    Happening.DNS_TROUBLE: f"{TROUBLE_S:g} s without DNS",
}
LOST = "(now → with all fixes; 1.5 s of requests lost are 150 at 100 requests a second)"
RECOVERY, LOST_S, LATE = "recovery p95", "requests lost", "requests late"
# Seconds; of requests: so many as come in that time.
NUMBERS: dict[str, Callable[[Outlook], float]] = {
    RECOVERY: lambda outlook: 0.0 if outlook.unaffected >= 1 else outlook.recovery_s.p95,
    LOST_S: lambda outlook: outlook.failed_s.mean + outlook.misrouted_s.mean,
    LATE: lambda outlook: outlook.masked_s.mean,  # answered well, but only after a retry
}
_LIMITS_MAX = 4  # lines about what is left out
_ALIKE = 0.05  # of two numbers, as a share of the larger
_WIDTH = 3.3  # standard deviations from p5 to p95
_NAMES_MAX = 4  # of backends that are alike, in a row


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """A few lines for each backend; backends that are alike share them."""
    found: list[list[str]] = []
    unknown: dict[str, list[str]] = {}
    for names, row in alike(rows):
        if why := why_none(row):
            unknown.setdefault(why, []).extend(names)
            continue
        found.append([f"{quoted_names(names)}, DNS queries a second: {queries(row)}"])
        found += [[f"  {label}", *cells] for label, cells in numbers(row)]
    if found:
        found = [["", *TITLES.values()], *found]
        full = [line for line in found if len(line) > 1]
        widths = [max(map(len, column)) for column in zip(*full, strict=True)]
        for line in found:
            padded = map(str.ljust, line, widths) if len(line) > 1 else line
            yield "  ".join(padded).rstrip()
        yield LOST
    for why, names in unknown.items():
        yield f"{quoted_names(names)}: {why}"


def left_out(rows: Sequence[Row]) -> Iterator[str]:
    """What the numbers leave out of the file, a line each."""
    said = dict.fromkeys(
        say_limit(limit) for row in rows if not row.is_fixed for limit in row.limits
    )
    yield from (f"not in these numbers: {each}" for each in [*said][:_LIMITS_MAX])
    if len(said) > _LIMITS_MAX:
        yield f"not in these numbers: {count(len(said) - _LIMITS_MAX, 'line')} more"


def quoted_names(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_MAX
    return ", ".join(names[:_NAMES_MAX]) + (f" and {more} more" if more > 0 else "")


def alike(rows: Sequence[Row]) -> list[tuple[list[str], Row]]:
    """Rows with the same numbers, together."""
    found: dict[tuple[str, ...], tuple[list[str], Row]] = {}
    for row in rows:
        key = (str(numbers(row)), queries(row), why_none(row))
        found.setdefault(key, ([], row))[0].append(row.name)
    return list(found.values())


def why_none(row: Row) -> str:
    """Why there are no numbers, if there are none."""
    if row.is_fixed:
        return say_fixed(row.limits)
    found = [outlook for outlook in row.now.values() if isinstance(outlook, Unknown)]
    return why_unknown(found[0]) if len(found) == len(row.now) else ""


def numbers(row: Row) -> list[tuple[str, list[str]]]:
    """What the happenings do to the users of a backend, now and with all fixes, a line each."""
    found = []
    for label in NUMBERS:
        cells = [[_said(label, side[what]) for side in (row.now, row.fixed)] for what in TITLES]
        if label != LATE or any(said not in ("", "0 s") for cell in cells for said in cell):
            found.append((label, [arrow(now, fixed) for now, fixed in cells]))
    return found


def _said(label: str, outlook: Outlook | Unknown) -> str:
    if isinstance(outlook, Unknown):
        return "?" if label == RECOVERY else ""
    said = seconds(NUMBERS[label](outlook))
    return "unaffected" if label == RECOVERY and outlook.unaffected >= 1 else said


def queries(row: Row) -> str:
    return arrow(_queries(row.now), _queries(row.fixed))


def _queries(outlooks: Outlooks) -> str:
    outlook = outlooks[Happening.MOVE]
    return "?" if isinstance(outlook, Unknown) else rate(outlook.queries_per_s)


# --- two versions --------------------------------------------------------------------------------


def changed(old: Diagnosis, new: Diagnosis) -> Iterator[tuple[str, bool]]:
    """What is different for users, a line each, and whether something of it is worse."""
    for before, after in same_rows(old, new):
        for what, title in TITLES.items():
            one, other = before.now[what], after.now[what]
            found = [
                f"{name} {a} → {b}"
                for name in NUMBERS
                if (a := _said(name, one)) != (b := _said(name, other))
                and _is_other(name, one, other)
            ]
            if found:
                worse = _is_worse(one, other)
                said = f"{before.name}, {title}: {', '.join(found)}"
                yield f"{said}{' (worse)' * worse}", worse
        asked = [_queries(before.now), _queries(after.now)]
        if asked[0] != asked[1]:
            yield f"{before.name}: DNS queries a second {arrow(*asked)}", False


def _is_other(name: str, old: Outlook | Unknown, new: Outlook | Unknown) -> bool:
    """Whether a number differs by more than other trials of the same would."""
    if isinstance(old, Unknown) or isinstance(new, Unknown):
        return True
    return abs(NUMBERS[name](new) - NUMBERS[name](old)) > _margin_s(name, old, new)


def _is_worse(old: Outlook | Unknown, new: Outlook | Unknown) -> bool:
    """Whether users lose more requests, or wait longer for the instance that has moved."""
    if isinstance(old, Unknown) or isinstance(new, Unknown):
        return False
    return any(
        value(new) > value(old) + _margin_s(name, old, new)
        for name, value in NUMBERS.items()
        if name != LATE
    )


def _margin_s(name: str, old: Outlook, new: Outlook) -> float:
    """What a number may differ by where nothing does: a prediction is of some trials."""
    larger = max(NUMBERS[name](old), NUMBERS[name](new))
    if math.isinf(larger):
        return NEGLIGIBLE_S
    spread = math.hypot(_error_s(name, old), _error_s(name, new))
    return max(NEGLIGIBLE_S, _ALIKE * larger, 2 * spread)


def _error_s(name: str, outlook: Outlook) -> float:
    """The standard error, by the width of what the trials came to; that of a p95 is some twice."""
    spreads = [outlook.failed_s, outlook.misrouted_s]
    if name != LOST_S:
        spreads = [outlook.recovery_s if name == RECOVERY else outlook.masked_s]
    width_s = sum(spread.p95 - spread.p05 for spread in spreads if math.isfinite(spread.p95))
    return width_s / _WIDTH / math.sqrt(outlook.trials) * (2 if name == RECOVERY else 1)
