"""A `resolvers` section that nothing uses."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor.finding import Finding, Remedy, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_words
from chaosd.proxies.haproxy.cfg.address import slots
from chaosd.proxies.haproxy.cfg.source import Statement

_OTHER_USERS = ("do-resolve(", "httpclient.resolvers.id")
_OF_HAPROXY = "default"  # HAProxy's own HTTP client asks it


class UnusedResolvers(Rule):
    """One finding for each; a part of a configuration, without backends, is left alone."""

    id = "unused-resolvers"
    severity = Severity.INFO
    title = "a resolvers section is used by no server"
    sentence = "resolvers `{name}` is used by no server: no name is looked up by it"

    def look(self, subject: Subject) -> Iterator[Finding]:
        if not subject.backends:
            return
        used = {str(server.values["resolvers"].value) for server in subject.effective.servers}
        for server in subject.effective.servers:
            if server.unread or not slots(server):  # what of its words is what is not known
                used |= {*server.statement.texts}
        texts = [line for _, line in subject.statements() if _is_other_use(line)]
        for section in subject.effective.resolvers.values():
            if section.name in used or section.name == _OF_HAPROXY:
                continue
            if any(section.name in " ".join(line.texts) for line in texts):
                continue
            header = subject.section_at(section.place).header
            advice = f"Add `resolvers {section.name}` to the servers, or take the section out."
            yield self.finding(
                of_words(header), {"name": section.name}, remedy=Remedy(advice=advice)
            )


def _is_other_use(line: Statement) -> bool:
    return any(word in text for text in line.texts for word in _OTHER_USERS)
