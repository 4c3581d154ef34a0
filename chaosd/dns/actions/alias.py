"""CNAME records before the addresses, or none behind them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import dns.message
import dns.name
import dns.rrset

from chaosd.dns.actions import Action, Question

Form = Literal["chain", "reversed", "dangling", "loop"]


@dataclass(frozen=True, slots=True)
class Alias(Action):
    """The name is an alias, by `links` of them.

    chain: each alias before its target. reversed: the addresses first, the last alias next.
    dangling: the target has no address here. loop: the last target is the name itself.
    """

    kind: ClassVar[str] = "alias"
    form: Form = "chain"
    links: int = 1
    case: bool = False  # targets in mixed case

    def message(self, response: dns.message.Message, question: Question) -> None:
        if not response.answer:
            return
        owner = response.question[0].name
        names = [owner, *(self._target(owner, n) for n in range(1, self.links + 1))]
        if self.form == "loop":
            names[-1] = owner
        ttl = response.answer[0].ttl
        aliases = [
            dns.rrset.from_text(name, ttl, "IN", "CNAME", target.to_text())
            for name, target in pairwise(names)
        ]
        ends = [
            dns.rrset.from_rdata(names[-1], ttl, record)
            for records in response.answer
            for record in records
        ]
        response.answer = {
            "chain": [*aliases, *ends],
            "reversed": [*ends, *reversed(aliases)],
            "dangling": aliases,
            "loop": aliases,
        }[self.form]

    def _target(self, owner: dns.name.Name, number: int) -> dns.name.Name:
        label = f"Target-{number}" if self.case else f"target-{number}"
        return dns.name.Name([label.encode(), *owner.labels])
