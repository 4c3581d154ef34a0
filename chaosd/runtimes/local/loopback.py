"""Addresses of 127.0.0.0/8, all of which exist on Linux: a /24 per cell, and fresh ones in it.

A /24 is claimed by an abstract UNIX socket named after it. Only one process of a network namespace
can have it, and it vanishes with that process, however it ends.
"""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import sys
from collections import deque
from pathlib import Path
from random import Random

from chaosd.errors import MachineError

# 127.64.0.0 to 127.127.255.255: far from 127.0.0.1 and from what resolvers use (127.0.0.53).
SECOND_MIN, SECOND_MAX = 64, 127
CLAIMS_MAX = 256  # how many of the 16384 are tried
HOST_MIN, HOST_MAX = 10, 250  # where the app's instances live


class Loopback:
    """One /24 that nobody else uses; made by `claim`."""

    def __init__(self, prefix: str, host: int, remember: int) -> None:
        """Claim this one. Raises OSError if another process has it.

        `remember` is how many of the last fresh addresses are not given out again.
        """
        self.prefix = prefix
        self._host = host
        self._recent: deque[str] = deque(maxlen=remember)
        self._claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._claim.bind(f"\0chaosd-{prefix}")
        except OSError:
            self._claim.close()
            raise

    def address(self, host: int) -> str:
        return f"{self.prefix}.{host}"

    def fresh(self, port: int) -> str:
        """Give out an address of which this TCP port is unused, and not one of the last ones.

        Raises MachineError if there is none.
        """
        for _ in range(HOST_MIN, HOST_MAX + 1):
            self._host = self._host + 1 if self._host < HOST_MAX else HOST_MIN
            ip = self.address(self._host)
            if ip not in self._recent and is_free(ip, port):
                self._recent.append(ip)
                return ip
        raise MachineError(
            f"port {port} is taken on all of {self.prefix}.{HOST_MIN}-{HOST_MAX}: does another "
            f"program listen on 0.0.0.0:{port}? (stop it, or set app.port to another port)"
        )

    def close(self) -> None:
        """Let others have it. May be called twice."""
        self._claim.close()


async def claim(rng: Random, remember: int) -> Loopback:
    """A /24 that nobody else has claimed, and in which nothing is bound. Raises MachineError."""
    taken: set[str] = set()
    for _ in range(CLAIMS_MAX):
        prefix = f"127.{rng.randint(SECOND_MIN, SECOND_MAX)}.{rng.randint(0, 255)}"
        host = rng.randint(HOST_MIN, HOST_MAX)
        if prefix in taken:
            continue
        try:
            network = Loopback(prefix, host, remember)
        except OSError:
            continue
        # Looked at only once it is claimed: who had it before may have bound something until then.
        try:
            taken = await asyncio.to_thread(used)
        except BaseException:
            network.close()
            raise
        if prefix not in taken:
            return network
        network.close()
    raise MachineError(f"no free /24 found in 127.64.0.0/10 ({CLAIMS_MAX} tried)")


def used() -> set[str]:
    """The /24s in which something is bound, by whomever; with many connections it takes a while."""
    prefixes = set()
    for table in ("tcp", "udp", "tcp6", "udp6"):
        try:
            text = Path(f"/proc/net/{table}").read_text(encoding="utf-8")
        except OSError:
            continue  # a kernel without IPv6
        # The last 4 bytes of the local address, each 4 bytes printed as a number of this machine.
        for word in set(re.findall(r"^ *\d+: (?:[0-9A-F]{24})?([0-9A-F]{8}):", text, re.MULTILINE)):
            address = int(word, 16).to_bytes(4, sys.byteorder)
            prefixes.add("{}.{}.{}".format(*address))
    return prefixes


def is_free(ip: str, port: int) -> bool:
    """Whether nothing at all holds this TCP port, not even a connection that is winding down."""
    with socket.socket() as probe:
        try:
            probe.bind((ip, port))  # without SO_REUSEADDR
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise MachineError(f"{ip}:{port} can't be used: {error.strerror}") from error
    return True
