"""What is wrong with which answers of a nameserver: rules, which a fault sets for a while.

A rule selects questions by name and type and says what becomes of them. It needs nothing but the
standard library: the forwarder in its container has no more of chaosd.
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


def encode(rules: Sequence[Rule]) -> str:
    """One line of JSON."""
    return json.dumps([asdict(rule) for rule in rules])


def decode(line: str) -> tuple[Rule, ...]:
    """The rules of one line. Raises ValueError for anything else."""
    try:
        rules = tuple(Rule(**each) for each in json.loads(line))
    except TypeError as error:
        raise ValueError(f"not rules: {line[:80]!r}") from error
    if unknown := [rule for rule in rules if rule.answer not in (None, *get_args(Answer))]:
        raise ValueError(f"no such answer: {unknown[0].answer!r}")
    return rules
