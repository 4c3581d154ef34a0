"""The contract of a proxy: what is tested.

Every proxy is a `Proxy`. What else chaosd can do with it are abilities, each a small protocol: a
proxy that chaosd can start is `Launches`, one whose log is understood `ReadsLog`, and so on. A
plugin has the methods of its abilities, and no others. See docs/decisions/0014-proxies.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from subprocess import CompletedProcess
from typing import Any, ClassVar, Protocol, runtime_checkable

from chaosd.errors import ConfigError
from chaosd.history.cycles import Prediction
from chaosd.history.events import OtherReading, ServerChange, ServerChanged, Teller
from chaosd.history.values import Address
from chaosd.plugins.bases import ProxyConfig
from chaosd.plugins.probe import Knock
from chaosd.plugins.timeline import (
    Clients,
    Foretold,
    ServerHealth,
    Timeline,
    Unreached,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """The addresses and places that a runtime has chosen. How they are written is the proxy's."""

    listen: Address
    dns: Address
    app_name: str
    app_port: int
    replicas: int
    log: Address | None  # of a UDP syslog receiver; None: standard output
    api: Address | PurePath  # where its API has to be, if it has one: TCP, or a UNIX socket's path
    directory: PurePath  # where its files will lie
    scratch: PurePath  # where its program may write
    by_address: bool = False  # let answers carry the address that they come from, as `@IP`
    app_at: Address | None = None  # where an instance of the app is when the proxy is started
    beside: str | None = None  # the host of an app that never moves, if there is one
    more_dns: tuple[Address, ...] = ()  # further nameservers with the same names
    # Its first process stays, and lets others take over from each other: `Reloads.reload_signal`.
    under_master: bool = False

    @property
    def nameservers(self) -> tuple[Address, ...]:
        """All of them."""
        return (self.dns, *self.more_dns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A proxy's program, ready to be started in the foreground."""

    directory: PurePath  # where the files have to lie
    files: Mapping[str, bytes]  # by their path in that directory
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    state: PurePath | None = None  # a file with what the one before knew of its servers

    def write(self) -> None:
        """Write the files, where the directory is one of this machine. Raises OSError."""
        for name, data in self.files.items():
            file = Path(self.directory) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """One server as a proxy sees it, in words that every proxy's states can be said in."""

    server: str  # its name, as the proxy's log says it
    address: str | None  # None: it has none at the moment
    health: ServerHealth  # maint: taken out, for instance because its name has no address


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyLook:
    """One look at a proxy's API."""

    servers: Sequence[ServerState]
    counters: Mapping[str, Mapping[str, int]]  # of its resolvers: nameserver → counter → n


# Reads one cell's log, line by line, and may remember lines. It says what a line tells as
# ("address_changed", {"server": …, "old": …, "new": …}), ("up", {"server": …}), …: see LOG_WORDS.
# None for every other line.
LogReader = Callable[[str], tuple[str, dict[str, Any]] | None]

# What a log line may tell, and what it says of it at least.
LOG_WORDS: Mapping[str, frozenset[str]] = {
    "address_changed": frozenset({"server", "old", "new"}),
    "up": frozenset({"server"}),
    "down": frozenset({"server", "reason"}),
    "maint": frozenset({"server", "reason"}),
    "ready": frozenset({"server"}),  # out of maintenance, whether usable or not
    "unresolved": frozenset({"name", "reason"}),  # a look-up that failed
}


def log_event(what: str, data: Mapping[str, Any]) -> ServerChanged | OtherReading:
    """The event that a log line tells, in the words of LOG_WORDS."""
    if what not in set(ServerChange):
        return OtherReading(source=Teller.LOG.value, what=what, details=dict(data))
    told = {name: data.get(name) for name in ("old", "new", "reason")}
    change = ServerChange(what)
    return ServerChanged(told_by=Teller.LOG, change=change, server=data["server"], **told)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyHost:
    """Where the proxy's program runs, if it is not a program of this machine.

    `run(arguments, environment, files)` runs it once, with these files in `directory`, and returns
    when it has ended. It may write in `scratch`, and open so many files. Raises MachineError.
    """

    directory: PurePosixPath
    scratch: PurePosixPath
    run: Callable[[Sequence[str], Mapping[str, str], Mapping[str, bytes]], CompletedProcess[str]]
    open_files_max: int


class Proxy(Protocol):
    """What is tested. All that every proxy has; the abilities are below."""

    Config: ClassVar[type[ProxyConfig]]

    def __init__(self, config: Any) -> None: ...

    def timers_s(self) -> tuple[float, ...]:
        """The periods that fault times must not lock to."""


@runtime_checkable
class Launches(Protocol):
    """A proxy whose program chaosd starts."""

    config_name: ClassVar[str]  # of its configuration, one of the files of `launch`

    @property
    def image(self) -> str:
        """The image that has its program, where images are used."""

    @property
    def needs_image(self) -> bool:
        """Whether the config asks for that image, so that nothing else will do."""

    @property
    def listen(self) -> Address | None:
        """Where the config wants the entry; the runtime chooses if None."""

    def move_to(self, host: ProxyHost) -> None:
        """From now on its program is there."""

    def version(self) -> str:
        """The version of the program at hand, as "2.6.12". MachineError if there is none."""

    def launch(self, wiring: Wiring) -> Launch:
        """Say how it is started. Raises MachineError."""


@runtime_checkable
class HasVersions(Protocol):
    """A proxy of which several versions may be at hand."""

    def taken_by(self, launch: Launch) -> list[str]:
        """Which others of them take a configuration that was refused, the oldest first."""


@runtime_checkable
class Checks(Protocol):
    """A proxy that can check its configuration before it is started."""

    def check(self, launch: Launch) -> str | None:
        """Let its program check it: its complaints as `file:line: what`, a line each, or None.

        On this machine the launch's files are written before.
        """


@runtime_checkable
class TakesOwnFile(Protocol):
    """A proxy that can be started with a configuration file of the user's."""

    @property
    def own_file(self) -> Path | None:
        """The user's file; None if there is none."""

    def problems(self, *, by_address: bool = False) -> list[str]:
        """What is wrong with that file, as `file:line: what (the remedy)`.

        With `by_address` its answers have to carry the address that they come from.
        """

    def settings(self) -> dict[str, Any]:
        """The settings that hold, by their paths in the YAML: what two runs are compared by.

        That file's; the YAML's if there is none. Empty if the file can't be read.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """The world that a user's own files expect, and that chaosd has to play."""

    name: str  # of the app: chaosd's DNS answers it
    instances: int
    beside: tuple[str, ...] | None  # names of an app that never moves; None: it is not needed
    env: Mapping[str, str]  # of the app
    knock: Knock  # how a request gets to it
    settled_s: float  # how long a failover should take at most, until nothing moves any more
    shakes_hands: bool = False  # a request takes a TLS handshake, or two


@runtime_checkable
class Rewires(Protocol):
    """A proxy that is started with a copy of the user's files, with other addresses in it."""

    def own_files(self) -> Sequence[Path]:
        """All files of the user's that go into it."""

    def stand_in(self, app_port: int) -> StandIn | None:
        """What its files expect; None if they are not rewired, or `problems` says why not."""

    def choices(self) -> list[str]:
        """What was chosen of the files, a line each: what moves, and where probes come in."""

    def difference(self) -> list[str]:
        """How the copies of the last launch differ from the files: a unified diff."""

    def not_carried(self) -> list[str]:
        """What the copies don't have of the files, and what that changes, a line each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """What a proxy needs of the user's files on a machine that has none of them.

    `said` is what its part of the YAML says there; each text in it is a path of this machine.
    """

    files: Mapping[str, bytes]  # by their absolute paths
    said: Mapping[str, Any]


@runtime_checkable
class SendsFiles(Protocol):
    """A proxy whose user's files can be taken to another machine."""

    def parcel(self) -> Parcel | None:
        """All of them; None if there are none. Raises MachineError where they are too much."""


@runtime_checkable
class HidesSecrets(Protocol):
    """A proxy whose configuration may have secrets, which people are not shown."""

    def secrets(self) -> list[tuple[str, str]]:
        """Those of the user's own file: names and values. Empty if there is none."""

    @staticmethod
    def shown(text: str) -> str:
        """A configuration for people: the same lines without secrets."""


@runtime_checkable
class Advises(Protocol):
    """A proxy that knows which of its settings surprise people."""

    def advice(self) -> list[str]:
        """What could be better, a line each; nothing of it stops a run."""


@runtime_checkable
class ReadsLog(Protocol):
    """A proxy whose log tells what happens to its servers."""

    def log_reader(self) -> LogReader:
        """A reader for the log of one cell."""


@runtime_checkable
class ReadsServers(Protocol):
    """A proxy that can be asked for the state of its servers."""

    async def read_servers(self, api: str) -> ProxyLook:
        """Look once, at a UNIX socket's path or host:port. Raises OSError if it doesn't answer."""


@runtime_checkable
class Reloads(Protocol):
    """A proxy of which one process can take over from another."""

    reload_signal: ClassVar[str]  # tells one that was started with `Wiring.under_master` to do so

    def successor(self, launch: Launch, pid: int) -> Launch:
        """Say how that one is started which takes over from this process, of the same launch."""

    async def read_state(self, api: str) -> bytes:
        """What the running one knows of its servers, for `Launch.state`. Raises OSError."""


@runtime_checkable
class Predicts(Protocol):
    """A proxy whose algorithm is known."""

    def predict(self, timeline: Timeline, clients: Clients | None = None) -> Prediction | Unreached:
        """The recovery that its algorithm gives, or why the model does not reach this.

        With `clients` also what their requests come to, where the model knows that.
        """


@runtime_checkable
class ForetellsUsers(Protocol):
    """A proxy whose model says what users see, quickly enough for thousands of settings."""

    def foretell(
        self, happening: Timeline, clients: Clients, *, version: str | None
    ) -> Foretold | Unreached:
        """What this does to users and to the nameserver, on this version (None: the newest)."""

    def lines(self, values: Mapping[str, Any]) -> list[str]:
        """The lines of its own configuration for these values, by their paths in its part."""


@runtime_checkable
class Foresees(Protocol):
    """A proxy that can say of all of the user's own file what will happen to its users."""

    def outlook(self) -> list[str]:
        """What a move and DNS trouble do, a line each; empty where there is no such file."""

    def movable(self) -> list[str]:
        """The parts of that file of which one has to be chosen for a run; empty if it is clear."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A proxy that others have started. `fetch` raises MachineError."""

    name: str  # of its container, for people
    argv: Sequence[str]
    directory: str  # that it was started in
    environment: Mapping[str, str]
    app_names: frozenset[str]  # by which it may find the app
    fetch: Callable[[str], Path]  # the file or the directory of this path there, as it is now


@runtime_checkable
class CanBeMet(Protocol):
    """A proxy that may run already, by files of its own."""

    @property
    def config(self) -> ProxyConfig: ...

    def met(self, running: Running) -> Proxy:
        """The same proxy, by those files. Raises ConfigError and MachineError."""


@runtime_checkable
class RunsAlready(Protocol):
    """A proxy that runs already, by files of its user's that are known."""

    @property
    def running(self) -> Running: ...

    def own_files(self) -> Sequence[Path]:
        """Those files."""

    @property
    def api_there(self) -> str | None:
        """Where its files say that it can be asked: a path, or host:port, as it has it itself."""


def launchable(proxy: Proxy) -> Launches:
    """The proxy as one that can be started. Raises ConfigError if it can't be."""
    if not isinstance(proxy, Launches):
        raise ConfigError("proxy.type: chaosd can't start this one (use `runtime: external`)")
    return proxy
