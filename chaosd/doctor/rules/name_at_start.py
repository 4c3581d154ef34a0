"""Names that are looked up once, at start, whatever `resolvers` there are."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor.finding import Facts, Finding, Remedy, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_value, of_word, of_words
from chaosd.doctor.words import quoted
from chaosd.proxies.haproxy.cfg.address import target
from chaosd.proxies.haproxy.cfg.source import Section, Statement, Word

_SECTIONS = {"peers": "peer", "ring": "ring server", "mailers": "mailer", "log-forward": "target"}
_LINES = ("peer", "server", "mailer", "log")
_OF_SERVERS = ("agent-addr", "addr")


class NameAtStart(Rule):
    """One finding for each section and kind, and for each `addr` of a server."""

    id = "name-at-start"
    severity = Severity.WARNING
    title = "a name that is looked up only at start"
    sentence = (
        "{what} {names} is a name: it is looked up once, at start, `resolvers` or not. HAProxy "
        "does not start while it is unknown, and does not notice when its address changes"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for section, line in subject.statements():
            word = _address(section, line)
            if word is not None and _is_name(subject, word):
                what = _SECTIONS.get(section.kind, "log target")
                yield self._finding(what, word, of_words(line), is_log=line.keyword == "log")
        for proxy, server in subject.servers():
            for keyword in _OF_SERVERS:
                value = server.values.get(keyword)
                if value is None or value.word is None or not isinstance(value.value, str):
                    continue
                if _is_name(subject, value.word):
                    spot = of_value(value, of_word(server.place, server.address))
                    yield self._finding(
                        f"`{keyword}` of server `{server.name}`", value.word, spot, proxy.name
                    )

    def _finding(
        self, what: str, word: Word, spot: Spot, *backends: str, is_log: bool = False
    ) -> Finding:
        facts: Facts = {"what": what, "names": quoted([target(word.text).host])}
        return self.finding(
            spot,
            facts,
            backends=backends,
            remedy=Remedy(advice="Write an address that does not change."),
            severity=Severity.INFO if is_log else None,
            beyond=True,
        )


def _address(section: Section, line: Statement) -> Word | None:
    """The word of a line that has an address of something else than a backend's server."""
    if line.keyword == "log" and line.words[1:]:
        return line.words[1] if ":" in line.texts[1] else None
    if section.kind in _SECTIONS and line.keyword in _LINES and line.words[2:]:
        return line.words[2]
    return None


def _is_name(subject: Subject, word: Word) -> bool:
    found = target(word.text)
    return found.is_name and subject.is_known(word) and found.host not in ("global", "localhost")
