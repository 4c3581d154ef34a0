"""What lies beside the user's own haproxy.cfg, for where it is put into a container."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from chaosd.errors import MachineError
from chaosd.system.files import MB, read_bytes

_ENTRIES_MAX = 10_000  # that are looked at: the file may lie in /
_FILES_MAX, _FILES_BYTES_MAX = 500, 16 * MB


def beside(files: Sequence[Path]) -> dict[str, bytes]:
    """What lies beside the user's own haproxy.cfg: maps, certificates, scripts."""
    if not files:
        return {}
    own_path = files[0]
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
        if is_hidden or not path.is_file() or path in files:
            continue
        try:
            left -= path.stat().st_size
            if left < 0 or len(found) >= _FILES_MAX:
                raise too_much
            found[name] = read_bytes(path, _FILES_BYTES_MAX)
        except OSError as error:
            raise MachineError(f"{path}: {error.strerror}") from None
    return found
