"""What a finding costs, in words; and its remedy, as lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from chaosd.doctor.finding import Cost, Finding, Toll
from chaosd.doctor.formats.numbers import ARROW, arrow, change_of_rate, change_of_seconds
from chaosd.doctor.price import is_felt
from chaosd.doctor.subject import Subject
from chaosd.plugins.timeline import Failure
from chaosd.proxies.haproxy.cfg.secrets import without_secrets
from chaosd.proxies.haproxy.cfg.source import Place
from chaosd.proxies.haproxy.model.backend import Happening, Scenario
from chaosd.proxies.haproxy.rewire.edits import apply

_HAPPENINGS = {
    Happening.MOVE: "a move",
    Happening.NODE_LOST: "a lost node",
    Happening.DNS_TROUBLE: "DNS trouble",
}
_FAILURES = {
    Failure.SILENCE: "no answer from DNS",
    Failure.SERVFAIL: "SERVFAIL from DNS",
    Failure.NXDOMAIN: "NXDOMAIN from DNS",
    Failure.REFUSED: "REFUSED from DNS",
    Failure.EMPTY: "empty answers from DNS",
}


def happening(scenario: Scenario) -> str:
    """A scenario in a few words: "10 s of no answer from DNS"."""
    if scenario.happening is not Happening.DNS_TROUBLE or scenario.missing is None:
        late = scenario.healthy_s - scenario.listening_s
        slow = f" to an instance that answers well only after {late:g} s" if late > 0 else ""
        return f"{_HAPPENINGS[scenario.happening]}{slow}"
    if scenario.family is not None:
        what = f"questions for {scenario.family} dropped"
        return f"{scenario.published_s:g} s of {what}"
    some = f" of {scenario.nameservers} nameserver" if scenario.nameservers else ""
    return f"{scenario.published_s:g} s of {_FAILURES[scenario.missing]}{some}"


def cost_lines(cost: Cost) -> Iterator[str]:
    """A line for each happening whose users would feel the remedy, and one for DNS."""
    for toll in cost.tolls:
        if is_felt(toll):
            yield f"{happening(toll.scenario)} ({toll.backend}): {toll_words(toll)}"
    if cost.queries_per_s.saved > 0:
        yield f"DNS queries a second: {change_of_rate(cost.queries_per_s)}"


def toll_words(toll: Toll) -> str:
    """What changes for users: `recovery p95 11 s → 1.1 s, lost requests 5.2 s → 0.6 s`."""
    never = arrow(f"{toll.never.now:.0%}", f"{toll.never.fixed:.0%}")
    pairs = (
        ("recovery p95 {}", change_of_seconds(toll.recovery_s)),
        ("never back {} of the time", never),
        ("lost requests {}", change_of_seconds(toll.failed_s)),
        ("misrouted requests {}", change_of_seconds(toll.misrouted_s)),
        ("late requests {}", change_of_seconds(toll.slow_s)),
        ("a client waits up to {}", change_of_seconds(toll.slowest_s)),
    )
    return ", ".join(text.format(change) for text, change in pairs if ARROW in change)


class Paste(NamedTuple):
    """A line of a remedy."""

    place: Place  # the line that it replaces, or the one that it comes after
    is_new: bool
    text: str  # without secrets


def remedy_lines(subject: Subject, finding: Finding) -> list[Paste]:
    """The lines to paste, in the files' order."""
    edits = () if finding.remedy is None else finding.remedy.edits
    found: list[Paste] = []
    for source in subject.sources:
        mine = [edit for edit in edits if edit.place.file == source.path]
        for change in apply(source.path, source.text, mine).changes if mine else ():
            place = Place(source.path, change.line)
            texts = map(without_secrets, filter(None, change.after))
            found += [Paste(place, not change.before, text) for text in texts]
    return found
