"""What each DNS fault does to HAProxy: `docs/dns-faults.md`, made by this command.

    python tests/bench/dns_faults.py [--only PRESET …] [--write docs/dns-faults.md]

For each fault and each installed line of HAProxy (`chaosd haproxy install --all`) one HAProxy
stands before two addresses on loopback, with `hold` of 2 s and a poll each 300 ms. Then the fault
lasts for 6 s, and after it answers are as usual. Told are the counters of `show resolvers` that
moved, what the servers did, and how long after the end they are UP with right addresses again. It
takes some ten minutes, and needs a quiet machine: the nameserver is this one process.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from chaosd.dns.presets import PRESETS, Preset
from chaosd.dns.server import DnsServer
from chaosd.proxies.haproxy import builds
from chaosd.system.clock import RealClock

AT_ONCE = 10
BEFORE_S, LASTS_S, AFTER_S = 1.5, 6.0, 6.0
POLL_S = 0.1
TRIES = 2  # where it never stood, or this process was late
IPS = ("127.64.9.1", "127.64.9.2")
OLD = "127.64.9.9"
NAME, SERVICE = "app.internal", "_http._tcp.app.internal"
HAS_TCP = (2, 4)
FLAPS = 6  # more changes than these
COUNTERS = (
    *("cname_error", "any_err", "nx", "refused", "other", "invalid", "too_big", "truncated"),
    "outdated",
)
CONFIG = """\
global
    stats socket {directory}/api.sock mode 600 level user
resolvers dns
    nameserver one {transport}127.0.0.1:{dns}
    timeout resolve 300ms
    timeout retry 200ms
    resolve_retries 2
    hold nx 2s
    hold refused 2s
    hold timeout 2s
    hold other 2s
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
backend app
    server-template s 2 {name} resolvers dns init-addr none{prefers}
"""
HEAD = """\
# DNS faults

A fault of `type: dns` with one of these presets makes the nameserver answer wrongly for a while:

    faults:
      - {type: dns, preset: coredns-restart, window: 10s, every: 40s}

It goes by itself, where nothing moves, or `with:` another fault. Runtimes: `local`, and `docker`
with `dns: forward`.

The table was made by `python tests/bench/dns_faults.py`: one HAProxy of each line before two
addresses (`server-template`, every `hold` 2 s, a poll each 300 ms, `resolve-prefer ipv4` but for
faults of AAAA alone). The fault lasts 6 s. Each cell was seen once (n = 1), so times are examples.

| word | what the two servers did |
|---|---|
| nothing | both kept their addresses and stayed UP |
| MAINT | none was left |
| one in MAINT | one was left |
| old address, other address | a server took an address that is not the app's |
| changed | they changed and were as before in the end |
| flap | they came and went again and again |

The time is from the fault's end until both are UP with right addresses; "not back" is longer than
6 s.

"""


class Seen(NamedTuple):
    """What one HAProxy did about one fault."""

    counters: tuple[str, ...]  # those that moved while it lasted
    did: str
    back_s: float | None = None  # after its end; None: not within what was waited


NEVER_STOOD = Seen((), "not seen")


async def main() -> int:
    arguments = _arguments()
    installed = [(line, build.binary) for line in builds.LINES if (build := builds.find(line))]
    if not installed:
        print("no HAProxy is installed (chaosd haproxy install --all)")
        return 0
    names = arguments.only or list(PRESETS)
    limit = asyncio.Semaphore(AT_ONCE)
    found: dict[tuple[str, str], Seen] = {}

    async def look(name: str, line: str, binary: Path) -> None:
        async with limit:
            for _ in range(TRIES):
                found[name, line] = await _try(name, str(binary), _parsed(line))
                if found[name, line] != NEVER_STOOD:
                    break
        if len(found) % 50 == 0:
            print(f"{len(found)} of {len(names) * len(installed)}", file=sys.stderr)

    async with asyncio.TaskGroup() as tasks:
        for name in names:
            for line, binary in installed:
                tasks.create_task(look(name, line, binary))
    page = _page(names, [line for line, _ in installed], found)
    if arguments.write is None:
        print(page)
    else:
        arguments.write.write_text(page, encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="what each DNS fault does to HAProxy")
    parser.add_argument("--only", nargs="+", choices=list(PRESETS), metavar="PRESET")
    parser.add_argument("--write", type=Path, metavar="FILE")
    return parser.parse_args()


def _parsed(line: str) -> tuple[int, ...]:
    return tuple(int(part) for part in line.split("."))


async def _try(name: str, binary: str, version: tuple[int, ...]) -> Seen:
    preset = PRESETS[name]
    tcp = any(rule.transport == "tcp" for rule in preset.rules)
    if tcp and version < HAS_TCP:
        return Seen((), "-")
    asked = SERVICE if name.startswith("srv-") else NAME
    server = DnsServer(RealClock(), lambda _: None, service_port=8080)
    for ips in ([OLD], list(IPS)):
        server.publish(asked, ips)
    address = await server.start("127.0.0.1", 0)
    try:
        with tempfile.TemporaryDirectory(prefix="dns-") as directory:
            config = Path(directory) / "haproxy.cfg"
            both = any(rule.qtype == "AAAA" for rule in preset.rules)
            text = CONFIG.format(
                directory=directory,
                dns=address.port,
                transport="tcp@" if tcp else "",
                name=asked if asked == SERVICE else f"{asked}:8080",
                prefers="" if both else " resolve-prefer ipv4",
            )
            await asyncio.to_thread(config.write_text, text)
            process = await asyncio.create_subprocess_exec(
                *(binary, "-db", "-f", str(config)),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                return await _observe(server, preset, f"{directory}/api.sock")
            finally:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
    finally:
        await server.close()


async def _observe(server: DnsServer, preset: Preset, api: str) -> Seen:
    loop = asyncio.get_running_loop()
    until_s = loop.time() + 4 * BEFORE_S
    while await _state(api) != set(IPS):
        if loop.time() > until_s:
            return NEVER_STOOD
        await asyncio.sleep(POLL_S)
    await asyncio.sleep(BEFORE_S)
    before = await _counted(api)
    server.rules.set("fault", preset.rules)
    states: list[set[str]] = []
    ends_s = loop.time() + LASTS_S
    while loop.time() < ends_s:
        await asyncio.sleep(POLL_S)
        now = await _state(api)
        if not states or states[-1] != now:
            states.append(now)
    after = await _counted(api)
    server.rules.set("fault", ())
    end_s, back_s = loop.time(), None
    while back_s is None and loop.time() < end_s + AFTER_S:
        if await _state(api) == set(IPS):
            back_s = loop.time() - end_s
        await asyncio.sleep(POLL_S)
    moved = tuple(each for each in COUNTERS if after.get(each, 0) > before.get(each, 0))
    return Seen(moved, _did(states), back_s)


def _did(states: list[set[str]]) -> str:
    """In a word: what became of the two servers."""
    usual = set(IPS)
    if all(state == usual for state in states):
        return "nothing"
    if len(states) > FLAPS:
        return "flap"
    if not states[-1]:
        return "MAINT"
    if strange := {ip for state in states for ip in state} - usual:
        return "old address" if strange == {OLD} else "other address"
    return "changed" if states[-1] == usual else "one in MAINT"


async def _ask(api: str, command: str) -> str:
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(1.0):
            reader, writer = await asyncio.open_unix_connection(api)
            writer.write(f"{command}\n".encode())
            answer = await reader.read(-1)
            writer.close()
            return answer.decode(errors="replace")
    return ""


async def _state(api: str) -> set[str]:
    """The addresses of the servers that are UP: running, and in no maintenance of their own."""
    found = set()
    for line in (await _ask(api, "show servers state app")).splitlines():
        words = line.split()
        if words[6:] and words[0].isdigit() and words[5] == "2" and words[6] in ("0", "64"):
            found.add(words[4])
    return found


async def _counted(api: str) -> dict[str, int]:
    text = (await _ask(api, "show resolvers dns")).partition("nameserver one")[2]
    counts = re.findall(r"^\s*(\w+):\s*(\d+)", text, re.MULTILINE)
    return {name: int(count) for name, count in counts}


# --- the page ---


def _page(names: list[str], lines: list[str], found: dict[tuple[str, str], Seen]) -> str:
    rows = [f"| preset | what | counters that move | {' | '.join(lines)} |"]
    rows.append("|" + "---|" * (3 + len(lines)))
    for name in names:
        moved = {counter for line in lines for counter in found[name, line].counters}
        about, like = PRESETS[name].about, PRESETS[name].like
        cells = [
            f"`{name}`",
            f"{about} (as {like})" if like else about,
            ", ".join(counter for counter in COUNTERS if counter in moved) or "-",
            *(_cell(found[name, line]) for line in lines),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return HEAD + "\n".join(rows) + "\n"


def _cell(seen: Seen) -> str:
    if seen.did in ("nothing", "-", NEVER_STOOD.did):
        return seen.did
    return f"{seen.did}, {'not back' if seen.back_s is None else f'{seen.back_s:.1f} s'}"


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
