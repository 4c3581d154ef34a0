"""A warm interpreter with the app loaded, which forks one at each order. Started by zygote.py.

    python -I -S forker.py SERVER.PY

An order comes on standard input, a SEQPACKET socket: the command line as a JSON list, and two
descriptors, the standard input and output of the new process. The new process answers with its
number once it can be signalled, and then runs as if it had been started with that command line.
It has what this process has in its environment, so it is found and swept by the same labels.

It is a child of chaosd, not of this process (CLONE_PARENT): chaosd waits for it and learns how it
ended, as of every other child, and it does not depend on this process from then on. When the
socket closes this process ends.

chaosd's event loop waits for the answer. So this process has the daemon's real-time turns, where it
may, and the new one has them until it has answered.
"""

# Run without site-packages: the standard library only, nothing of chaosd.
import contextlib
import ctypes
import gc
import importlib.util
import json
import os
import signal
import socket
import sys
from types import ModuleType

ORDER_BYTES_MAX = 16_384
SYS_CLONE = {"x86_64": 56, "aarch64": 220}
CLONE_PARENT = 0x8000
PR_SET_NAME = 15
# PyDLL keeps the interpreter's lock during the call: the new process has it as well.
libc = ctypes.PyDLL(None, use_errno=True)


def clone() -> int:
    """Fork a child of this process's parent: 0 in the child. Raises OSError."""
    number = SYS_CLONE[os.uname().machine]
    pid: int = libc.syscall(number, CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
    if pid < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return pid


def load(path: str) -> ModuleType:
    sys.dont_write_bytecode = True  # where the app is installed may be no place to write to
    spec = importlib.util.spec_from_file_location("server", path)
    if spec is None or spec.loader is None:
        sys.exit(f"{path} can't be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def become(server: ModuleType, orders: socket.socket, argv: list[str], stdio: list[int]) -> None:
    """Be the app, in the new process; does not return."""
    code = 1
    try:
        os.setsid()
        for source, target in zip(stdio, (0, 1), strict=True):
            os.dup2(source, target)
            os.close(source)
        os.dup2(1, 2)
        # Its command line is this process's, so `ps` and `top` tell it by its name.
        name = b"chaosd holder" if "--armed" in argv else b"chaosd app"
        libc.prctl(PR_SET_NAME, name, 0, 0, 0)
        orders.send(str(os.getpid()).encode())  # fails if nobody wants it any more
        orders.close()
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        sys.argv = argv
        server.main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, flush=True)
    finally:
        os._exit(code)


def main() -> None:
    if os.uname().machine not in SYS_CLONE:
        sys.exit("not for this kind of machine")
    server = load(sys.argv[1])
    orders = socket.socket(fileno=os.dup(0))
    if os.getpriority(os.PRIO_PROCESS, 0) <= 0:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    print("ready", flush=True)
    gc.collect()
    gc.freeze()  # or each child's first collection would copy all of it
    while True:
        words, stdio, _, _ = socket.recv_fds(orders, ORDER_BYTES_MAX, 2)
        if not words:
            return
        try:
            if clone() == 0:
                become(server, orders, json.loads(words), stdio)
        except OSError as error:
            orders.send(f"can't fork: {error.strerror}".encode())
        for descriptor in stdio:
            os.close(descriptor)


if __name__ == "__main__":
    main()
