"""HAProxy: its config rendered, its log and Runtime API read, its algorithm predicted."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path, PurePath
from random import Random
from typing import Any

from chaosd.errors import ConfigError, MachineError
from chaosd.history.events import Address, Prediction
from chaosd.plugins.proxy import ProxyHost, Wiring
from chaosd.plugins.simulation import World
from chaosd.plugins.timeline import Timeline, Unreached
from chaosd.proxies.haproxy import (
    api,
    config,
    log,
    own,
    ownsettings,
    render,
)
from chaosd.proxies.haproxy.config import OF_THE_FILE, settings_of
from chaosd.proxies.haproxy.model.algorithm import ProxyModel
from chaosd.proxies.haproxy.model.predicting import predict

# Where systems put it, and where the PATH of an ordinary user often doesn't look.
_SBIN = "/usr/sbin:/usr/local/sbin"
_COMMAND_S_MAX = 20.0  # to say the version or to check a file; an ailing resolver makes it slow

_FILES_MAX, _FILES_BYTES_MAX = 500, 16 << 20  # beside the user's own haproxy.cfg

_VERSION = re.compile(r"^HA-?Proxy version (\d+\.\d+(?:\.\d+)?(?:-dev\d+)?)")
# `[ALERT]    (123) : config : parsing [/etc/haproxy.cfg:12] : what`, with variations.
_ALERT = re.compile(r"^\[ALERT\]\s+(?:\(\d+\)|\S+)\s*:\s*(?:config\s*:\s*)?(.*)$")
_PLACE = re.compile(r"^(?:parsing )?\[(.+?):(\d+)\]\s*:\s*(.*)$")
_SUMMARY = re.compile(r"^(Error\(s\) found in|Fatal errors found in)")


class HAProxy:
    """The proxy plugin. One object serves all cells of a run."""

    Config = config.Config

    def __init__(self, config: config.Config) -> None:
        self.config = config
        self._version: str | None = None
        self._host: ProxyHost | None = None

    @property
    def image(self) -> str | None:
        """The image that the config asks for, where images are used; None: the usual one."""
        return self.config.image

    @property
    def wanted_version(self) -> str | None:
        """The version that the config asks for, as "3.0"; None: any."""
        return self.config.version

    def move_to(self, host: ProxyHost) -> None:
        self._host = host

    @property
    def listen(self) -> Address | None:
        """Where the config wants the door; the runtime chooses if None."""
        return config.address(self.config.listen) if self.config.listen else None

    # --- the program ---

    def version(self) -> str:
        """The version of the binary, or of what is simulated. MachineError if there is none."""
        if self._version is None:
            done = self._run("-v")
            found = _VERSION.match(done.stdout)
            if found is None:
                # One that can't run at all, for a library that is missing, says so elsewhere.
                said = done.stdout.strip() or done.stderr.strip() or "nothing"
                first = said.splitlines()[0]
                raise MachineError(f"{self._binary} -v: not an HAProxy (it says: {first})")
            if not f"{found[1]}.".startswith(f"{self.config.version or found[1]}."):
                raise MachineError(
                    f"{self._binary} is {found[1]}, not the {self.config.version} of proxy.version "
                    "(set proxy.binary, or take `runtime: docker` with an image of it)"
                )
            self._version = found[1]
        return self._version

    def command(self, config_file: PurePath) -> list[str]:
        return [self._binary, "-db", *self._file(config_file)]

    @property
    def _binary(self) -> str:
        if self._host is not None:
            return "haproxy"
        name = self.config.binary
        return shutil.which(name) or shutil.which(name, path=_SBIN) or name

    def check(self, config_file: Path, environment: dict[str, str]) -> str | None:
        """Let HAProxy check the file; its first complaint as `file:line: what`, or None."""
        if self._host is None:
            done = self._run("-c", *self._file(config_file), environment=environment)
        else:
            there = self._host.directory / config_file.name
            files = self.files() | {config_file.name: config_file.read_bytes()}
            arguments = [self._binary, "-c", *self._file(there)]
            done = self._host.run(arguments, environment, files)
            config_file = Path(there)
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
        assert isinstance(config_file, Path)  # noqa: S101 - one of this machine
        # What the user's file names by relative paths lies beside it, not beside the run's copy.
        return ["-C", str(self.config.config.parent.resolve()), "-f", str(config_file.resolve())]

    def _run(
        self, *arguments: str, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        if self._host is not None:
            return self._host.run([self._binary, *arguments], environment or {}, {})
        binary = self.config.binary
        try:
            return subprocess.run(
                [self._binary, *arguments],
                env=os.environ | (environment or {}),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
                timeout=_COMMAND_S_MAX,
                check=False,
            )
        except subprocess.TimeoutExpired:
            what = f"{binary} {arguments[0]}: no answer within {_COMMAND_S_MAX:.0f} s"
            raise MachineError(what) from None
        except OSError as error:
            raise MachineError(
                f"{binary}: {error.strerror} (install HAProxy, or set proxy.binary)"
            ) from None

    # --- its config file ---

    def problems(self, *, by_address: bool = False) -> list[str]:
        own_file = self.config.config
        return own.problems(own_file, by_address=by_address) if own_file is not None else []

    def advice(self) -> list[str]:
        own_file = self.config.config
        if own_file is None:
            return config.surprises(self.config)
        settings, unread = ownsettings.read(own_file)
        found = config.surprises(settings) if settings is not None else []
        return own.advice(own_file) + ([unread] if unread is not None else []) + found

    def settings(self) -> dict[str, Any]:
        """What the user's own file says, as far as it is understood; nothing without one."""
        if self.config.config is None:
            return {}
        settings, _ = ownsettings.read(self.config.config)
        return {} if settings is None else settings.model_dump(mode="json", include={*OF_THE_FILE})

    def render(self, wiring: Wiring) -> str:
        """The text of haproxy.cfg; the user's own as it is, if there is one."""
        if self.config.config is None:
            return render.text(self.config, wiring)
        try:
            return self.config.config.read_text(encoding="utf-8")
        except OSError as error:
            raise MachineError(f"{self.config.config}: {error.strerror}") from None

    def files(self) -> dict[str, bytes]:
        """What lies beside the user's own haproxy.cfg: maps, certificates, scripts."""
        own_file = self.config.config
        if own_file is None:
            return {}
        found: dict[str, bytes] = {}
        left = _FILES_BYTES_MAX
        for path in sorted(own_file.parent.rglob("*")):
            name = path.relative_to(own_file.parent).as_posix()
            if not path.is_file() or path == own_file or name.startswith(".") or "/." in name:
                continue
            try:
                left -= path.stat().st_size
                if left < 0 or len(found) >= _FILES_MAX:
                    raise MachineError(
                        f"{own_file.parent}: too much to be put into a container beside "
                        f"{own_file.name} (at most {_FILES_MAX} files and {_FILES_BYTES_MAX >> 20} "
                        "MB; give it a directory of its own)"
                    )
                found[name] = path.read_bytes()
            except OSError as error:
                raise MachineError(f"{path}: {error.strerror}") from None
        return found

    def environment(self, wiring: Wiring) -> dict[str, str]:
        return render.environment(wiring)

    # --- what it says ---

    def read_log(self, line: str) -> tuple[str, dict[str, Any]] | None:
        return log.read(line)

    async def read_api(self, api_address: str) -> dict[str, Any]:
        return await api.read(api_address)

    # --- its algorithm ---

    def timers_s(self) -> tuple[float, ...]:
        """`timeout resolve` and `inter`, the latter only where there are checks."""
        if self.config.config is not None:
            return own.timers_s(self.config.config)
        resolve_s = self.config.resolvers.timeout_resolve.s
        return (resolve_s, self.config.server.inter.s) if self.config.server.check else (resolve_s,)

    def predict(self, timeline: Timeline) -> Prediction | Unreached:
        """The recovery of a fresh request; or why the model doesn't reach.

        For the version that `version()` has found or that is simulated; the newest otherwise.
        """
        said: config.Config | None = self.config
        if self.config.config is not None:
            said, _ = ownsettings.read(self.config.config)
        if said is None:
            return Unreached.UNREAD_SETTINGS
        return predict(settings_of(said), self._version, timeline)

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
