"""A second look at the copies, by other means: every address in them has to be chaosd's own.

The rules of `table.py` go line by line over the user's files. This goes over what they have made,
and knows nothing of them: what a rule forgets is found here, and the copy is not run.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from chaosd.proxies.haproxy.cfg.address import target
from chaosd.proxies.haproxy.cfg.effective import Effective
from chaosd.proxies.haproxy.cfg.source import Place, Section, Statement
from chaosd.proxies.haproxy.rewire.choose import is_followed
from chaosd.proxies.haproxy.rewire.scene import Ours

# Where an address stands in a line: by its section, or in any, and the words before it.
_ADDRESSES = {
    "bind": 1,
    "dgram-bind": 1,
    "nameserver": 2,
    "log": 1,
    "peer": 2,
    "mailer": 2,
    "dispatch": 1,
    "source": 1,
}
_IN_WORDS = frozenset({"source", "addr", "agent-addr", "socks4", "usesrc", "interface"})
_WORDS_OF = {"server": 3, "server-template": 4, "default-server": 1}  # where its words begin
_PROXIES = frozenset({"frontend", "listen", "backend"})
_SECTIONS = frozenset({"program", "mailers", "log-forward", "acme"})


def foreign(copies: Effective, ours: Ours) -> Iterator[Place]:
    """The lines of the copies that would open or ask what is not chaosd's."""
    hosts = {
        target(text).host for text in (ours.entry, *ours.dns, ours.log, ours.app, ours.nothing)
    }
    hosts |= {ours.beside} if ours.beside else set()
    for section in copies.document.sections:
        beside_name = [word.text for word in section.header.arguments[1:2]]
        has_address = section.kind in _PROXIES and beside_name not in ([], ["from"])
        if section.kind in _SECTIONS or has_address:  # `listen web :80`
            yield section.header.place
        for line in section.statements:
            if not line.modifier and not all(map(hosts.__contains__, _hosts(section, line, ours))):
                yield line.place
    for server in copies.servers:
        there = target(server.address.text)
        is_ours = there.host in hosts or _is_private(server.address.text, ours)
        if not is_ours and not is_followed(server):
            yield server.place


def _hosts(section: Section, line: Statement, ours: Ours) -> Iterator[str]:
    """The hosts that this line names, without chaosd's private sockets."""
    texts: list[str] = []
    at = _ADDRESSES.get(line.keyword)
    if at is not None and at < len(line.words) and not line.says("log", "global"):
        texts += line.texts[at].split(",")
    if line.says("stats", "socket"):
        texts += line.texts[2:3]
    if line.keyword == "server" and section.kind in ("peers", "ring"):
        texts += line.texts[2:3]
    # Elsewhere HAProxy knows no servers, and says so.
    has_servers = section.kind in {*_PROXIES, "defaults", "peers"}
    own = line.texts[_WORDS_OF.get(line.keyword, len(line.texts)) :] if has_servers else ()
    for before, (word, value) in zip(("", *own), pairwise(own), strict=False):
        # `hash-key addr` names no address.
        texts += [value] if word in _IN_WORDS and before != "hash-key" else []
    for text in filter(None, texts):
        if not _is_private(text, ours):
            yield target(text).host


def _is_private(text: str, ours: Ours) -> bool:
    return text.startswith(f"abns@{ours.token}") or text in (ours.api, ours.log, "stdout")
