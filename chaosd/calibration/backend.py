"""A backend whose outages are known: a program of its own, for `chaosd calibrate`.

    reference.py serve SOCKET              answers HTTP; says `listening HOST:PORT`; ends with stdin
    reference.py outage SOCKET FROM TO SEED  has it go away once and prints the truth

Single-threaded and with nothing but the standard library, so that nothing disturbs it. It stamps
its outages itself with CLOCK_MONOTONIC: `away` once nobody is answered any more, `back` right
before the first one can be. Being a program of its own it asks the operating system for the time.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
from contextlib import suppress
from math import exp, log
from random import Random
from time import monotonic_ns

BACKLOG = 1024
AWAKE_S, NAP_S_MAX = 0.003, 0.5  # a longer nap ends later, by a thousandth of it
CLOSED_AT_ONCE = 10  # connections
REQUEST_BYTES_MAX = 8192
ORDER_WORDS = 3
WAIT_S_MAX = 0.02
OUTAGE_S_MAX = 60.0
MARGIN_S = 10.0  # beyond the outage, for one that waits for its end
SECOND_NS = 1_000_000_000
IDENTITY = "reference"
ANSWER = (
    f"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Chaosd-Instance: {IDENTITY}\r\n\r\nok\n"
).encode()
MANNERS = ("refuse", "hang")


class Backend:
    """Answers every request, but for the time that it was told to be away."""

    def __init__(self, control: str) -> None:
        self._ready = selectors.DefaultSelector()
        self._address = ("127.0.0.1", 0)
        self._listener = self._open()
        self._address = self._listener.getsockname()
        self._held: list[socket.socket] = []  # connections that are never answered
        self._control = socket.socket(socket.AF_UNIX)
        self._control.bind(control)
        self._control.listen()
        self._ready.register(self._control, selectors.EVENT_READ, self._meet)
        self._ready.register(sys.stdin.buffer, selectors.EVENT_READ, None)
        self._away_ns: int | None = None  # when the outage that is planned begins
        self._back_ns: int | None = None  # when the one that goes on ends
        self._length_ns, self._manner = 0, ""
        self._hangs = self._closed = False
        self._told: socket.socket | None = None  # who waits for its end

    def serve(self) -> None:
        """Serve until stdin is closed."""
        print(f"listening {self._address[0]}:{self._address[1]}", flush=True)
        while True:
            for key, _ in self._ready.select(self._wait_s()):
                if key.data is None:
                    return
                key.data(key.fileobj)

    def _wait_s(self) -> float | None:
        """How long nothing is due; what is due is done first.

        An outage's ends must not wait for the next request, or their phase would be the probes'
        own: the last milliseconds, which the system rounds up, are waited for awake.
        """
        if self._away_ns is not None and monotonic_ns() >= self._away_ns:
            self._go_away()
        if self._back_ns is not None and monotonic_ns() >= self._back_ns:
            self._come_back()
        if self._held and not self._hangs:
            self._let_go()
            return 0.0
        due_ns = self._back_ns if self._away_ns is None else self._away_ns
        if due_ns is None:
            return None
        left_s = (due_ns - monotonic_ns()) / SECOND_NS - AWAKE_S
        return min(max(0.0, left_s), NAP_S_MAX)

    def _open(self) -> socket.socket:
        listener = socket.socket(socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(self._address)
        listener.listen(BACKLOG)
        self._ready.register(listener, selectors.EVENT_READ, self._accept)
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with suppress(BlockingIOError):
            while (
                listener is self._listener and not self._closed
            ):  # else it was closed a moment ago
                asked, _ = listener.accept()
                if self._hangs:
                    self._held.append(asked)
                    continue
                asked.setblocking(False)
                self._ready.register(asked, selectors.EVENT_READ, self._answer)

    def _answer(self, asked: socket.socket) -> None:
        with suppress(OSError):
            if asked.recv(REQUEST_BYTES_MAX):
                asked.sendall(ANSWER)
                return
        # Closed by who asked: TIME_WAIT lies there. Tens of thousands of them at this port would
        # make listening anew take milliseconds, in which nobody knows whether it is open.
        self._ready.unregister(asked)
        asked.close()

    def _meet(self, control: socket.socket) -> None:
        told, _ = control.accept()
        self._ready.register(told, selectors.EVENT_READ, self._order)

    def _order(self, told: socket.socket) -> None:
        """Plan an outage as a line says: in how many seconds, for how many, in what manner."""
        self._ready.unregister(told)
        words: list[str] = []
        with suppress(OSError):  # the prober that asked may have been killed
            words = told.recv(100).decode().split()
        if self._told is not None or len(words) != ORDER_WORDS:
            told.close()
            return
        wait_s, length_s, self._manner = float(words[0]), float(words[1]), words[2]
        self._away_ns = monotonic_ns() + round(wait_s * SECOND_NS)
        self._length_ns = round(min(length_s, OUTAGE_S_MAX) * SECOND_NS)
        self._told = told

    def _go_away(self) -> None:
        # What has come before is answered: what comes from now on is not.
        self._accept(self._listener)
        if self._manner == "hang":
            self._hangs = True
        else:
            self._ready.unregister(self._listener)
            self._listener.close()
            self._closed = True
        away_ns, self._away_ns = monotonic_ns(), None
        self._back_ns = away_ns + self._length_ns
        self._tell(f"away {away_ns} {self._manner}")

    def _tell(self, line: str) -> None:
        if self._told is not None:
            with suppress(OSError):
                self._told.sendall(f"{line}\n".encode())

    def _come_back(self) -> None:
        if self._hangs:
            self._accept(self._listener)  # what came until now came in the outage
            self._hangs = False
            back_ns = monotonic_ns()
        else:
            back_ns = monotonic_ns()
            self._listener, self._closed = self._open(), False
        self._tell(f"back {back_ns}")
        if self._told is not None:
            self._told.close()
        self._told = self._back_ns = None

    def _let_go(self) -> None:
        """Close some that were never answered: not all at once, or the new ones would wait."""
        for asked in self._held[:CLOSED_AT_ONCE]:
            asked.close()
        del self._held[:CLOSED_AT_ONCE]


def outage(control: str, shortest_s: float, longest_s: float, seed: str) -> int:
    """Have one outage made and print its two ends. Its length is drawn log-uniformly.

    Each cycle has a draw of its own, which one seed repeats.
    """
    rng = Random(f"{seed} {os.environ.get('CHAOSD_CYCLE', '')}")  # noqa: S311
    wait_s = rng.uniform(0, WAIT_S_MAX)  # when this process gets its turn may depend on the probes
    length_s = exp(rng.uniform(log(shortest_s), log(longest_s)))
    with socket.socket(socket.AF_UNIX) as asked:
        asked.settimeout(longest_s + MARGIN_S)
        asked.connect(control)
        asked.sendall(f"{wait_s:.9f} {length_s:.9f} {rng.choice(MANNERS)}".encode())
        said = b""
        while data := asked.recv(1000):
            said += data
            print(data.decode(), end="", flush=True)
    return 0 if b"back" in said else 1


def main() -> int:
    match sys.argv[1:]:
        case ["serve", control]:
            with suppress(OSError):  # as punctual as the prober is, where the system allows it
                policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
                os.sched_setscheduler(0, policy, os.sched_param(2))
            Backend(control).serve()
            return 0
        case ["outage", control, shortest, longest, seed]:
            return outage(control, float(shortest), float(longest), seed)
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
