"""`slowstart`: a server that comes back by DNS has its full share only later."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor.finding import Facts, Finding, Ms, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_server, of_setting
from chaosd.doctor.words import quoted
from chaosd.proxies.haproxy.cfg.address import slots
from chaosd.proxies.haproxy.cfg.effective import Proxy, Server
from chaosd.proxies.haproxy.cfg.source import Place


class SlowStart(Rule):
    """One finding for each line that says it."""

    id = "slow-start"
    severity = Severity.INFO
    title = "a server that comes back gets few requests at first"
    sentence = (
        "`slowstart {time}` ({servers}): a server that comes back, by a check or by DNS, has its "
        "full share of requests only {time} later; the others carry the rest meanwhile"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        lines: dict[Place, list[tuple[Proxy, Server]]] = {}
        for proxy, server in subject.followers:
            value = server.values["slowstart"]
            several = sum(max(1, slots(each)) for each in proxy.servers) > 1
            if several and value.value and value.place is not None:
                lines.setdefault(value.place, []).append((proxy, server))
        for users in lines.values():
            value = users[0][1].values["slowstart"]
            facts: Facts = {
                "time": Ms(int(value.value or 0)),
                "servers": quoted([server.name for _, server in users]),
            }
            yield self.finding(
                of_setting(subject, value, of_server(users[0][1])),
                facts,
                origin=value.origin,
                backends=[proxy.name for proxy, _ in users],
                beyond=True,
            )
