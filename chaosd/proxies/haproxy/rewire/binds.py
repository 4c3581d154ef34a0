"""Binds: one becomes the entry, the others private sockets. No address of the user's is bound."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.proxies.haproxy.cfg.keywords import values_of
from chaosd.proxies.haproxy.cfg.source import Section, Statement, Word
from chaosd.proxies.haproxy.rewire.edits import Drop, Edit, remove_words, replace_word
from chaosd.proxies.haproxy.rewire.reasons import Reason
from chaosd.proxies.haproxy.rewire.scene import Scene

# Words of a bind that are about its address, its socket or the certificates of clients, and how
# many words belong to each. They have no meaning, or no file, where chaosd binds.
_OF_THE_ADDRESS = {
    **dict.fromkeys(("v4v6", "v6only", "transparent", "tfo", "defer-accept"), 0),
    **dict.fromkeys(("interface", "namespace", "mss", "tcp-ut", "shards", "cc"), 1),
    **dict.fromkeys(("user", "group", "uid", "gid", "mode", "level", "tcp-ss", "tcp-md5sig"), 1),
}
_OF_CLIENTS = {
    **dict.fromkeys(("ca-file", "ca-verify-file", "crl-file", "verify", "ca-sign-file"), 1),
    **dict.fromkeys(("ca-ignore-err", "crt-ignore-err", "ca-sign-pass", "ocsp-update"), 1),
    **dict.fromkeys(("tls-ticket-keys", "ech"), 1),
    "generate-certificates": 0,
}
_CERTIFICATES = ("crt", "crt-list", "ssl-f-use")


def bind(scene: Scene, section: Section, line: Statement) -> Iterator[Edit]:
    """The bind of a frontend, a listen section or a peers section."""
    if line.modifier or not line.words[1:]:
        return
    is_probed = line == scene.probe_route.bind and section.kind != "peers"
    reason = Reason.ENTRY if is_probed else Reason.UNBOUND
    if line.texts[1].startswith("quic"):
        yield Drop(line.place, Reason.UNBOUND)
        return
    yield replace_word(
        line, line.words[1], scene.ours.entry if is_probed else scene.socket(line), reason
    )
    gone = {**_OF_THE_ADDRESS, **_OF_CLIENTS, **({"proto": 1} if is_probed else {})}
    if is_probed and scene.probe_route.tls and scene.probe_route.accept_proxy:
        gone["accept-proxy"] = 0
        scene.lose(line.place, Reason.NO_PROXY_LINE)
    yield from _without(line, gone, reason)
    yield from _certificates(scene, line)


def default_bind(scene: Scene, section: Section, line: Statement) -> Iterator[Edit]:
    """What the binds of a peers section have in common."""
    yield from _without(line, {**_OF_THE_ADDRESS, **_OF_CLIENTS}, Reason.UNBOUND, first=1)
    yield from _certificates(scene, line)


def _without(
    line: Statement, gone: dict[str, int], reason: Reason, first: int = 2
) -> Iterator[Edit]:
    yield from remove_words(line, pick(line, gone, first), reason)


def pick(line: Statement, gone: dict[str, int], first: int) -> list[Word]:
    """The words of these keywords and of what belongs to them."""
    found: list[Word] = []
    at = first
    while at < len(line.words):
        keyword = line.words[at].text.partition("(")[0]
        count = gone.get(keyword)
        if count is not None:
            found += line.words[at : at + 1 + count]
        at += 1 + (values_of(keyword) if count is None else count)
    return found


def _certificates(scene: Scene, line: Statement) -> Iterator[Edit]:
    for keyword, value in zip(line.words[1:], line.words[2:], strict=False):
        if keyword.text in _CERTIFICATES and not value.text.startswith("@"):
            # A list names further files, by their places on this machine.
            lists = keyword.text == "crt-list" and scene.ours.is_elsewhere
            there = None if lists else scene.find(value.text, "crt-base")
            if there is not None:
                yield from scene.renamed(line, value, there)
                continue
            scene.lose(line.place, Reason.MADE_CERTIFICATE, value.text or value.raw)
            if keyword.text == "crt-list":
                yield replace_word(line, keyword, "crt", Reason.MADE_CERTIFICATE)
            yield replace_word(line, value, scene.certificate(), Reason.MADE_CERTIFICATE)
