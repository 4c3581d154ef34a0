"""Opens files that somebody else has written: regular ones only, and never more than a bound.

A link is followed to the file that it names. A FIFO would be waited for, a device may never end,
and a file of many GB fills the memory: none of them is opened, or read beyond the bound.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

MB = 1 << 20
LINE_BYTES_MAX = MB  # of what is read line by line, such as events.jsonl


class UnfitFileError(OSError):
    """A file that is not read; `strerror` says why, as of every OSError."""

    def __init__(self, why: str, path: Path) -> None:
        super().__init__(errno.EINVAL, why, str(path))


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading. Raises OSError, also for what is no regular file."""
    try:
        # What is no file is not even opened: that alone can have an effect on a device.
        _refuse_others(path.stat().st_mode, path)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except ValueError as error:  # a path with a NUL in it
        raise UnfitFileError("its path can't be one", path) from error
    try:
        _refuse_others(os.fstat(fd).st_mode, path)
        return os.fdopen(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


def _refuse_others(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise UnfitFileError("it is no regular file", path)


def read_bytes(path: Path, most: int) -> bytes:
    """All of a file. Raises OSError, also if it has more than `most` bytes."""
    parts, left = [], most
    with open_regular(path) as file:
        while (part := file.read(MB)) != b"":
            if part is None:  # a file of the kernel's that waits until there is something to say
                raise UnfitFileError("it has no end", path)
            parts.append(part)
            left -= len(part)
            if left < 0:
                raise UnfitFileError(f"it has more than {size(most)}", path)
    return b"".join(parts)


def read_utf8(path: Path, most: int, errors: str = "strict") -> str:
    """All of a file of UTF-8. Raises OSError, and UnicodeDecodeError if errors are `strict`."""
    return read_bytes(path, most).decode("utf-8", errors)


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a file with their ends; the last one may be torn.

    Raises OSError, also for a line of more than 1 MB.
    """
    with open_regular(path) as file:
        while line := file.readline(LINE_BYTES_MAX):
            if len(line) == LINE_BYTES_MAX and not line.endswith(b"\n"):
                raise UnfitFileError(f"it has a line of more than {size(LINE_BYTES_MAX)}", path)
            yield line


def size(count: int) -> str:
    """A bound as people read it."""
    return f"{count // MB} MB" if count >= MB else f"{count} bytes"
