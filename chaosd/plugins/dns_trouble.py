"""What DNS faults mean to who asks: an answer that is as usual, fails, or comes late.

Rules say what is done to an answer's message, bytes and sending; here is what is left of it for a
client. It is not known of all: of some it depends on the client's version, or on the addresses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from chaosd.dns.presets import PRESETS
from chaosd.dns.rules import Answer, Does, Parameter, Rule, Wrong
from chaosd.history.deeds import FaultDns
from chaosd.history.disturbances import DnsAnswersWrongly
from chaosd.plugins.bases import WindowedFaultConfig
from chaosd.plugins.fault import Circumstances
from chaosd.plugins.timeline import (
    ALWAYS,
    RECORD_TYPES,
    Failure,
    Meets,
    NameEdge,
    PlaceEdge,
    RecordType,
    Timeline,
    Unreached,
)

Parameters = Mapping[str, Parameter]


class ForetellsTrouble:
    """What a fault of the nameserver's can say beforehand: its rules are known."""

    config: WindowedFaultConfig
    rules: Sequence[Rule]

    def foretell(self, circumstances: Circumstances) -> Timeline | Unreached:
        return trouble(
            self.rules,
            begins_s=0.0,
            ends_s=self.config.window.s,
            replicas=circumstances.others + 1,
            took_s=circumstances.answer_s,
            nameservers=circumstances.nameservers,
        )

    def beside(self, timeline: Timeline, begins_s: float) -> Timeline | Unreached:
        ends_s = begins_s + self.config.window.s
        return disturbed(timeline, self.rules, begins_s=begins_s, ends_s=ends_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What becomes of an answer; times in seconds."""

    failure: Failure | None = None  # None: it is as usual
    late_s: float = 0.0
    jitter_s: float = 0.0


_USUAL = Meaning()


def _code(parameters: Parameters) -> Meaning:
    code = str(parameters.get("rcode", "SERVFAIL")).lower()
    known = {"noerror": Failure.EMPTY, "nxdomain": Failure.NXDOMAIN, "refused": Failure.REFUSED}
    known["servfail"] = Failure.SERVFAIL
    return Meaning(failure=known.get(code, Failure.ERROR))


def _lateness(parameters: Parameters) -> Meaning | None:
    if parameters.get("tail"):
        return None
    late_s, jitter_s = parameters.get("seconds", 0.0), parameters.get("jitter", 0.0)
    assert isinstance(late_s, float | int) and isinstance(jitter_s, float | int)  # noqa: PT018, S101
    return Meaning(late_s=late_s, jitter_s=jitter_s)


def _bytes(parameters: Parameters) -> Meaning:
    if parameters.get("at_least"):  # beyond what was asked for: it is thrown away
        return Meaning(failure=Failure.SILENCE)
    damaged = parameters.keys() & {"cut", "noise", "name"}
    return Meaning(failure=Failure.DAMAGED) if damaged else _USUAL


def _header(parameters: Parameters) -> Meaning | None:
    if parameters.get("is_query"):
        return None
    unknown = parameters.get("identity")
    return Meaning(failure=Failure.SILENCE if unknown else Failure.DAMAGED)


def _alias(parameters: Parameters) -> Meaning:
    failures = {
        "reversed": Failure.DAMAGED,
        "dangling": Failure.EMPTY,
        "loop": Failure.EMPTY,
    }
    return Meaning(failure=failures.get(str(parameters.get("form"))))


def _records(parameters: Parameters) -> Meaning | None:
    if parameters.keys() & {"filler", "case", "keep"}:
        return None  # by its version, by its payload size, and by how many addresses there are
    return _USUAL


def _sender(parameters: Parameters) -> Meaning | None:
    return None if "races" in parameters else Meaning(failure=Failure.SILENCE)


# By the kind of action. Those of SRV records and of TCP are not here: the app's name has addresses,
# and is asked for by UDP.
_MEANINGS: Mapping[str, Callable[[Parameters], Meaning | None]] = {
    "silence": lambda parameters: (
        None if parameters.get("questions") else Meaning(failure=Failure.SILENCE)
    ),
    "closed": lambda _: Meaning(failure=Failure.SILENCE),
    "truncation": lambda _: Meaning(failure=Failure.TRUNCATED),
    "repeat": lambda parameters: None if parameters.get("held") else _USUAL,
    "code": _code,
    "lateness": _lateness,
    "bytes": _bytes,
    "header": _header,
    "alias": _alias,
    "records": _records,
    "sender": _sender,
}


def meaning(rule: Rule | Wrong) -> Meaning | None:
    """What becomes of an answer by this rule; None where that is not known."""
    found = Meaning(
        failure=None if rule.answer is None else Failure(rule.answer), late_s=rule.delay_s
    )
    for each in rule.does:
        done = _done(each)
        if done is None:
            return None
        found = replace(
            found,
            failure=found.failure or done.failure,
            late_s=found.late_s + done.late_s,
            jitter_s=found.jitter_s + done.jitter_s,
        )
    return found


def _done(does: Does) -> Meaning | None:
    means = _MEANINGS.get(does.kind)
    return None if means is None else means(dict(does.parameters))


def rules_of(
    *,
    preset: str | None,
    answer: str | None,
    delay_s: float,
    qtype: str | None,
    nameserver: int | None,
) -> Sequence[Rule]:
    """The rules of a DNS fault.

    One with a preset's name that is none is what its `answer` says.
    `nameserver`, counted from 1, is the only one that they are about; None: as the preset says.
    """
    known = next((each for each in get_args(Answer) if each == answer), None)
    rules: Sequence[Rule] = (Rule(answer=known, delay_s=delay_s, qtype=qtype),)
    if preset in PRESETS:
        rules = PRESETS[preset].rules
    if nameserver is None:
        return rules
    return [replace(rule, nameserver=nameserver - 1) for rule in rules]


def rules_as_said(said: FaultDns | DnsAnswersWrongly) -> Sequence[Rule]:
    """The rules of a DNS fault that a history tells of."""
    return rules_of(
        preset=said.preset,
        answer=said.answer,
        delay_s=said.delay_s,
        qtype=said.qtype,
        nameserver=said.nameserver,
    )


def trouble(
    rules: Sequence[Rule],
    *,
    begins_s: float,
    ends_s: float,
    replicas: int,
    took_s: float,
    nameservers: int = 1,
) -> Timeline | Unreached:
    """Nothing moves, and the app's name is answered by these rules from T0 + `begins_s` on.

    So many `replicas` answer for it all the time; `took_s` is how long an answer takes, beyond a
    round trip. OTHER_ANSWERS where it is not known what a proxy makes of the answers.
    """
    apps = tuple(f"app{number}" for number in range(1, replicas + 1))
    usual: dict[RecordType, tuple[str, ...] | Failure] = {"A": apps, "AAAA": Failure.EMPTY}
    before: list[NameEdge] = []
    wrong: list[NameEdge] = []
    for record in RECORD_TYPES:
        edge = NameEdge(at_s=ALWAYS, record=record, answer=usual[record], took_s=took_s)
        before.append(edge)
        for number in range(nameservers):
            rule = next((r for r in rules if _is_about(r, record, number)), None)
            if rule is None:
                continue
            means = meaning(rule)
            if means is None:
                return Unreached.OTHER_ANSWERS
            if means == _USUAL:
                continue
            wrong.append(
                replace(
                    edge,
                    at_s=begins_s,
                    answer=means.failure or edge.answer,
                    nameserver=number,
                    took_s=took_s + means.late_s,
                    jitter_s=means.jitter_s,
                    every=rule.every,
                    share=rule.share,
                )
            )
    after = [replace(edge, at_s=ends_s) for edge in before] if wrong else []
    return Timeline(
        names=(*before, *wrong, *after),
        places=tuple(PlaceEdge(at_s=ALWAYS, address=app, meets=Meets.LISTENING) for app in apps),
        nameservers=nameservers,
    )


def disturbed(
    known: Timeline, rules: Sequence[Rule], *, begins_s: float, ends_s: float
) -> Timeline | Unreached:
    """The same timeline, with answers to the app's name by these rules in that time.

    OTHER_ANSWERS where it is not known what a proxy makes of the answers, SEVERAL_NAMESERVERS where
    the rules are about one of them.
    """
    if any(rule.nameserver is not None for rule in rules):
        return Unreached.SEVERAL_NAMESERVERS
    names: list[NameEdge] = []
    for record in RECORD_TYPES:
        edges = known.names_of(record)
        rule = next((each for each in rules if _is_about(each, record, 0)), None)
        means = _USUAL if rule is None else meaning(rule)
        if rule is None or means == _USUAL:
            names += edges
            continue
        # Of a few questions or of two troubles by chance it is not known here which come together.
        if means is None or rule.every > 1 or not all(edge.is_plain for edge in edges):
            return Unreached.OTHER_ANSWERS
        names += _laid_over(edges, rule, means, begins_s=begins_s, ends_s=ends_s)
    names.sort(key=lambda edge: edge.at_s)
    return replace(known, names=tuple(names), undisturbed=known.undisturbed or known)


def _laid_over(
    edges: Sequence[NameEdge], rule: Rule, means: Meaning, *, begins_s: float, ends_s: float
) -> Iterator[NameEdge]:
    """These edges, each with what the rule makes of it while the rule is in force."""

    def wrong(edge: NameEdge) -> NameEdge:
        return replace(
            edge,
            answer=means.failure or edge.answer,
            took_s=edge.took_s + means.late_s,
            jitter_s=means.jitter_s,
            share=rule.share,
        )

    for edge, later in zip(edges, [*edges[1:], None], strict=True):
        until_s = math.inf if later is None else later.at_s
        yield edge
        if edge.at_s < ends_s and begins_s < until_s:
            yield replace(wrong(edge), at_s=max(edge.at_s, begins_s))
        if edge.at_s < ends_s < until_s:
            yield replace(edge, at_s=ends_s)


def _is_about(rule: Rule, record: RecordType, nameserver: int) -> bool:
    return (
        rule.qtype in (None, record)
        and rule.transport in (None, "udp")
        and rule.nameserver in (None, nameserver)
    )
