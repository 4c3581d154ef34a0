"""Names of peers, logs and the like: looked up once, at start, whatever `resolvers` says."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor.finding import Facts, Finding, Remedy, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_word
from chaosd.doctor.words import quoted, verb
from chaosd.proxies.haproxy.cfg.address import target
from chaosd.proxies.haproxy.cfg.keywords import places_of
from chaosd.proxies.haproxy.cfg.source import Section, Statement, Word

# Where an address stands, by the section and the keyword. What nobody's requests wait for is idle.
_AT: dict[tuple[str, str], tuple[int, str, Severity]] = {
    ("peers", "peer"): (2, "peer", Severity.WARNING),
    ("peers", "server"): (2, "peer", Severity.WARNING),
    ("ring", "server"): (2, "log server", Severity.INFO),
    ("mailers", "mailer"): (2, "mail server", Severity.INFO),
}
_LOGS, _OF_FILE = ("global", "stdout", "stderr"), ("ring@", "backend@")  # no addresses
_OF_SERVER = {"agent-addr": "agent", "addr": "check host"}


class StartOnlyName(Rule):
    """One finding for each section and kind."""

    id = "start-only-name"
    severity = Severity.WARNING
    title = "a name is looked up once, at start, `resolvers` or not"
    sentence = (
        "{what} {names} is a name that is looked up once, at start, `resolvers` or not: HAProxy "
        "does not start while it is unknown, and does not notice when it moves"
    )
    _several = (
        "{what} {names} are names that are looked up once, at start, `resolvers` or not: HAProxy "
        "does not start while one is unknown, and does not notice when one moves"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for section in subject.effective.document.sections:
            found: dict[tuple[str, Severity], list[tuple[Statement, Word]]] = {}
            for line in section.statements:
                for what, severity, word in _addresses(section, line):
                    if target(word.text).is_name and subject.is_known(word):
                        found.setdefault((what, severity), []).append((line, word))
            for (what, severity), words in found.items():
                names = [target(word.text).host for _, word in words]
                facts: Facts = {"what": verb(names, what, f"{what}s"), "names": quoted(names)}
                line, word = words[0]
                yield self.finding(
                    of_word(line.place, word),
                    facts,
                    also=[each.place for each, _ in words],
                    remedy=Remedy(advice="Write an address, or reload HAProxy when it changes."),
                    severity=severity,
                    sentence=verb(names, self.sentence, self._several),
                    beyond=True,
                )


def _addresses(section: Section, line: Statement) -> Iterator[tuple[str, Severity, Word]]:
    at = _AT.get((section.kind, line.keyword))
    if line.modifier:
        return
    if at is not None and len(line.words) > at[0]:
        yield at[1], at[2], line.words[at[0]]
    elif line.keyword == "log" and line.words[1:] and not _is_inside(line.texts[1]):
        yield "log server", Severity.INFO, line.words[1]
    elif line.keyword in ("server", "server-template", "default-server"):
        for place in places_of(line.texts):
            if line.texts[place] in _OF_SERVER and line.words[place + 1 :]:
                yield _OF_SERVER[line.texts[place]], Severity.WARNING, line.words[place + 1]


def _is_inside(log: str) -> bool:
    """Whether a log goes to what is no other host."""
    return log in _LOGS or log.startswith(_OF_FILE)
