"""A real DNS cache between the proxy and chaosd's nameserver: unbound or dnsmasq, as a child.

Its configuration lies in the cell's directory, made for loopback alone: it asks nobody but chaosd's
nameserver, and remembers answers as long as their TTL says. Negative answers carry an SOA record
where `dns.negative_ttl` is set: by that it knows for how long.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from chaosd.errors import MachineError
from chaosd.history.values import Address
from chaosd.runtimes.local.loopback import is_free
from chaosd.system.clock import Clock, sleep
from chaosd.system.processes import Child

Program = Literal["unbound", "dnsmasq"]

PORT = 5300
LISTEN_LIMIT_S, LOOK_S = 10.0, 0.02
# Where Debian has them; the PATH of ordinary users does not.
_SBIN = ("/usr/sbin", "/usr/local/sbin", "/sbin")
_PACKAGES = {"unbound": "unbound", "dnsmasq": "dnsmasq-base"}

UNBOUND = """\
# Written by chaosd.
server:
    directory: "{directory}"
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    verbosity: 1
    interface: {host}@{port}
    port: {port}
    do-ip6: no
    do-not-query-localhost: no
    access-control: 127.0.0.0/8 allow
    num-threads: 1
    module-config: "iterator"
    cache-min-ttl: 0
    unblock-lan-zones: yes
remote-control:
    control-enable: no
forward-zone:
    name: "."
    forward-addr: {upstream_host}@{upstream_port}
"""
DNSMASQ = """\
# Written by chaosd.
keep-in-foreground
no-resolv
no-hosts
no-poll
pid-file=
log-facility=-
user={user}
group=
bind-interfaces
listen-address={host}
port={port}
server={upstream_host}#{upstream_port}
cache-size=1000
"""


def lacking(program: Program) -> str | None:
    """Say that this program is not installed, and how it would be; or None."""
    if _find(program) is not None:
        return None
    return f"there is no program `{program}` (on Debian: apt install {_PACKAGES[program]})"


def _find(program: Program) -> str | None:
    return shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", ""), *_SBIN)))


def _user() -> str:
    """Who runs chaosd, for dnsmasq to stay; empty where it has no name, as in a container."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""


class CacheChild:
    """A cache of one cell."""

    def __init__(self, program: Program, directory: Path, spawn: Callable[..., Child]) -> None:
        self.child: Child | None = None
        self._program, self._directory, self._spawn = program, directory, spawn

    async def start(
        self, host: str, upstream: Address, clock: Clock, ended: Callable[[Child], None]
    ) -> Address:
        """Start it at this IP, before that nameserver. Raises MachineError."""
        program = _find(self._program)
        if program is None:
            raise MachineError(lacking(self._program) or "")
        if not is_free(host, PORT):
            raise MachineError(f"{host}:{PORT} is taken: {self._program} can't listen there")
        file = self._directory / f"{self._program}.conf"
        text = (UNBOUND if self._program == "unbound" else DNSMASQ).format(
            directory=self._directory.resolve(),
            host=host,
            port=PORT,
            upstream_host=upstream.host,
            upstream_port=upstream.port,
            user=_user(),
        )
        await asyncio.to_thread(file.write_text, text, encoding="utf-8")
        options = ["-d", "-p", "-c"] if self._program == "unbound" else ["-C"]
        self.child = self._spawn(
            self._program,
            [program, *options, str(file.resolve())],
            {},
            ended=ended,
            output=self._directory / f"{self._program}.log",
        )
        await self._listens(Address(host, PORT), clock)
        return Address(host, PORT)

    def pid(self) -> int | None:
        """None if it does not run."""
        return None if self.child is None or self.child.gone else self.child.pid

    async def _listens(self, address: Address, clock: Clock) -> None:
        for _ in range(round(LISTEN_LIMIT_S / LOOK_S)):
            if self.child is None or self.child.gone:
                break
            try:
                _, writer = await asyncio.open_connection(*address)
            except OSError:
                await sleep(clock, LOOK_S)
            else:
                writer.close()
                return
        last = self.child.last_line if self.child is not None else ""
        raise MachineError(
            f"{self._program} does not listen on {address}: {last or 'it is silent'}"
        )
