"""What lies beside the user's own haproxy.cfg: maps, certificates, scripts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from chaosd.errors import MachineError
from chaosd.system.files import MB, read_bytes

_ENTRIES_MAX = 10_000  # that are looked at: it may lie in /
_FILES_MAX, _FILES_BYTES_MAX = 500, 16 * MB


def files_beside(own: Sequence[Path]) -> dict[str, bytes]:
    """Those of the first of these files, or of that directory, by their names there.

    Raises MachineError if they are too many, or too much, or can't be read.
    """
    if not own:
        return {}
    base = own[0] if own[0].is_dir() else own[0].parent
    too_much = MachineError(
        f"{base}: too much to be put into a container beside {own[0].name} "
        f"(at most {_FILES_MAX} files and {_FILES_BYTES_MAX // MB} MB; give it a directory of "
        "its own)"
    )
    entries = list(islice(base.rglob("*"), _ENTRIES_MAX + 1))
    if len(entries) > _ENTRIES_MAX:
        raise too_much
    found: dict[str, bytes] = {}
    left = _FILES_BYTES_MAX
    for path in sorted(entries):
        name = path.relative_to(base).as_posix()
        is_hidden = name.startswith(".") or "/." in name
        if is_hidden or not path.is_file() or path in own:
            continue
        try:
            left -= path.stat().st_size
            if left < 0 or len(found) >= _FILES_MAX:
                raise too_much
            found[name] = read_bytes(path, _FILES_BYTES_MAX)
        except OSError as error:
            raise MachineError(f"{path}: {error.strerror}") from None
    return found
