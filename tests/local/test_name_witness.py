"""What a node's witness says of its DNS: answers, errors, and silence, each with its instant."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
import time

from chaosd.runtimes.swarm.witness import PROGRAM

ONE, TWO = "10.213.1.10", "10.213.1.11"
MS = 1_000_000
# What is answered, and for how long: an address, nothing at all, another one, SERVFAIL.
SCRIPT = [((ONE,), 0.3), (None, 0.5), ((TWO, ONE), 0.3), ("servfail", 0.3)]


def answer(question: bytes, said) -> bytes:
    ips = () if said == "servfail" else said
    head = question[:2] + struct.pack(
        "!HHHHH", 0x8180 | (2 * (said == "servfail")), 1, len(ips), 0, 0
    )
    records = [b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 600, 4) + socket.inet_aton(i) for i in ips]
    return head + question[12:] + b"".join(records)


def serve(server: socket.socket, changes: list[int]) -> None:
    for said, lasts_s in SCRIPT:
        changes.append(time.monotonic_ns())
        end = time.monotonic() + lasts_s
        while (left := end - time.monotonic()) > 0:
            server.settimeout(left)
            try:
                question, asker = server.recvfrom(4096)
            except TimeoutError:
                break
            if said is not None:
                server.sendto(answer(question, said), asker)


def test_each_change_is_told_with_when_it_was() -> None:
    server = socket.socket(type=socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    program = PROGRAM.replace('("127.0.0.11", 53)', str(server.getsockname()))
    assert program != PROGRAM
    asker = subprocess.Popen(
        [sys.executable, "-I", "-S", "-u", "-c", program, "tasks.app"],
        stdout=subprocess.PIPE,
        text=True,
    )
    changes: list[int] = []
    try:
        assert asker.stdout.readline() == "asking\n"
        serving = threading.Thread(target=serve, args=(server, changes))
        serving.start()
        told = [asker.stdout.readline().split() for _ in SCRIPT]
        serving.join()
    finally:
        asker.kill()
        asker.communicate()
        server.close()
    assert [line[4] for line in told] == [ONE, "-", f"{ONE},{TWO}", "-"]
    for (_, now, at, error, _), changed in list(zip(told, changes, strict=True))[1:]:
        now_ns, at_ns, error_ns = int(now), int(at), int(error)
        assert at_ns - error_ns <= changed <= at_ns + 5 * MS, "its instant is not in its error"
        assert at_ns <= now_ns
        assert error_ns < 200 * MS
