"""`resolvers` of a name that no section of these files has."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Confidence, Facts, Finding, Remedy, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_server, of_setting, of_words
from chaosd.doctor.words import quoted, servers_of, verb


class MissingResolvers(Rule):
    """One finding for each name of a section."""

    id = "missing-resolvers"
    severity = Severity.ERROR
    confidence = Confidence.MEDIUM  # it may stand in a file that was not given
    title = "a resolvers section is in none of the files"
    sentence = (
        "{servers} {needs} `resolvers {name}`, and no such section is in {files}: HAProxy "
        "does not start with this alone"
    )

    _empty = "resolvers `{name}` has no nameserver: it never finds {servers}"

    def look(self, subject: Subject) -> Iterator[Finding]:
        yield from self._missing(subject)
        for section in subject.effective.resolvers.values():
            users = [server for _, server in subject.users_of(section)]
            if not users or section.nameservers or section.parse_resolv_conf is not None:
                continue
            edit = mending.insert(subject, section.place, "parse-resolv-conf")
            yield self.finding(
                of_words(subject.section_at(section.place).header),
                {"name": section.name, "servers": servers_of([user.name for user in users])},
                backends=[user.backend for user in users],
                remedy=mending.remedy(edit, advice="Or name its nameservers."),
                confidence=Confidence.HIGH,
                sentence=self._empty,
                beyond=True,
            )

    def _missing(self, subject: Subject) -> Iterator[Finding]:
        for name, servers in subject.lacking.items():
            facts: Facts = {
                "name": name,
                "servers": servers_of([server.name for server in servers]),
                "needs": verb([server.name for server in servers], "needs", "need"),
                "files": quoted([source.path.name for source in subject.sources]),
            }
            value = servers[0].values["resolvers"]
            spot = of_server(servers[0])
            yield self.finding(
                of_setting(subject, value, spot) if value.place != spot.place else spot,
                facts,
                origin=value.origin,
                backends=[server.backend for server in servers],
                also=[server.place for server in servers],
                remedy=Remedy(
                    advice="Give all files that belong together, in their -f order "
                    "(chaosd doctor a.cfg b.cfg), or the directory."
                ),
            )
