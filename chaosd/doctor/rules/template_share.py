"""`hold obsolete` under a `server-template`: the old slot keeps its share of the requests."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor.finding import Facts, Finding, Ms, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.rules.hold_obsolete import found_after, kept_no_longer
from chaosd.doctor.subject import Subject, of_setting
from chaosd.doctor.words import between, listed
from chaosd.proxies.haproxy.cfg.effective import Server


class TemplateShare(Rule):
    """One finding for each section whose templates keep what is gone."""

    id = "template-share"
    severity = Severity.WARNING
    title = "a template's slot keeps an address that is gone"
    sentence = (
        "`hold obsolete {hold}` with server-template {templates}: a new address gets a free slot "
        "within {poll}, but the slot of the old one keeps its share of the requests for {found}"
        "{checks}"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for section in subject.effective.resolvers.values():
            users = [u for u in subject.users_of(section) if u[1].is_template]
            found = found_after(section)
            if not users or found is None:
                continue
            hold, low, high = found
            facts: Facts = {
                "hold": hold,
                "templates": listed([f"`{server.name}`" for _, server in users]),
                "poll": Ms(section.values["timeout resolve"].value or 0),
                "found": between(low, high),
                "checks": _checks([server for _, server in users]),
            }
            yield self.finding(
                of_setting(subject, section.values["hold obsolete"], Spot(section.place)),
                facts,
                backends=[proxy.name for proxy, _ in users],
                remedy=kept_no_longer(subject, section),
            )


def _checks(servers: list[Server]) -> str:
    """Until when checks have taken such a slot out, if there are checks."""
    checked = [server for server in servers if server.values["check"].value]
    if not checked:
        return ", and no check takes it out"
    values = checked[0].values
    inter, fall = values["inter"].value, values["fall"].value
    fast = values["fastinter"].value or inter
    if not isinstance(inter, int) or not isinstance(fall, int) or not isinstance(fast, int):
        return ""
    low = (fall - 1) * fast
    failed = "1 check has failed" if fall == 1 else f"{fall} checks have failed"
    return f", or until {failed} ({between(Ms(low), Ms(low + inter))})"
