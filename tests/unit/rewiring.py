"""Small files, and what the rewiring makes of them."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from chaosd.history.values import Address
from chaosd.plugins.proxy import Wiring
from chaosd.proxies.haproxy.rewire.copies import Rewired
from chaosd.proxies.haproxy.rewire.own_files import OwnFiles, Wish

WIRING = Wiring(
    listen=Address("127.64.0.1", 8080),
    dns=Address("127.64.0.2", 5300),
    app_name="not used",
    app_port=8080,
    replicas=1,
    log=Address("127.64.0.2", 5140),
    api=Path("/run/api.sock"),
    directory=Path("/run"),
    scratch=Path("/run"),
    app_at=Address("127.64.0.10", 8080),
    beside="127.64.0.11",
)
OPEN_FILES_MAX = 20_000
FILE = """\
global
    stats socket /var/run/haproxy.sock
    log 127.0.0.1 local0
    {global_}
defaults
    mode http
    log global
    timeout connect 1s
    timeout client 1s
    timeout server 1s
    {defaults}
resolvers r
    nameserver dns 10.0.0.53:53
    {resolvers}
frontend f
    bind *:80
    {frontend}
    default_backend b
backend b
    {backend}
    server s app.example:80 resolvers r init-addr none {server}
{more}"""
PARTS = ("global_", "defaults", "resolvers", "frontend", "backend", "server", "more")


class Made(NamedTuple):
    files: OwnFiles
    rewired: Rewired

    @property
    def text(self) -> str:
        return self.rewired.copies[0].text

    @property
    def changed(self) -> dict[str, str]:
        """The changed lines by what they were, without blanks around them."""
        return {
            change.before[0].strip(): change.after[0].strip()
            for change in self.rewired.copies[0].changes
            if change.before
        }

    @property
    def added(self) -> list[str]:
        return [
            line.strip()
            for change in self.rewired.copies[0].changes
            if not change.before
            for line in change.after
        ]

    @property
    def lost(self) -> list[str]:
        return [lost.reason.name for lost in self.rewired.lost]


def own_files(text: str | bytes, *, version: str = "3.0.11", extra=None, **wish) -> OwnFiles:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "haproxy.cfg"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return OwnFiles(
            [path],
            Wish(**wish),
            version,
            environment={},
            extra=extra or {},
            open_files_max=OPEN_FILES_MAX,
        )


def make(text: str | bytes, wiring: Wiring = WIRING, **options) -> Made:
    files = own_files(text, **options)
    return Made(files, files.rewired(wiring))


def made(wish: dict | None = None, wiring: dict | None = None, **parts: str) -> Made:
    """What becomes of FILE with these lines in it."""
    unknown = set(parts) - set(PARTS)
    assert not unknown
    text = FILE.format(**dict.fromkeys(PARTS, "") | parts)
    return make(text, replace(WIRING, **(wiring or {})), **(wish or {}))
