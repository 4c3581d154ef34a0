"""What runs on a worker, in the place of dask's: it starts processes and packs what they made."""

from __future__ import annotations

import json
import os
import platform
import shutil
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
from chaosd.sweep.machines import bring, child
from chaosd.sweep.machines.task import Greeting, problem
from chaosd.system import files, scratch, usage

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
OUTAGES = "50ms..500ms"
CALIBRATION_S_MAX = 300.0
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


def look(task: Mapping[str, Any]) -> dict[str, Any]:
    """Whether this machine could make these arms: the result of `child`, or its problems."""
    return _child(child.LOOK, task, Path(os.devnull), "")


def make(name: str, task: Mapping[str, Any]) -> dict[str, Any]:
    """Make a round. `files` of the result is all of its directory, `run_s` its own time."""
    try:
        with scratch.directory() as place:
            directory = place / "round"
            found = _child(child.MAKE, task, directory, name)
            if "stopped" in found:
                found["files"] = bring.pack(directory)
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
                said = process.stdout.read()
        finally:
            _MADE.pop(name, None)
        try:
            found: dict[str, Any] = json.loads(said)
        except ValueError:
            size = words.seek(0, os.SEEK_END)
            words.seek(max(0, size - _LAST_WORDS))
            last = words.read().decode(errors="replace").strip().splitlines()
            what = f"its process ended with {process.returncode}: {last[-1] if last else 'silent'}"
            return problem(MachineError(what))
    return found
