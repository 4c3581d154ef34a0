"""Files of a container: read where the user has them, if that is this machine, or copied out."""

from __future__ import annotations

import atexit
import io
import shutil
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from chaosd.errors import MachineError
from chaosd.runtimes.compose.project import Inspected, name_of
from chaosd.runtimes.docker.endpoint import MissingError, translated
from chaosd.system import scratch
from chaosd.system.files import MB, read_bytes

BYTES_MAX = 16 * MB  # of an archive
LINKS_MAX = 8


def fetch(api: Any, container: Inspected, path: str) -> Path:
    """The file or directory at this path there: the user's own where it is mounted, or a copy.

    Raises MachineError.
    """
    files = dict(_files(api, container, path))
    mounted = _source(container, path)
    if mounted is not None and _is_same(mounted, files):
        return mounted
    place = scratch.made()
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    root = PurePosixPath(path).name
    for name, data in files.items():
        copy = place / root / name if name else place / root
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(data)
    return place / root


def _files(api: Any, container: Inspected, path: str) -> Iterator[tuple[str, bytes]]:
    """What is there, by paths below it; "" is the file itself."""
    where = f"{name_of(container)}:{path}"
    for _ in range(LINKS_MAX):
        packed = _archive(api, container["Id"], path, where)
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            members = archive.getmembers()
            if members and members[0].issym():
                path = str(PurePosixPath(path).parent / members[0].linkname)
                continue
            for member in members:
                file = archive.extractfile(member) if member.isfile() else None
                below = PurePosixPath(member.name).parts[1:]
                if file is not None and ".." not in below:
                    yield "/".join(below), file.read()
        return
    raise MachineError(f"{where}: too many links")


def _archive(api: Any, container: str, path: str, where: str) -> bytes:
    try:
        chunks, _ = translated(partial(api.get_archive, container, path))
        packed = b""
        for chunk in chunks:
            packed += chunk
            if len(packed) > BYTES_MAX:
                raise MachineError(f"{where}: more than {BYTES_MAX // MB} MB")
    except MissingError:
        raise MachineError(f"{where}: there is no such file") from None
    return packed


def _source(container: Inspected, path: str) -> Path | None:
    """Where the engine's machine has it, if it was mounted from there."""
    for mount in container["Mounts"]:
        there = PurePosixPath(mount["Destination"])
        if mount["Type"] == "bind" and PurePosixPath(path).is_relative_to(there):
            return Path(mount["Source"]) / PurePosixPath(path).relative_to(there)
    return None


def _is_same(path: Path, files: dict[str, bytes]) -> bool:
    """Whether this machine has it, too: the engine may be on another one."""
    try:
        return bool(files) and all(
            read_bytes(path / name if name else path, BYTES_MAX) == data
            for name, data in files.items()
        )
    except OSError:
        return False
