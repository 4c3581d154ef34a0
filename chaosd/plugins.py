"""The plugin protocols, the optional abilities, and finding a plugin by its name.

A kind of plugin has one noun everywhere: the YAML key `faults:`, the folder `faults/`, the
entry-point group `chaosd.faults`, the protocol `Fault`. A plugin is a class with a frozen pydantic
`Config` of its own; it is imported only when a config names it. See docs/writing-a-plugin.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path, PurePath, PurePosixPath
from subprocess import CompletedProcess
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from chaosd.clock import Clock
from chaosd.events import Address, Instance, Outcome, Prediction, Sample, StreamSpec
from chaosd.parts import FaultConfig, KeyPath, OldIp, ProbeConfig, ProxyConfig, RuntimeConfig

# --- what the engine hands to plugins ------------------------------------------------------------


class Recorder(Protocol):
    """Where actions and readings go; bound to one cell and to the cycle that is going on."""

    clock: Clock

    def reading(
        self,
        source: str,
        what: str,
        *,
        at_ns: int | None = None,
        error_ns: int = 0,
        **data: Any,
    ) -> None:
        """Store what the world said. `at_ns` is now if not given."""

    def action(self, verb: str, **data: Any) -> AbstractAsyncContextManager[None]:
        """Store `asked` before the body runs and `done` (or `failed`) after it."""


class CycleContext(Recorder, Protocol):
    """What a fault knows of the cycle that it makes."""

    run: str  # the run's id
    cell: str
    number: int
    ending: bool  # the run ends: what is healed now is taken down right afterwards

    def expect(self, instance: Instance) -> None:
        """Declare that this instance belongs to the app from now on: call it before starting it.

        Otherwise its answers would count as misrouted. The direct probe is aimed at it.
        """

    def begin(self, *, old: Instance | None, new: Instance | None) -> None:
        """Declare T0 to be now: call it right before what takes the instance away.

        Inside of the action, so that nothing is written between this instant and the deed.

        `new`, expected before, is the instance whose first good answer ends the recovery. It is
        None in a control cycle that takes nothing away, where any instance of the app will do, and
        where nobody can tell it: then the first good answer after a bad one ends the recovery.
        """


# --- runtimes ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSpec:
    """The app of a cell, as the config wants it."""

    image: str
    port: int
    start_delay_s: float
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


@dataclass(frozen=True, slots=True, kw_only=True)
class CellSpec:
    """One topology to be set up, of `cells`. `seed` makes its choices repeatable."""

    name: str
    cells: int
    run_id: str
    directory: Path  # the cell's own, inside the run's: haproxy.cfg and sockets go here
    app: AppSpec
    dns: DnsSpec
    proxy: Proxy
    seed: str

    def wiring(self, *, listen: Address, dns: Address, log: str, api: str) -> Wiring:
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
        )


@runtime_checkable
class Stage(Protocol):
    """One cell's topology, standing."""

    entry: Address  # where probes knock at the proxy's door
    way_in: str  # how they come there, for the record: "loopback", "published port", …
    app: tuple[Instance, ...]  # who serves now, the one that has served longest first
    api: str | None  # the proxy's Runtime API, for `Proxy.read_api`; None if there is none
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


class Runtime(Protocol):
    """Where the topology lives."""

    Config: ClassVar[type[RuntimeConfig]]
    has_proxy_program: ClassVar[bool]  # whether there is a real proxy that can be asked beforehand
    pace: ClassVar[Pace]

    def __init__(self, config: Any) -> None: ...

    def unavailable(self) -> str | None:
        """Say why it can't be used on this machine, or None. Touches nothing."""

    def lacks(self, proxy: Proxy, app_image: str) -> str | None:
        """Say what this proxy and this app would need that isn't there, or None."""

    def proxy_host(self, proxy: Proxy) -> ProxyHost | None:
        """Where the proxy's program runs; None if that is this machine, or if there is none."""

    def abilities(self) -> Sequence[type]:
        """The optional protocols that this runtime's stages have."""

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


# --- the optional abilities of a stage -----------------------------------------------------------


class Holder(Protocol):
    """A placeholder that is ready to take an IP over at once."""

    async def take(self, ip: str) -> None: ...

    async def release(self) -> None:
        """Let go of the IP. May be called twice, and without `take`."""


@runtime_checkable
class CanReplace(Protocol):
    """A stage whose app instances can be taken away and brought back on a fresh IP."""

    app: tuple[Instance, ...]

    def reserve(self, at: str | None = None) -> Instance:
        """Choose the identity and the fresh, verified unused address of the next instance.

        With `at` its address is this one, which another instance leaves before it is started.
        """

    async def start(self, instance: Instance) -> None:
        """Start it at its address and publish its name; return when it is started (not yet ready).

        Stores the readings `app/listening` and `dns/published` when they happen.
        """

    async def ready(self, instance: Instance) -> None:
        """Return when it listens at the very address it was given. Raises MachineError if not."""

    async def stop(
        self, instance: Instance, signal: Literal["KILL", "TERM"], grace_s: float
    ) -> None:
        """Signal it, wait until it is gone (KILL after `grace_s`), and withdraw its name."""

    async def hold(self, manner: OldIp) -> Holder:
        """Prepare a placeholder, before T0, so that taking the IP over is quick."""


@runtime_checkable
class IsFound(Protocol):
    """A stage that chaosd has not made, and so does not know much about."""

    direct: Address | None  # the app itself, past the proxy
    identity_header: str | None  # in which its instances say who they are; None: the usual one


# --- proxies -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """The addresses that a proxy's config is rendered with; a runtime has chosen them."""

    listen: Address
    dns: Address
    app_name: str
    app_port: int
    replicas: int
    log: str  # where the proxy logs to: a UDP syslog receiver, or "stdout"
    api: str  # the Runtime API, as the proxy binds it: a UNIX socket's path, or `ipv4@…`
    by_address: bool = False  # let answers carry the address that they come from, as `@IP`


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A backend's move as the proxy meets it; seconds after T0, None where unknown."""

    published_s: float | None  # the name answers the new IP
    listening_s: float | None  # the new instance accepts connections
    missing_s: float | None  # the name began to be missing; None if it never was
    missing_class: str  # how a missing name is answered
    old_ip: OldIp
    others: bool = False  # other instances answered for the name meanwhile
    dns_s: float = 0.0  # how long the nameserver takes for an answer
    reachable_s: float | None = None  # the new host answers ARP; None: as soon as it is published


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyHost:
    """Where the proxy's program runs, if it is not a program of this machine.

    `run(arguments, environment, files)` runs it once, with these files in `directory`, and returns
    when it has ended. Raises MachineError.
    """

    directory: PurePosixPath
    run: Callable[[Sequence[str], Mapping[str, str], Mapping[str, bytes]], CompletedProcess[str]]


class Proxy(Protocol):
    """What is tested: its config rendered, its log and API read, its algorithm predicted."""

    Config: ClassVar[type[ProxyConfig]]

    def __init__(self, config: Any) -> None: ...

    @property
    def image(self) -> str | None:
        """The image that the config asks for, where images are used; None: the usual one."""

    @property
    def wanted_version(self) -> str | None:
        """The version that the config asks for, as "3.0"; None: any."""

    def move_to(self, host: ProxyHost) -> None:
        """From now on its program is there."""

    def files(self) -> dict[str, bytes]:
        """What has to lie beside its config file, by relative path. Raises MachineError."""

    @property
    def listen(self) -> Address | None:
        """Where the config wants the door; the runtime chooses if None."""

    def version(self) -> str:
        """The version of the binary at hand, as "2.6.12". MachineError if there is none."""

    def problems(self, *, by_address: bool = False) -> list[str]:
        """What is wrong with the user's own config file, as `file:line: what (the remedy)`.

        With `by_address` its answers have to carry the address that they come from.
        """

    def advice(self) -> list[str]:
        """What would be known if that file were a little different; nothing of it stops a run."""

    def settings(self) -> dict[str, Any]:
        """What the user's own config file says, in the words of the YAML, where it is understood.

        Empty if there is none: then the YAML says it all.
        """

    def render(self, wiring: Wiring) -> str:
        """The text of the proxy's config file."""

    def environment(self, wiring: Wiring) -> dict[str, str]:
        """The addresses as environment variables, for the user's own config file."""

    def command(self, config_file: PurePath) -> list[str]:
        """How to run it in the foreground."""

    def check(self, config_file: Path, environment: dict[str, str]) -> str | None:
        """Let the proxy check its own config; its complaint in one line, or None."""

    def read_log(self, line: str) -> tuple[str, dict[str, Any]] | None:
        """What a log line says, as ("address_changed", {"old": …, "new": …}), ("up", …), …."""

    async def read_api(self, api: str) -> dict[str, Any]:
        """One look at the Runtime API: {"servers": [...], "resolvers": {nameserver: {counter: n}}}.

        Raises OSError when it doesn't answer.
        """

    def timers_s(self) -> tuple[float, ...]:
        """The periods that fault times must not lock to."""

    def predict(self, move: Move) -> Prediction | None:
        """The recovery that its algorithm gives, or None where the model does not reach."""


# --- faults --------------------------------------------------------------------------------------


class Fault(Protocol):
    """What we break."""

    Config: ClassVar[type[FaultConfig]]
    needs: ClassVar[Sequence[type]]  # the abilities that a stage must have
    control: ClassVar[bool]  # True: the proxy has nothing to find, the cycle shows a floor

    def __init__(self, config: Any) -> None: ...

    async def inject(self, stage: Any, cycle: CycleContext) -> None:
        """Break it, calling `cycle.begin` at T0. May be cancelled at any await."""

    async def heal(self, stage: Any, cycle: CycleContext) -> None:
        """Undo what `inject` did, however far it came. Always called, never cancelled."""


@runtime_checkable
class CanForetell(Protocol):
    """A fault that can say beforehand what the proxy will meet, for `chaosd check`."""

    def foretell(self, app_start_s: float, missing_class: str) -> Move:
        """The move, if the app takes this long from being started to listening."""


# --- probes --------------------------------------------------------------------------------------


class Shot(Protocol):
    """One attempt. Its probe must end it exactly once; later calls are ignored.

    The host ends it as TIMEOUT at its deadline by itself and calls `Probe.abandon`.
    """

    scheduled_ns: int
    deadline_ns: int

    def sent(self) -> None:
        """The first byte, or the SYN, is going out now. Call it before the system call."""

    def done(self, outcome: Outcome, status: int = 0, who: str = "") -> None:
        """The attempt has ended now."""


class Probe(Protocol):
    """How we ask. One object per stream; it lives in the prober's process."""

    Config: ClassVar[type[ProbeConfig]]
    identifies: ClassVar[bool]  # whether its answers can tell who answered

    def __init__(self, config: Any, identity_header: str) -> None: ...

    def fire(self, shot: Shot, target: Address) -> None:
        """Start one attempt and return at once. One attempt: no retries, no second address."""

    def abandon(self, shot: Shot) -> None:
        """The deadline of this shot has passed: free what it holds."""

    async def close(self) -> None:
        """Free everything."""


Deliver = Callable[[Sequence[Sample], dict[int, int]], None]


class Prober(Protocol):
    """Who sends the probes of all cells on time and delivers their samples in batches."""

    async def start(self, deliver: Deliver, failed: Callable[[Exception], None]) -> None:
        """`deliver(samples, complete)` is called often; `complete[stream]` promises that every
        sample of that stream scheduled before this instant has been delivered.
        """

    def add(
        self, spec: StreamSpec, probe_type: str, config: ProbeConfig, identity_header: str
    ) -> None:
        """Make a stream known. It sends nothing until it is aimed."""

    def aim(self, stream: int, target: Address | None) -> None:
        """Send it there from now on; None pauses it."""

    async def close(self) -> None: ...


# --- finding them --------------------------------------------------------------------------------

KINDS = ("runtimes", "proxies", "faults", "probes")


def available(kind: str) -> dict[str, EntryPoint]:
    """Every plugin of this kind that is installed, by name; nothing is imported."""
    return {point.name: point for point in sorted(entry_points(group=f"chaosd.{kind}"))}


def find(kind: str, name: str) -> type[Any]:
    """Import and return the plugin's class. Raises LookupError in words for the user."""
    points = available(kind)
    if name not in points:
        raise LookupError(unknown(name, points))
    loaded: type[Any] = points[name].load()
    return loaded


def unknown(name: str, known: Sequence[str] | dict[str, Any]) -> str:
    """Say that a name is not known, and which one was probably meant."""
    close = get_close_matches(name, list(known), n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"known: {', '.join(sorted(known))}"
    return f"unknown name `{name}` ({hint})"
