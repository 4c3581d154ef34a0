"""The contract of a runtime: where the topology lives, and what its stages can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePath
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from chaosd.dns.rules import Rule
from chaosd.history.values import Address, Instance
from chaosd.plugins.bases import (
    KeyPath,
    OldIp,
    RuntimeConfig,
)
from chaosd.plugins.probe import PLAIN_KNOCK, Knock, Prober
from chaosd.plugins.proxy import Proxy, ProxyHost, Wiring
from chaosd.plugins.recording import Recorder
from chaosd.system.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSpec:
    """The app of a cell, as the config wants it."""

    image: str
    port: int
    start_delay_s: float
    healthy_after_s: float = 0.0  # it answers 503 for so long from when it listens
    replicas: int
    command: tuple[str, ...]
    env: dict[str, str]
    remember_ips: int
    ready_timeout_s: float
    by_address: bool = False  # instances are told by their address: it has no identity header

    def identity(self, number: str, ip: str) -> str:
        """What answers of an instance will carry."""
        return f"@{ip}" if self.by_address else number


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsSpec:
    """How the app's name is answered, where chaosd's own DNS answers it."""

    name: str
    missing: Literal["nxdomain", "servfail", "refused", "empty", "drop", "stale"]
    publish: Literal["start", "ready"]
    ttl_s: int
    delay_s: float
    nameservers: int = 1
    cache: Literal["unbound", "dnsmasq"] | None = None  # between the proxy and chaosd's nameserver
    negative_ttl_s: int | None = None  # None: negative answers have no SOA record


@dataclass(frozen=True, slots=True, kw_only=True)
class CellSpec:
    """One topology to be set up, of `cells`. `seed` makes its choices repeatable."""

    name: str
    cells: int
    run_id: str
    directory: Path  # the cell's own, inside the run's: the proxy's files and sockets go here
    app: AppSpec
    dns: DnsSpec
    proxy: Proxy
    seed: str
    knock: Knock = PLAIN_KNOCK  # how the first probe asks
    # An app that never moves: other servers of the proxy's are there. None: nobody needs it.
    beside: tuple[str, ...] | None = None  # the names that it is found by, where it has any
    renews_proxy: bool = False  # a fault reloads or restarts it

    def wiring(
        self,
        *,
        listen: Address,
        dns: Address,
        log: Address | None,
        api: Address | PurePath,
        directory: PurePath,
        scratch: PurePath,
        app_at: Address | None = None,
        beside: str | None = None,
        more_dns: tuple[Address, ...] = (),
        under_master: bool = False,
    ) -> Wiring:
        """The addresses that a runtime has chosen, with what the config says of the app."""
        return Wiring(
            listen=listen,
            dns=dns,
            app_name=self.dns.name,
            app_port=self.app.port,
            replicas=self.app.replicas,
            by_address=self.app.by_address,
            log=log,
            api=api,
            directory=directory,
            scratch=scratch,
            app_at=app_at,
            beside=beside,
            more_dns=more_dns,
            under_master=under_master,
        )


@runtime_checkable
class Stage(Protocol):
    """One cell's topology, standing."""

    entry: Address  # where probes knock at the proxy's entry
    way_in: str  # how they come there, for the record: "loopback", "published port", …
    # Who serves now, the one that has served longest first. Each has its `InstancePlaced` stored
    # when its address is known: identity, ip, port.
    app: tuple[Instance, ...]
    api: str | None  # the proxy's Runtime API, for `read_servers`; None if there is none
    dns_queries: int | None  # how many queries the proxy has sent so far; None where not ours

    def proxy_process(self) -> dict[str, int]:
        """What the proxy costs: {"rss_bytes": …, "fds": …}, without what is unknown."""

    async def close(self) -> None:
        """Take down all that belongs to this cell. May be called at any moment, and twice."""


class Pace(NamedTuple):
    """About how long a runtime's own steps take, in seconds: only for telling beforehand."""

    stop_s: float  # from T0 until the old instance is gone and its address is held
    publish_s: float  # from being started until the name answers
    listen_s: float  # … until it listens
    reach_s: float | None  # … until its host answers ARP; None: as soon as it is published
    # From T0 until something else holds the old address, where that refuses meanwhile, as loopback
    # does; 0: nobody refuses.
    held_s: float = 0.0


class Runtime(Protocol):
    """Where the topology lives."""

    Config: ClassVar[type[RuntimeConfig]]
    has_proxy_program: ClassVar[bool]  # whether there is a real proxy that can be asked beforehand
    makes_topology: ClassVar[bool]  # False: it finds what stands, and nothing is rendered
    runs_programs: ClassVar[bool]  # whether `app.command` is a program of this machine
    default_proxy: ClassVar[str | None]  # where the config names none; None: the usual one
    pace: ClassVar[Pace]

    def __init__(self, config: Any) -> None: ...

    def unavailable(self) -> str | None:
        """Say why it can't be used on this machine, or None. Touches nothing."""

    def lacks(self, proxy: Proxy, app_image: str) -> str | None:
        """Say what this proxy and this app would need that isn't there, or None."""

    def proxy_host(self, proxy: Proxy) -> ProxyHost | None:
        """Where the proxy's program runs; None if that is this machine, or if there is none."""

    def asks_directly(self) -> bool:
        """Whether the direct probe has somewhere to ask, past the proxy."""

    def abilities(self) -> Sequence[type]:
        """The optional protocols that this runtime's stages have, such as CanMove."""

    def old_ip(self) -> Sequence[OldIp]:
        """What it can make of an old IP."""

    def problems(self, cell: CellSpec) -> list[tuple[KeyPath, str]]:
        """What else it can't do of what the config asks for: the key's path, and why not."""

    def loop_factory(self) -> Callable[[], Any]:
        """The event loop that it runs on."""

    def clock(self) -> Clock:
        """The clock that goes with that loop."""

    def prober(self) -> Prober:
        """Who sends its probes."""

    async def sweep(self) -> list[str]:
        """Remove what runs that no longer live have left behind; say each in a few words."""

    async def set_up(
        self, cell: CellSpec, recorder: Recorder, failed: Callable[[Exception], None]
    ) -> Stage:
        """Set a cell up, ready for its first fault. Raises MachineError, having cleaned up.

        `failed` is told when something dies later that no fault has killed.
        """


@runtime_checkable
class CanBeAway(Protocol):
    """A runtime that may have something of ours although it can't be used at the moment."""

    def expected(self) -> bool:
        """Whether somebody says that it is there, while it is unavailable."""


@runtime_checkable
class TouchesOthers(Protocol):
    """A runtime whose app and proxy are not chaosd's, and run already: the config allows it."""

    def deeds(self) -> Sequence[str]:
        """What it does to them, and how they become what they were: a line each."""

    def app_found(self) -> Mapping[str, Any]:
        """Values of the config's `app` that hold where it says nothing."""

    def meet(self, proxy: Proxy) -> Proxy:
        """The proxy that runs there. Raises ConfigError and MachineError."""


class Holder(Protocol):
    """A placeholder that is ready to take an IP over at once."""

    async def take(self, ip: str) -> None: ...

    async def release(self) -> None:
        """Let go of the IP. May be called twice, and without `take`."""


# --- the abilities of stages: a fault names those that it needs -----------------------------------


@runtime_checkable
class CanMove(Protocol):
    """A stage whose app instances can be taken away and brought back at another address."""

    app: tuple[Instance, ...]

    def next_identity(self) -> str:
        """Name the next instance, before it has an address. Declare it by `cycle.expect`."""

    async def start(self, identity: str) -> Instance:
        """Start it and publish its name; return when it is started (not yet ready).

        Its address is known then: the runtime chooses one that was not in use lately, or what it
        runs on does. Stores `InstancePlaced`, `InstanceListening` and `NamePublished`
        when they happen. If it raises or is cancelled, it can be called again.
        """

    async def ready(self, instance: Instance) -> None:
        """Return when it listens at its address. Raises MachineError if not."""

    async def stop(
        self, instance: Instance, signal: Literal["KILL", "TERM"], grace_s: float
    ) -> None:
        """Signal it, wait until it is gone (KILL after `grace_s`), and withdraw its name."""


@runtime_checkable
class CanHoldAddress(CanMove, Protocol):
    """A stage where an address can be used again once its instance is gone."""

    async def start(self, identity: str, at: str | None = None) -> Instance:
        """As `CanMove.start`; `at` is the address that it is to have."""

    async def hold(self, manner: OldIp) -> Holder:
        """Prepare a placeholder, before T0, so that taking the IP over is quick."""


@runtime_checkable
class CanReschedule(Protocol):
    """A stage whose platform replaces an instance by itself: where and how is its own choice."""

    app: tuple[Instance, ...]
    virtual_ip: str | None  # the one address that stands before all instances, if there is one

    def next_identity(self) -> str:
        """Name the next instance, before it has an address. Declare it by `cycle.expect`."""

    async def reschedule(
        self,
        identity: str,
        by: Literal["update", "drain"],
        order: Literal["stop-first", "start-first"],
    ) -> Instance:
        """Have the oldest instance replaced; return when the new one has its address.

        `update` replaces it as a deployment does, in this order; `drain` takes away the node that
        it runs on. Stores `InstancePlaced`, whose `expected` is the identity.
        """

    async def ready(self, instance: Instance) -> None:
        """Return when it listens at its address. Raises MachineError if not."""

    async def settle(self) -> None:
        """Give the node back, and return when as many instances serve as the config wants."""


@runtime_checkable
class CanSwitch(CanMove, Protocol):
    """A stage whose name can be given from one living instance to another."""

    async def start_aside(self, identity: str) -> Instance:
        """As `CanMove.start`, but the name does not answer its address."""

    async def switch(self, old: Instance, new: Instance) -> None:
        """Let the name answer the new one's address instead of the old one's; both live on.

        The old one is stopped later, as any other. Stores `InstanceRetired` of it, and
        `NamePublished`. If it raises or is cancelled, it can be called again.
        """


@runtime_checkable
class CanPause(Protocol):
    """A stage whose instances can be frozen: connections are taken, and nothing is answered."""

    app: tuple[Instance, ...]

    async def pause(self, instance: Instance) -> None:
        """Freeze it. Raises MachineError."""

    async def resume(self, instance: Instance) -> None:
        """Let it go on: it answers all that waited. May be called without `pause`."""


@runtime_checkable
class CanHang(Protocol):
    """A stage whose instances can be made to read requests and never answer them."""

    app: tuple[Instance, ...]

    async def hang(self, instance: Instance) -> None:
        """Let it answer nothing from now on. Raises MachineError."""

    async def unhang(self, instance: Instance) -> None:
        """Let it answer again; what it was asked meanwhile is lost.

        May be called without `hang`.
        """


@runtime_checkable
class CanPartition(Protocol):
    """A stage whose instances can be cut off: packets to them vanish, and they live on."""

    app: tuple[Instance, ...]

    async def cut_off(self, instance: Instance) -> None:
        """Let packets to it vanish. Raises MachineError."""

    async def rejoin(self, instance: Instance) -> None:
        """Let them through again. May be called without `cut_off`."""


@runtime_checkable
class CanMoveNameserver(Protocol):
    """A stage whose nameserver can go to another address, which the proxy is not told."""

    async def move_nameserver(self, *, away: bool) -> None:
        """Let it listen elsewhere; not `away`: where it was. May be called twice."""


@runtime_checkable
class CanRestartProxy(Protocol):
    """A stage whose proxy can be ended and started again."""

    async def restart_proxy(self) -> None:
        """End its process, and return when another is started. Raises MachineError.

        Where its config names a state file, what it knew of its servers is written there before.
        Once begun it is finished, also if it is cancelled.
        """


@runtime_checkable
class CanReloadProxy(Protocol):
    """A stage whose proxy can be reloaded."""

    async def reload_proxy(self) -> None:
        """Let another process take its sockets over; the old one ends its requests and goes.

        The rest is as in `CanRestartProxy.restart_proxy`.
        """


# What only one fault of a cycle can use at once: two would wait for each other's instances.
EXCLUSIVE: tuple[type, ...] = (CanMove, CanHoldAddress, CanSwitch, CanReschedule)


@runtime_checkable
class CanFaultDns(Protocol):
    """A stage whose nameserver can be made to answer wrongly for a while."""

    async def answer_by(self, rules: Sequence[Rule], owner: str = "") -> None:
        """Let these rules come before its usual answers from now on; none: no more of this owner's.

        The rules of other owners stay. A fault is the owner `cycle.label`.
        Returns when they are in force. Raises MachineError if that can't be done.
        """


class ProcessRole(StrEnum):
    """What a process is in its cell."""

    PROXY = "proxy"
    APP = "app"
    DNS = "dns"  # a nameserver or a cache that the proxy asks, but for chaosd itself
    ENTRY = "entry"  # carries connections from a published port to the proxy


class OwnProcess(NamedTuple):
    """A process of this machine that a cell is made of. `name` is an instance's identity."""

    role: ProcessRole
    name: str
    pid: int


@runtime_checkable
class HasProcesses(Protocol):
    """A stage whose processes can be seen from here: whether they wait for CPU, or are stopped."""

    def processes(self) -> Sequence[OwnProcess]:
        """Those that run now. Called several times a second: it must be quick."""


@runtime_checkable
class WatchesEntry(Protocol):
    """A stage that knows who else may answer where its proxy does."""

    def is_entry_shared(self) -> bool:
        """Whether a process that is not this run's listens at `entry`, too."""


@runtime_checkable
class IsFound(Protocol):
    """A stage that chaosd has not made, and so does not know much about."""

    direct: Address | None  # the app itself, past the proxy
    identity_header: str | None  # in which its instances say who they are; None: the usual one
