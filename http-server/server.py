#!/usr/bin/env python3
"""The app of the topology: a small web server that says who it is. Standard library only.

    server.py --listen 127.64.3.10:8080 --identity k3f9.c1.7 [--start-delay 0.5] [--mode MODE]

It prints `listening IP:PORT NS` once it accepts connections, NS being when that was. Each answer
carries its identity in `X-Chaosd-Instance` and its own address in `X-Chaosd-Address`. `/` is a page
to look at, `/healthz` is for health checks. SIGTERM: it stops listening, finishes what is in flight
and exits. SIGUSR1: it hangs, which is to say that it takes requests and answers none. SIGHUP: it is
deaf, packets to it vanish. SIGUSR2: it is well again.

The other modes are what may be found at the address of an app that is gone:

    app        the app itself (the default)
    imposter   another application: answers 200 with another page, identity `imposter`
    refuse     holds the address without listening: connections are refused
    blackhole  packets vanish: connections get no answer at all
    tarpit     takes connections and reads, never answers

With `--armed` it prints `armed`, waits for a line `take IP PORT` on its standard input, takes that
address, and prints `holding IP:PORT`. It exits when its standard input ends.

What stands for somebody else's app has to answer what is asked of it:

    --paths any      every path has the page, not only `/`
    --also PORT      it listens on this port of its address, too (8081, or 8081,8082)
    --says TEXT      lines that stand in the page
    --script JSON    an object: what comes that is not HTTP, and what it is answered
    --proxied yes    a PROXY line may come first
    --certificate PEM  TLS may come first; the certificate and its key
    --healthy-after S  from when it listens, it answers 503 for so many seconds

Each option may be given as an environment variable instead: CHAOSD_LISTEN, CHAOSD_IDENTITY,
CHAOSD_START_DELAY and so on. Without any it listens on 0.0.0.0:8080 and is named after its host.
"""

from __future__ import annotations

# It is started anew in every cycle, so it imports only what starts fast (no argparse, no asyncio).
import errno
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable

sys.path.insert(0, __file__.rpartition("/")[0] or ".")  # an isolated interpreter leaves it out
from serving import BACKLOG, Server, answers, deafen

STAND_IN = ("script", "proxied", "certificate", "healthy-after")  # options for stand_in.py
MODES = ("app", "imposter", "refuse", "blackhole", "tarpit")
ENDING = (signal.SIGTERM, signal.SIGINT)
CONTROLS: dict[int, Callable[[], None]] = {}  # what to do by which signal, once it serves
TAKE_S = 1.0  # how long a dying process may still keep the address
SIGNALS_READ = 256


def parse(text: str) -> tuple[str, int]:
    """Host and port. Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("not an address (write it like 127.0.0.1:8080)")
    return host.strip("[]"), int(port)


def bind(host: str, port: int, retry_s: float) -> socket.socket:
    """A socket that holds the address, not yet listening. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    holder = socket.socket(family)
    # The connections of the process that had this address before may linger in TIME_WAIT.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    deadline_s = time.monotonic() + retry_s
    while True:
        try:
            holder.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= deadline_s:
                raise
            time.sleep(0.001)
        else:
            return holder


def occupy(holders: list[socket.socket], options: dict[str, str], stop: int) -> None:
    """Be what the mode says at these addresses until `stop` is readable."""
    mode = options["mode"]
    if mode in ("refuse", "blackhole"):
        select.select([stop], [], [])
        return
    for holder in holders:
        holder.setblocking(False)
    reply = None
    if mode != "tarpit":
        reply = answers(mode, options["identity"], options["says"])
    script, wires = {}, None
    if any(options[name] for name in STAND_IN):
        import stand_in  # beside this file, and hardly ever needed

        script = stand_in.scripted(options["script"])
        wires = stand_in.wires(options["proxied"], options["certificate"])
        if reply is not None and options["healthy-after"]:
            reply = stand_in.unwell(reply, float(options["healthy-after"]))
    server = Server(holders, reply, stop, pages=options["paths"], script=script, wires=wires)
    CONTROLS.update(
        {
            signal.SIGUSR1: server.hang,
            signal.SIGHUP: server.deafen,
            signal.SIGUSR2: server.recover,
        }
    )
    server.run()


def listen(holder: socket.socket, mode: str) -> None:
    if mode == "blackhole":
        deafen(holder)
    if mode != "refuse":
        holder.listen(BACKLOG)


def armed(stop: select.epoll, mode: str) -> socket.socket | None:
    """Wait for the order to take an address; None if there is nothing left to wait for."""
    if mode == "blackhole":
        rehearse()
    stop.register(sys.stdin.fileno(), select.EPOLLIN)
    print("armed", flush=True)
    if any(descriptor != sys.stdin.fileno() for descriptor, _ in stop.poll()):
        return None
    order = os.read(sys.stdin.fileno(), 256).decode().split()
    if not order:
        return None
    _, host, port = order
    holder = bind(host, int(port), TAKE_S)
    listen(holder, mode)
    return holder


def rehearse() -> None:
    """Refuse to be a black hole on a system where it would answer; found out before it matters."""
    with bind("127.0.0.1", 0, 0) as listener, socket.socket() as client:
        listen(listener, "blackhole")
        client.setblocking(False)
        client.connect_ex(listener.getsockname())
        if select.select([], [client], [], 0.05)[1]:
            raise OSError("this system answers for a socket whose filter drops everything")


def read_options(arguments: list[str]) -> dict[str, str]:
    """The command line over the environment over the defaults. Exits with a line for the user."""
    options = {"listen": "0.0.0.0:8080", "identity": "", "start-delay": "0", "mode": "app"}
    options |= {"paths": "/", "also": "", "says": ""}
    options |= dict.fromkeys(STAND_IN, "")
    for name, default in options.items():
        variable = f"CHAOSD_{name.upper().replace('-', '_')}"
        options[name] = os.environ.get(variable) or default
    options["armed"] = ""
    left = iter(arguments)
    for argument in left:
        name, _, value = argument.removeprefix("--").partition("=")
        if argument in ("-h", "--help"):
            print(__doc__)
            sys.exit(0)
        if argument == "--armed":
            value = "yes"
        elif name not in options or not argument.startswith("--"):
            sys.exit(f"unknown option {argument} (known: --{', --'.join(options)})")
        options[name] = value or next(left, "")
    if options["mode"] not in MODES:
        sys.exit(f"unknown mode {options['mode']!r} (known: {', '.join(MODES)})")
    options["identity"] = options["identity"] or socket.gethostname()
    if options["mode"] == "imposter":
        options["identity"] = "imposter"
    if not options["identity"].isprintable() or not options["identity"].isascii():
        sys.exit("the identity goes into a header: printable ASCII only")
    return options


def wake_on_signals() -> select.epoll:
    """Something to wait for: it is readable once SIGTERM or SIGINT has come."""
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken)
    for number in ENDING:
        signal.signal(number, lambda *_: None)

    def controlled(number: int, _: object) -> None:
        # Every signal wakes the loop, and this one is not to end it.
        try:
            came = os.read(wake, SIGNALS_READ)
        except BlockingIOError:  # another signal's handler has taken both
            came = b""
        os.write(woken, bytes(each for each in came if each in ENDING))
        CONTROLS.get(number, lambda: None)()

    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        signal.signal(number, controlled)
    stop = select.epoll()
    stop.register(wake, select.EPOLLIN)
    return stop


def main() -> None:
    options = read_options(sys.argv[1:])
    mode = options["mode"]
    descriptors_max = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors_max, descriptors_max))
    stop = wake_on_signals()
    where = options["listen"] if not options["armed"] else "the address"
    try:
        if options["armed"]:
            holder = armed(stop, mode)
            holders = [holder] if holder is not None else []
        else:
            host, port = parse(where)
            also = [int(number) for number in options["also"].split(",") if number]
            holders = [bind(host, each, 0) for each in (port, *also)]
            holder = holders[0]
            # The address is its own from now on, but nobody is let in while it is starting.
            if stop.poll(float(options["start-delay"])):
                return
            for each in holders:
                listen(each, mode)
    except (OSError, ValueError) as error:
        sys.exit(f"cannot take {where}: {error}")
    if holder is None:
        return
    said = "holding" if options["armed"] else "listening"
    # The instant goes along, because whoever reads this may be late.
    print("{} {}:{} {}".format(said, *holder.getsockname(), time.monotonic_ns()), flush=True)
    occupy(holders, options, stop.fileno())


if __name__ == "__main__":
    main()
