"""What runs on a worker, in the place of dask's: it starts processes and packs what they made."""

from __future__ import annotations

import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from chaosd import __version__
from chaosd.errors import ChaosdError, MachineError
from chaosd.sweep.machines import bring, child, sent
from chaosd.sweep.machines.task import Greeting, problem
from chaosd.system import files, scratch, usage
from chaosd.system.clock import SECOND_NS, RealClock

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
OUTAGES = "50ms..500ms"
CALIBRATION_S_MAX = 300.0
HANGS_S = 60.0  # a process that takes no CPU time for so long; one that measures always does
_LOOK_S = 1.0
_LAST_WORDS = 2000  # characters of what a process said that has died
_MADE: dict[str, subprocess.Popen[bytes]] = {}  # by a round's name, while it is made


def greet() -> dict[str, Any]:
    """What this machine is."""
    from distributed import get_worker

    worker = get_worker()
    limits = usage.limits()
    name = str(worker.name)
    found = Greeting(
        chaosd=__version__,
        name="" if "://" in name else name,  # its address stands for it
        host=platform.node(),
        boot=files.read_utf8(BOOT_ID, 100).strip() if BOOT_ID.exists() else platform.node(),
        cores=limits.cores,
        memory_bytes=limits.memory_bytes,
        disk_bytes=shutil.disk_usage(tempfile.gettempdir()).free,
    )
    return asdict(found)


def look(task: Mapping[str, Any], blobs: Mapping[str, bytes]) -> dict[str, Any]:
    """Whether this machine could make these arms: the result of `child`, or its problems."""
    return _done(child.LOOK, "", task, blobs)


def make(name: str, task: Mapping[str, Any], blobs: Mapping[str, bytes]) -> dict[str, Any]:
    """Make a round. `files` of the result is all of its directory, `run_s` its own time."""
    return _done(child.MAKE, name, task, blobs)


def _done(
    what: str, name: str, task: Mapping[str, Any], blobs: Mapping[str, bytes]
) -> dict[str, Any]:
    """`blobs` are those of the user's files that this worker was not sent before."""
    try:
        sent.keep(blobs)
        with scratch.directory() as place:
            directory, root = place / "round", place.resolve() / "sent"
            sent.lay(task["files"], root)
            data = sent.found_below(task["data"], task["said"], root)
            found = _child(what, {**task, "data": data}, directory, name)
            if "stopped" in found and directory.exists():
                found["files"] = bring.pack(directory, root)
            return found
    except ChaosdError as error:
        return problem(error)


def stop(name: str) -> None:
    """End a round that is made: what is under way is undone, and it counts as far as it came."""
    process = _MADE.get(name)
    if process is not None:
        process.terminate()


def calibrate(rate: str, outages: int) -> dict[str, Any]:
    """The largest error of this machine's meter, in seconds, and by how many outages."""
    with tempfile.TemporaryDirectory(prefix="chaosd-") as place:
        command = [sys.executable, "-m", "chaosd", "calibrate", "--rates", rate, "--n"]
        command += [str(outages), "--outages", OUTAGES, "--directory", place]
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=CALIBRATION_S_MAX,
                start_new_session=True,
            )
            (path,) = Path(place).glob("*/calibrate.json")
            (found,) = json.loads(files.read_utf8(path, files.MB))["rates"]
            gap = found["accuracy"]["gap"]
        except (subprocess.TimeoutExpired, OSError, ValueError, KeyError):
            return {}
        return {"ok": found["ok"], "worst_s": gap["worst_s"], "n": found["judged"]}


def _child(what: str, task: Mapping[str, Any], directory: Path, name: str) -> dict[str, Any]:
    alone = ["unshare", "--net", "--"] if task["isolated"] else []
    command = [*alone, sys.executable, "-m", child.__name__, what, str(directory)]
    with tempfile.TemporaryFile() as words:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
            start_new_session=True,  # a Ctrl-C in a terminal is for those who can undo
        )
        _MADE[name] = process
        try:
            with process, suppress(BrokenPipeError):
                assert process.stdin is not None  # noqa: S101
                assert process.stdout is not None  # noqa: S101
                process.stdin.write(json.dumps(task).encode() + b"\n")
                process.stdin.flush()
                said, hangs = _said(process)
        finally:
            _MADE.pop(name, None)
        if hangs:
            return problem(MachineError(f"its process did nothing for {HANGS_S:.0f} s"))
        try:
            found: dict[str, Any] = json.loads(said)
        except ValueError:
            size = words.seek(0, os.SEEK_END)
            words.seek(max(0, size - _LAST_WORDS))
            last = words.read().decode(errors="replace").strip().splitlines()
            what = f"its process ended with {process.returncode}: {last[-1] if last else 'silent'}"
            return problem(MachineError(what))
    return found


def _said(process: subprocess.Popen[bytes]) -> tuple[bytes, bool]:
    """All that it prints until it ends, and whether it was killed because it hangs."""
    assert process.stdout is not None  # noqa: S101
    clock = RealClock()
    said, spent, since_ns = bytearray(), -1, clock.now_ns()
    while True:
        if select.select([process.stdout], [], [], _LOOK_S)[0]:
            part = os.read(process.stdout.fileno(), files.MB)
            if not part:
                return bytes(said), False
            said += part
        if (spends := _cpu_ticks(process.pid)) != spent:
            spent, since_ns = spends, clock.now_ns()
        elif clock.now_ns() - since_ns > HANGS_S * SECOND_NS:
            os.killpg(process.pid, signal.SIGKILL)
            return b"", True


def _cpu_ticks(pid: int) -> int:
    """What a process has taken so far."""
    try:
        stat = files.read_utf8(Path(f"/proc/{pid}/stat"), files.MB)
    except OSError:
        return 0
    user, system = stat.rpartition(")")[2].split()[11:13]
    return int(user) + int(system)
