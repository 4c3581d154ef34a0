"""HAProxy's resolver, health checks and retries, as events on a virtual clock.

Theory of operation. Three kinds of machine run side by side: each name's resolution (one pending
step), each server's health check (one pending step), and the requests that wait for a retry.
`advance` takes the earliest step until nothing is due; each step asks the world (DNS, addresses)
what it would find at that instant. No clock and no I/O here: the owner of the model says what time
it is.

The semantics are those of HAProxy 2.1 and later, from its source: src/resolvers.c (resolv_*),
src/server.c (snr_*), src/check.c (process_chk, chk_report_conn_err), src/backend.c and stream.c
(retries). Left out: slowstart, observe, agents, sessions that a server's end does not close.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from random import Random

from chaosd.plugins.simulation import NEVER_NS, Ended, Surroundings, World, below
from chaosd.plugins.timeline import RECORD_TYPES, RecordType
from chaosd.proxies.haproxy.model.backend import (
    Backend,
    Balance,
    CheckKind,
    Follows,
    Resolver,
    ServerLine,
)
from chaosd.proxies.haproxy.model.requests import Requests
from chaosd.proxies.haproxy.model.resolution import Ask, Resolution
from chaosd.proxies.haproxy.model.server import (
    SECOND_NS,
    Final,
    Group,
    Server,
    Step,
    asks_dns,
)
from chaosd.proxies.haproxy.model.settings import Settings
from chaosd.proxies.haproxy.model.versions import (
    COUNTS_MILLISECONDS,
    SHARES_RECORDS,
    WAITS_FOR_TARGETS,
    parse_version,
)

# Servers that share a resolution: the `resolvers` section, the name, the type asked for first.
Key = tuple[Resolver, str, RecordType]


def key_of(line: ServerLine) -> Key | None:
    """Whose answers this line's servers go by; None where they don't go by DNS.

    SRV records are of no family, and the addresses that come with them are taken as they are.
    """
    if line.resolver is None or line.host is None or not line.resolver.nameservers:
        return None
    if line.follows is Follows.SERVICE:
        return line.resolver, line.host, "A"
    families = line.resolver.families
    prefers = line.prefers if line.prefers in families or not families else families[0]
    return line.resolver, line.host, prefers


class Layout:
    """A backend's servers, and which of them share a resolution: the same for all its models."""

    def __init__(self, backend: Backend, version: str | None) -> None:
        self.backend, self.version = backend, parse_version(version)
        self.servers = [
            (f"{backend.name}/{name}", line) for line in backend.servers for name in names_of(line)
        ]
        self.sharing: dict[Key, list[int]] = {}  # their places
        for place, (_, line) in enumerate(self.servers):
            if (key := key_of(line)) is not None:
                self.sharing.setdefault(key, []).append(place)
        # So long after others each is checked.
        checked = [
            place
            for place, (_, line) in enumerate(self.servers)
            if line.check is not CheckKind.NONE
        ]
        shortest_ns = min((self.servers[place][1].inter_ns for place in checked), default=0)
        self.checked = {
            place: number * shortest_ns // len(checked) for number, place in enumerate(checked)
        }

    def peers_of(self, key: Key) -> list[int]:
        """The servers whose addresses are not for those that share this resolution."""
        if self.version >= SHARES_RECORDS:
            return self.sharing[key]
        return [
            place
            for place, (_, line) in enumerate(self.servers)
            if line.host == key[1] and line.resolver is not None
        ]


class BackendModel:
    """A proxy with one backend.

    It starts without addresses, as `init-addr last,none` does. `poll_at_ns` says when the first
    queries are; so does `check_at_ns` of the first check of a line, whose servers are checked so
    long after others as it is told. `rng` makes its timers a little late. `ask` gives what the
    nameservers of a `resolvers` section answer for a name; with `final_name` and `final_place`,
    what can change nothing any more is left out. `late_targets`: the targets of SRV records are
    asked for one by one, and each new one waits for its turn.
    """

    def __init__(
        self,
        layout: Layout,
        world: Surroundings,
        rng: Random,
        *,
        ask: Callable[[Resolver, str], Ask],
        start_ns: int,
        poll_at_ns: Callable[[Resolver], int],
        check_at_ns: Callable[[ServerLine, int], int],
        final_name: Callable[[str], Callable[[int], bool]] | None = None,
        final_place: Final | None = None,
        late_targets: bool = False,
    ) -> None:
        version, backend = layout.version, layout.backend
        self.backend = backend
        group = Group()
        self.servers = servers = [
            Server(
                name, line, backend, version, world=world, rng=rng, group=group, final=final_place
            )
            for name, line in layout.servers
        ]
        for place, after_ns in layout.checked.items():
            servers[place].check_at_ns = check_at_ns(servers[place].line, after_ns)
        self._layout, self._rng = layout, rng
        second_ns = self._second_ns()
        self.resolutions: list[Resolution] = []
        for key, places in layout.sharing.items():
            resolver, host, prefers = key
            sharing = [servers[place] for place in places]
            resolution = Resolution(
                resolver,
                host,
                prefers,
                version,
                ask=ask(resolver, host),
                rng=rng,
                servers=sharing,
                peers=[servers[place] for place in layout.peers_of(key)],
                services=sharing[0].line.follows is Follows.SERVICE,
                start_ns=start_ns,
                poll_at_ns=poll_at_ns(resolver),
                second_ns=second_ns,
                final=None if final_name is None else final_name(host),
                late_targets=late_targets and version >= WAITS_FOR_TARGETS,
            )
            self.resolutions.append(resolution)
            for server in sharing:
                server.asks = resolution if asks_dns(server.line) else None
        self.requests = Requests(backend, servers, world, version, rng, group=group)
        self._waiting = self.requests.waiting

    def _second_ns(self) -> int:
        """Where the seconds of its clock begin, if its version counts in those."""
        return below(self._rng, SECOND_NS) if self._layout.version < COUNTS_MILLISECONDS else 0

    def begin(
        self,
        poll_at_ns: Callable[[Resolver], int],
        check_at_ns: Callable[[ServerLine, int], int],
    ) -> None:
        """Begin anew, as it was settled, in other phases."""
        self.requests.begin_anew()
        for server in self.servers:
            server.begin(NEVER_NS)
        for place, after_ns in self._layout.checked.items():
            server = self.servers[place]
            server.check_at_ns = check_at_ns(server.line, after_ns)
        second_ns = self._second_ns()
        for resolution in self.resolutions:
            resolution.begin(poll_at_ns(resolution.resolver), second_ns)

    def settle_names(self, now_ns: int, answered: Callable[[str], Sequence[str]]) -> None:
        """Let the servers that follow names have had for long what these are answered."""
        for resolution in self.resolutions:
            ips = answered(resolution.host)
            resolution.settle(now_ns, ips)
            taken: list[str | None] = [server.ip for server in resolution.peers]
            for server in resolution.servers:
                free = next((ip for ip in ips if ip not in taken), None)
                if free is None and server.line.allow_dup_ip and not resolution.services:
                    free = ips[0]
                if free is not None:
                    server.settle(free)
                    taken.append(free)

    def usable(self) -> tuple[str | None, ...]:
        """Of each server, in their order: its address if new requests may be given to it."""
        return tuple([server.ip if server.usable else None for server in self.servers])

    def next_ns(self) -> int:
        """When it has something to do next."""
        return self._next()[0]

    def next_change_ns(self) -> int:
        """When it has something to do next that is not about a request."""
        resolutions = min([each.at_ns for each in self.resolutions], default=NEVER_NS)
        return min([server.check_at_ns for server in self.servers] + [resolutions])

    def _next(self) -> tuple[int, Step]:
        """When it has something to do next, and what."""
        step: Step = _rest
        at_ns = NEVER_NS
        for resolution in self.resolutions:
            if resolution.at_ns < at_ns:
                at_ns, step = resolution.at_ns, resolution.step
        if self._waiting and self._waiting[0][0] < at_ns:
            at_ns, step = self._waiting[0][0], self.requests.step
        for server in self.servers:
            if server.check_at_ns < at_ns:
                at_ns, step = server.check_at_ns, server.check_step
        return at_ns, step

    def advance(self, now_ns: int) -> None:
        """Do everything that is due up to and including this instant, in the order of its time."""
        at_ns, step = self._next()
        while at_ns <= now_ns:
            step(at_ns)
            at_ns, step = self._next()

    def instants(self) -> Iterator[tuple[int, int]]:
        """Do all that is ever due, with a pause after each instant: when it is, and the next one.

        Nothing else may be done with the model meanwhile.
        """
        following = self._next
        at_ns, step = following()
        while at_ns < NEVER_NS:
            now_ns = at_ns
            while at_ns <= now_ns:
                step(at_ns)
                at_ns, step = following()
            yield now_ns, at_ns

    def request(self, now_ns: int, ended: Ended) -> None:
        """Begin a request now. `ended` is called at the instant at which its fate is decided.

        That is within this call, or within a later `advance`.
        """
        self.advance(now_ns)
        self.requests.begin(now_ns, ended)


def names_of(line: ServerLine) -> list[str]:
    """The names of the servers that this line makes."""
    if line.slots == 1:
        return [line.name]
    return [f"{line.name}{number}" for number in range(1, line.slots + 1)]


def _rest(now_ns: int) -> None:
    """There is nothing to do."""


# --- the simple case: one name, one line ---

BACKEND = "app"


class ProxyModel(BackendModel):
    """A proxy whose servers share one name, as one `server` line or a `server-template` makes them.

    Its first query and its first check are at `start_ns` unless told otherwise: as in HAProxy,
    their phases are locked at first.
    """

    def __init__(
        self,
        settings: Settings,
        version: str | None,
        world: World,
        rng: Random,
        *,
        start_ns: int,
        poll_at_ns: int | None = None,
        check_at_ns: int | None = None,
        servers: int = 1,
    ) -> None:
        first_poll_ns = start_ns if poll_at_ns is None else poll_at_ns
        first_check_ns = start_ns if check_at_ns is None else check_at_ns
        super().__init__(
            _layout_of(settings, servers, version),
            world,
            rng,
            ask=lambda _resolver, _host: world.resolve,
            start_ns=start_ns,
            poll_at_ns=lambda _resolver: first_poll_ns,
            check_at_ns=lambda _line, after_ns: first_check_ns + after_ns,
        )

    def settle(self, now_ns: int, ips: Sequence[str]) -> None:
        """Let its servers have these addresses and be in full health, as if for long."""
        for server, ip in zip(self.servers, ips, strict=True):
            server.settle(ip)
        self.resolutions[0].settle(now_ns, ips)


@lru_cache(maxsize=64)
def _layout_of(settings: Settings, servers: int, version: str | None) -> Layout:
    return Layout(backend_of(settings, servers), version)


def backend_of(settings: Settings, servers: int) -> Backend:
    """The backend of one name that these settings are."""
    check = CheckKind.ANSWERS if settings.http_check else CheckKind.CONNECTS
    resolver = Resolver(
        name=BACKEND,
        nameservers=1,
        timeout_resolve_ns=settings.timeout_resolve_ns,
        timeout_retry_ns=settings.timeout_retry_ns,
        resolve_retries=settings.resolve_retries,
        holds=settings.holds,
        families=RECORD_TYPES,
    )
    line = ServerLine(
        name=BACKEND,
        file="",
        line=0,
        slots=servers,
        host=BACKEND,
        port=None,
        follows=Follows.NAME,
        resolver=resolver,
        prefers=settings.prefers,
        allow_dup_ip=False,
        init_addr=("last", "none"),
        init_state=settings.init_state,
        check=check if settings.check else CheckKind.NONE,
        inter_ns=settings.inter_ns,
        fastinter_ns=settings.fastinter_ns,
        downinter_ns=settings.downinter_ns,
        fall=settings.fall,
        rise=settings.rise,
        backup=False,
        weight=1,
        shuts_sessions=False,
        observe=None,
        places=0,
        slowstart_ns=0,
    )
    return Backend(
        name=BACKEND,
        file="",
        line=0,
        mode="http",
        servers=(line,),
        all_backups=False,
        timeout_connect_ns=settings.timeout_connect_ns,
        timeout_server_ns=settings.timeout_server_ns,
        timeout_check_ns=settings.timeout_check_ns,
        retries=settings.retries,
        redispatch_every=settings.redispatch_every,
        balance=Balance.TURNS,
        draws=2,
        places=0,
        queue_ns=settings.timeout_connect_ns,
    )
