"""What the shell's limits must leave to chaosd, and what is no bug where they don't."""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator

from chaosd.errors import MachineError

MB = 1 << 20
# Below these, libraries hang, or end the process with an exit code of their own.
ADDRESS_SPACE_MIN = 1024 * MB
OPEN_FILES_MIN = 64

_SHORT = {
    errno.ENOMEM: "memory",
    errno.EMFILE: "open files",
    errno.ENFILE: "open files",
    errno.ENOSPC: "space on the disk",
    errno.EDQUOT: "space on the disk",
    errno.EFBIG: "size of a file",
}


def check() -> None:
    """Raise MachineError if a limit is too low for anything to work."""
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if space != resource.RLIM_INFINITY and space < ADDRESS_SPACE_MIN:
        raise MachineError(
            f"this shell allows {space // MB} MB of address space and chaosd takes "
            f"{ADDRESS_SPACE_MIN // MB} at least (ulimit -v)"
        )
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < OPEN_FILES_MIN:
        raise MachineError(
            f"this shell allows {files} open files and chaosd takes {OPEN_FILES_MIN} at least "
            "(ulimit -n)"
        )


def shortage(error: BaseException) -> str | None:
    """What the machine, or a limit of this shell, lacks that this came of; None: it is no such."""
    for each in _chain(error):
        lacks = None
        unmapped = isinstance(each, ImportError) and "failed to map" in str(each)
        if isinstance(each, MemoryError) or unmapped:
            lacks = "memory"
        elif isinstance(each, RuntimeError) and "can't start new thread" in str(each):
            lacks = "threads"
        elif isinstance(each, OSError):
            lacks = _SHORT.get(each.errno or 0)
        if lacks is not None:
            return (
                f"the machine, or a limit of this shell, allows no more {lacks} (see `ulimit -a`)"
            )
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came of."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in seen:
        seen.append(following)
        yield following
        if isinstance(following, BaseExceptionGroup):
            for part in following.exceptions:
                yield from _chain(part)
        following = following.__cause__ or following.__context__
