"""Users who are bound to a slot or an address: what a move does to them."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor.finding import Facts, Finding, Remedy, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_words
from chaosd.proxies.haproxy.cfg.address import slots
from chaosd.proxies.haproxy.cfg.effective import Proxy
from chaosd.proxies.haproxy.cfg.source import Statement

_HASHES = ("source", "uri", "url_param", "hdr", "rdp-cookie", "hash")
_LAST_COUNTS = ("balance", "cookie")
_SLOT = "the slot, and not to the instance in it"
_ADDRESS = "the address of an instance"
_COOKIES = ("insert", "prefix", "rewrite")


class Persistence(Rule):
    """One finding for each line that binds users, where a backend has several servers."""

    id = "persistence"
    severity = Severity.INFO
    title = "users are bound to a server whose instance may change"
    sentence = "`{line}` binds users to {what}: after a move they {then} (backend `{backend}`)"

    def look(self, subject: Subject) -> Iterator[Finding]:
        followed = {proxy.name for proxy, _ in subject.followers}
        for proxy in subject.backends:
            if proxy.name not in followed or sum(max(1, slots(s)) for s in proxy.servers) < 2:  # noqa: PLR2004
                continue
            for line in _in_force(proxy):
                if (found := _binds(line)) is not None:
                    facts: Facts = {
                        "line": " ".join(line.texts[:3]),
                        "what": found[0],
                        "then": found[1],
                        "backend": proxy.name,
                    }
                    yield self.finding(
                        of_words(line),
                        facts,
                        backends=[proxy.name],
                        remedy=Remedy(advice="Keep sessions outside of the instances."),
                        beyond=True,
                    )


def _in_force(proxy: Proxy) -> Iterator[Statement]:
    """Of `balance` and `cookie` the last line alone counts."""
    last: dict[str, Statement] = {}
    for line in (*proxy.inherited, *proxy.statements):
        if line.keyword in _LAST_COUNTS:
            last[line.keyword] = line
        else:
            yield line
    yield from last.values()


def _binds(line: Statement) -> tuple[str, str] | None:
    """What a line binds users to, and what that means when its instance has moved."""
    lost = "land on another instance there and lose what only the old one knew"
    if line.says("cookie") and not set(_COOKIES).isdisjoint(line.texts):
        if "dynamic" in line.texts:
            return _ADDRESS, "are sent to any instance and lose what only the old one knew"
        return _SLOT, lost
    if line.says("stick"):
        return _SLOT, lost
    if line.says("balance") and line.texts[1:2] and line.texts[1].startswith(_HASHES):
        return "the slot that a hash of theirs gives", lost
    return None
