"""One look at HAProxy's Runtime API: where its servers are, and what its resolvers have counted."""

from __future__ import annotations

import asyncio
from typing import Any

from chaosd.plugins.proxy import ProxyLook, ServerState
from chaosd.plugins.timeline import ServerHealth
from chaosd.system import tasks

_ANSWER_BYTES_MAX = 4 * 1024 * 1024  # some ten thousand servers
_ANSWER_S_MAX = 2.0
_STATE = b"show servers state\n"
_COMMANDS = b"show servers state;show resolvers\n"

# `timeout` itself is never incremented, in any version: what was sent and never came to one of
# these ends was not answered (or is still under way).
_ENDS = (
    *("valid", "nx", "refused", "any_err", "other"),
    *("invalid", "truncated", "cname_error", "too_big", "outdated"),
)
_NUMBERS = {
    "op_state": "srv_op_state",  # 0 stopped, 1 starting, 2 running, 3 stopping
    "admin_state": "srv_admin_state",  # a mask; 0x20: no address
    "check_health": "srv_check_health",
    "check_state": "srv_check_state",
}


_NO_ADDRESS = 0x20  # of the admin state: in maintenance because the name was not resolved
_RUNNING = 2  # of the operational state


def look(said: dict[str, Any]) -> ProxyLook:
    """What `read` has found, in the words of every proxy."""
    servers = [
        ServerState(
            server=f"{server['backend']}/{server['server']}",
            address=server["addr"],
            health=_health(server["admin_state"], server["op_state"]),
        )
        for server in said["servers"]
    ]
    return ProxyLook(servers=servers, counters=said["resolvers"])


def _health(admin_state: int | None, op_state: int | None) -> ServerHealth:
    if (admin_state or 0) & _NO_ADDRESS:
        return "maint"
    return "up" if op_state == _RUNNING else "down"


async def read(api: str) -> dict[str, Any]:
    """Ask the API at this UNIX socket path or host:port.

    The counters of a nameserver get a `timeout_derived` beside HAProxy's own `timeout`, which is
    always 0; queries under way are in it. Raises OSError (TimeoutError is one) on any failure.
    """
    async with asyncio.timeout(_ANSWER_S_MAX):
        text = await _ask(api)
    servers, counters = _servers(text), _counters(text)
    if not servers and not counters:
        raise OSError(f"{api}: not an answer of HAProxy: {text[:60]!r}")
    return {"servers": servers, "resolvers": counters}


async def read_state(api: str) -> bytes:
    """What a state file has: `show servers state` as it is. Raises OSError on any failure."""
    async with asyncio.timeout(_ANSWER_S_MAX):
        return (await _ask(api, _STATE)).encode()


async def _ask(api: str, commands: bytes = _COMMANDS) -> str:
    if api.startswith("/"):
        reader, writer = await asyncio.open_unix_connection(api)
    else:
        host, _, port = api.rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    try:
        writer.write(commands)
        await writer.drain()
        answer = bytearray()
        while chunk := await reader.read(65536):
            answer += chunk
            if len(answer) > _ANSWER_BYTES_MAX:
                raise OSError(f"{api}: the answer is longer than {_ANSWER_BYTES_MAX} bytes")
        return answer.decode("utf-8", "replace")
    finally:
        await tasks.let_go(writer)


def _servers(text: str) -> list[dict[str, Any]]:
    """Read the rows of `show servers state` by its header: versions differ in their columns."""
    servers = []
    columns: dict[str, int] = {}
    for line in text.splitlines():
        words = line.split()
        if line.startswith("# be_id"):
            columns = {name: place for place, name in enumerate(words[1:])}
        elif not words:
            columns = {}
        elif columns and len(words) >= len(columns):
            found = words[columns["srv_addr"]]
            server: dict[str, Any] = {
                "backend": words[columns["be_name"]],
                "server": words[columns["srv_name"]],
                "addr": None if found == "-" else found,
            }
            for key, column in _NUMBERS.items():
                value = words[columns[column]] if column in columns else ""
                server[key] = int(value) if value.isdecimal() else None
            servers.append(server)
    return servers


def _counters(text: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    section, counters = "", None
    for line in text.splitlines():
        key, _, value = line.strip().partition(":")
        if line.startswith("Resolvers section "):
            section, counters = line.split()[-1], None
        elif section and key.startswith("nameserver "):
            name = key.split()[-1]
            # HAProxy makes a section `default` of the host's own nameservers: not what is tested.
            ours = {} if section == "default" else found
            # The same name may occur in two sections.
            counters = ours.setdefault(f"{section}/{name}" if name in found else name, {})
        elif counters is not None and value.strip().isdecimal():
            counters[key] = int(value)
    for counters in found.values():
        answered = sum(counters.get(end, 0) for end in _ENDS)
        counters["timeout_derived"] = max(0, counters.get("sent", 0) - answered)
    return found
