"""A line that HAProxy does not take: it does not start with this file."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor.finding import Facts, Finding, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject
from chaosd.proxies.haproxy.cfg.source import Trouble


class Refused(Rule):
    """What the reader knows that HAProxy refuses; `haproxy -c` knows more."""

    id = "refused"
    severity = Severity.ERROR
    title = "HAProxy does not start with this line"
    sentence = "HAProxy {version} does not take this: {what}"

    def look(self, subject: Subject) -> Iterator[Finding]:
        for problem in subject.effective.problems:
            if problem.trouble is Trouble.REFUSED:
                facts: Facts = {"version": subject.version_text, "what": problem.what}
                yield self.finding(Spot(problem.place, problem.column), facts)
