"""The effective value of every keyword of every server, proxy and resolvers section.

Each value says where it comes from. Inheritance is HAProxy's: a proxy takes the `defaults`
section before it, or the one after `from`; its servers take `default-server` lines that stand
before them, those of the defaults first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

from chaosd.proxies.haproxy.cfg.dialect import Dialect
from chaosd.proxies.haproxy.cfg.keywords import RESOLVERS_DEFAULTS, Scalar
from chaosd.proxies.haproxy.cfg.source import Document, Place, Problem, Statement, Word


class Origin(Enum):
    """Who says it."""

    OWN = "own"  # the line or section itself
    DEFAULT_SERVER = "default-server"  # of the same section
    DEFAULTS = "defaults"  # a defaults section, its default-server lines included
    HAPROXY = "haproxy"  # nobody: HAProxy's default of this version


@dataclass(frozen=True)
class Value:
    """A setting's value and its provenance. Times are whole milliseconds."""

    value: Scalar
    origin: Origin = Origin.HAPROXY
    place: Place | None = None  # of the line that says it
    word: Word | None = None  # as it is written
    unclear: str | None = None  # why the value is not known; `value` is None then

    @property
    def is_said(self) -> bool:
        return self.origin is not Origin.HAPROXY


@dataclass(frozen=True)
class Server:
    """A `server` or `server-template` line with what it inherits."""

    statement: Statement
    backend: str
    name: str
    address: Word
    count: str | None  # of a template: "3" or "1-3"
    values: Mapping[str, Value]
    unread: tuple[Value, ...] = ()  # unknown words, its own or inherited; the rest was not read

    @property
    def place(self) -> Place:
        return self.statement.place

    @property
    def is_template(self) -> bool:
        return self.statement.keyword == "server-template"


@dataclass(frozen=True)
class Proxy:
    """A `frontend`, `backend`, `listen` or `defaults` section with what it inherits."""

    kind: str
    name: str
    place: Place
    values: Mapping[str, Value]
    statements: tuple[Statement, ...]  # its own
    inherited: tuple[Statement, ...] = ()  # of its defaults, the first ancestor's first
    servers: tuple[Server, ...] = ()
    parent: Place | None = None  # of its defaults section


@dataclass(frozen=True)
class Nameserver:
    """A nameserver of a resolvers section."""

    name: str
    address: Word
    place: Place


@dataclass(frozen=True)
class Resolvers:
    """A `resolvers` section."""

    name: str
    place: Place
    nameservers: tuple[Nameserver, ...]
    parse_resolv_conf: Place | None  # where the machine's own nameservers are added
    values: Mapping[str, Value]


@dataclass(frozen=True)
class Effective:
    """What the files mean to one version of HAProxy."""

    dialect: Dialect
    document: Document
    proxies: tuple[Proxy, ...]
    resolvers: Mapping[str, Resolvers]
    problems: tuple[Problem, ...] = field(default=())

    @cached_property
    def servers(self) -> tuple[Server, ...]:
        return tuple(server for proxy in self.proxies for server in proxy.servers)

    @cached_property
    def server_at(self) -> Mapping[Place, Server]:
        """Servers by their lines."""
        return {server.place: server for server in self.servers}

    @cached_property
    def proxy_at(self) -> Mapping[Place, Proxy]:
        """Sections by the lines of their heads."""
        return {proxy.place: proxy for proxy in self.proxies}

    @cached_property
    def _backends(self) -> Mapping[Place, Proxy]:
        return {server.place: proxy for proxy in self.proxies for server in proxy.servers}

    def backend_of(self, server: Server) -> Proxy:
        """The section that this server stands in."""
        return self._backends[server.place]

    def resolvers_of(self, server: Server) -> dict[str, Value]:
        """The values of the resolvers section that this server names; HAProxy's own without one."""
        section = self.resolvers.get(str(server.values["resolvers"].value))
        own = {name: Value(value) for name, value in RESOLVERS_DEFAULTS.items()}
        return own if section is None else {**own, **section.values}

    def backend(self, name: str) -> Proxy | None:
        """The proxy of this name that has servers or could have them."""
        found = (p for p in self.proxies if p.name == name and p.kind in ("backend", "listen"))
        return next(found, None)
