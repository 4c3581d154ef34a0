"""Who knows the app's name, and since when: each node's DNS is asked from inside of the network.

A node hears what happens on another one by gossip. So a container on each asks again and again, and
says when the answer changes. A name that is missing is answered with an error, or by engines before
24 not at all: then it is missing since the first question that stays without an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from chaosd.errors import MachineError
from chaosd.runtimes.docker import images
from chaosd.runtimes.docker.host import Host
from chaosd.runtimes.docker.members import Blueprint

START_LIMIT_S = 20.0
# Prints `asking`, and then for each change: `name NOW_NS AT_NS ERROR_NS IP,…` (`-` for none), by
# its own monotonic clock.
PROGRAM = """
import select, socket, struct, sys, time
PAUSE, PATIENCE, UNSURE = 20_000_000, 300_000_000, 2
name = b"".join(bytes([len(p)]) + p.encode() for p in sys.argv[1].split(".")) + bytes(1)
sock = socket.socket(type=socket.SOCK_DGRAM)
sock.connect(("127.0.0.11", 53))

def skip(data, at):
    while data[at]:
        if data[at] >= 192:
            return at + 2
        at += data[at] + 1
    return at + 1

def addresses(data):
    at, found = skip(data, 12) + 4, []
    for _ in range(struct.unpack_from("!H", data, 6)[0]):
        at = skip(data, at)
        kind, _, _, size = struct.unpack_from("!HHIH", data, at)
        at += 10
        if kind == 1:
            found.append(socket.inet_ntoa(data[at:at + size]))
        at += size
    return tuple(sorted(found))

asked, number, due, last, before, missed = [], 0, time.monotonic_ns(), None, 0, []

def tell(found, at, error):
    global last
    if found != last:
        last = found
        print("name", time.monotonic_ns(), at, error, ",".join(found) or "-", flush=True)

def judge(now):
    # In the order in which they were asked.
    global before
    while asked and (asked[0][2] is not None or now - asked[0][1] > PATIENCE):
        _, sent, answer = asked.pop(0)
        if answer is None:
            missed.append((sent, before))
            if len(missed) == UNSURE:  # one alone may be lost
                first, sooner = missed[0]
                tell((), first, first - (sooner or first))
        else:
            missed.clear()
            done, found = answer
            tell(found, done, done - (before or sent))
        before = sent

print("asking", flush=True)
while True:
    now = time.monotonic_ns()
    if now >= due:
        number = (number + 1) & 65535
        head = struct.pack("!HHHHHH", number, 256, 1, 0, 0, 0)
        try:
            sock.send(head + name + bytes.fromhex("00010001"))
        except OSError:
            pass
        asked.append([number, now, None])
        due = max(due + PAUSE, now)
    if select.select([sock], [], [], max(0, due - time.monotonic_ns()) / 1e9)[0]:
        try:
            data = sock.recv(4096)
        except OSError:
            data = b""
        for each in asked:
            if len(data) > 12 and each[0] == struct.unpack_from("!H", data)[0]:
                each[2] = time.monotonic_ns(), addresses(data) if not data[3] & 15 else ()
    judge(time.monotonic_ns())
"""

# Says whether somebody answers at an address within some seconds.
KNOCK = """
import socket, sys, time
end = time.monotonic() + float(sys.argv[3])
while time.monotonic() < end:
    try:
        socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()
    except OSError:
        time.sleep(0.1)
    else:
        print("answers", flush=True)
        break
else:
    print("silent", flush=True)
time.sleep(600)
"""
KNOCK_S = 5.0

Known = Callable[[tuple[str, ...], int, int], None]  # the addresses, since when, and its error


async def start(host: Host, prefix: str, name: str, upstream: Sequence[str], known: Known) -> None:
    """Start one on this node, and return when it asks. Raises MachineError."""
    asks: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def heard(line: str, at_ns: int, error_ns: int) -> None:
        if line == "asking" and not asks.done():
            asks.set_result(None)
        words = line.split()
        if len(words) == 5 and words[0] == "name":  # noqa: PLR2004
            now_ns, its_ns, its_error_ns = map(int, words[1:4])
            ips = () if words[4] == "-" else tuple(words[4].split(","))
            if host.engine.is_here and now_ns <= at_ns:  # its own stamp, if it is of our clock
                known(ips, its_ns, its_error_ns)
            else:
                known(ips, at_ns - (now_ns - its_ns), error_ns + its_error_ns)

    blueprint = Blueprint(
        name=f"{prefix}-names-{host.name}",
        image=images.app_tag(),
        entrypoint=["python3", "-I", "-S", "-u", "-c", PROGRAM, name],
        dns=upstream,
        pids=8,
    )
    member = await host.team.create(blueprint, heard)
    await host.team.start(member)
    try:
        async with asyncio.timeout(START_LIMIT_S):
            await asks
    except TimeoutError:
        what = f"{member.name} does not ask"
        raise MachineError(f"{what}: {member.last_line or 'it says nothing'}") from None


async def knock(host: Host, name: str, ip: str, port: int, upstream: Sequence[str]) -> bool:
    """Whether somebody answers there, asked on this node from inside. Raises MachineError."""
    answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def heard(line: str, _: int, __: int) -> None:
        if line in ("answers", "silent") and not answer.done():
            answer.set_result(line == "answers")

    blueprint = Blueprint(
        name=name,
        image=images.app_tag(),
        entrypoint=["python3", "-I", "-S", "-u", "-c", KNOCK, ip, str(port), str(KNOCK_S)],
        dns=upstream,
        pids=8,
    )
    member = await host.team.create(blueprint, heard)
    try:
        await host.team.start(member)
        async with asyncio.timeout(START_LIMIT_S):
            return await answer
    except TimeoutError:
        return False
    finally:
        await host.team.discard(member.id)
