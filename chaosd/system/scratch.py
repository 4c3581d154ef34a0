"""Private places in the temporary directory, which carry their owner's name and are swept with it.

A directory is chaosd's alone. A shortcut is a link by which a path is short and plain.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chaosd.errors import MachineError
from chaosd.system.processes import is_dead, owner

# What programs take in a path wherever it stands: in an address, in a config, in an environment.
_PLAIN = re.compile(r"[A-Za-z0-9_./+-]+")
_OURS = re.compile(r"chaosd-(\d+-\d+-\d+-[0-9a-f]+)-[0-9a-f]{6}")
ELSEWHERE = Path("/tmp")  # noqa: S108 - where TMPDIR itself is no plain path


def is_plain(path: Path) -> bool:
    """Whether every program takes this path as it is."""
    return _PLAIN.fullmatch(str(path)) is not None


@contextmanager
def directory() -> Iterator[Path]:
    """A directory that nobody else may look into, until this is done. Raises MachineError.

    What was left by those who were killed meanwhile is removed first.
    """
    sweep()
    place = made()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def made() -> Path:
    """Such a directory, for who removes it. Raises MachineError."""
    place = _name()
    try:
        place.mkdir(mode=0o700)
    except OSError as error:
        raise _unmade(place, error) from error
    return place


def shortcut(target: Path) -> Path:
    """A short and plain path to a directory whose own path is not. Raises MachineError."""
    link = _name()
    try:
        link.symlink_to(target)
    except OSError as error:
        raise _unmade(link, error) from error
    return link


def sweep() -> list[str]:
    """Remove what dead owners have left, and say each in a few words."""
    swept = []
    for place in sorted({Path(tempfile.gettempdir()), ELSEWHERE}):
        for path in place.glob("chaosd-*-*-*-*-*"):
            named = _OURS.fullmatch(path.name)
            if named is None or not is_dead(named[1].replace("-", ":")):
                continue
            with suppress(OSError):  # another sweep was quicker
                if (what := _remove(path)) is not None:
                    swept.append(f"{what} {path}")
    return swept


def _remove(path: Path) -> str | None:
    """Say what it was; None for what is another user's, or nothing that chaosd makes."""
    found = path.lstat()
    if found.st_uid != os.geteuid():
        return None
    if stat.S_ISLNK(found.st_mode):
        path.unlink()
        return "shortcut"
    if stat.S_ISDIR(found.st_mode):
        shutil.rmtree(path)
        return "directory"
    return None


def _name() -> Path:
    where = Path(tempfile.gettempdir())
    where = where if is_plain(where) else ELSEWHERE
    return where / f"chaosd-{owner().replace(':', '-')}-{secrets.token_hex(3)}"


def _unmade(path: Path, error: OSError) -> MachineError:
    what = f"{path.parent} can't be written: {error.strerror} (set TMPDIR to another directory)"
    return MachineError(what)
