"""Child processes, their labels, and finding the ones that a dead run left behind.

Every process that chaosd starts carries two environment variables, and so do its own children:
CHAOSD_RUN, and CHAOSD_OWNER, which says who started it so that no later process with the same
number, no reboot and no container can be taken for it. Only what carries the owner of this boot
and this PID namespace that no longer lives is ever swept. A program of the user's may start what is
to stay, in a session of its own: it carries CHAOSD_SESSION, too, and only that session is swept.
"""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from logging import LogRecord, makeLogRecord
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, Any, Protocol

from chaosd import shown
from chaosd.errors import MachineError
from chaosd.system.clock import Clock

LINE_BYTES_MAX = 8192  # a longer line comes in pieces
OUTPUT_BYTES_PER_TURN = 1 << 16
LAST_WORDS_TURNS_MAX = 16  # of reading what a dead child's pipe still holds
OUTPUT_FILE_BYTES_MAX = 1 << 19  # of a child's output twice this is kept
PAGE_BYTES = os.sysconf("SC_PAGESIZE")
KILL_S = 5.0  # how long a killed process may take to vanish

OWNER = "CHAOSD_OWNER"
RUN = "CHAOSD_RUN"
SESSION = "CHAOSD_SESSION"


def lacking(program: str, path: str | None = None) -> str | None:
    """Say that there is no such program, or None; `path` is searched instead of the PATH."""
    if shutil.which(program, path=path) is not None:
        return None
    return f"there is no program `{program}` that can be run"


class OutputFile(RotatingFileHandler):
    """What a child said, in a file that stays small, for people."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=OUTPUT_FILE_BYTES_MAX, backupCount=1, delay=True)

    def format(self, record: LogRecord) -> str:
        return shown.line(str(record.msg))

    def handleError(self, record: LogRecord) -> None:  # noqa: N802
        """A full disk is noticed by who stores what is measured."""


def usage(pid: int) -> dict[str, int]:
    """A process's memory and descriptors: `rss_bytes` and `fds`, without what we may not see."""
    found, proc = {}, Path(f"/proc/{pid}")
    with suppress(OSError):
        pages = (proc / "statm").read_text(encoding="utf-8").split()[1]
        found["rss_bytes"] = int(pages) * PAGE_BYTES
        found["fds"] = sum(1 for _ in (proc / "fd").iterdir())
    return found


class Process(Protocol):
    """A child of ours as the one who started it hands it over, like a `subprocess.Popen`."""

    pid: int
    returncode: int | None

    @property
    def stdin(self) -> IO[bytes] | None: ...

    @property
    def stdout(self) -> IO[bytes] | None: ...

    def poll(self) -> int | None: ...


# Command, environment, standard input (as subprocess has it); raises OSError.
Start = Callable[[Sequence[str], dict[str, str], int], Process]


def latest_child(pid: int) -> int | None:
    """The last process that it has started and that lives; None if that is not known."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    except OSError:
        return None
    return int(text.split()[-1]) if text.split() else None


def started(command: Sequence[str], environment: dict[str, str], stdin: int) -> Process:
    """A program in a session of its own, its output in a pipe. Raises OSError."""
    return subprocess.Popen(
        command,
        env=environment,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


class Child:
    """A process that we hold: its output and its end come as callbacks in the event loop.

    Starting it does not await, so there is no moment at which it runs and nobody knows of it. It
    has a session of its own: a Ctrl-C in the terminal is chaosd's to handle, not its children's.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: dict[str, str],
        clock: Clock,
        heard: Callable[[str, int], None] | None = None,
        ended: Callable[[Child], None] | None = None,
        output: Path | None = None,
        stdin: int = subprocess.DEVNULL,
        start: Start = started,
    ) -> None:
        """Start it. Raises MachineError if that fails.

        `heard` gets each line of its output and when it came, `ended` this child when it is gone.
        """
        self.name = name
        self.expected = False  # somebody here asked it to go
        self.last_line = ""
        self._clock = clock
        self._heard = heard
        self._ended = ended
        self._partial = b""
        self._awaited: tuple[str, asyncio.Future[str]] | None = None
        self._file = None if output is None else OutputFile(output)
        try:
            self._process = start(command, environment, stdin)
        except OSError as error:
            raise MachineError(f"{name} can't be started: {error}") from error
        self.pid = self._process.pid
        self._loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        try:
            self._handle = os.pidfd_open(self.pid)
        except OSError as error:  # out of descriptors: nobody would hear of its end
            os.killpg(self.pid, signal.SIGKILL)
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            self._process.poll()
            self._close_pipes()
            raise MachineError(f"{name} can't be watched: {error.strerror}") from error
        self._pipe = self._process.stdout.fileno()  # type: ignore[union-attr]
        os.set_blocking(self._pipe, False)
        self._loop.add_reader(self._handle, self._on_end)
        self._loop.add_reader(self._pipe, self._on_output)

    @property
    def gone(self) -> bool:
        return self._gone.done()

    @property
    def exit_status(self) -> int | None:
        """How it ended: negative for a signal, None while it lives."""
        return self._process.returncode

    def signal(self, number: int) -> None:
        """Signal it and its own children now; nothing happens if it is gone."""
        # Until it is polled it is at least a zombie, so its number can't mean another group.
        if not self.gone:
            os.killpg(self.pid, number)

    def write(self, line: str) -> None:
        """Send it a short line. What a dead process is told is lost."""
        if not self.gone and self._process.stdin is not None:
            with suppress(BrokenPipeError):
                os.write(self._process.stdin.fileno(), line.encode() + b"\n")

    async def says(self, word: str, limit_s: float) -> str:
        """Wait for the next line that begins with this word.

        Raises MachineError if it dies before, or says nothing of the kind within the limit.
        """
        line: asyncio.Future[str] = self._loop.create_future()
        self._awaited = (word, line)
        waiting: list[asyncio.Future[Any]] = [line, self._gone]
        await asyncio.wait(waiting, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        self._awaited = None
        if line.done():
            return line.result()
        if self.gone:
            raise MachineError(self.obituary())
        raise MachineError(f"{self.name} (pid {self.pid}) has not said `{word}` in {limit_s:g} s")

    async def end(self, number: int, grace_s: float) -> None:
        """Signal it and return when it is gone; it is killed after the grace, and if cancelled.

        Raises MachineError if it outlives even that.
        """
        self.expected = True
        self.signal(number)
        try:
            if not await self.wait(grace_s):
                self.signal(signal.SIGKILL)
        except asyncio.CancelledError:
            self.signal(signal.SIGKILL)
            raise
        if not await self.wait(KILL_S):
            raise MachineError(f"{self.name} (pid {self.pid}) does not die of SIGKILL")

    async def wait(self, limit_s: float) -> bool:
        """Wait for its end; False if it has not come within the limit."""
        await asyncio.wait([self._gone], timeout=limit_s)
        return self.gone

    def obituary(self) -> str:
        """How it ended, and the last that it said."""
        code = self._process.returncode
        how = f"exit status {code}"
        if code is not None and code < 0:
            how = f"signal {signal.Signals(-code).name}"
        words = f": {self.last_line}" if self.last_line else ""
        return f"{self.name} (pid {self.pid}) died: {how}{words}"

    def _on_output(self) -> bool:
        """Read once; False if there was nothing (yet, or ever again)."""
        try:
            data = os.read(self._pipe, OUTPUT_BYTES_PER_TURN)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(self._pipe)
            return False
        at_ns = self._clock.now_ns()
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > LINE_BYTES_MAX:
            lines.append(self._partial)
            self._partial = b""
        for line in lines:
            self._hear(line[:LINE_BYTES_MAX].decode(errors="replace").rstrip(), at_ns)
        return True

    def _hear(self, line: str, at_ns: int) -> None:
        if line:
            self.last_line = shown.line(line)
        if self._file is not None:
            self._file.emit(makeLogRecord({"msg": line}))
        word, awaited = self._awaited or ("", None)
        if awaited is not None and not awaited.done() and line.partition(" ")[0] == word:
            awaited.set_result(line)
        if self._heard is not None:
            self._heard(line, at_ns)

    def _on_end(self) -> None:
        self.signal(signal.SIGKILL)  # its own children, if it has left any
        self._process.poll()
        for _ in range(LAST_WORDS_TURNS_MAX):
            if not self._on_output():
                break
        if self._partial:
            self._hear(self._partial.decode(errors="replace"), self._clock.now_ns())
        self._loop.remove_reader(self._handle)
        self._loop.remove_reader(self._pipe)
        os.close(self._handle)
        self._close_pipes()
        if self._file is not None:
            self._file.close()
        self._gone.set_result(None)
        if self._ended is not None:
            self._ended(self)

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


# --- labels -------------------------------------------------------------------------------------


def owner() -> str:
    """This process, unmistakably: its number, start time, PID namespace, and boot."""
    return f"{os.getpid()}:{_start_time(os.getpid())}:{_here()}"


def labels(run_id: str = "") -> dict[str, str]:
    """What every process that we start has in its environment."""
    # A session mark that chaosd itself was started with is not passed on.
    return {RUN: run_id, OWNER: owner(), SESSION: ""}


def within_session(command: Sequence[str]) -> list[str]:
    """The command as a session leader that says so: what leaves its session is not chaosd's.

    The shell knows its number and becomes the program; it looks at no argument.
    """
    return ["/bin/sh", "-c", f'export {SESSION}=$$; exec "$0" "$@"', *command]


def _here() -> str:
    namespace = Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return f"{namespace}:{boot.replace('-', '')[:12]}"


def _start_time(pid: int) -> str | None:
    """In ticks since boot; None if there is no such process, or only what is left of one."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The command's name, in brackets, may have blanks and brackets of its own.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def is_from_here(label: str) -> bool:
    """Whether the owner is, or was, of this boot and PID namespace."""
    return label.partition(":")[2].partition(":")[2] == _here()


def is_dead(label: str) -> bool:
    """Whether the owner certainly lives no more: one that can't be judged from here is not dead."""
    pid, _, rest = label.partition(":")
    start_time, _, where = rest.partition(":")
    return where == _here() and pid.isdecimal() and _start_time(int(pid)) != start_time


# --- sweeping -----------------------------------------------------------------------------------


def sweep() -> list[str]:
    """Kill what dead owners left behind, wait until it is gone, and say each in a few words."""
    swept = []
    killed = []
    for pid, run_id, handle in _leftovers():
        try:
            # The handle is this process's and no other's, and its label was read through it.
            name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        except OSError:
            os.close(handle)
            continue
        killed.append(handle)
        swept.append(f"{name} (pid {pid})" + (f" of run {run_id}" if run_id else ""))
    for handle in killed:
        vanished = select.poll()
        vanished.register(handle, select.POLLIN)
        vanished.poll(KILL_S * 1000)
        os.close(handle)
    return swept


def of_run(run_id: str) -> Iterator[int]:
    """The processes that have this run's label."""
    wanted = f"{RUN}={run_id}".encode()
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)


def called(name: str, proc: Path = Path("/proc")) -> Iterator[tuple[int, list[str]]]:
    """The processes of this name, whosever they are, and with what arguments."""
    for entry in proc.iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "comm").read_bytes() == f"{name}\n".encode():
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                yield int(entry.name), words[1:]


def _leftovers() -> Iterator[tuple[int, str, int]]:
    """The processes of dead owners: number, run, and a handle that the caller closes."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or entry.name == str(os.getpid()):
            continue
        if _dead_run(entry) is None:
            continue
        pid = int(entry.name)
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            continue
        # Read again now that the number can't come to mean another process unnoticed.
        run_id = _dead_run(entry)
        if run_id is None:
            os.close(handle)
        else:
            yield pid, run_id, handle


def _dead_run(entry: Path) -> str | None:
    """The run of a process whose owner is dead; None for every other process."""
    try:
        environment = (entry / "environ").read_bytes()
    except OSError:
        return None  # gone, or somebody else's
    found = dict(
        variable.decode(errors="replace").partition("=")[::2]
        for variable in environment.split(b"\0")
        if variable.startswith(tuple(f"{name}=".encode() for name in (OWNER, RUN, SESSION)))
    )
    if not is_dead(found.get(OWNER, "")) or _has_left(int(entry.name), found.get(SESSION)):
        return None
    return found.get(RUN, "")


def _has_left(pid: int, session: str | None) -> bool:
    """Whether a process is in another session than it carries; what is gone is."""
    try:
        return bool(session) and str(os.getsid(pid)) != session
    except OSError:
        return True
