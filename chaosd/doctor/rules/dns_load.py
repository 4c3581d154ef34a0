"""How many questions a second this file asks DNS."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor.finding import Facts, Finding, Ms, Remedy, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.rules.resolve_prefer import accepts_one_family
from chaosd.doctor.subject import Subject, of_words
from chaosd.doctor.words import count
from chaosd.proxies.haproxy.cfg.effective import Resolvers

_MUCH_PER_S = 5.0


class DnsLoad(Rule):
    """One finding for each section that asks much. The table has the number of every backend."""

    id = "dns-load"
    severity = Severity.INFO
    title = "how many questions DNS is asked"
    sentence = (
        "{names} asked every {poll}: {rate:.3g} DNS queries a second from each HAProxy process{to}"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for section in subject.effective.resolvers.values():
            names, rate = load(subject, section)
            if rate < _MUCH_PER_S:
                continue
            servers = len(section.nameservers)
            facts: Facts = {
                "names": count(names, "name is", "names are"),
                "poll": Ms(int(section.values["timeout resolve"].value or 0)),
                "rate": rate,
                "to": f" to each of {servers} nameservers" if servers > 1 else "",
            }
            yield self.finding(
                of_words(subject.section_at(section.place).header),
                facts,
                backends=[proxy.name for proxy, _ in subject.users_of(section)],
                remedy=Remedy(
                    advice="If that is too much for your nameserver, put a cache on the machine."
                ),
            )


def load(subject: Subject, section: Resolvers) -> tuple[int, float]:
    """How many things are asked for, and how many questions that makes a second.

    Servers that ask for one name in one way share the question.
    """
    poll = section.values["timeout resolve"].value
    if not isinstance(poll, int) or not poll:
        return 0, 0.0
    questions: dict[tuple[str, object], int] = {}
    for _, server in subject.users_of(section):
        target, prefers = subject.target(server), server.values["resolve-prefer"].value
        is_double = prefers == "ipv6" and not target.is_service and not accepts_one_family(subject)
        questions[target.host.lower(), prefers] = 2 if is_double else 1
    return len(questions), sum(questions.values()) * 1000 / poll
