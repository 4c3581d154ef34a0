"""Words that HAProxy no longer takes, and words that a `resolvers` section never had.

A file that is given with another version than it was written for says them. The versions are those
in which the source of HAProxy makes an error of the word, not those that its messages name.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import NamedTuple

from chaosd.proxies.haproxy.cfg.dialect import Dialect, Version
from chaosd.proxies.haproxy.cfg.keywords import keywords_of
from chaosd.proxies.haproxy.cfg.source import Section, Statement

_PROXIES = frozenset({"defaults", "frontend", "backend", "listen"})
_TIMEOUTS = ("resolve", "retry")
_HOLDS = ("nx", "timeout", "refused", "other", "valid", "obsolete")
_OF_RESOLVERS = {  # with how many words a line has at least
    "nameserver": 3,
    "hold": 3,
    "timeout": 3,
    "parse-resolv-conf": 1,
    "resolve_retries": 2,
    "accepted_payload_size": 2,
}
_LACKING = {"nameserver": "its name or its address (nameserver NAME ADDRESS:PORT)"}
# Words of a server's line, and what is no word at all, at the beginning of a line.
_OF_SERVER_LINES = frozenset(
    {"check", "resolve-prefer", "resolve-opts", "init-addr", "inter", "send-proxy", "send-proxy-v2"}
)
_MISTAKEN = {"resolver": "resolvers", "dns-resolver": "resolvers"}
# What ends up in a resolvers section that was written into the middle of a backend.
_OF_PROXIES = frozenset(
    {"server", "server-template", "default-server", "balance", "option", "bind", "mode", "cookie"}
    | {"acl", "default_backend", "use_backend", "http-check", "http-request", "http-response"}
    | {"tcp-check", "tcp-request", "stick-table", "stick"}
)


class Refusal(NamedTuple):
    """Why HAProxy does not start with a line."""

    what: str
    instead: str | None = None  # the line to write; "" if it is best left out; None: see `what`


class _Gone(NamedTuple):
    since: Version
    instead: str = ""  # these words instead, and the rest of the line
    advice: str = ""  # where other words are not enough


_REWRITTEN = {
    **dict.fromkeys(("reqrep", "reqirep"), "http-request replace-header or replace-path"),
    **dict.fromkeys(("reqdel", "reqidel"), "http-request del-header"),
    **dict.fromkeys(("reqdeny", "reqideny"), "http-request deny"),
    **dict.fromkeys(("reqpass", "reqipass", "reqallow", "reqiallow"), "http-request allow"),
    **dict.fromkeys(("reqtarpit", "reqitarpit"), "http-request tarpit"),
    "reqadd": "http-request add-header",
    **dict.fromkeys(("rsprep", "rspirep"), "http-response replace-header"),
    **dict.fromkeys(("rspdel", "rspidel"), "http-response del-header"),
    **dict.fromkeys(("rspdeny", "rspideny"), "http-response deny"),
    "rspadd": "http-response add-header",
}
_GONE: dict[tuple[str, ...], _Gone] = {
    ("appsession",): _Gone((1, 6), advice="use a cookie or a stick table"),
    ("block",): _Gone((2, 1), "http-request deny"),
    ("redispatch",): _Gone((2, 1), "option redispatch"),
    ("contimeout",): _Gone((2, 1), "timeout connect"),
    ("clitimeout",): _Gone((2, 1), "timeout client"),
    ("srvtimeout",): _Gone((2, 1), "timeout server"),
    **{(word,): _Gone((2, 1), advice=f"write {use}") for word, use in _REWRITTEN.items()},
    ("option", "forceclose"): _Gone((2, 5), "option httpclose"),
    ("option", "http-tunnel"): _Gone((2, 5)),
    ("option", "http_proxy"): _Gone((2, 5), advice="use do-resolve and set-dst"),
    ("grace",): _Gone((2, 5)),
    ("bind-process",): _Gone((2, 7)),
}
_GONE_OF_PROCESS: dict[tuple[str, ...], _Gone] = {("nbproc",): _Gone((2, 5))}
# Words that older versions do not have yet, by their first one.
_NEW_OF_PROCESS: dict[str, Version] = {"dns-accept-family": (3, 2)}
_NEW_OF_SERVER: dict[str, Version] = {
    **dict.fromkeys(("guid", "hash-key"), (3, 0)),
    "init-state": (3, 1),
    "idle-ping": (3, 2),
}
_SERVERS = frozenset({"server", "server-template", "default-server"})
_ONE_LINE_CHECK = _Gone((2, 7), advice="write the headers in an `http-check send` line")


def refusal(dialect: Dialect, section: Section, line: Statement) -> Refusal | None:
    """Why this version does not take this line, if that is one of the reasons known here."""
    if line.words[1:] and line.words[-1].raw == "\\":
        return Refusal("no line goes on after a `\\` (write it all in one line)")
    if section.kind == "resolvers":
        return _of_resolvers(line)
    if section.kind in {*_PROXIES, "global"} and (found := _misplaced(section, line)):
        return found
    if section.kind in {*_PROXIES, "global"} and (found := _only_in_resolvers(section, line)):
        return found
    if dialect.is_assumed:
        return None
    if (found := _too_new(dialect.version, section, line)) is not None:
        return found
    known = _GONE_OF_PROCESS if section.kind == "global" else _GONE
    if section.kind in {*_PROXIES, "global"}:
        for words, gone in known.items():
            if line.says(*words) and dialect.version >= gone.since:
                return _gone(line, words, gone)
    if section.kind in _PROXIES and dialect.version >= _ONE_LINE_CHECK.since:
        return _headers_in_check(line)
    return None


def _gone(line: Statement, words: tuple[str, ...], gone: _Gone) -> Refusal:
    what = f"`{' '.join(words)}` is an error since {'.'.join(map(str, gone.since))}"
    if gone.advice:
        return Refusal(f"{what} ({gone.advice})")
    if not gone.instead:
        return Refusal(f"{what} (leave it out)", "")
    rest = " ".join(word.raw for word in line.words[len(words) :])
    return Refusal(f"{what} (write `{gone.instead}`)", f"{gone.instead} {rest}".rstrip())


def _headers_in_check(line: Statement) -> Refusal | None:
    r"""`option httpchk GET / HTTP/1.1\r\nHost:\ name`: the version was more than one word."""
    if line.says("option", "httpchk") and any("\r\n" in text for text in line.texts[3:]):
        since = ".".join(map(str, _ONE_LINE_CHECK.since))
        return Refusal(
            f"headers after the version of `option httpchk` are an error since {since} "
            f"({_ONE_LINE_CHECK.advice})"
        )
    return None


def _too_new(version: Version, section: Section, line: Statement) -> Refusal | None:
    """A word of this line that only newer versions have."""
    known: dict[str, Version] = {}
    words: Sequence[str] = ()
    if section.kind == "global":
        known, words = _NEW_OF_PROCESS, line.texts[:1]
    elif section.kind in _PROXIES and line.keyword in _SERVERS:
        known, words = _NEW_OF_SERVER, keywords_of(line.texts)
    for word in words:
        since = known.get(word)
        if since is not None and version < since:
            return Refusal(f"`{word}` is new in {'.'.join(map(str, since))}")
    return None


def _misplaced(section: Section, line: Statement) -> Refusal | None:
    """A word that begins no line of this section, though people write one with it."""
    if line.keyword in _MISTAKEN:
        return Refusal(
            f"a {section.kind} section has no `{line.keyword}` (`{_MISTAKEN[line.keyword]}` begins "
            "a section of its own, and stands on server lines)"
        )
    if section.kind in _PROXIES and line.keyword in _OF_SERVER_LINES:
        return Refusal(f"`{line.keyword}` stands on a server's line, and begins none")
    return None


def _only_in_resolvers(section: Section, line: Statement) -> Refusal | None:
    """What only a `resolvers` section has."""
    if line.keyword == "timeout":
        is_other = line.texts[1:2] not in [(name,) for name in _TIMEOUTS]
        if section.kind != "global" and is_other:
            return None
    elif line.keyword not in _OF_RESOLVERS:
        return None
    words = " ".join(line.texts[:2]) if line.keyword == "timeout" else line.keyword
    return Refusal(f"`{words}` belongs in a resolvers section, and this is a {section.kind} one")


def _of_resolvers(line: Statement) -> Refusal | None:
    """What a `resolvers` section does not have in any version."""
    if line.keyword in _OF_PROXIES:
        return Refusal(
            f"a resolvers section has no `{line.keyword}` (the backend ends where this section "
            "begins: put the section before it, or after it)"
        )
    if line.keyword not in _OF_RESOLVERS:
        return _no_such(line, 0, list(_OF_RESOLVERS))
    if len(line.words) < _OF_RESOLVERS[line.keyword]:
        return Refusal(f"`{line.keyword}` lacks {_LACKING.get(line.keyword, 'its value')}")
    if line.keyword == "timeout" and line.texts[1] not in _TIMEOUTS:
        return _no_such(line, 1, _TIMEOUTS)
    if line.keyword == "hold" and line.texts[1] not in _HOLDS:
        return _no_such(line, 1, _HOLDS)
    return None


def _no_such(line: Statement, at: int, known: Sequence[str]) -> Refusal:
    """The word at this place is none of those known there; if it is like one, that was meant."""
    before, words = line.texts[:at], [word.raw for word in line.words]
    what = f"a resolvers section has no `{' '.join(line.texts[: at + 1])}`"
    meant = get_close_matches(line.texts[at], known, n=2, cutoff=0.7)
    if len(meant) == 1:
        found = " ".join((*before, meant[0]))
        return Refusal(f"{what} (did you mean `{found}`?)", " ".join((found, *words[at + 1 :])))
    if known is _TIMEOUTS:
        what += " (it has `timeout resolve` and `timeout retry`)"
    return Refusal(what, "")
