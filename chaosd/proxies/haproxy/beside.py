"""What lies beside the user's own haproxy.cfg: maps, certificates, scripts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from chaosd.errors import MachineError
from chaosd.system.files import MB, read_bytes

_ENTRIES_MAX = 10_000  # that are looked at beside it: it may lie in /
_FILES_MAX, _FILES_BYTES_MAX = 500, 16 * MB


def beside(own: Sequence[Path]) -> dict[str, bytes]:
    """What has to come along where the file is read elsewhere. Raises MachineError."""
    own_path = next(iter(own), None)
    if own_path is None:
        return {}
    base = own_path if own_path.is_dir() else own_path.parent
    too_much = MachineError(
        f"{base}: too much to be put into a container beside {own_path.name} "
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
