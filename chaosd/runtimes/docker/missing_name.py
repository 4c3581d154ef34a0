"""How Docker's DNS answers for a name that nobody has: engines and their surroundings differ.

It asks the servers that the engine was given, and passes on what they say. Where nobody answers,
engines before 24 say nothing at all and later ones SERVFAIL: HAProxy then goes by another `hold`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from chaosd.errors import MachineError
from chaosd.runtimes.docker import images
from chaosd.runtimes.docker.members import Blueprint, Members

LIMIT_S = 15.0
PATIENCE_S = 2.0  # a proxy with usual settings has asked again by then
# One query for an A record; says what came back, in our words.
PROGRAM = f"""
import socket, sys
name = b"".join(bytes([len(p)]) + p.encode() for p in sys.argv[1].split(".")) + bytes(1)
asker = socket.socket(type=socket.SOCK_DGRAM)
asker.settimeout({PATIENCE_S})
asker.sendto(bytes.fromhex("c4a501000001000000000000") + name + bytes.fromhex("00010001"),
             ("127.0.0.11", 53))
try:
    answer = asker.recv(4096)
except TimeoutError:
    word = "drop"
else:
    known = {{0: "empty", 2: "servfail", 3: "nxdomain", 5: "refused"}}
    word = known.get(answer[3] & 15, "servfail")
print("missing", word, flush=True)
"""


async def find_out(members: Members, prefix: str, upstream: Sequence[str]) -> str | None:
    """Ask for a name that nobody has from inside of the network; None if it can't be told."""
    said: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def heard(line: str, _at_ns: int, _error_ns: int) -> None:
        if line.startswith("missing ") and not said.done():
            said.set_result(line.split()[1])

    member = await members.create(
        Blueprint(
            name=f"{prefix}-asker",
            image=images.app_tag(),
            entrypoint=["python3", "-I", "-S", "-c", PROGRAM, f"{prefix}-nobody"],
            dns=upstream,
        ),
        heard,
    )
    member.expected = True
    try:
        await members.start(member)
        await asyncio.wait([said], timeout=LIMIT_S)
    except MachineError:
        return None
    finally:
        members.soon(members.discard(member.id))
    return said.result() if said.done() else None
