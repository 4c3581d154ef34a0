"""A run directory as values that go over the network, and back.

Only regular files are packed, and only these can be unpacked, each at a plain relative path: no
link, no device, nothing outside of the directory. Both sides have the same bounds, so that neither
believes the other.
"""

from __future__ import annotations

import re
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path

from chaosd.errors import MachineError
from chaosd.system import files

FILES_MAX = 5000
BYTES_MAX = 512 * files.MB  # of all files of a round together, unpacked
DEPTH_MAX = 6
_LEVEL = 1  # of compression: samples are packed already, the rest shrinks anyway
_TEXTS = {
    *(".json", ".jsonl", ".md", ".html", ".xml"),
    *(".txt", ".yaml", ".cfg", ".diff", ".log"),
}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@=,-]{0,200}")

Packed = dict[str, bytes]  # relative path → compressed bytes


def pack(directory: Path, root: Path | None = None) -> Packed:
    """All regular files below. Raises MachineError where they are too many or too large.

    Texts call a file below `root` as it is called where the sweep was begun.
    """
    found: Packed = {}
    left = BYTES_MAX
    for path in sorted(directory.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        name = path.relative_to(directory).as_posix()
        _refuse(name)
        if len(found) == FILES_MAX:
            raise MachineError(f"a round has more than {FILES_MAX:,} files")
        try:
            content = files.read_bytes(path, left)
        except OSError as error:
            raise MachineError(f"a round can't be brought: {name}: {error.strerror}") from None
        left -= len(content)
        if root is not None and path.suffix in _TEXTS:
            content = content.replace(f"{root}/".encode(), b"/").replace(f"{root}".encode(), b"/")
        found[name] = zlib.compress(content, _LEVEL)
    return found


def unpack(packed: Mapping[str, bytes], directory: Path) -> None:
    """Make the directory, whole or not at all; files get what the umask leaves them.

    Raises MachineError for what is no run directory of bounded size, or can't be written.
    """
    part = directory.with_name(f".{directory.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    if len(packed) > FILES_MAX:
        raise MachineError(f"a round has more than {FILES_MAX:,} files")
    left = BYTES_MAX
    try:
        part.mkdir(parents=True)
        for name, compressed in packed.items():
            _refuse(name)
            content = inflated(compressed, left, f"a round has more than {files.size(BYTES_MAX)}")
            left -= len(content)
            path = part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.write(content)
        part.rename(directory)
    except OSError as error:
        raise MachineError(f"{directory}: can't be written: {error.strerror}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _refuse(name: object) -> None:
    """Raises MachineError for what is no plain relative path."""
    steps = name.split("/") if isinstance(name, str) else []
    if not 0 < len(steps) <= DEPTH_MAX or not all(map(_NAME.fullmatch, steps)):
        raise MachineError(f"a round has a file of a strange name: {name!r:.100}")


def inflated(compressed: bytes, most: int, too_much: str) -> bytes:
    """The bytes, if they are not more than that. Raises MachineError."""
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(compressed, most + 1)
    except zlib.error:
        raise MachineError("what came over the network is damaged") from None
    if len(content) > most:
        raise MachineError(too_much)
    if not inflater.eof:
        raise MachineError("what came over the network is damaged")
    return content
