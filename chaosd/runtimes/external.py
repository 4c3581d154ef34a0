"""Whatever stands already: another proxy, a cloud's load balancer, a backend. Nothing is managed.

Probes ask it, faults of the `command` kind disturb it. It must be loopback or private unless the
config says otherwise: chaosd does not attack strangers.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from chaosd.errors import ConfigError, MachineError
from chaosd.history.events import InstancePlaced, TargetFound
from chaosd.history.values import ANYBODY, Address, Instance
from chaosd.plugins.bases import KeyPath, OldIp, RuntimeConfig
from chaosd.plugins.proxy import Proxy, ProxyHost, ReadsLog
from chaosd.plugins.recording import Recorder
from chaosd.plugins.runtime import CellSpec, Pace
from chaosd.runtimes.realtime import RealTime
from chaosd.runtimes.senders import OfAddress
from chaosd.runtimes.syslog import LogReceiver

LOOK_UP_LIMIT_S = 10.0
PORTS = {"http": 80, "https": 443}
PORT_MAX = 65_535
_URL = re.compile(
    r"(?:(https?)://)?(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::(\d{1,5}))?(/.*)?"
)


def _address(text: str) -> Address:
    """The address of a URL or of host:port. Raises ValueError."""
    found = _URL.fullmatch(text)
    port = int(found[4] or PORTS.get(found[1] or "", 0)) if found else 0
    if not found or not 0 < port <= PORT_MAX:
        raise ValueError("not an address (write it like http://10.0.0.5:8080/ or 10.0.0.5:8080)")
    if found[5] not in (None, "/"):
        raise ValueError(f"the path is the probe's (end here, and say `path: {found[5]}` there)")
    return Address(found[2] or found[3], port)


def _checked(text: str) -> str:
    if text:
        _address(text)
    return text


def _api(text: str) -> str:
    return text if text.startswith("/") else _checked(text)


def _ip(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError("not an IP address (such as 10.0.0.5)") from None


Url = Annotated[str, AfterValidator(_checked)]


class ExternalRuntime(RealTime):
    """A topology that chaosd finds and leaves as it is, but for what the user's commands do."""

    class Config(RuntimeConfig):
        type: Literal["external"] = "external"
        target: Url = Field(
            "",
            description="where probes ask: http://host:port/ or host:port; the path, the Host "
            "header and TLS are the probe's own",
        )
        direct: Url = Field(
            "", description="where the control probe asks the app itself, past the proxy"
        )
        api: Annotated[str, AfterValidator(_api)] = Field(
            "", description="the Runtime API of an HAProxy there: host:port or a socket's path"
        )
        log: Url = Field(
            "", description="where the HAProxy there sends its log, by UDP: an own address:port"
        )
        log_from: Annotated[str, AfterValidator(_ip)] | None = Field(
            None,
            description="the IP address that this log comes from; lines of others are counted and "
            "not read. Not set: that of the first line",
        )
        identity_header: str | None = Field(
            None,
            pattern=r"^[A-Za-z0-9_-]{1,100}$",
            description="the response header that says which instance has answered",
        )
        identities: tuple[str, ...] = Field(
            (),
            max_length=1000,
            description="the instances that are the app: good answers by others are misrouted; "
            "none named: every answer counts as the app's",
        )
        allow_public: bool = Field(
            default=False, description="it is yours, though its address is a public one"
        )

    has_proxy_program: ClassVar[bool] = False
    makes_topology: ClassVar[bool] = False
    runs_programs: ClassVar[bool] = False
    default_proxy: ClassVar[str | None] = "unknown"
    pace: ClassVar[Pace] = Pace(0.0, 0.0, 0.0, None)

    def __init__(self, config: Config) -> None:
        self.config = config

    def unavailable(self) -> str | None:
        return None if sys.platform == "linux" else "it needs Linux"

    def lacks(self, proxy: Proxy, app_image: str) -> str | None:
        """Nothing is made, so nothing is needed."""

    def proxy_host(self, proxy: Proxy) -> ProxyHost | None:
        """The proxy is not chaosd's to run."""

    def asks_directly(self) -> bool:
        return bool(self.config.direct)

    def abilities(self) -> Sequence[type]:
        return ()

    def old_ip(self) -> Sequence[OldIp]:
        return ()

    def problems(self, cell: CellSpec) -> list[tuple[KeyPath, str]]:
        config = self.config
        if not config.target:
            return [(("runtime",), "`target` is missing (such as target: http://10.0.0.5:8080/)")]
        found: list[tuple[KeyPath, str]] = []
        if cell.cells > 1:
            found.append((("cells",), "there is one topology out there, not several (cells: 1)"))
        urls = {"target": config.target, "direct": config.direct, "api": config.api}
        for key, text in urls.items():
            if text and not text.startswith("/"):
                what = _public(_address(text).host)
                if what is not None and not config.allow_public:
                    found.append((("runtime", key), what))
        return found + list(_made_nowhere(cell))

    async def set_up(
        self,
        cell: CellSpec,
        recorder: Recorder,
        failed: Callable[[Exception], None],
    ) -> ExternalStage:
        """Find it. Raises ConfigError if it is not to be asked, MachineError if it isn't found."""
        config = self.config
        entry = await self._resolve(config.target)
        direct = await self._resolve(config.direct) if config.direct else None
        api = config.api
        if api and not api.startswith("/"):
            api = str(await self._resolve(api))
        who = config.identities or (ANYBODY,)
        stage = ExternalStage(
            entry=entry,
            direct=direct,
            api=api or None,
            app=tuple(Instance(identity, direct or entry) for identity in who),
            identity_header=config.identity_header,
        )
        recorder.record(TargetFound(url=config.target, address=str(entry)))
        for identity, (ip, port) in stage.app:
            recorder.record(InstancePlaced(identity=identity, ip=ip, port=port))
        if config.log and isinstance(cell.proxy, ReadsLog):
            at = _address(config.log)
            try:
                believes = OfAddress(config.log_from)
                reader = cell.proxy.log_reader()
                stage.log = LogReceiver(at, reader, recorder, believes=believes)
            except OSError as error:
                what = f"{at} can't be listened to: {error.strerror}"
                raise MachineError(f"runtime.log: {what}") from None
        return stage

    async def _resolve(self, text: str) -> Address:
        """Its address, looked up once: a probe has one attempt and one address."""
        host, port = _address(text)
        try:
            async with asyncio.timeout(LOOK_UP_LIMIT_S):
                found = await asyncio.get_running_loop().getaddrinfo(
                    host, port, type=socket.SOCK_STREAM
                )
        except OSError as error:  # a timeout is one, too
            reason = error.strerror or f"no answer within {LOOK_UP_LIMIT_S:g} s"
            raise MachineError(f"runtime.target: {host} can't be looked up: {reason}") from None
        address = Address(str(found[0][4][0]), port)
        what = _public(address.host)
        if what is not None and not self.config.allow_public:
            raise ConfigError(f"runtime: {host}: {what}")
        return address


class ExternalStage:
    """What was found; taking it down leaves it as it is."""

    way_in = "external"
    dns_queries: int | None = None

    def __init__(
        self,
        *,
        entry: Address,
        direct: Address | None,
        api: str | None,
        app: tuple[Instance, ...],
        identity_header: str | None,
    ) -> None:
        self.entry, self.direct, self.api, self.app = entry, direct, api, app
        self.identity_header = identity_header
        self.log: LogReceiver | None = None

    def proxy_process(self) -> dict[str, int]:
        return {}

    async def close(self) -> None:
        if self.log is not None:
            self.log.close()


def _made_nowhere(cell: CellSpec) -> Iterator[tuple[KeyPath, str]]:
    """What the config asks of an app, or of a nameserver, that chaosd would have to make."""
    app, dns = cell.app, cell.dns
    asked = {
        ("app", "command"): app.command,
        ("app", "env"): app.env and cell.beside is None,  # else an own file's, and not the config's
        ("app", "start_delay"): app.start_delay_s,
        ("app", "healthy_after"): app.healthy_after_s,
        ("dns", "missing"): dns.missing != "nxdomain",
        ("dns", "publish"): dns.publish != "start",
        ("dns", "delay"): dns.delay_s,
        ("dns", "nameservers"): dns.nameservers > 1,
        ("dns", "cache"): dns.cache,
        ("dns", "negative_ttl"): dns.negative_ttl_s is not None,
    }
    for (part, key), is_asked in asked.items():
        if is_asked:
            what = "the app" if part == "app" else "its nameserver"
            right = "leave it out, or take another runtime"
            yield (
                (part, key),
                f"chaosd does not make {what} here, and changes nothing of it ({right})",
            )


def _public(host: str) -> str | None:
    """Say that this is a public address, or None: a name's is known once it is looked up."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if not (address.is_global or address.is_multicast):
        return None
    return f"{address} is a public address (if it is yours, say allow_public: true)"
