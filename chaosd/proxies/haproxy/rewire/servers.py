"""Server lines: the app's, those beside it, and those of every other backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chaosd.proxies.haproxy.cfg.address import target
from chaosd.proxies.haproxy.cfg.effective import Server
from chaosd.proxies.haproxy.cfg.source import Section, Statement
from chaosd.proxies.haproxy.rewire.binds import pick
from chaosd.proxies.haproxy.rewire.choose import is_followed
from chaosd.proxies.haproxy.rewire.edits import (
    Drop,
    Edit,
    append_words,
    remove_words,
    replace_word,
)
from chaosd.proxies.haproxy.rewire.reasons import Reason
from chaosd.proxies.haproxy.rewire.scene import Scene

_TLS_VERSIONS = ("sslv3", "tlsv10", "tlsv11", "tlsv12", "tlsv13")
# Keywords of a server that go, how many words belong to each, and why.
TLS = {
    **dict.fromkeys(("ssl", "check-ssl", "allow-0rtt", "sni-auto", "check-sni-auto"), 0),
    **dict.fromkeys(("ssl-reuse", "no-ssl-reuse", "tls-tickets", "no-tls-tickets"), 0),
    **dict.fromkeys(("renegotiate", "no-renegotiate"), 0),
    **{f"{how}-{version}": 0 for how in ("force", "no") for version in _TLS_VERSIONS},
    **dict.fromkeys(("verify", "verifyhost", "sni", "check-sni", "ca-file", "crt"), 1),
    **dict.fromkeys(("crl-file", "alpn", "check-alpn", "npn", "ciphers", "ciphersuites"), 1),
    **dict.fromkeys(("curves", "sigalgs", "client-sigalgs", "ssl-min-ver", "ssl-max-ver"), 1),
    "ktls": 1,
}
# Of those, what does not fit the stand-in app's made certificate, or what it speaks.
_OTHER_TLS = {
    **{f"{how}-{version}": 0 for how in ("force", "no") for version in _TLS_VERSIONS},
    **dict.fromkeys(("crl-file", "npn", "ciphers", "ciphersuites", "curves", "sigalgs"), 1),
    **dict.fromkeys(("client-sigalgs", "ssl-min-ver", "ssl-max-ver", "ktls"), 1),
}
_FILES_OF_TLS = ("ca-file", "crt")
ALPN = {"alpn": 1, "check-alpn": 1}
PROTOCOL = {"proto": 1, "check-proto": 1, "ws": 1}
SOCKS = {"socks4": 1, "check-via-socks4": 0}
SOURCE = {"source": 1, "usesrc": 1, "interface": 1, "namespace": 1}
AGENT = {
    "agent-check": 0,
    **dict.fromkeys(("agent-addr", "agent-port", "agent-inter", "agent-send"), 1),
}
_GROUPS: tuple[tuple[dict[str, int], Reason], ...] = (
    (_OTHER_TLS, Reason.OTHER_TLS),
    (PROTOCOL, Reason.PLAIN_PROTOCOL),
    (SOCKS, Reason.NO_SOCKS),
    (SOURCE, Reason.SOURCE),
    (AGENT, Reason.AGENT),
    ({"addr": 1}, Reason.CHECK_ADDRESS),
    ({"track": 1}, Reason.TRACK),
    ({"redir": 1}, Reason.REDIR),
)
# Of `default-server`: what opens a file or goes elsewhere, and what no word takes back.
_DEFAULTS = (
    (PROTOCOL, Reason.PLAIN_PROTOCOL),
    (SOCKS, Reason.NO_SOCKS),
    (SOURCE, Reason.SOURCE),
    ({"agent-addr": 1}, Reason.AGENT),
    ({"addr": 1}, Reason.CHECK_ADDRESS),
    ({"track": 1}, Reason.TRACK),
    ({"redir": 1}, Reason.REDIR),
)


def default_server(scene: Scene, section: Section, line: Statement) -> Iterator[Edit]:
    """What the servers of a section have in common."""
    if line.modifier:
        return
    if section.kind == "peers":
        yield from remove_words(line, pick(line, {**TLS, **SOURCE}, 1), Reason.PEERS)
        return
    for gone, reason in _DEFAULTS:
        yield from _without(scene, line, gone, reason, first=1)
    if scene.is_of_moved(section):
        yield from _without(scene, line, _OTHER_TLS, Reason.OTHER_TLS, first=1)
        yield from _files_of_tls(scene, line)
    else:
        # Not even `no-ssl` would do: HAProxy 2.6 and later prepare such servers for TLS as well.
        yield from remove_words(line, pick(line, TLS, 1), Reason.OTHER_BACKEND)


def server(scene: Scene, section: Section, line: Statement) -> Iterator[Edit]:
    """A server of a backend, whether it moves, stands beside what moves, or is elsewhere."""
    found = scene.server(line)
    if found is None:
        return  # HAProxy refuses the line
    if scene.is_moved(section):
        yield from (_moved if found in scene.choice.moved else _beside)(scene, line, found)
    else:
        yield from _elsewhere(scene, line, found)


def _moved(scene: Scene, line: Statement, found: Server) -> Iterator[Edit]:
    there = target(found.address.text)
    ours = scene.ours
    if not is_followed(found):
        scene.lose(line.place, Reason.APP_ADDRESS, there.host)
        yield replace_word(line, found.address, ours.app, Reason.APP_ADDRESS)
    elif not there.is_service and there.port != str(ours.app_port):
        text = f"{there.family}{there.host}:{ours.app_port}"
        yield replace_word(line, found.address, text, Reason.APP_PORT)
    yield from _stand_in(scene, line, found)


def _beside(scene: Scene, line: Statement, found: Server) -> Iterator[Edit]:
    there, ours = target(found.address.text), scene.ours
    if (bind := scene.bind_of(there)) is not None:
        yield from _follow(scene, line, found, bind)
        return
    if ours.beside is None:
        yield replace_word(line, found.address, ours.nothing, Reason.BESIDE_ADDRESS)
        scene.lose(line.place, Reason.BESIDE_ADDRESS, found.name)
    elif not is_followed(found):
        text = f"{ours.beside}:{ours.app_port}"
        yield replace_word(line, found.address, text, Reason.BESIDE_ADDRESS)
    elif not there.is_service and there.port != str(ours.app_port):
        text = f"{there.family}{there.host}:{ours.app_port}"
        yield replace_word(line, found.address, text, Reason.BESIDE_PORT)
    yield from _stand_in(scene, line, found)


def _stand_in(scene: Scene, line: Statement, found: Server) -> Iterator[Edit]:
    """What differs where the stand-in app answers instead of the user's."""
    for gone, reason in _GROUPS:
        yield from _without(scene, line, gone, reason)
    if _inherits(scene, found, "agent-check"):
        yield append_words(line, "no-agent-check", Reason.AGENT)
        scene.lose(line.place, Reason.AGENT, "agent-check")
    for word in pick(line, ALPN, _head(line)):
        if "h2" in word.text.split(","):
            scene.lose(line.place, Reason.PLAIN_PROTOCOL, f"alpn {word.text}")
    yield from _files_of_tls(scene, line)
    yield from _check_port(scene, line, found)
    yield from _no_libc(line, found)


def _files_of_tls(scene: Scene, line: Statement) -> Iterator[Edit]:
    """Whom the servers are believed by, and what HAProxy shows them."""
    for keyword, value in zip(line.words[1:], line.words[2:], strict=False):
        if keyword.text not in _FILES_OF_TLS:
            continue
        there = scene.find(value.text, "crt-base") if keyword.text == "crt" else None
        if there is not None:
            yield from scene.renamed(line, value, there)
        else:
            yield replace_word(line, value, scene.certificate(), Reason.MADE_AUTHORITY)


def _inherits(scene: Scene, found: Server, name: str) -> bool:
    """Whether a `default-server` line before it turns this on."""
    proxy = scene.effective.backend_of(found)
    is_on = False
    for line in (*proxy.inherited, *proxy.statements):
        if line == found.statement:
            break
        if line.says("default-server"):
            for word in line.texts[1:]:
                is_on = word == name if word in (name, f"no-{name}") else is_on
    return is_on


def _check_port(scene: Scene, line: Statement, found: Server) -> Iterator[Edit]:
    value = found.values.get("port")
    if value is None or not value.is_said or not found.values["check"].value:
        return
    same = str(value.value) == target(found.address.text).port
    port = scene.ours.app_port if same else scene.ours.check_port
    scene.uses_check_port = scene.uses_check_port or not same
    if value.word is not None and value.place == line.place:
        yield replace_word(line, value.word, str(port), Reason.CHECK_PORT)
    else:
        yield append_words(line, f"port {port}", Reason.CHECK_PORT)


def _no_libc(line: Statement, found: Server) -> Iterator[Edit]:
    """At its start HAProxy would ask this machine's own DNS for the user's name."""
    if not is_followed(found):
        return
    value = found.values["init-addr"]
    methods = str(value.value).split(",") if value.is_said else []
    if methods and not set(methods) - {"last", "none"}:
        return
    text = "last,none" if "last" in methods else "none"
    if value.word is not None and value.place == line.place:
        yield replace_word(line, value.word, text, Reason.NO_LIBC)
    else:
        yield append_words(line, f"init-addr {text}", Reason.NO_LIBC)


def _elsewhere(scene: Scene, line: Statement, found: Server) -> Iterator[Edit]:
    """A server of a backend that does not move: nothing goes there, and nothing asks it."""
    there = target(found.address.text)
    if (bind := scene.bind_of(there)) is not None:
        yield from _follow(scene, line, found, bind)
        return
    yield replace_word(line, found.address, scene.ours.nothing, Reason.OTHER_BACKEND)
    for gone in (TLS, SOCKS, SOURCE, AGENT, {"addr": 1}, {"track": 1}):
        yield from remove_words(line, pick(line, gone, _head(line)), Reason.OTHER_BACKEND)
    yield from _silenced(line, found)


def _follow(scene: Scene, line: Statement, found: Server, bind: Statement) -> Iterator[Edit]:
    """It points at a bind of the same files, and goes where that has gone."""
    to = scene.ours.entry if bind == scene.probe_route.bind else scene.socket(bind)
    yield replace_word(line, found.address, to, Reason.FOLLOWED)
    files = {"ca-file": 1, "crt": 1, "crl-file": 1, "verify": 1, "verifyhost": 1}
    for gone in (files, SOCKS, SOURCE, AGENT, {"addr": 1}, {"track": 1}, {"port": 1}):
        yield from remove_words(line, pick(line, gone, _head(line)), Reason.FOLLOWED)
    if found.values.get("ssl") is not None and found.values["ssl"].value:
        said = "verify none" if "ssl" in line.texts else "ssl verify none"
        yield append_words(line, said, Reason.FOLLOWED)
    yield from _silenced(line, found)


def _silenced(line: Statement, found: Server) -> Iterator[Edit]:
    for name, negation in (("check", "no-check"), ("agent-check", "no-agent-check")):
        value = found.values.get(name)
        if value is not None and value.value is True:
            yield append_words(line, negation, Reason.OTHER_BACKEND)


def _without(
    scene: Scene, line: Statement, gone: dict[str, int], reason: Reason, first: int | None = None
) -> Iterator[Edit]:
    words = pick(line, gone, _head(line) if first is None else first)
    if words:
        scene.lose(line.place, reason, " ".join(word.raw for word in words))
    yield from remove_words(line, words, reason)


def _head(line: Statement) -> int:
    return 4 if line.keyword == "server-template" else 3


def dispatch(scene: Scene, section: Section, line: Statement) -> Iterator[Edit]:
    """Requests that go to an address without a server."""
    scene.lose(line.place, Reason.DISPATCH)
    yield Drop(line.place, Reason.DISPATCH)


def source(scene: Scene, section: Section, line: Statement) -> Iterator[Edit]:
    """The address that connections come from."""
    scene.lose(line.place, Reason.SOURCE)
    yield Drop(line.place, Reason.SOURCE)


def peer(scene: Scene, section: Section, line: Statement) -> Iterator[Edit]:
    """A peer: this process itself gets a private socket, the others are not spoken to."""
    names = scene.effective.document.statements("global")
    local = {line.texts[1] for _, line in names if line.says("localpeer") and line.words[1:]}
    if line.keyword == "server" and len(_plain(line.texts)) < 3:  # noqa: PLR2004 - no address
        return
    name = line.texts[1] if line.words[1:] else ""
    if name not in local:
        scene.lose(line.place, Reason.PEERS, name)
        yield Drop(line.place, Reason.PEERS)
    elif line.words[2:]:
        socket = f"abns@{scene.ours.token}-peers-{section.name}"
        yield replace_word(line, line.words[2], socket, Reason.PEERS)


def _plain(texts: Sequence[str]) -> list[str]:
    return [text for text in texts if text]
