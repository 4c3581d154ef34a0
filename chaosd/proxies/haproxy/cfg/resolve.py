"""A Document into its effective settings, for one version of HAProxy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from chaosd.proxies.haproxy.cfg.dialect import Dialect
from chaosd.proxies.haproxy.cfg.effective import (
    Effective,
    Nameserver,
    Origin,
    Proxy,
    Resolvers,
    Server,
    Value,
)
from chaosd.proxies.haproxy.cfg.keywords import (
    RESET_BY_DEFAULT_SERVER,
    RESOLVE_OPTIONS,
    RESOLVERS_DEFAULTS,
    SERVER,
    Kind,
    Scalar,
    proxy_defaults,
    server_defaults,
)
from chaosd.proxies.haproxy.cfg.source import (
    Document,
    Place,
    Problem,
    Section,
    Statement,
    Trouble,
    Word,
)
from chaosd.proxies.haproxy.cfg.units import read_count, read_ms

_PROXIES = ("frontend", "backend", "listen", "defaults")
_SERVERS = {"server": 3, "server-template": 4}  # words before its keywords
# How a server is checked: the option that is said last holds.
CHECK_OPTIONS = (
    *("httpchk", "tcp-check", "ssl-hello-chk", "smtpchk", "mysql-check", "pgsql-check"),
    *("redis-check", "ldap-check", "spop-check", "external-check"),
)
_ONE_VALUE = frozenset(
    {"mode", "balance", "http-reuse", "retry-on", "hash-type", "fullconn", "maxconn", "dispatch"}
)
_UNSET = "whose value is not known here"

Values = dict[str, Value]


def resolve(document: Document, dialect: Dialect) -> Effective:
    """Say what every server, proxy and resolvers section of the document has in the end."""
    resolver = _Resolver(dialect)
    for section in document.sections:
        if section.kind in _PROXIES:
            resolver.proxy(section)
        elif section.kind == "resolvers":
            resolver.resolvers_section(section)
    return Effective(
        dialect=dialect,
        document=document,
        proxies=tuple(resolver.proxies),
        resolvers=resolver.resolvers,
        problems=(*document.problems, *resolver.problems),
    )


@dataclass(frozen=True)
class _Base:
    """What a proxy begins with."""

    values: Mapping[str, Value]
    server: Mapping[str, Value]
    unread: tuple[Value, ...] = ()  # unknown words of its default-server lines
    statements: tuple[Statement, ...] = ()
    place: Place | None = None


@dataclass
class _Resolver:
    dialect: Dialect
    proxies: list[Proxy] = field(default_factory=list)
    resolvers: dict[str, Resolvers] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _last: _Base | None = None
    _named: dict[str, _Base] = field(default_factory=dict)

    def proxy(self, section: Section) -> None:
        base = self._base(section)
        is_defaults = section.kind == "defaults"
        values, server_values = dict(base.values), dict(base.server)
        unread, servers = list(base.unread), list[Server]()
        for statement in section.statements:
            if statement.keyword == "default-server" and not statement.modifier:
                origin = Origin.DEFAULTS if is_defaults else Origin.DEFAULT_SERVER
                if self.dialect.default_server_resets:
                    self._reset(server_values, statement.place)
                unknown = set_server(server_values, statement.words[1:], origin, statement.place)
                unread += [unknown] if unknown else []
            elif statement.keyword in _SERVERS and not statement.modifier:
                server = self._server(section, statement, server_values, tuple(unread))
                servers += [server] if server else []
            else:
                _set_proxy(values, statement)
        self.proxies.append(
            Proxy(
                kind=section.kind,
                name=section.name,
                place=section.header.place,
                values=values,
                statements=section.statements,
                inherited=base.statements,
                servers=tuple(servers),
                parent=base.place,
            )
        )
        if is_defaults:
            self._last = _Base(
                _inherited(values),
                server_values,
                tuple(unread),
                (*base.statements, *section.statements),
                section.header.place,
            )
            if section.name:
                self._named[section.name] = self._last

    def _base(self, section: Section) -> _Base:
        own = _Base(
            _of_haproxy(proxy_defaults(self.dialect.version)),
            _of_haproxy(server_defaults(self.dialect.version)),
        )
        if section.parent is not None:
            found = self._named.get(section.parent)
            if found is None:
                what = f"there is no defaults section `{section.parent}` before this line"
                self.problems.append(Problem(section.header.place, Trouble.REFUSED, what))
            return found or own
        return own if section.kind == "defaults" or self._last is None else self._last

    def _reset(self, values: Values, place: Place) -> None:
        for name in RESET_BY_DEFAULT_SERVER:
            if values[name].is_said:
                own = server_defaults(self.dialect.version)[name]
                values[name] = Value(own, Origin.HAPROXY, place)

    def _server(
        self, section: Section, statement: Statement, base: Values, unread: tuple[Value, ...]
    ) -> Server | None:
        words, head = statement.words, _SERVERS[statement.keyword]
        if len(words) < head:
            what = f"`{statement.keyword}` lacks its name or its address"
            self.problems.append(Problem(statement.place, Trouble.REFUSED, what))
            return None
        values = dict(base)
        unknown = set_server(values, words[head:], Origin.OWN, statement.place)
        return Server(
            statement=statement,
            backend=section.name,
            name=words[1].text,
            address=words[head - 1],
            count=words[2].text if head > len(("server", "name", "address")) else None,
            values=values,
            unread=(*unread, unknown) if unknown else unread,
        )

    def resolvers_section(self, section: Section) -> None:
        nameservers: list[Nameserver] = []
        values, conf = _of_haproxy(RESOLVERS_DEFAULTS), None
        for statement in section.statements:
            place, arguments = statement.place, statement.words[1:]
            first = arguments[0].text if arguments else ""
            if statement.keyword == "nameserver" and len(arguments) > 1:
                nameservers.append(Nameserver(first, arguments[1], place))
            elif statement.keyword == "parse-resolv-conf":
                conf = place
            elif statement.keyword in ("timeout", "hold") and len(arguments) > 1:
                name = f"{statement.keyword} {first}"
                values[name] = _value(Kind.TIME, arguments[1], Origin.OWN, place)
            elif statement.keyword in ("resolve_retries", "accepted_payload_size") and arguments:
                values[statement.keyword] = _value(Kind.COUNT, arguments[0], Origin.OWN, place)
        if section.name in self.resolvers:
            before = self.resolvers[section.name].place
            what = f"resolvers `{section.name}` is there already ({before})"
            self.problems.append(Problem(section.header.place, Trouble.REFUSED, what))
            return
        self.resolvers[section.name] = Resolvers(
            section.name, section.header.place, tuple(nameservers), conf, values
        )


def set_server(values: Values, words: Iterable[Word], origin: Origin, place: Place) -> Value | None:
    """Set what the words of a server line say; the first unknown word, if there is one.

    It is not known how many values an unknown word takes, so nothing after it is read.
    """
    left = list(words)
    while left and (left[0].text or left[0].unset):
        word = left.pop(0)
        keyword = SERVER.get(word.text.partition("(")[0])
        if keyword is None:
            unclear = _UNSET if word.unset else "which is not known here"
            return Value(None, origin, place, word, unclear)
        if keyword.turns is not None:
            name, is_on = keyword.turns
            values[name] = Value(is_on, origin, place, word)
            continue
        argument = left.pop(0) if left else None
        if argument is None:
            values[word.text] = Value(None, origin, place, word, "without a value")
        elif word.text == "resolve-opts":
            _set_resolve_options(values, argument, origin, place)
        else:
            values[word.text] = _value(keyword.kind, argument, origin, place)
    return None


def _set_resolve_options(values: Values, word: Word, origin: Origin, place: Place) -> None:
    for option in word.text.split(","):
        if option in RESOLVE_OPTIONS:
            name, is_on = RESOLVE_OPTIONS[option]
            values[name] = Value(is_on, origin, place, word)


def _set_proxy(values: Values, statement: Statement) -> None:
    """Set what a line of a proxy says, as far as it is a setting and not a rule."""
    place, arguments = statement.place, statement.arguments
    keyword, first = statement.keyword, arguments[0].text if arguments else ""
    if keyword == "option" and first:
        _set_option(values, statement, first)
    elif keyword == "timeout" and statement.words[2:]:
        values[f"timeout {first}"] = _value(Kind.TIME, statement.words[2], Origin.OWN, place)
    elif keyword == "retries" and statement.words[1:]:
        values["retries"] = _value(Kind.COUNT, statement.words[1], Origin.OWN, place)
    elif keyword in _ONE_VALUE and arguments:
        text = " ".join(word.text for word in arguments)
        values[keyword] = Value(text, Origin.OWN, place, arguments[0])


def _set_option(values: Values, statement: Statement, option: str) -> None:
    place, more = statement.place, statement.arguments[1:]
    name, word = f"option {option}", statement.arguments[0]
    if option in CHECK_OPTIONS and not statement.modifier:
        for other in CHECK_OPTIONS:
            values.pop(f"option {other}", None)
    if option == "redispatch":
        if statement.modifier:
            values[name] = Value(0, Origin.OWN, place, word)
        elif more:
            values[name] = _value(Kind.COUNT, more[0], Origin.OWN, place)
        else:
            values[name] = Value(-1, Origin.OWN, place, word)
    elif statement.modifier:
        values[name] = Value(False, Origin.OWN, place, word)
    else:
        text = " ".join(argument.text for argument in more)
        values[name] = Value(text or True, Origin.OWN, place, word)


def _value(kind: Kind, word: Word, origin: Origin, place: Place) -> Value:
    if word.unset:
        return Value(None, origin, place, word, _UNSET)
    if kind is Kind.TEXT:
        return Value(word.text, origin, place, word)
    if word.variables and "${" in word.text:
        return Value(None, origin, place, word, _UNSET)
    read = read_ms(word.text) if kind is Kind.TIME else read_count(word.text)
    if isinstance(read, str):
        return Value(None, origin, place, word, read)
    return Value(read, origin, place, word)


def _of_haproxy(defaults: Mapping[str, Scalar]) -> Values:
    return {name: Value(value) for name, value in defaults.items()}


def _inherited(values: Mapping[str, Value]) -> Values:
    return {
        name: replace(value, origin=Origin.DEFAULTS) if value.is_said else value
        for name, value in values.items()
    }
