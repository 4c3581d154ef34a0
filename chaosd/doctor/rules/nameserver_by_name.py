"""A nameserver that is a name itself: looked up once, at start."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Facts, Finding, Remedy, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_words
from chaosd.doctor.words import quoted
from chaosd.proxies.haproxy.cfg.address import target
from chaosd.proxies.haproxy.cfg.effective import Nameserver, Resolvers
from chaosd.proxies.haproxy.rewire.edits import Drop, Edit
from chaosd.proxies.haproxy.rewire.reasons import Reason

_CLUSTERS = (".svc", "kube-dns", "coredns", "kube-system")  # of a pod's /etc/resolv.conf, too
_OTHERS = ("consul", "nomad")  # names that the cluster's DNS does not know
_ADVICE = "Write its address: the address of a DNS service should stay the same."


def _is_looked_up(nameserver: Nameserver) -> bool:
    there = target(nameserver.address.text)
    return there.is_name and there.host.lower() != "localhost"


class NameserverByName(Rule):
    """One finding for each section."""

    id = "nameserver-by-name"
    severity = Severity.WARNING
    title = "a nameserver's own name is looked up once, at start"
    sentence = (
        "nameserver {names} of resolvers `{section}` {is_name} looked up once, at start. "
        "HAProxy does not start while a name is unknown, and does not notice when it moves: from "
        "then on nobody answers"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for section in subject.effective.resolvers.values():
            named = [
                nameserver
                for nameserver in section.nameservers
                if _is_looked_up(nameserver) and subject.is_known(nameserver.address)
            ]
            if named:
                yield self._finding(subject, section, named)

    def _finding(self, subject: Subject, section: Resolvers, named: list[Nameserver]) -> Finding:
        facts: Facts = {
            "names": quoted([nameserver.address.text for nameserver in named]),
            "section": section.name,
            "is_name": "is a name: it is" if len(named) == 1 else "are names: they are",
        }
        if not _is_of_cluster(subject, section, named):
            return self._of_others(subject, section, named, facts)
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

    def _of_others(
        self, subject: Subject, section: Resolvers, named: list[Nameserver], facts: Facts
    ) -> Finding:
        """What another nameserver knows, the one of /etc/resolv.conf may not know."""
        first = subject.statement_at(named[0].place)
        return self.finding(
            Spot(named[0].place) if first is None else of_words(first),
            facts,
            backends=[proxy.name for proxy, _ in subject.users_of(section)],
            also=[nameserver.place for nameserver in named],
            remedy=Remedy(advice=_ADVICE),
            beyond=True,
        )


def _is_of_cluster(subject: Subject, section: Resolvers, named: list[Nameserver]) -> bool:
    """Whether it is the nameserver that a pod's /etc/resolv.conf has, as far as can be told."""
    hosts = [target(nameserver.address.text).host.lower() for nameserver in named]
    names = [subject.target(server).host.lower() for _, server in subject.users_of(section)]
    return all(any(part in host for part in _CLUSTERS) for host in hosts) and not any(
        part in name for name in (*hosts, *names) for part in _OTHERS
    )
