"""Up to HAProxy 2.9 a further `default-server` line resets what an earlier one says of DNS."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Facts, Finding, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_words
from chaosd.doctor.words import quoted
from chaosd.proxies.haproxy.cfg.effective import Proxy
from chaosd.proxies.haproxy.cfg.source import Statement

_LOST = ("resolve-prefer", "resolve-opts")


class DefaultServerResets(Rule):
    """One finding for each line that loses something for good."""

    id = "default-server-resets"
    severity = Severity.WARNING
    title = "a default-server line resets an earlier one"
    sentence = (
        "HAProxy {version} resets `resolve-prefer` and `resolve-opts` at each further "
        "`default-server` line: {lost} of line {line} is lost here (3.0 keeps it)"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        if not subject.effective.dialect.default_server_resets:
            return
        for proxy in subject.effective.proxies:
            yield from self._of(subject, proxy)

    def _of(self, subject: Subject, proxy: Proxy) -> Iterator[Finding]:
        """Of the last line alone: what comes before it is reset by it anyway."""
        own = [line for line in proxy.statements if _is_default_server(line)]
        lines = [*filter(_is_default_server, proxy.inherited), *own]
        if not own or len(lines) < 2:  # noqa: PLR2004
            return
        last, lost = lines[-1], dict[str, Statement]()
        for line in lines[:-1]:
            lost |= dict.fromkeys(_says(line), line)
        said = {words.split()[0] for words in _says(last)}
        lost = {words: line for words, line in lost.items() if words.split()[0] not in said}
        if not lost:
            return
        facts: Facts = {
            "version": subject.version_text,
            "lost": quoted(list(lost)),
            "line": next(iter(lost.values())).place.line,
        }
        yield self.finding(
            of_words(last),
            facts,
            backends=[proxy.name] if proxy.servers else [],
            also=[line.place for line in lost.values()],
            remedy=mending.remedy(mending.append(last, " ".join(lost))),
            beyond=any(words.startswith("resolve-opts") for words in lost),
        )


def _is_default_server(line: Statement) -> bool:
    return line.says("default-server")


def _says(line: Statement) -> Iterator[str]:
    """The words that are lost, each with its value."""
    for number, text in enumerate(line.texts[:-1]):
        if text in _LOST:
            yield f"{text} {line.texts[number + 1]}"
