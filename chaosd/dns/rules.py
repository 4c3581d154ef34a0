"""What is wrong with which answers of a nameserver: rules, which faults set for a while.

A rule selects questions by name and type and says what becomes of them. Each fault has rules of its
own, which come and go without touching those of another. It needs nothing but the standard library:
the forwarder in its container has no more of chaosd.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args

Answer = Literal["nxdomain", "servfail", "refused", "empty", "drop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Questions that it selects are answered by `answer`, if there is one, and so much later.

    `qtype` is a record type such as AAAA, `name` a name without its last dot; None: all.
    """

    answer: Answer | None = None  # None: the usual one
    delay_s: float = 0.0
    qtype: str | None = None
    name: str | None = None

    def selects(self, name: str, qtype: str) -> bool:
        return self.qtype in (None, qtype) and self.name in (None, name.lower())


def first_match(rules: Iterable[Rule], name: str, qtype: str) -> Rule | None:
    """The rule that applies: the first one that selects this question."""
    return next((rule for rule in rules if rule.selects(name, qtype)), None)


class RuleBook:
    """The rules in force, by who has set them."""

    def __init__(self) -> None:
        self._by_owner: dict[str, tuple[Rule, ...]] = {}  # the latest last

    def __len__(self) -> int:
        return sum(map(len, self._by_owner.values()))

    def set(self, owner: str, rules: Sequence[Rule]) -> None:
        """Replace the rules of this owner; none: it has none any more."""
        self._by_owner.pop(owner, None)
        if rules:
            self._by_owner[owner] = tuple(rules)

    def wrong(self, name: str, qtype: str) -> Rule | None:
        """What becomes of this question, all owners taken together; None: nothing is wrong.

        Of each owner its first rule that selects it applies. Of several answers it is that of the
        owner who came last; their delays add up.
        """
        found = [
            rule
            for rules in self._by_owner.values()
            if (rule := first_match(rules, name, qtype)) is not None
        ]
        if not found:
            return None
        answers = [rule.answer for rule in found if rule.answer is not None]
        return Rule(
            answer=answers[-1] if answers else None, delay_s=sum(rule.delay_s for rule in found)
        )

    def encode(self) -> str:
        """One line of JSON."""
        rules = {o: [asdict(rule) for rule in rules] for o, rules in self._by_owner.items()}
        return json.dumps(rules)


def decode(line: str) -> RuleBook:
    """The rules of one line. Raises ValueError for anything else."""
    book = RuleBook()
    try:
        for owner, rules in json.loads(line).items():
            book.set(owner, [Rule(**each) for each in rules])
            for each in rules:
                if each.get("answer") not in (None, *get_args(Answer)):
                    raise ValueError(f"no such answer: {each['answer']!r}")
    except (TypeError, AttributeError) as error:
        raise ValueError(f"not rules: {line[:80]!r}") from error
    return book
