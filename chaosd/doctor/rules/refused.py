"""A line that HAProxy does not take: it does not start with this file."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Facts, Finding, Remedy, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_value, of_word, of_words
from chaosd.proxies.haproxy.cfg.address import slots, target
from chaosd.proxies.haproxy.cfg.effective import Effective, Nameserver, Value
from chaosd.proxies.haproxy.cfg.gone import refusal
from chaosd.proxies.haproxy.cfg.keywords import SERVER, Kind
from chaosd.proxies.haproxy.cfg.source import Place, Statement, Trouble

_TEMPLATE = "server-template PREFIX NUMBER ADDRESS"


class Refused(Rule):
    """What the reader knows that HAProxy refuses; `haproxy -c` knows more."""

    id = "refused"
    severity = Severity.ERROR
    title = "HAProxy does not start with this line"
    sentence = "HAProxy {version} does not take this: {what}"

    def look(self, subject: Subject) -> Iterator[Finding]:
        for problem in subject.effective.problems:
            if problem.trouble is Trouble.REFUSED:
                yield self._finding(subject, Spot(problem.place, problem.column), problem.what)
            elif problem.trouble is Trouble.NO_NEWLINE:
                newline = mending.remedy(mending.end(problem.place))
                yield self._finding(subject, Spot(problem.place), problem.what, newline)
        for part, line in subject.statements():
            found = refusal(subject.effective.dialect, part, line)
            if found is not None:
                remedy = _instead(line, found.instead)
                yield self._finding(subject, of_words(line), found.what, remedy)
        for section in subject.effective.resolvers.values():
            names: set[str] = set()
            for nameserver in section.nameservers:
                spot = of_word(nameserver.place, nameserver.address)
                if nameserver.name in names:
                    what = f"resolvers `{section.name}` has another nameserver `{nameserver.name}`"
                    yield self._finding(subject, spot, what)
                names.add(nameserver.name)
                if _lacks_port(subject, nameserver):
                    what = f"`{nameserver.address.text}` has no port (write :53 after it)"
                    yield self._finding(subject, spot, what)
        for server in subject.effective.servers:
            if not slots(server):
                what = f"`{server.count}` is no number of servers ({_TEMPLATE})"
                spot = of_word(server.place, server.statement.words[2])
                yield self._finding(subject, spot, what)
        for place, value in _no_times(subject.effective).items():
            raw = value.word.raw if value.word is not None else ""
            why = "which is no time (variables count between double quotes)"
            what = f"`{raw}`, {why if raw.startswith('$') else value.unclear}"
            yield self._finding(subject, of_value(value, Spot(place)), what)

    def _finding(
        self, subject: Subject, spot: Spot, what: str, remedy: Remedy | None = None
    ) -> Finding:
        facts: Facts = {"version": subject.version_text, "what": what}
        return self.finding(spot, facts, remedy=remedy, beyond=remedy is not None)


def _instead(line: Statement, text: str | None) -> Remedy | None:
    """The line to write, or none: it becomes a comment."""
    if text is None:
        return None
    return mending.remedy(mending.rewrite(line, text) if text else mending.leave_out(line))


def _no_times(effective: Effective) -> dict[Place, Value]:
    """What stands where a time should, by its line: of times alone HAProxy refuses what is none."""
    proxies = (p.values for p in effective.proxies)
    servers = (s.values for s in effective.servers)
    sections = (s.values for s in effective.resolvers.values())
    return {
        value.place: value
        for values in (*proxies, *servers, *sections)
        for name, value in values.items()
        if value.place is not None
        and value.unclear is not None
        and value.word is not None
        and not (value.word.unset or value.word.variables)
        and _is_time(name)
    }


def _is_time(name: str) -> bool:
    if name.startswith(("timeout ", "hold ")):
        return True
    return name in SERVER and SERVER[name].kind is Kind.TIME


def _lacks_port(subject: Subject, nameserver: Nameserver) -> bool:
    """Whether an address has no port: all versions want one, whatever their documentation says."""
    there = target(nameserver.address.text)
    return not there.port and not there.is_socket and subject.is_known(nameserver.address)
