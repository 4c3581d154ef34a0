"""Nameservers: chaosd's DNS stands for all of them, in turn where it is several of its own.

The names that they are asked for stay.
"""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.proxies.haproxy.cfg.source import Section, Statement
from chaosd.proxies.haproxy.rewire.binds import pick
from chaosd.proxies.haproxy.rewire.edits import (
    Drop,
    Edit,
    remove_words,
    replace_line,
    replace_word,
)
from chaosd.proxies.haproxy.rewire.reasons import Reason
from chaosd.proxies.haproxy.rewire.scene import Scene
from chaosd.proxies.haproxy.rewire.servers import SOURCE, TLS


def nameserver(scene: Scene, section: Section, line: Statement) -> Iterator[Edit]:
    """A nameserver, by address, by name or by a variable; `tcp@` stays."""
    if len(line.words) < 3 or line.modifier:  # noqa: PLR2004 - a name and an address
        return
    word = line.words[2]
    family = "tcp@" if word.text.startswith(("tcp@", "tcp4@", "tcp6@")) else ""
    ours = scene.ours.dns
    place = [s.place for s in section.statements if s.says("nameserver")].index(line.place)
    yield replace_word(line, word, f"{family}{ours[place % len(ours)]}", Reason.NAMESERVER)
    yield from remove_words(line, pick(line, {**TLS, **SOURCE}, 3), Reason.NAMESERVER)


def parse_resolv_conf(scene: Scene, section: Section, line: Statement) -> Iterator[Edit]:
    """The machine's own nameservers: how many there are is not known here."""
    others = [s for s in section.statements if s.says("nameserver")]
    if others:
        yield Drop(line.place, Reason.RESOLV_CONF)
        return
    text = f"nameserver chaosd {scene.ours.dns[0]}"
    yield replace_line(line, text, Reason.RESOLV_CONF)
