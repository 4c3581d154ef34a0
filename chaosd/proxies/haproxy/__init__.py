"""HAProxy: its config rendered, its log and Runtime API read, its algorithm predicted."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from functools import cached_property, partial
from itertools import islice
from pathlib import Path, PurePath
from random import Random
from typing import Any, ClassVar

from chaosd.errors import ConfigError, MachineError
from chaosd.history.cycles import Prediction
from chaosd.history.values import Address
from chaosd.plugins.program import run_once
from chaosd.plugins.proxy import Launch, LogReader, ProxyHost, ProxyLook, Wiring
from chaosd.plugins.simulation import World
from chaosd.plugins.timeline import Timeline, Unreached
from chaosd.proxies.haproxy import (
    api,
    builds,
    config,
    log,
    render,
)
from chaosd.proxies.haproxy.cfg import own_file
from chaosd.proxies.haproxy.cfg.condition import features_in
from chaosd.proxies.haproxy.cfg.effective import Effective
from chaosd.proxies.haproxy.cfg.files import BYTES_MAX as OWN_BYTES_MAX
from chaosd.proxies.haproxy.cfg.files import load
from chaosd.proxies.haproxy.cfg.findings import Finding
from chaosd.proxies.haproxy.cfg.foreign import refusals
from chaosd.proxies.haproxy.cfg.record import record
from chaosd.proxies.haproxy.cfg.secrets import secrets_of, without_secrets
from chaosd.proxies.haproxy.cfg.settings import read_settings
from chaosd.proxies.haproxy.cfg.wording import say
from chaosd.proxies.haproxy.config import settings_of
from chaosd.proxies.haproxy.model.algorithm import ProxyModel
from chaosd.proxies.haproxy.model.predicting import predict
from chaosd.proxies.haproxy.model.settings import Settings
from chaosd.system.files import MB, read_bytes, read_utf8

_COMMAND_S_MAX = 20.0  # to say the version or to check a file; an ailing resolver makes it slow

_ENTRIES_MAX = 10_000  # that are looked at beside it: it may lie in /
_FILES_MAX, _FILES_BYTES_MAX = 500, 16 * MB  # beside the user's own haproxy.cfg

# `[ALERT]    (123) : config : parsing [/etc/haproxy.cfg:12] : what`, with variations.
_ALERT = re.compile(r"^\[ALERT\]\s+(?:\(\d+\)|\S+)\s*:\s*(?:config\s*:\s*)?(.*)$")
_PLACE = re.compile(r"^(?:parsing )?\[(.+?):(\d+)\]\s*:\s*(.*)$")
DEFAULT_VERSION = "3.0"
_SUMMARY = re.compile(r"^(Error\(s\) found in|Fatal errors found in)")


def image_of(version: str) -> str:
    """The image that `chaosd images` makes of this version, such as "3.0"."""
    return f"chaosd-haproxy:{version}"


class HAProxy:
    """The proxy plugin. One object serves all cells of a run."""

    Config = config.Config
    config_name: ClassVar[str] = "haproxy.cfg"

    def __init__(self, config: config.Config) -> None:
        self.config = config
        self._version: str | None = None
        self._host: ProxyHost | None = None

    @property
    def image(self) -> str:
        return self.config.image or image_of(self.config.version or DEFAULT_VERSION)

    @property
    def needs_image(self) -> bool:
        return self.config.image is not None

    def move_to(self, host: ProxyHost) -> None:
        self._host = host

    @property
    def listen(self) -> Address | None:
        return self.config.door

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
        files = {self.config_name: self.render(wiring).encode()}
        return Launch(
            directory=wiring.directory,
            files=files if self._host is None else self._beside() | files,
            argv=[self._binary, "-db", *self._file(wiring.directory / self.config_name)],
            env=render.environment(wiring),
        )

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
        """Let HAProxy check the file; its first complaint as `file:line: what`, or None."""
        config_file = launch.directory / self.config_name
        arguments = ["-c", *self._file(config_file)]
        if self._host is None:
            done = self._run(*arguments, environment=launch.env)
        else:
            done = self._host.run([self._binary, *arguments], launch.env, launch.files)
        if done.returncode == 0:
            return None
        alerts = [m[1] for line in done.stderr.splitlines() if (m := _ALERT.match(line))]
        alerts = [alert for alert in alerts if not _SUMMARY.match(alert)]
        if not alerts:
            last = (done.stderr.strip().splitlines() or ["it does not say why"])[-1]
            return f"{config_file}: {last}"
        place = _PLACE.match(alerts[0])
        first = f"{place[1]}:{place[2]}: {place[3]}" if place else f"{config_file}: {alerts[0]}"
        if self.config.config is not None:  # the run's copy has the same lines
            first = first.replace(str(config_file), str(self.config.config))
        return first + (f" (and {len(alerts) - 1} more)" if len(alerts) > 1 else "")

    def _file(self, config_file: PurePath) -> list[str]:
        if self._host is not None:
            return ["-C", str(self._host.directory), "-f", str(config_file)]
        if self.config.config is None:
            return ["-f", str(config_file)]
        # What the user's file names by relative paths lies beside it, not beside the run's copy.
        return [
            "-C",
            str(self.config.config.parent.resolve()),
            "-f",
            str(Path(config_file).resolve()),
        ]

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
        return self.config.config

    def problems(self, *, by_address: bool = False) -> list[str]:
        path = self.config.config
        if path is None:
            return []
        effective = self._own(path)
        found = own_file.problems(effective, path, by_address=by_address)
        if own_file.is_undecided(effective):
            effective = self._own(path, either=True)
        found += refusals(
            effective.document,
            allow_programs=self.config.allow_programs,
            api_by_tcp=self._host is not None,
        )
        return [say(f) for f in found]

    def secrets(self) -> list[tuple[str, str]]:
        path = self.config.config
        # What can't be read is said where the file is needed.
        sources = [] if path is None else load([path])[0]
        return [secret for source in sources for secret in secrets_of(source.text)]

    @staticmethod
    def shown(text: str) -> str:
        return without_secrets(text)

    def advice(self) -> list[str]:
        path = self.config.config
        if path is None:
            return config.surprises(settings_of(self.config))
        effective = self._own(path)
        settings, unread = self._own_settings(path, effective)
        findings = own_file.advice(effective, path) + ([] if unread is None else [unread])
        return [say(f) for f in findings] + (config.surprises(settings) if settings else [])

    def settings(self) -> dict[str, Any]:
        """What holds of the app's servers: by the user's own file, else by the YAML."""
        path = self.config.config
        if path is None:
            return self.config.model_dump(mode="json", include={*config.OF_THE_FILE})
        effective = self._own(path)
        return record(effective, own_file.app_servers(effective))

    def _own(self, path: Path, *, either: bool = False) -> Effective:
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

    def _own_settings(
        self, path: Path, effective: Effective | None = None
    ) -> tuple[Settings | None, Finding | None]:
        effective = effective or self._own(path)
        return read_settings(effective, own_file.app_servers(effective), path)

    def render(self, wiring: Wiring) -> str:
        """The text of haproxy.cfg; the user's own as it is, if there is one."""
        if self.config.config is None:
            return render.text(self.config, wiring)
        try:
            return read_utf8(self.config.config, OWN_BYTES_MAX)
        except OSError as error:
            raise MachineError(f"{self.config.config}: {error.strerror}") from None
        except UnicodeDecodeError:  # it was read before, and has changed
            raise MachineError(f"{self.config.config}: it is no UTF-8 any more") from None

    def _beside(self) -> dict[str, bytes]:
        """What lies beside the user's own haproxy.cfg: maps, certificates, scripts."""
        own_path = self.config.config
        if own_path is None:
            return {}
        too_much = MachineError(
            f"{own_path.parent}: too much to be put into a container beside {own_path.name} "
            f"(at most {_FILES_MAX} files and {_FILES_BYTES_MAX // MB} MB; give it a directory of "
            "its own)"
        )
        entries = list(islice(own_path.parent.rglob("*"), _ENTRIES_MAX + 1))
        if len(entries) > _ENTRIES_MAX:
            raise too_much
        found: dict[str, bytes] = {}
        left = _FILES_BYTES_MAX
        for path in sorted(entries):
            name = path.relative_to(own_path.parent).as_posix()
            if not path.is_file() or path == own_path or name.startswith(".") or "/." in name:
                continue
            try:
                left -= path.stat().st_size
                if left < 0 or len(found) >= _FILES_MAX:
                    raise too_much
                found[name] = read_bytes(path, _FILES_BYTES_MAX)
            except OSError as error:
                raise MachineError(f"{path}: {error.strerror}") from None
        return found

    # --- what it says ---

    def log_reader(self) -> LogReader:
        return log.read

    async def read_servers(self, api_address: str) -> ProxyLook:
        return api.look(await api.read(api_address))

    # --- its algorithm ---

    def timers_s(self) -> tuple[float, ...]:
        """`timeout resolve` and `inter`, the latter only where there are checks."""
        if self.config.config is not None:
            return own_file.timers_s(self._own(self.config.config))
        resolve_s = self.config.resolvers.timeout_resolve.s
        return (resolve_s, self.config.server.inter.s) if self.config.server.check else (resolve_s,)

    def predict(self, timeline: Timeline) -> Prediction | Unreached:
        """The recovery of a fresh request; or why the model doesn't reach.

        For the version that `version()` has found or that is simulated; the newest otherwise.
        """
        settings = self._settings()
        if settings is None:
            return Unreached.UNREAD_SETTINGS
        return predict(settings, self._version, timeline)

    def _settings(self) -> Settings | None:
        """What the model goes by; None where it does not reach the user's own file."""
        path = self.config.config
        return settings_of(self.config) if path is None else self._own_settings(path)[0]

    def simulate(
        self, *, version: str, world: World, rng: Random, start_ns: int, servers: int
    ) -> ProxyModel:
        """Start a model of this HAProxy in a simulated world. From then on it is this version.

        Raises ConfigError for the user's own file, whose settings are not known here.
        """
        if self.config.config is not None:
            raise ConfigError(
                f"{self.config.config}: your own file can't be simulated "
                "(set resolvers, server, … in the YAML, or use the local runtime)"
            )
        self._version = version
        settings = settings_of(self.config)
        return ProxyModel(settings, version, world, rng, start_ns=start_ns, servers=servers)
