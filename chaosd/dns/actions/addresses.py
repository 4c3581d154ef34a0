"""Addresses that are not the app's: unusable ones, another family's, or those of some time ago."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import ClassVar

import dns.message
import dns.rdatatype
import dns.rrset

from chaosd.dns.actions import Action, Question

FAMILIES = {4: "A", 6: "AAAA"}


@dataclass(frozen=True, slots=True)
class Addresses(Action):
    """The answer has `only` these addresses, or `also` these, or those `before` the last change.

    Of a list only those of the family asked for are answered. `flap` takes turns: of so many
    answers the first half is as usual.
    """

    kind: ClassVar[str] = "addresses"
    only: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    before: bool = False
    flap: int = 0
    ttl: int = 0

    def message(self, response: dns.message.Message, question: Question) -> None:
        if self.flap and (question.asked - 1) % self.flap < self.flap // 2:
            return
        asked = response.question[0]
        if self.before:
            records = [r for r in question.previous if r.rdtype == asked.rdtype]
            response.answer = [dns.rrset.from_rdata(asked.name, self.ttl, r) for r in records]
            return
        if self.only:
            response.answer = []
        family = dns.rdatatype.to_text(asked.rdtype)
        for ip in (*self.only, *self.also):
            if FAMILIES[ipaddress.ip_address(ip).version] == family:
                response.answer.append(dns.rrset.from_text(asked.name, self.ttl, "IN", family, ip))
