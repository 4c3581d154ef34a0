"""What a finding costs, in words; and its remedy, as lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from chaosd.doctor.finding import Cost, Finding, Toll
from chaosd.doctor.formats.numbers import ARROW, arrow, change_of_rate, change_of_seconds
from chaosd.doctor.price import NEGLIGIBLE_S, is_felt, is_harm
from chaosd.doctor.subject import Subject
from chaosd.doctor.words import listed
from chaosd.plugins.timeline import Failure
from chaosd.proxies.haproxy.cfg.secrets import without_secrets
from chaosd.proxies.haproxy.cfg.source import Place
from chaosd.proxies.haproxy.model.backend import Happening, Scenario
from chaosd.proxies.haproxy.rewire.edits import Insert, apply

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
    """A line for each happening whose users would feel the remedy, and one for DNS.

    Where they would lose more requests by it, that is said, too.
    """
    for toll in cost.tolls:
        if (is_felt(toll) or is_harm(toll)) and (words := toll_words(toll)):
            but = "" if is_felt(toll) else "but "
            yield f"{but}{happening(toll.scenario)} ({toll.backend}): {words}"
    if cost.queries_per_s.saved > 0:
        yield f"DNS queries a second: {change_of_rate(cost.queries_per_s)}"


def toll_words(toll: Toll) -> str:
    """What changes for users: `recovery p95 11 s → 1.1 s, lost requests 5.2 s → 0.6 s`.

    What is the same once it is rounded is left out.
    """
    never = arrow(f"{toll.never.now:.0%}", f"{toll.never.fixed:.0%}")
    seconds = [
        ("recovery p95 {}", toll.recovery_s),
        ("lost requests {}", toll.failed_s),
        ("misrouted requests {}", toll.misrouted_s),
        ("late requests {}", toll.slow_s),
    ]
    if not toll.never.now:  # else some wait for longer than was looked at
        seconds.append(("a client waits up to {}", toll.slowest_s))
    said = [
        text.format(told)
        for text, change in seconds
        if abs(change.saved) >= NEGLIGIBLE_S and ARROW in (told := change_of_seconds(change))
    ]
    if ARROW in never:
        said.insert(1, f"never back {never} of the time")
    return ", ".join(said)


class Paste(NamedTuple):
    """A line of a remedy."""

    place: Place  # the line that it replaces, or the one that it comes after
    is_new: bool
    text: str  # without secrets
    others: tuple[str, ...] = ()  # rules whose remedies of this line are in the text, too

    def where(self, near: Place | None = None) -> str:
        """`replace line 14`, `add after line 3`, or with what else it mends: `… (no-check too)`."""
        is_near = near is not None and near.file == self.place.file
        place = f"line {self.place.line}" if is_near else str(self.place)
        too = f" ({listed(self.others)} too)" if self.others else ""
        return f"{'add after' if self.is_new else 'replace'} {place}{too}"


def remedy_lines(
    subject: Subject, finding: Finding, together: Sequence[Finding] = ()
) -> list[Paste]:
    """The lines to paste, in the files' order.

    What those findings that are shown `together` with it change in the same lines is in them, too:
    who pastes one line after the other loses nothing.
    """
    edits = () if finding.remedy is None else finding.remedy.edits
    mine = {edit.place for edit in edits if not isinstance(edit, Insert)}
    more = [
        (other.rule, edit)
        for other in together
        if other is not finding and other.remedy is not None
        for edit in other.remedy.edits
        if edit.place in mine and not isinstance(edit, Insert) and edit not in edits
    ]
    every = tuple(dict.fromkeys((*edits, *(edit for _, edit in more))))
    found: list[Paste] = []
    for source in subject.sources:
        here = [edit for edit in every if edit.place.file == source.path]
        for change in apply(source.path, source.text, here).changes if here else ():
            place = Place(source.path, change.line)
            others = [rule for rule, edit in more if edit.place == place and change.before]
            texts = map(without_secrets, filter(None, change.after))
            too = tuple(dict.fromkeys(others))
            found += [Paste(place, not change.before, text, too) for text in texts]
    return found
