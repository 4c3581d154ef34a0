"""What is wrong with which answers of a nameserver: rules, which faults set for a while.

A rule selects questions and says what becomes of them: another answer, a delay, or any of the
actions of `chaosd/dns/actions/`. Each fault has rules of its own, which come and go without
touching those of another. It needs nothing but the standard library: the forwarder in its container
has no more of chaosd.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, Literal, NamedTuple, get_args

Answer = Literal["nxdomain", "servfail", "refused", "empty", "drop"]
CLOSED = "closed"  # the action that closes a nameserver's port
Parameter = bool | int | float | str | tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Does:
    """An action by its name, with its parameters."""

    kind: str
    parameters: tuple[tuple[str, Parameter], ...] = ()


def does(kind: str, **parameters: Parameter) -> Does:
    return Does(kind=kind, parameters=tuple(sorted(parameters.items())))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Questions that it selects are answered by `answer`, if there is one, and so much later.

    `qtype` is a record type such as AAAA, `name` a name without its last dot, `transport` udp or
    tcp, `nameserver` the one that is asked, from 0; None: all. Of those it selects each `every`th,
    and of these by chance this `share`.
    """

    answer: Answer | None = None  # None: the usual one
    delay_s: float = 0.0
    qtype: str | None = None
    name: str | None = None
    transport: str | None = None
    nameserver: int | None = None
    every: int = 1
    share: float = 1.0
    does: tuple[Does, ...] = ()  # to the answer, in this order
    seed: str = ""  # of what is left to chance: of one cycle, or each would have the same

    def selects(self, name: str, qtype: str, transport: str, nameserver: int) -> bool:
        return (
            self.qtype in (None, qtype)
            and self.name in (None, name.lower())
            and self.transport in (None, transport)
            and self.nameserver in (None, nameserver)
        )

    def closes(self, nameserver: int) -> bool:
        """Whether the port of this nameserver is closed while the rule is in force."""
        return self.nameserver in (None, nameserver) and any(d.kind == CLOSED for d in self.does)


class Wrong(NamedTuple):
    """What becomes of one question."""

    answer: Answer | None = None
    delay_s: float = 0.0
    does: tuple[Does, ...] = ()
    asked: int = 1  # questions that were selected so far, this one included
    since_ns: int = 0  # when the first of them was asked
    seed: str = ""  # of what chance does to this one


class _Counted:
    """A rule in force, and the questions that it has met."""

    def __init__(self, rule: Rule, seed: str) -> None:
        self.rule = rule
        self.asked = 0
        self.since_ns = 0
        self.seed = seed
        self._matched = 0
        self._rng = Random(seed)  # noqa: S311 - repeatable is the point

    def takes(self, now_ns: int, *asked: Any) -> bool:
        """Whether it is about this question: a name, a type, a transport and a nameserver."""
        rule = self.rule
        if not rule.selects(*asked):
            return False
        self._matched += 1
        if self._matched % rule.every or (rule.share < 1 and self._rng.random() >= rule.share):
            return False
        self.since_ns = self.since_ns or now_ns
        self.asked += 1
        return True


class RuleBook:
    """The rules in force, by who has set them. `changed` is called when they are others."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self._changed = changed
        self._by_owner: dict[str, tuple[_Counted, ...]] = {}  # the latest last

    def __len__(self) -> int:
        return sum(map(len, self._by_owner.values()))

    def set(self, owner: str, rules: Sequence[Rule]) -> None:
        """Replace the rules of this owner; none: it has none any more."""
        self._by_owner.pop(owner, None)
        if rules:
            names = (f"{owner} {n} {rule.seed}".rstrip() for n, rule in enumerate(rules))
            counted = map(_Counted, rules, names)
            self._by_owner[owner] = tuple(counted)
        self._changed()

    def take_over(self, other: RuleBook) -> None:
        """Have the rules of another book. Those of an owner that stay go on with their counts."""
        mine = self._by_owner
        self._by_owner = {
            owner: mine[owner] if _are_same(mine.get(owner, ()), theirs) else theirs
            for owner, theirs in other._by_owner.items()
        }
        self._changed()

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All rules in force."""
        return tuple(each.rule for rules in self._by_owner.values() for each in rules)

    def wrong(
        self,
        name: str,
        qtype: str,
        transport: str = "udp",
        nameserver: int = 0,
        *,
        now_ns: int = 0,
    ) -> Wrong | None:
        """What becomes of this question, all owners taken together; None: nothing is wrong.

        Of each owner its first rule that selects it applies. Of several answers it is that of the
        owner who came last; their delays add up, and so do their actions.
        """
        found = [
            each
            for rules in self._by_owner.values()
            if (each := _first(rules, now_ns, name, qtype, transport, nameserver)) is not None
        ]
        if not found:
            return None
        answers = [each.rule.answer for each in found if each.rule.answer is not None]
        return Wrong(
            answer=answers[-1] if answers else None,
            delay_s=sum(each.rule.delay_s for each in found),
            does=tuple(does for each in found for does in each.rule.does),
            asked=found[-1].asked,
            since_ns=found[-1].since_ns,
            seed=f"{found[-1].seed} {found[-1].asked}",
        )

    def encode(self) -> str:
        """One line of JSON."""
        rules = {o: [asdict(each.rule) for each in rules] for o, rules in self._by_owner.items()}
        return json.dumps(rules)


def decode(line: str) -> RuleBook:
    """The rules of one line. Raises ValueError for anything else."""
    book = RuleBook()
    try:
        for owner, rules in json.loads(line).items():
            book.set(owner, [_rule(each) for each in rules])
            for each in rules:
                if each.get("answer") not in (None, *get_args(Answer)):
                    raise ValueError(f"no such answer: {each['answer']!r}")
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"not rules: {line[:80]!r}") from error
    return book


def _are_same(some: Sequence[_Counted], others: Sequence[_Counted]) -> bool:
    return [each.rule for each in some] == [each.rule for each in others]


def _first(rules: Iterable[_Counted], now_ns: int, *asked: Any) -> _Counted | None:
    return next((each for each in rules if each.takes(now_ns, *asked)), None)


def _rule(stored: dict[str, Any]) -> Rule:
    found = [
        Does(
            kind=each["kind"],
            parameters=tuple((name, _parameter(value)) for name, value in each["parameters"]),
        )
        for each in stored.pop("does", ())
    ]
    return Rule(**stored, does=tuple(found))


def _parameter(value: Any) -> Parameter:
    found: Parameter = tuple(value) if isinstance(value, list) else value
    return found
