"""The usual records, but too few, too many, in another order, or with another TTL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import dns.message
import dns.name
import dns.rdatatype
import dns.rrset

from chaosd.dns.actions import Action, Question


@dataclass(frozen=True, slots=True)
class Records(Action):
    """Of the answer's records `keep` so many (0: all), starting with the next one each time.

    `rotate`: begin with another one each time. `copies`: each so many times. `filler`: so many
    addresses of nobody (in 192.0.2.0/24 and beyond) after them. `ttl`: of all of them, in seconds.
    `shrinking`: the TTL counts down while the rule is in force, as a cache's does. `stray`: a TXT
    record stands before them. `case`: the owner, and the question, are written in capitals.
    """

    kind: ClassVar[str] = "records"
    keep: int = 0
    rotate: bool = False
    copies: int = 1
    filler: int = 0
    ttl: int | None = None
    shrinking: bool = False
    stray: bool = False
    case: bool = False

    def message(self, response: dns.message.Message, question: Question) -> None:
        sets = response.answer
        if sets and (self.rotate or self.keep):
            turn = question.asked % len(sets)
            sets = [*sets[turn:], *sets[:turn]]
        sets = sets[: self.keep or None]
        sets = [each for each in sets for _ in range(self.copies)]
        asked = response.question[0]
        if self.filler and asked.rdtype == dns.rdatatype.A:
            ips = (f"192.0.{2 + n // 250}.{1 + n % 250}" for n in range(self.filler))
            sets += [dns.rrset.from_text(asked.name, 0, "IN", "A", ip) for ip in ips]
        if self.stray:
            sets = [dns.rrset.from_text(asked.name, 0, "IN", "TXT", '"stray"'), *sets]
        response.answer = [self._changed(each, question) for each in sets]
        if self.case:  # names are compressed: the answer's owner is that of the question
            asked.name = dns.name.from_text(asked.name.to_text().upper())

    def _changed(self, records: dns.rrset.RRset, question: Question) -> dns.rrset.RRset:
        ttl = records.ttl if self.ttl is None else self.ttl
        if self.shrinking:
            ttl = max(0, ttl - int(question.since_s))
        owner = records.name
        if self.case:
            owner = dns.name.from_text(owner.to_text().upper())
        return dns.rrset.from_rdata(owner, ttl, *records)
