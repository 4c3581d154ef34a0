"""SRV records with other weights, ports or targets, or without what belongs to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import dns.message
import dns.name
import dns.rdatatype
import dns.rrset

from chaosd.dns.actions import Action, Question


@dataclass(frozen=True, slots=True)
class Services(Action):
    """What becomes of the SRV records of an answer; others are left as they are.

    `weight` and `port`: of all of them. `drop`: so many of them are left out, the first ones.
    `bare`: without the additional records that have their targets' addresses. `nowhere`: one more
    is there, whose target has no address. `copies`: each so many times.
    """

    kind: ClassVar[str] = "services"
    weight: int | None = None
    port: int | None = None
    drop: int = 0
    bare: bool = False
    nowhere: bool = False
    copies: int = 1

    def message(self, response: dns.message.Message, question: Question) -> None:
        asked = response.question[0]
        if asked.rdtype != dns.rdatatype.SRV:
            return
        # Another action may have put an alias before them, whose target is their owner then.
        others = [each for each in response.answer if each.rdtype != dns.rdatatype.SRV]
        records = [
            (each.name, record)
            for each in response.answer
            for record in each
            if record.rdtype == dns.rdatatype.SRV
        ][self.drop :]
        changed = [
            (
                owner,
                record.replace(
                    weight=record.weight if self.weight is None else self.weight,
                    port=record.port if self.port is None else self.port,
                ),
            )
            for owner, record in records
            for _ in range(self.copies)
        ]
        sets = [dns.rrset.from_rdata(owner, 0, record) for owner, record in changed]
        if self.nowhere:
            text = f"0 1 {self.port or 80} nowhere.{asked.name}"
            sets.append(dns.rrset.from_text(asked.name, 0, "IN", "SRV", text))
        response.answer = [*others, *sets]
        targets = {record.target for _, record in changed}
        response.additional = [
            each for each in response.additional if not self.bare and each.name in targets
        ]
