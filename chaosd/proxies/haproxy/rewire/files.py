"""Files that the configuration names and that are not there: made, empty, or left out."""

from __future__ import annotations

import re
from collections.abc import Iterator

from chaosd.proxies.haproxy.cfg.source import Section, Statement, Word
from chaosd.proxies.haproxy.rewire.edits import Drop, Edit, replace_word
from chaosd.proxies.haproxy.rewire.reasons import Reason
from chaosd.proxies.haproxy.rewire.scene import Scene

_MAP = re.compile(r"\bmap(?:_\w+)?\(\s*([^,)\s]+)")
_LUA = re.compile(r"(?:^|[\s,({!\[])lua\.")
_ANSWERS = frozenset({"http-request", "http-response", "http-after-response", "http-error"})
_FILE_WORDS = frozenset({"file", "lf-file", "errorfile"})
# Lines that are about a file or a directory and nothing else: without it they are left out.
ABOUT_A_FILE = ("ssl-dh-param-file", "issuers-chain-path", "default-path", "ssl-load-extra-del-ext")
_STATUS = {
    "200": "OK",
    "400": "Bad request",
    "401": "Unauthorized",
    "403": "Forbidden",
    "404": "Not Found",
    "408": "Request Time-out",
    "500": "Internal Server Error",
    "502": "Bad Gateway",
    "503": "Service Unavailable",
    "504": "Gateway Time-out",
}


def any_line(scene: Scene, section: Section, line: Statement) -> Iterator[Edit]:
    """What may stand in any line: Lua, SPOE, maps, lists and answers from files."""
    texts = line.texts
    if not scene.programs and any(_LUA.search(text) for text in texts[1:]):
        scene.lose(line.place, Reason.LUA, " ".join(texts[:2]))
        yield Drop(line.place, Reason.LUA)
        return
    if texts[:2] == ("filter", "spoe") or "send-spoe-group" in texts:
        scene.lose(line.place, Reason.SPOE)
        yield Drop(line.place, Reason.SPOE)
        return
    for word in _named_files(line):
        if (there := scene.find(word.text)) is not None:
            yield from scene.renamed(line, word, there)
        else:
            yield replace_word(line, word, _empty(scene, line, word), Reason.EMPTY_FILE)
    for word in line.words[1:]:
        yield from _maps(scene, line, word)


def _named_files(line: Statement) -> Iterator[Word]:
    if line.keyword == "errorfile" and len(line.words) > 2:  # noqa: PLR2004 - a status and a file
        yield line.words[2]
    pairs = list(zip(line.words[1:], line.words[2:], strict=False))
    for keyword, value in pairs:
        is_answer = keyword.text in _FILE_WORDS and line.keyword in _ANSWERS
        if is_answer or (keyword.text == "-f" and not value.text.startswith(("virt@", "opt@"))):
            yield value


def _empty(scene: Scene, line: Statement, word: Word) -> str:
    scene.lose(line.place, Reason.EMPTY_FILE, word.text or word.raw)
    if line.keyword != "errorfile":
        return scene.empty_file(word.text)
    status = line.texts[1]
    head = f"HTTP/1.0 {status} {_STATUS.get(status, 'Error')}\r\n"
    content = f"{head}Content-Type: text/plain\r\nConnection: close\r\n\r\n{status}\n"
    return scene.empty_file(word.text, content.encode())


def _maps(scene: Scene, line: Statement, word: Word) -> Iterator[Edit]:
    text, reason = word.raw, Reason.CARRIED
    for found in _MAP.finditer(word.text):
        name = found[1]
        if name.startswith(("virt@", "opt@")) or name not in text:
            continue
        there = scene.find(name)
        if there is None:
            reason = Reason.EMPTY_FILE
            scene.lose(line.place, reason, name)
            there = scene.empty_file(name)
        text = text.replace(name, there)
    if text != word.raw:
        yield replace_word(line, word, text, reason)


def about_a_file(scene: Scene, section: Section, line: Statement) -> Iterator[Edit]:
    """A line of `global` about a file or a directory."""
    if line.keyword == "default-path":
        if line.texts[1:2] in (("config",), ("parent",)):
            yield replace_word(line, line.words[1], f"origin {scene.origin}", Reason.PROCESS)
        return
    if not line.words[1:]:
        return
    if (there := scene.find(line.texts[1])) is not None:
        yield from scene.renamed(line, line.words[1], there)
    else:
        scene.lose(line.place, Reason.MISSING_FILE, line.texts[1])
        yield Drop(line.place, Reason.MISSING_FILE)


def state_file(scene: Scene, section: Section, line: Statement) -> Iterator[Edit]:
    """What servers were when HAProxy was reloaded last."""
    scene.lose(line.place, Reason.STATE_FILE)
    yield Drop(line.place, Reason.STATE_FILE)


def mailers(scene: Scene, section: Section, line: Statement) -> Iterator[Edit]:
    """Mail about servers that go down."""
    scene.lose(line.place, Reason.MAILERS)
    yield Drop(line.place, Reason.MAILERS)


def store(scene: Scene, section: Section, line: Statement) -> Iterator[Edit]:
    """A certificate of a crt-store."""
    for keyword, value in zip(line.words[1:], line.words[2:], strict=False):
        if keyword.text not in ("crt", "key"):
            continue
        base = "crt-base" if keyword.text == "crt" else "key-base"
        if (there := scene.find(value.text, base)) is not None:
            yield from scene.renamed(line, value, there)
        else:
            scene.lose(line.place, Reason.MADE_CERTIFICATE, value.text)
            yield replace_word(line, value, scene.certificate(), Reason.MADE_CERTIFICATE)
