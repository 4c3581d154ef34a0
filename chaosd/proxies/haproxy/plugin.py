"""The plugin: how HAProxy is launched, looked at, and asked what it would do."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path, PurePath
from random import Random
from typing import Any, ClassVar

from chaosd.errors import ConfigError, MachineError
from chaosd.history.cycles import Prediction
from chaosd.history.values import Address
from chaosd.plugins.program import run_once
from chaosd.plugins.proxy import (
    Launch,
    LogReader,
    Parcel,
    ProxyHost,
    ProxyLook,
    Running,
    StandIn,
    Wiring,
)
from chaosd.plugins.simulation import World
from chaosd.plugins.timeline import Clients, Foretold, Timeline, Unreached
from chaosd.proxies.haproxy import (
    api,
    builds,
    complaints,
    config,
    log,
    render,
    sending,
)
from chaosd.proxies.haproxy.beside import beside
from chaosd.proxies.haproxy.cfg import own_file
from chaosd.proxies.haproxy.cfg.address import target
from chaosd.proxies.haproxy.cfg.backend import read_backends
from chaosd.proxies.haproxy.cfg.condition import features_in
from chaosd.proxies.haproxy.cfg.effective import Effective
from chaosd.proxies.haproxy.cfg.files import BYTES_MAX as OWN_BYTES_MAX
from chaosd.proxies.haproxy.cfg.files import load
from chaosd.proxies.haproxy.cfg.foreign import refusals
from chaosd.proxies.haproxy.cfg.host import CONTAINER, Host, here
from chaosd.proxies.haproxy.cfg.limits import DECIDES, REQUESTS
from chaosd.proxies.haproxy.cfg.record import record
from chaosd.proxies.haproxy.cfg.secrets import secrets_of, without_secrets
from chaosd.proxies.haproxy.cfg.settings import backend_of, settings_of
from chaosd.proxies.haproxy.cfg.telling import tell
from chaosd.proxies.haproxy.cfg.wording import say, say_bound, say_unknown
from chaosd.proxies.haproxy.foretold import foretell, foretell_simple
from chaosd.proxies.haproxy.model.algorithm import ProxyModel
from chaosd.proxies.haproxy.model.backend import Backend, Unknown
from chaosd.proxies.haproxy.model.predicting import predict, predict_any
from chaosd.proxies.haproxy.model.settings import Settings
from chaosd.proxies.haproxy.model.standing import Standing
from chaosd.proxies.haproxy.outlooks import foresee
from chaosd.proxies.haproxy.pasting import pasted
from chaosd.proxies.haproxy.rewired import Facts, RewiredFiles
from chaosd.system import machine
from chaosd.system.files import read_utf8

_ALERTS_MAX = 20  # that are said
DEFAULT_VERSION = "3.0"


def image_of(version: str) -> str:
    """The image that `chaosd images` makes of this version, such as "3.0"."""
    return f"chaosd-haproxy:{version}"


class HAProxy:
    """The proxy plugin. One object serves all cells of a run."""

    Config = config.Config
    config_name: ClassVar[str] = "haproxy.cfg"
    reload_signal: ClassVar[str] = "USR2"

    def __init__(self, config: config.Config) -> None:
        self.config = config
        self._version: str | None = None
        self._host: ProxyHost | None = None
        # The user's own: a file that has chaosd's addresses by variables, or files to be rewired.
        self._path = config.by_variables
        self._rewired = None
        if config.files and self._path is None:
            self._rewired = RewiredFiles(config, self._facts)

    @property
    def image(self) -> str:
        return self.config.image or image_of(self.config.version or DEFAULT_VERSION)

    @property
    def needs_image(self) -> bool:
        return self.config.image is not None

    def move_to(self, host: ProxyHost) -> None:
        self._host = host

    def met(self, running: Running) -> HAProxy:
        from chaosd.proxies.haproxy.running import MetHAProxy

        return MetHAProxy(self.config, running, self._host)

    @property
    def listen(self) -> Address | None:
        return self.config.entry

    # --- the program ---

    def version(self) -> str:
        """The version of the binary, or of what is simulated. MachineError if there is none."""
        if self._version is None:
            done = self._run("-v")
            found = builds.VERSION.match(done.stdout)
            if found is None:
                # One that can't run at all, for a library that is missing, says so elsewhere.
                said = done.stdout.strip() or done.stderr.strip() or "nothing"
                first = said.splitlines()[0]
                raise MachineError(f"{self._binary} -v: not an HAProxy (it says: {first})")
            wanted = self.config.version
            if not builds.is_a(found[1], wanted or found[1]):
                raise MachineError(
                    f"{self._binary} is {found[1]}, not the {wanted} of proxy.version "
                    f"({builds.remedy(wanted, self.config.binary)})"
                )
            self._version = found[1]
        return self._version

    def launch(self, wiring: Wiring) -> Launch:
        """Say how it is started. Raises MachineError if the user's own files can't be read."""
        env = render.environment(wiring)
        mode = ["-W", "-db"] if wiring.under_master else ["-db"]
        if self._rewired is not None:
            files = self._rewired.copy(wiring)
            env |= self._rewired.environment()
        else:
            files = {self.config_name: self.render(wiring).encode()}
        return Launch(
            directory=wiring.directory,
            files=files
            if self._host is None or self._rewired
            else beside(self.config.files) | files,
            argv=[self._binary, *mode, *self._files(wiring.directory)],
            env=env,
            state=render.state_file(wiring) if self.config.state_file else None,
        )

    def successor(self, launch: Launch, pid: int) -> Launch:
        """As reload scripts do it: the new one binds, and tells the old one to finish and go."""
        return replace(launch, argv=[*launch.argv, "-sf", str(pid)])

    async def read_state(self, api_address: str) -> bytes:
        return await api.read_state(api_address)

    @property
    def _binary(self) -> str:
        if self._host is not None:
            return "haproxy"
        return self._own_binary

    @cached_property
    def _own_binary(self) -> str:
        """The program of this machine: the same for the whole run, whatever is installed in it."""
        return builds.binary(self.config.binary, self.config.version)

    def check(self, launch: Launch) -> str | None:
        """Let HAProxy check the file: its complaints as `file:line: what`, a line each, or None."""
        done = self._checked(launch)
        if done.returncode == 0:
            return None
        config_file = launch.directory / self.config_name
        alerts = complaints.alerts(done.stderr)
        if not alerts:
            last = (done.stderr.strip().splitlines() or ["it does not say why"])[-1]
            return f"{config_file}: {last}"
        said = list(dict.fromkeys(self._placed(launch, alert) for alert in alerts))
        shown, more = said[:_ALERTS_MAX], len(said) - _ALERTS_MAX
        shown[-1] += f" (and {more} more)" if more > 0 else ""
        if found := self.taken_by(launch):
            said_of = f"HAProxy {', '.join(found)} takes the files"
            shown[-1] += f" ({said_of}: --proxy-version {found[-1]})"
        return "\n".join(shown)

    def taken_by(self, launch: Launch) -> list[str]:
        """Which of the builds at hand take the user's files, the oldest first."""
        if self._rewired is None or self._host is not None:
            return []
        options = self._files(launch.directory)
        at_hand = builds.installed()
        return [b.name for b in at_hand if complaints.takes(b.binary, options, launch.env)]

    def _checked(self, launch: Launch) -> subprocess.CompletedProcess[str]:
        # What the user's file knows by name need not be known here; `-dr` lets it be unknown.
        lenient = ["-dr"] if self._path is not None else []
        arguments = ["-c", *lenient, *self._files(launch.directory)]
        if self._host is None:
            return self._run(*arguments, environment=launch.env)
        return self._host.run([self._binary, *arguments], launch.env, launch.files)

    def _placed(self, launch: Launch, alert: str) -> str:
        """What HAProxy complains of, as `file:line: what`; the line is one of the user's file."""
        said = complaints.placed(alert)
        if self._rewired is not None:
            return self._rewired.in_users_lines(launch.directory, said or alert)
        if said is None:
            return f"{launch.directory / self.config_name}: {alert}"
        if self._path is not None:  # the run's copy has the same lines
            said = said.replace(str(launch.directory / self.config_name), str(self._path))
        return said

    def _files(self, directory: PurePath) -> list[str]:
        """The options that name the directory which relative paths belong to, and the files."""
        names = [self.config_name] if self._rewired is None else self._rewired.names()
        if self._host is not None:
            files = [str(directory / name) for name in names]
            there = str(self._host.directory)
        else:
            base = self._rewired.base if self._rewired is not None else None
            if base is None and self._path is not None:
                base = self._path.parent.resolve()
            if base is None:
                return ["-f", str(directory / self.config_name)]
            # What the user's files name by relative paths lies beside them, not beside the copies.
            files = [str((Path(directory) / name).resolve()) for name in names]
            there = str(base)
        return ["-C", there, *(word for file in files for word in ("-f", file))]

    def _run(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        if self._host is not None:
            return self._host.run([self._binary, *arguments], environment or {}, {})
        name = self.config.binary
        remedy = builds.remedy(self.config.version, name)
        return run_once(self._own_binary, arguments, environment or {}, remedy=remedy, called=name)

    # --- its config file ---

    @property
    def own_file(self) -> Path | None:
        return next(iter(self.config.files), None)

    def problems(self, *, by_address: bool = False) -> list[str]:
        if self._rewired is not None:
            return self._rewired.problems()
        path = self._path
        if path is None:
            return []
        effective = self._read_own_file(path)
        found = own_file.problems(effective, path, by_address=by_address)
        if own_file.is_undecided(effective):
            effective = self._read_own_file(path, either=True)
        found += own_file.too_many_connections(effective, self._open_files_max())
        found += refusals(
            effective.document,
            allow_programs=self.config.allow_programs,
            api_by_tcp=self._host is not None,
        )
        return [say(f) for f in found]

    def secrets(self) -> list[tuple[str, str]]:
        # What can't be read is said where the files are needed.
        sources = load(self.config.files)[0]
        return [secret for source in sources for secret in secrets_of(source.text)]

    @staticmethod
    def shown(text: str) -> str:
        return without_secrets(text)

    def advice(self) -> list[str]:
        path = self._path
        if self._rewired is not None:
            return self._backend_advice()
        if path is None:
            return config.surprises(config.settings_of(self.config))
        return [
            say(f) for f in own_file.advice(self._read_own_file(path), path)
        ] + self._backend_advice()

    def settings(self) -> dict[str, Any]:
        """What holds of the app's servers: by the user's own file, else by the YAML."""
        if self._rewired is not None:
            return self._rewired.settings()
        path = self._path
        if path is None:
            return self.config.model_dump(mode="json", include={*config.OF_THE_FILE})
        effective = self._read_own_file(path)
        return record(effective, own_file.app_servers(effective))

    def own_files(self) -> tuple[Path, ...]:
        return (*self.config.files, *([self.config.env] if self.config.env is not None else []))

    def parcel(self) -> Parcel | None:
        if self._rewired is not None:
            facts = self._facts()
            return sending.rewired(self.config, facts.version, facts.features)
        return None if self._path is None else sending.by_variables(self._path)

    def stand_in(self, app_port: int) -> StandIn | None:
        return None if self._rewired is None else self._rewired.stand_in(app_port)

    def choices(self) -> list[str]:
        return [] if self._rewired is None else self._rewired.choices()

    def difference(self) -> list[str]:
        return [] if self._rewired is None else self._rewired.difference()

    def not_carried(self) -> list[str]:
        return [] if self._rewired is None else self._rewired.not_carried()

    def _backend_advice(self) -> list[str]:
        """Why the backend that moves has no prediction, and what of its settings surprises."""
        backend, settings = self._backend(), self._settings()
        if isinstance(backend, Unknown):
            told = [say_unknown(backend)]
        else:
            told = say_bound([] if backend is None else backend.limits)
        return told + (config.surprises(settings) if settings else [])

    def _facts(self) -> Facts:
        if self._version is None:
            with suppress(MachineError):  # `version` says so, where the program is needed
                self.version()
        return Facts(
            version=self._version or self.config.version,
            features=self._known_features,
            environment=os.environ if self._host is None else {},
            is_elsewhere=self._host is not None,
            open_files_max=self._open_files_max(),
        )

    def _open_files_max(self) -> int | None:
        """How many descriptors its program may have; None: as many as it likes."""
        return machine.open_files_max() if self._host is None else self._host.open_files_max

    @cached_property
    def _known_features(self) -> frozenset[str] | None:
        return self._features()

    def _read_own_file(self, path: Path, *, either: bool = False) -> Effective:
        """The user's own file as the version at hand reads it.

        With `either` also those of its parts of which it is not known whether they hold.
        """
        version = self._version or self.config.version
        environment = os.environ if self._host is None else {}
        read = partial(
            own_file.read_own, path, version=version, environment=environment, either=either
        )
        found = read()
        if not own_file.is_undecided(found):
            return found
        return read(features=self._features())

    def _features(self) -> frozenset[str] | None:
        try:
            return features_in(self._run("-vv").stdout)
        except MachineError:  # `version` says so, where the program is needed
            return None

    def outlook(self) -> list[str]:
        """What a move and DNS trouble do to the users of each backend of the user's own files."""
        if self._rewired is not None:
            backends = self._rewired.backends(self._machine)
        elif self._path is not None:
            backends = read_backends(self._read_own_file(self._path), self._machine)
        else:
            return []
        version = self._facts()[0]
        return tell(foresee(backends, version), version)

    def movable(self) -> list[str]:
        found = [] if self._rewired is None else self._rewired.movable()
        return found if len(found) > 1 else []

    @property
    def _machine(self) -> Host:
        return here() if self._host is None else CONTAINER

    def _backend(self) -> Backend | Unknown | None:
        """The user's own backend that moves; None without a file, and where it is not found."""
        if self._rewired is not None:
            return self._rewired.backend(self._machine)
        if self._path is None:
            return None
        effective = self._read_own_file(self._path)
        return backend_of(effective, own_file.app_servers(effective), self._machine)

    def render(self, wiring: Wiring) -> str:
        """The text of haproxy.cfg; the user's own as it is, if there is one."""
        if self._path is None:
            return render.text(self.config, wiring)
        try:
            return read_utf8(self._path, OWN_BYTES_MAX)
        except OSError as error:
            raise MachineError(f"{self._path}: {error.strerror}") from None
        except UnicodeDecodeError:  # it was read before, and has changed
            raise MachineError(f"{self._path}: it is no UTF-8 any more") from None

    # --- what it says ---

    def log_reader(self) -> LogReader:
        return log.read

    async def read_servers(self, api_address: str) -> ProxyLook:
        return api.look(await api.read(api_address))

    # --- its algorithm ---

    def timers_s(self) -> tuple[float, ...]:
        """`timeout resolve` and `inter`, the latter only where there are checks."""
        if self._rewired is not None:
            return self._rewired.timers_s()
        if self._path is not None:
            return own_file.timers_s(self._read_own_file(self._path))
        resolve_s = self.config.resolvers.timeout_resolve.s
        return (resolve_s, self.config.server.inter.s) if self.config.server.check else (resolve_s,)

    def predict(self, timeline: Timeline, clients: Clients | None = None) -> Prediction | Unreached:
        """As `Predicts` says: for the version found or simulated, or named, or else the newest."""
        version = self._version or self.config.version
        if not self.config.files:
            return predict(config.settings_of(self.config), version, timeline, clients)
        if not isinstance(backend := self._backend(), Backend):
            return Unreached.UNREAD_SETTINGS
        if any(limit.changes in REQUESTS for limit in backend.limits):
            clients = None
        if (settings := settings_of(backend)) is not None:
            return predict(settings, version, timeline, clients)
        standing = self._standing(backend)
        if isinstance(standing, Unreached):
            return standing
        return predict_any(standing, version, timeline, clients)

    def foretell(
        self, happening: Timeline, clients: Clients, *, version: str | None
    ) -> Foretold | Unreached:
        """What this does to users and to the nameserver."""
        if self._version is None:
            self._version = version
        if not self.config.files:
            settings = config.settings_of(self.config)
            return foretell_simple(settings, version, happening, clients)
        backend = self._backend()
        if not isinstance(backend, Backend):
            return Unreached.UNREAD_SETTINGS
        standing = self._standing(backend)
        if isinstance(standing, Unreached):
            return standing
        if not standing.moved:
            return Unreached.LOOKED_UP_ONCE
        return foretell(standing, version, happening, clients)

    def lines(self, values: Mapping[str, Any]) -> list[str]:
        return pasted(values, None if self._rewired is None else self._rewired.sections())

    def _standing(self, backend: Backend) -> Standing | Unreached:
        """How the backend stands in a run; or why nobody knows."""
        if any(limit.changes in DECIDES for limit in backend.limits):
            return Unreached.LEFT_OUT
        if self._rewired is not None:
            return self._rewired.standing(backend)
        assert self._path is not None  # noqa: S101 - there is a backend, so there is a file
        apps = own_file.app_servers(self._read_own_file(self._path))
        hosts = {target(server.address.text).host.lower() for server in apps}
        if len(apps) != len(backend.servers) or len(hosts) != 1:
            return Unreached.OTHER_SERVERS
        return Standing(backend=backend, host=hosts.pop())

    def _settings(self) -> Settings | None:
        """What the closed forms go by; None where they do not reach the user's own backend."""
        if not self.config.files:
            return config.settings_of(self.config)
        backend = self._backend()
        return settings_of(backend) if isinstance(backend, Backend) else None

    def simulate(
        self, *, version: str, world: World, rng: Random, start_ns: int, servers: int
    ) -> ProxyModel:
        """Start a model of this HAProxy in a simulated world. From then on it is this version.

        Where the config names one, it is that.
        Raises ConfigError for the user's own file, whose settings are not known here.
        """
        if self.own_file is not None:
            raise ConfigError(
                f"{self.own_file}: your own file can't be simulated "
                "(set resolvers, server, … in the YAML, or use the local runtime)"
            )
        version = self._version = self.config.version or version
        settings = config.settings_of(self.config)
        slots = servers + self.config.spare_slots
        return ProxyModel(settings, version, world, rng, start_ns=start_ns, servers=slots)
