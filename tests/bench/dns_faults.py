"""What each DNS fault does to HAProxy: `docs/dns-faults.md`, made by this command.

    python tests/bench/dns_faults.py [--only PRESET …] [--times 1] [--at-once 40] [--write FILE]

For each fault and each installed line of HAProxy (`chaosd haproxy install --all`) one HAProxy
stands before two addresses on loopback, with `hold` of 2 s and a poll each 300 ms. Then the fault
lasts for 6 s, and after it answers are as usual. Told are the counters of `show resolvers` that
moved, what the servers did, and how long after the end they are UP with right addresses again. It
takes some four minutes for each of `--times`. The nameserver is this one process: where it was late
by 0.1 s meanwhile, it is tried again. With `--only`, the other rows of the file stay as they are.
Where a preset is about one of several nameservers, HAProxy asks two.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import re
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from chaosd.dns.presets import PRESETS, Preset
from chaosd.dns.server import DnsServer
from chaosd.proxies.haproxy import builds
from chaosd.system import priority
from chaosd.system.clock import RealClock

BEFORE_S, LASTS_S, AFTER_S = 1.5, 6.0, 6.0
POLL_S = 0.1
HOSTS = itertools.count()
NAMED = ("one", "two")  # the nameservers
TRIES = 4  # where it never stood, or this process was late
BEAT_S, LATE_S_MAX = 0.02, 0.1
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
{nameservers}
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

It goes by itself, where nothing moves, or `with:` another fault. Runtimes: `local`, `docker` with
`dns: forward`, and `sim` for those whose meaning is predicted.

## One of several nameservers

`dns: {nameservers: 2}` (up to 4) gives the proxy several nameservers, all of chaosd's own. The
presets `one-…` are about the first of them; `nameserver: 2` makes any other preset, `answer` or
`delay` a fault of that one alone:

    dns: {nameservers: 2}
    faults:
      - {type: dns, preset: one-closed, window: 10s, every: 40s}
      - {type: dns, preset: truncated, nameserver: 2, name: second, window: 10s, every: 60s}

On `local` each has an address of its own, on `docker` a port of its own. In a file of yours by
`--haproxy`, the nameservers of a section are chaosd's in turn. A black-holed nameserver is
`one-silent`: over UDP nobody can tell the two apart.

## What is predicted

Where the model knows what an answer is to HAProxy, `chaosd check` and each cycle say what users
will see: nothing, or an outage as long and as late as the settings make it. A cycle in which they
see something else counts as an anomaly. It knows failures of any code, silence, closed ports,
truncated and damaged answers, answers of another sender or id, lost ones, late ones, and whatever
HAProxy takes as usual. It does not know wrong addresses, and what depends on the patch level
(`capitals`, `spoofed`). How often that held on real builds: [findings](findings.md).

## A cache in between

`dns: {cache: unbound}` or `cache: dnsmasq` (runtime `local`; on Debian `apt install unbound` or
`dnsmasq-base`) puts a real cache between the proxy and chaosd's nameserver. It keeps an answer for
`dns.ttl`, and that there is none for `dns.negative_ttl`, which is not set by default: then a
negative answer has no SOA record, and the cache decides. Its config and log are in the cell's part
of the run directory. DNS faults are met by the cache, and by the proxy only once that asks again.
There is no prediction, and "DNS queries" are the cache's.

    dns: {cache: unbound, ttl: 3s, negative_ttl: 5s}

## What each does to HAProxy

The table was made by `python tests/bench/dns_faults.py`: one HAProxy of each line before two
addresses (`server-template`, every `hold` 2 s, a poll each 300 ms, `resolve-prefer ipv4` but for
faults of AAAA alone; two nameservers for `one-…`, of which the first is wrong). The fault lasts
6 s. Each cell was seen as often as `n` says.

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


class Lateness:
    """When this process was late last."""

    def __init__(self) -> None:
        self.latest_s, self.worst_s, self.count = -1.0, 0.0, 0

    async def watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + BEAT_S
            await asyncio.sleep(BEAT_S)
            late_s = loop.time() - due_s
            self.worst_s = max(self.worst_s, late_s)
            if late_s > LATE_S_MAX:
                self.latest_s, self.count = loop.time(), self.count + 1


async def main() -> int:
    arguments = _arguments()
    installed = [(line, build.binary) for line in builds.LINES if (build := builds.find(line))]
    if not installed:
        print("no HAProxy is installed (chaosd haproxy install --all)")
        return 0
    names = arguments.only or list(PRESETS)
    limit = asyncio.Semaphore(arguments.at_once)
    late = Lateness()
    found: dict[tuple[str, str], list[Seen]] = {}

    async def look(name: str, line: str, binary: Path) -> None:
        async with limit:
            for _ in range(TRIES):
                began_s = asyncio.get_running_loop().time()
                seen = await _try(name, str(binary), _parsed(line))
                if seen != NEVER_STOOD and late.latest_s < began_s:
                    break
        found.setdefault((name, line), []).append(seen)
        made = sum(map(len, found.values()))
        if made % 50 == 0:
            print(f"{made} of {len(names) * len(installed) * arguments.times}", file=sys.stderr)

    beats = asyncio.create_task(late.watch())
    async with asyncio.TaskGroup() as tasks:
        for name in names:
            for line, binary in installed * arguments.times:
                tasks.create_task(look(name, line, binary))
    beats.cancel()
    print(f"late {late.count} times, at most {late.worst_s:.3f} s", file=sys.stderr)
    before = arguments.write if arguments.only else None
    page = _page(names, [line for line, _ in installed], found, before)
    if arguments.write is None:
        print(page)
    else:
        arguments.write.write_text(page, encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="what each DNS fault does to HAProxy")
    parser.add_argument("--only", nargs="+", choices=list(PRESETS), metavar="PRESET")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=40)
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
    several = any(rule.nameserver is not None for rule in preset.rules)
    number = next(HOSTS)  # an address of its own: nobody takes a port that a fault has closed
    host = f"127.65.{number // 250}.{number % 250 + 1}"
    at = [await server.start(host, 0) for _ in range(2 if several else 1)]
    transport = "tcp@" if tcp else ""
    lines = [f"    nameserver {name} {transport}{at}" for name, at in zip(NAMED, at, strict=False)]
    try:
        with tempfile.TemporaryDirectory(prefix="dns-") as directory:
            config = Path(directory) / "haproxy.cfg"
            both = any(rule.qtype == "AAAA" for rule in preset.rules)
            text = CONFIG.format(
                directory=directory,
                nameservers="\n".join(lines),
                name=asked if asked == SERVICE else f"{asked}:8080",
                prefers="" if both else " resolve-prefer ipv4",
            )
            process = _started(binary, config, text)
            try:
                return await _observe(server, preset, f"{directory}/api.sock")
            finally:
                process.kill()
                process.wait()
    finally:
        await server.close()


def _started(binary: str, config: Path, text: str) -> subprocess.Popen[bytes]:
    """Without a thread: one that waits for a CPU would have the interpreter's lock meanwhile."""
    config.write_text(text)
    command = [binary, "-db", "-f", str(config)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


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
    text = text.partition("nameserver two")[0]
    counts = re.findall(r"^\s*(\w+):\s*(\d+)", text, re.MULTILINE)
    return {name: int(count) for name, count in counts}


# --- the page ---


def _page(
    names: list[str],
    lines: list[str],
    found: dict[tuple[str, str], list[Seen]],
    before: Path | None,
) -> str:
    """The page; rows of `before` that were not made now stay."""
    rows = {} if before is None else _rows(before)
    rows |= {name: _row(name, lines, found) for name in names}
    head = [f"| preset | what | counters that move | n | {' | '.join(lines)} |"]
    head.append("|" + "---|" * (4 + len(lines)))
    return HEAD + "\n".join([*head, *(rows[name] for name in PRESETS if name in rows)]) + "\n"


def _rows(page: Path) -> dict[str, str]:
    """The rows that a page has, by preset."""
    rows = {}
    for row in page.read_text(encoding="utf-8").splitlines():
        if row.startswith("| `"):
            rows[row.split("`")[1]] = row
    return rows


def _row(name: str, lines: list[str], found: dict[tuple[str, str], list[Seen]]) -> str:
    moved = {counter for line in lines for seen in found[name, line] for counter in seen.counters}
    about, like = PRESETS[name].about, PRESETS[name].like
    cells = [
        f"`{name}`",
        f"{about} (as {like})" if like else about,
        ", ".join(counter for counter in COUNTERS if counter in moved) or "-",
        str(len(found[name, lines[0]])),
        *(_cell(found[name, line]) for line in lines),
    ]
    return f"| {' | '.join(cells)} |"


def _cell(times: list[Seen]) -> str:
    """What was seen, and how often where that differs."""
    kinds = Counter(seen.did for seen in times)
    told = []
    for did, count in kinds.most_common():
        often = f" {count}/{len(times)}" if len(kinds) > 1 else ""
        told.append(f"{did}{often}{_back([seen for seen in times if seen.did == did])}")
    return "; ".join(told)


def _back(times: list[Seen]) -> str:
    """How long after the end all was as before."""
    if times[0].did in ("nothing", "-", NEVER_STOOD.did):
        return ""
    back_s = sorted(seen.back_s for seen in times if seen.back_s is not None)
    if not back_s:
        return ", not back"
    span = f"{back_s[0]:.1f}" if f"{back_s[0]:.1f}" == f"{back_s[-1]:.1f}" else ""
    span = span or f"{back_s[0]:.1f}–{back_s[-1]:.1f}"
    lost = len(times) - len(back_s)
    return f", {span} s" + (f" ({lost} not back)" if lost else "")


if __name__ == "__main__":
    with priority.before_others():  # as chaosd itself has it, which answers DNS
        code = asyncio.run(main())
    sys.exit(code)
