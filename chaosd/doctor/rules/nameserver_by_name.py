"""A nameserver that is a name itself: looked up once, at start."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Facts, Finding, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_words
from chaosd.doctor.words import quoted
from chaosd.proxies.haproxy.cfg.address import target
from chaosd.proxies.haproxy.cfg.effective import Nameserver, Resolvers
from chaosd.proxies.haproxy.rewire.edits import Drop, Edit
from chaosd.proxies.haproxy.rewire.reasons import Reason


class NameserverByName(Rule):
    """One finding for each section."""

    id = "nameserver-by-name"
    severity = Severity.WARNING
    title = "a nameserver's own name is looked up once, at start"
    sentence = (
        "nameserver {names} of resolvers `{section}` is a name: it is looked up once, at start. "
        "HAProxy does not start while it is unknown, and does not notice when it moves: from then "
        "on nobody answers"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for section in subject.effective.resolvers.values():
            named = [
                nameserver
                for nameserver in section.nameservers
                if target(nameserver.address.text).is_name and subject.is_known(nameserver.address)
            ]
            if named:
                yield self._finding(subject, section, named)

    def _finding(self, subject: Subject, section: Resolvers, named: list[Nameserver]) -> Finding:
        facts: Facts = {
            "names": quoted([nameserver.address.text for nameserver in named]),
            "section": section.name,
        }
        first = subject.statement_at(named[0].place)
        edits: list[Edit] = [
            Drop(each.place, Reason.MENDED)
            for each in (named if section.parse_resolv_conf is not None else named[1:])
        ]
        if first is not None and section.parse_resolv_conf is None:
            edits.insert(0, mending.rewrite(first, "parse-resolv-conf"))
        return self.finding(
            Spot(named[0].place) if first is None else of_words(first),
            facts,
            backends=[proxy.name for proxy, _ in subject.users_of(section)],
            also=[nameserver.place for nameserver in named],
            remedy=mending.remedy(
                *edits,
                advice="Or write its address: the ClusterIP of a DNS service stays the same.",
            ),
            beyond=True,
        )
