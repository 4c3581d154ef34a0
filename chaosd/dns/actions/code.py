"""Another response code than NOERROR, with nothing in the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset

from chaosd.dns.actions import Action, Question


@dataclass(frozen=True, slots=True)
class Code(Action):
    """`rcode` by its name, such as SERVFAIL, BADVERS or NOERROR (a name without such records).

    `soa`: with an SOA record in the authority section, by which caches know for how many seconds
    the name is missing.
    """

    kind: ClassVar[str] = "code"
    rcode: str = "SERVFAIL"
    soa: int | None = None

    def message(self, response: dns.message.Message, question: Question) -> None:
        response.answer, response.additional = [], []
        code = dns.rcode.from_text(self.rcode)
        if code == dns.rcode.REFUSED:
            response.flags &= ~dns.flags.AA
        response.set_rcode(code)
        if self.soa is not None:
            response.authority = [soa(response.question[0].name, self.soa)]


def soa(name: dns.name.Name, ttl_s: int) -> dns.rrset.RRset:
    """The record by which a cache knows for how long this name is missing."""
    zone = name.parent()  # the root's, of a name of one label
    server, person = (dns.name.Name((host, *zone.labels)) for host in (b"ns", b"root"))
    text = f"{server} {person} 1 3600 600 86400 {ttl_s}"
    return dns.rrset.from_text(zone, ttl_s, "IN", "SOA", text)
