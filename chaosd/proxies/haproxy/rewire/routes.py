"""What HAProxy does with a request in a frontend: as far as its rules can be evaluated here.

A request is a GET of a host and a path, by TLS or not, from an address. Where a condition is not
understood the answer is "unknown", never a guess.
"""

from __future__ import annotations

import ipaddress
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from chaosd.proxies.haproxy.cfg.effective import Proxy
from chaosd.proxies.haproxy.cfg.source import Statement

Truth = bool | None  # None: not known here
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Request:
    """What the probe asks, as far as rules look at it."""

    host: str
    path: str = "/"
    tls: bool = False
    source: str | None = None  # the address that it seems to come from; None: as it happens to be


@dataclass(frozen=True)
class Outcome:
    """Where it ends: at a backend, or stopped by a rule; and the first rule not understood."""

    backend: str | None
    stopped: Statement | None = None
    unknown: Statement | None = None


# Predefined ACLs (section 7.4 of the manual) for a plain GET from this machine.
_PREDEFINED = {
    **dict.fromkeys(("TRUE", "HTTP", "HTTP_1.1", "LOCALHOST", "METH_GET", "WAIT_END"), True),
    **dict.fromkeys(("HTTP_URL_SLASH",), None),
    **dict.fromkeys(("FALSE", "HTTP_1.0", "HTTP_2.0", "HTTP_CONTENT", "HTTP_URL_ABS"), False),
    **dict.fromkeys(("METH_CONNECT", "METH_DELETE", "METH_HEAD", "METH_OPTIONS"), False),
    **dict.fromkeys(("METH_POST", "METH_PUT", "METH_TRACE", "RDP_COOKIE"), False),
}
_STOPPING = frozenset(
    {"deny", "reject", "tarpit", "redirect", "return", "auth", "silent-drop", "use-service"}
)
_FLAGS = frozenset({"-i", "-n"})  # those that are understood
_SAME = frozenset({"lower", "url_dec"})  # converters that leave what the probe asks as it is
_STOPS_OF_OLD = ("redirect", "block", "monitor-uri")
_HEADER = re.compile(r"^(?:req\.)?f?hdr(_\w+)?\(\s*([\w-]+)\s*\)$", re.IGNORECASE)
_NAMED = re.compile(r"^(path|url|base|req[._]ssl_sni|ssl_fc_sni|req\.ssl_sni)(_\w+)?$")
_COMPARED = {
    "eq": operator.eq,
    "ge": operator.ge,
    "gt": operator.gt,
    "le": operator.le,
    "lt": operator.lt,
}
_MATCHES: dict[str, Callable[[str, str], bool]] = {
    "str": lambda value, text: value == text,
    "beg": lambda value, text: value.startswith(text),
    "end": lambda value, text: value.endswith(text),
    "sub": lambda value, text: text in value,
    "dom": lambda value, text: f".{text.strip('.')}." in f".{value}.",
    "dir": lambda value, text: f"/{text.strip('/')}/" in f"{value}/",
}


def follow(proxy: Proxy, request: Request) -> Outcome:
    """Where a request that comes in here goes to."""
    acls = _acls(proxy)
    unknown: Statement | None = None
    for line in (*_stops(proxy), *_switches(proxy)):
        truth = _holds(line, acls, request)
        if truth is None:
            unknown = unknown or line
            continue
        if truth and line.keyword == "use_backend":
            return Outcome(line.texts[1], None, unknown)
        if truth:
            return Outcome(None, line, unknown)
    default = [s for s in (*proxy.inherited, *proxy.statements) if s.says("default_backend")]
    if default and default[-1].words[1:]:
        return Outcome(default[-1].texts[1], None, unknown)
    return Outcome(proxy.name if proxy.kind == "listen" else None, None, unknown)


def in_the_way(proxy: Proxy, request: Request) -> list[Statement]:
    """The rules of this section that stop the request, or may."""
    acls = _acls(proxy)
    return [line for line in _stops(proxy) if _holds(line, acls, request) is not False]


def literals(proxy: Proxy) -> tuple[list[str], list[str]]:
    """Hosts and paths that its conditions name: what a request may have to say to get through."""
    hosts, paths, later = dict[str, None](), dict[str, None](), dict[str, None]()
    for line in (*proxy.inherited, *proxy.statements):
        for fetch, _, method, patterns in _terms(line):
            for pattern in patterns:
                if _HEADER.match(fetch.partition(",")[0]) or "sni" in fetch:
                    hosts[_filled(pattern, method, "chaosd.example")] = None
                elif fetch.startswith(("path", "url", "base")):
                    paths[_path(pattern, method)] = None
                    later[pattern] = None
    plain = re.compile(r"^[A-Za-z0-9._:-]+$")
    return [h for h in hosts if plain.match(h)], [
        p for p in paths | later if re.match(r"^/[!-~]*$", p)
    ]


def sources(proxy: Proxy) -> list[str]:
    """Addresses that its conditions name: where a request may have to come from."""
    found = dict[str, None]()
    for line in (*proxy.inherited, *proxy.statements):
        for fetch, flags, _, patterns in _terms(line):
            if fetch == "src" and not flags - _FLAGS:
                for network in map(_network, patterns):
                    if network is not None:
                        first = network.network_address
                        found[str(first if network.num_addresses == 1 else first + 1)] = None
    return list(found)


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:  # a name, or a file
        return None


def _filled(pattern: str, method: str, rest: str) -> str:
    if method == "beg":
        return pattern + (rest if pattern.endswith(".") else "")
    if method in ("end", "sub", "dom"):
        return f"chaosd{pattern}" if pattern.startswith(".") else pattern.strip(".")
    return pattern


def _path(pattern: str, method: str) -> str:
    """Below a prefix: of the prefix itself nothing would be left where a rule takes it away."""
    if method in ("end", "sub", "dir"):
        return f"/{pattern.lstrip('/')}"
    return f"{pattern.rstrip('/')}/" if method == "beg" else pattern


# --- the rules of a section, in the order in which HAProxy obeys them ---


def _stops(proxy: Proxy) -> Iterator[Statement]:
    lines = (*proxy.inherited, *proxy.statements)
    for line in lines:
        if line.keyword == "tcp-request" and {"reject", "silent-drop"} & set(line.texts[2:3]):
            yield line
    for line in lines:
        is_rule = line.keyword == "http-request" and set(line.texts[1:2]) & _STOPPING
        if is_rule or (line.keyword in _STOPS_OF_OLD and not line.modifier):
            yield line


def _switches(proxy: Proxy) -> Iterator[Statement]:
    for line in proxy.statements:
        if line.says("use_backend") and line.words[1:]:
            yield line


def _holds(line: Statement, acls: Mapping[str, list[Statement]], request: Request) -> Truth:
    if line.keyword == "monitor-uri":
        return line.texts[1:2] == (request.path,)
    if "%[" in (line.texts[1] if line.keyword == "use_backend" else ""):
        return None  # which one, says the request
    words = list(line.texts)
    for at, word in enumerate(words[1:], start=1):
        if word in ("if", "unless"):
            truth = _condition(words[at + 1 :], acls, request)
            return None if truth is None else truth == (word == "if")
    return True


def _condition(
    words: Sequence[str], acls: Mapping[str, list[Statement]], request: Request
) -> Truth:
    """Terms beside each other all have to hold, those before and after `or` one of them."""
    branches: list[list[str]] = [[]]
    for word in words:
        if word in ("or", "||"):
            branches.append([])
        else:
            branches[-1].append(word)
    return _any(_all(_each(branch, acls, request)) for branch in branches)


def _each(
    words: Sequence[str], acls: Mapping[str, list[Statement]], request: Request
) -> Iterator[Truth]:
    left = list(words)
    while left:
        word = left.pop(0)
        negated = False
        while word.startswith("!"):
            negated, word = not negated, word[1:]
            if not word and left:
                word = left.pop(0)
        if word == "{":
            end = left.index("}") if "}" in left else len(left)
            truth = _term(left[:end], request)
            left = left[end + 1 :]
        elif word in acls:
            truth = _any(_term(line.texts[2:], request) for line in acls[word])
        else:
            truth = _PREDEFINED.get(word)
        yield None if truth is None else truth != negated


def _all(truths: Iterator[Truth]) -> Truth:
    found = list(truths)
    return False if False in found else None if None in found else True


def _any(truths: Iterator[Truth]) -> Truth:
    found = list(truths)
    return True if True in found else None if None in found else False


# --- one term: a fetch, its flags, its patterns ---


def _acls(proxy: Proxy) -> dict[str, list[Statement]]:
    found: dict[str, list[Statement]] = {}
    for line in (*proxy.inherited, *proxy.statements):
        if line.says("acl") and len(line.words) > 2:  # noqa: PLR2004 - a name and a fetch
            found.setdefault(line.texts[1], []).append(line)
    return found


def _terms(line: Statement) -> Iterator[tuple[str, frozenset[str], str, list[str]]]:
    if line.says("acl"):
        yield _parsed(line.texts[2:])
    words = list(line.texts)
    while "{" in words:
        start = words.index("{")
        end = words.index("}", start) if "}" in words[start:] else len(words)
        yield _parsed(words[start + 1 : end])
        words = words[end:]


def _parsed(words: Sequence[str]) -> tuple[str, frozenset[str], str, list[str]]:
    """The fetch, the flags, how patterns are matched, and the patterns."""
    if not words:
        return "", frozenset(), "", []
    fetch, left, flags, method = words[0], list(words[1:]), set[str](), ""
    while left and left[0].startswith("-") and len(left[0]) > 1:
        flag = left.pop(0)
        if flag == "--":
            break
        if flag == "-m" and left:
            method = left.pop(0)
        else:
            flags.add(flag)
    plain = fetch.partition(",")[0]
    if not method and (found := _HEADER.match(plain) or _NAMED.match(plain)):
        suffix = found[1] if _HEADER.match(plain) else found[2]
        method = (suffix or "_str")[1:]
    return fetch, frozenset(flags), method, left


def _term(words: Sequence[str], request: Request) -> Truth:
    fetch, flags, method, patterns = _parsed(words)
    name, *converters = fetch.split(",")
    negated = converters[-1:] == ["not"]
    converters = converters[:-1] if negated else converters
    flags = flags | ({"-i"} if "lower" in converters else set())
    if {*converters} - _SAME or flags - _FLAGS:
        return None
    if name in ("ssl_fc", "always_true", "always_false") and not patterns:
        truth = {"ssl_fc": request.tls, "always_true": True}.get(name, False)
        return truth != negated
    if negated:
        return None
    if method == "cnt" and (header := _HEADER.match(name)) is not None:
        return _counted(int(bool(_header(header[2], request))), patterns)
    if name == "src" and not converters:
        return _comes_from(request, patterns)
    value = _value(name, request)
    if value is None:
        return None
    if not value:  # what is not there matches nothing
        return False
    if method == "found":
        return True
    if method == "reg":
        return _any(_searched(p, value, ignore_case="-i" in flags) for p in patterns)
    matches = _MATCHES.get(method or "str")
    if matches is None:
        return None
    if "-i" in flags:
        value, patterns = value.lower(), [pattern.lower() for pattern in patterns]
    return any(matches(value, pattern) for pattern in patterns)


def _comes_from(request: Request, patterns: Sequence[str]) -> Truth:
    networks = [_network(pattern) for pattern in patterns]
    if request.source is None or None in networks:
        return None
    source = ipaddress.ip_address(request.source)
    return any(network is not None and source in network for network in networks)


def _searched(pattern: str, value: str, *, ignore_case: bool) -> Truth:
    try:
        return bool(re.search(pattern, value, re.IGNORECASE if ignore_case else 0))
    except re.error:
        return None


def _header(name: str, request: Request) -> str:
    known = {"host": request.host, "connection": "close", "user-agent": "chaosd"}
    return known.get(name.lower(), "")


def _counted(count: int, patterns: Sequence[str]) -> Truth:
    """Whether a number is as the patterns say: `eq 0`, `gt 1 2`, or numbers and no operator."""
    compare = _COMPARED.get(patterns[0] if patterns else "", operator.eq)
    numbers = patterns[1:] if patterns and patterns[0] in _COMPARED else patterns
    if not all(number.isdecimal() for number in numbers):
        return None
    return any(compare(count, int(number)) for number in numbers)


def _value(fetch: str, request: Request) -> str | None:
    """What the fetch finds in the request; "" for nothing, None if that is not known here."""
    if header := _HEADER.match(fetch):
        return _header(header[2], request)
    if fetch == "method":
        return "GET"
    found = _NAMED.match(fetch)
    if found is None:
        return None
    kind = found[1]
    if kind in ("path", "url"):
        return request.path
    if kind == "base":
        return request.host + request.path
    return request.host if request.tls else ""
