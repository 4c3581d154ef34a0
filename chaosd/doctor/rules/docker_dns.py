"""`nameserver 127.0.0.11`: Docker's own, which is there in some containers only."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Confidence, Facts, Finding, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.setting import Setting
from chaosd.doctor.subject import Subject, of_words
from chaosd.proxies.haproxy.cfg.address import target

_DOCKERS = "127.0.0.11"


class DockerDns(Rule):
    """A remark where Docker is used; an error where it is said that something else is."""

    id = "docker-dns"
    severity = Severity.INFO
    confidence = Confidence.LOW
    title = "Docker's nameserver is in its user-defined networks only"
    sentence = (
        "`nameserver {address}` is there only inside a container on a user-defined Docker "
        "network. Elsewhere nothing answers{silent}"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        elsewhere = subject.setting is not Setting.DOCKER
        for section in subject.effective.resolvers.values():
            users = subject.users_of(section)
            silent = any(server.values["init-addr"].value == "none" for _, server in users)
            for nameserver in section.nameservers:
                line = subject.statement_at(nameserver.place)
                is_dockers = target(nameserver.address.text).host == _DOCKERS
                if not is_dockers or line is None or not users:
                    continue
                facts: Facts = {
                    "address": nameserver.address.text,
                    "silent": ", and with `init-addr none` the servers never leave maintenance, "
                    "though HAProxy starts"
                    if silent
                    else "",
                }
                yield self.finding(
                    of_words(line),
                    facts,
                    backends=[proxy.name for proxy, _ in users],
                    remedy=mending.remedy(
                        mending.rewrite(line, "parse-resolv-conf"), safe=elsewhere
                    ),
                    severity=Severity.ERROR if elsewhere else None,
                    confidence=Confidence.HIGH if elsewhere else None,
                    beyond=True,
                )
