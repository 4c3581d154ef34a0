"""Health checks: what the stand-in app answers to them, and what it can't answer."""

from __future__ import annotations

import json
from collections.abc import Iterator

from chaosd.proxies.haproxy.cfg.source import Section, Statement
from chaosd.proxies.haproxy.rewire import certificate
from chaosd.proxies.haproxy.rewire.binds import pick
from chaosd.proxies.haproxy.rewire.edits import Drop, Edit, remove_words, replace_word
from chaosd.proxies.haproxy.rewire.reasons import Reason
from chaosd.proxies.haproxy.rewire.scene import Scene
from chaosd.proxies.haproxy.rewire.servers import SOCKS

# Checks of protocols that the stand-in app does not speak: they only connect instead.
_NOT_SPOKEN = frozenset(
    {"mysql-check", "pgsql-check", "ldap-check", "smtpchk", "ssl-hello-chk", "spop-check"}
)
_REDIS = {"*1\r\n$4\r\nPING\r\n": "+PONG\r\n"}
_CONNECT = {**SOCKS, "addr": 1, "proto": 1, "via-socks4": 0}
_WITH_WORDS = ("server", "server-template", "default-server", "http-check", "tcp-check")
_PROXY_LINE = ("send-proxy", "check-send-proxy")  # what the words that ask for one begin with
_SPECIAL = frozenset("\\^$.|?*+()[]{}")


def option(scene: Scene, section: Section, line: Statement) -> Iterator[Edit]:
    """`option …`: those that say how servers are checked."""
    name = line.texts[1] if line.words[1:] else ""
    if name == "external-check" and not scene.programs:
        scene.lose(line.place, Reason.EXTERNAL_CHECK)
        yield Drop(line.place, Reason.EXTERNAL_CHECK)
    elif name in _NOT_SPOKEN and scene.is_of_moved(section) and not line.modifier:
        scene.lose(line.place, Reason.CHECK_PROTOCOL, name)
        yield Drop(line.place, Reason.CHECK_PROTOCOL)
    elif name == "redis-check" and scene.is_of_moved(section):
        scene.script.update(_REDIS)


def http_check(scene: Scene, section: Section, line: Statement) -> Iterator[Edit]:
    """`http-check …` of the backend that moves."""
    if not scene.is_of_moved(section) or not line.words[1:]:
        return
    kind = line.texts[1]
    if kind == "connect":
        yield from _connect(scene, line)
    elif kind == "expect" and not _is_answered(scene, line):
        scene.lose(line.place, Reason.CHECK_RULE, " ".join(line.texts[2:]))
        yield Drop(line.place, Reason.CHECK_RULE)


def _connect(scene: Scene, line: Statement) -> Iterator[Edit]:
    words = pick(line, _CONNECT, 2)
    if words:
        scene.lose(line.place, Reason.CHECK_RULE, " ".join(word.raw for word in words))
    yield from remove_words(line, words, Reason.CHECK_RULE)
    for keyword, value in zip(line.words[2:], line.words[3:], strict=False):
        if keyword.text == "port":
            scene.uses_check_port = True
            port = str(scene.ours.check_port)
            yield replace_word(line, value, port, Reason.CHECK_PORT)


def _is_answered(scene: Scene, line: Statement) -> bool:
    """Whether the stand-in app's answer, 200 with a page, is what this expects."""
    words = [text for text in line.texts[2:] if text]
    while words and words[0] in ("comment", "min-recv", "ok-status", "error-status", "tout-status"):
        words = words[2:]
    negated = words[:1] == ["!"]
    words = words[1:] if negated else words
    kind, pattern = (*words, "", "")[:2]
    if kind == "status":
        return _has_200(pattern) != negated
    if negated:
        return kind in ("string", "rstring", "rstatus")
    if kind == "string":
        scene.said.append(pattern)
        return True
    return kind == "rstatus" and bool(set(pattern) & set("2")) and pattern.startswith(("2", "^2"))


def _has_200(ranges: str) -> bool:
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and int(first) <= 200 <= int(last if last.isdecimal() else first):  # noqa: PLR2004
            return True
    return False


def tcp_check(scene: Scene, section: Section, line: Statement) -> Iterator[Edit]:
    """`tcp-check …` of the backend that moves: a dialogue that the app plays, or none at all."""
    if not scene.is_of_moved(section) or not line.words[1:]:
        return
    if line.texts[1] == "connect":
        yield from _connect(scene, line)
        return
    lines = [s for s in section.statements if s.keyword == "tcp-check" and s.words[1:]]
    script = dialogue(lines)
    if script is not None:
        scene.script.update(script)
        return
    scene.lose(line.place, Reason.CHECK_RULE, " ".join(line.texts[1:]))
    yield Drop(line.place, Reason.CHECK_RULE)


def dialogue(lines: list[Statement]) -> dict[str, str] | None:
    """What the check sends, and what it expects then; None if the app can't play that.

    It can't where the server would have to speak first: it does not know yet who connects.
    """
    script: dict[str, str] = {}
    sent = ""
    for line in lines:
        kind, arguments = line.texts[1], [text for text in line.texts[2:] if text]
        if kind in ("comment", "connect"):
            continue
        if kind == "send" and arguments:
            sent = arguments[0]
            script.setdefault(sent, "")
        elif kind == "send-binary" and arguments and (data := _bytes(arguments[0])) is not None:
            sent = data
            script.setdefault(sent, "")
        elif kind == "expect" and sent and (text := _expected(arguments)) is not None:
            script[sent] += text + "\r\n"
        else:
            return None
    return script


def _expected(words: list[str]) -> str | None:
    while words and words[0] in ("comment", "min-recv", "ok-status", "error-status", "tout-status"):
        words = words[2:]
    kind, pattern = (*words, "", "")[:2]
    if kind == "string":
        return pattern
    if kind == "rstring" and not _SPECIAL & set(pattern.strip("^$")):
        return pattern.strip("^$")
    return _bytes(pattern) if kind == "binary" else None


def _bytes(text: str) -> str | None:
    try:
        return bytes.fromhex(text).decode("latin-1")
    except ValueError:
        return None


def _words(scene: Scene) -> set[str]:
    """All that is said of the servers of the backend that moves, and of their checks."""
    backend = scene.choice.backend
    lines = (*backend.inherited, *backend.statements)
    return {text for line in lines if line.keyword in _WITH_WORDS for text in line.texts}


def environment(scene: Scene) -> dict[str, str]:
    """What the stand-in app is told of the checks. Texts are one character for each byte."""
    told = {"CHAOSD_PATHS": "any"}
    if scene.uses_check_port:
        told["CHAOSD_ALSO"] = str(scene.ours.check_port)
    if scene.said:
        told["CHAOSD_SAYS"] = "\n".join(dict.fromkeys(scene.said))
    words = _words(scene)
    if any(word.startswith(_PROXY_LINE) for word in words):
        told["CHAOSD_PROXIED"] = "yes"
    if words & {"ssl", "check-ssl"}:
        told["CHAOSD_CERTIFICATE"] = certificate.make(scene.names()).decode()
    if scene.script:
        told["CHAOSD_SCRIPT"] = json.dumps(scene.script)
    return told
