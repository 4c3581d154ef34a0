"""The user's own files on a worker: sent once each, by their content, and laid out for a round.

They lie below a private directory, each by the path that it has where the sweep was begun, and go
with the round. What comes is believed in nothing: sizes, paths and contents are looked at.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from chaosd.errors import ConfigError, MachineError
from chaosd.plan.arms import Plan
from chaosd.plugins.proxy import Parcel, Rewires, SendsFiles
from chaosd.sweep.machines.bring import inflated
from chaosd.system.files import MB, size

FILES_MAX, BYTES_MAX = 2000, 64 * MB  # of all arms together
_PATH_MAX = 1000  # characters
_KEPT: dict[str, bytes] = {}  # by SHA-256: as long as this process of the worker lives

Blobs = dict[str, bytes]  # SHA-256 → compressed bytes


class Sender:
    """What the workers are sent, and who has what already."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}
        self._there: dict[str, set[str]] = {}  # by worker

    def parcels(self, built: Plan) -> tuple[dict[str, str], dict[str, Mapping[str, Any]]]:
        """`files` and `said` of a task. Raises MachineError where it is too much."""
        files: dict[str, str] = {}
        said: dict[str, Mapping[str, Any]] = {}
        seen: dict[int, Parcel] = {}
        for arm in built.arms:
            parcel = arm.proxy.parcel() if isinstance(arm.proxy, SendsFiles) else None
            if parcel is None:
                if isinstance(arm.proxy, Rewires) and arm.proxy.own_files():
                    what = f"the files of {arm.config.proxy.type} can't be sent to other machines"
                    raise ConfigError(f"{arm.name}: {what}")
                continue
            said[arm.name] = parcel.said
            if id(parcel) not in seen:
                seen[id(parcel)] = parcel
                files |= {path: self._known(data) for path, data in parcel.files.items()}
        if len(files) > FILES_MAX or sum(map(len, self._contents.values())) > BYTES_MAX:
            raise MachineError(
                "the files of all arms are too much to be sent to other machines "
                f"(at most {FILES_MAX:,}, and {size(BYTES_MAX)})"
            )
        return files, said

    def blobs(self, worker: str, files: Mapping[str, str]) -> Blobs:
        """What this one does not have yet; it has it from now on."""
        there = self._there.setdefault(worker, set())
        lacks = set(files.values()) - there
        there |= lacks
        return {digest: zlib.compress(self._contents[digest]) for digest in lacks}

    def forget(self, worker: str) -> None:
        """It is gone, or has not got what it was sent."""
        self._there.pop(worker, None)

    def _known(self, data: bytes) -> str:
        digest = sha256(data).hexdigest()
        self._contents.setdefault(digest, data)
        return digest


# --- on the worker ---


def keep(blobs: Mapping[str, bytes]) -> None:
    """Raises MachineError for what is not what it is called, or too much.

    What came first goes first: of an earlier sweep, as one sends no more than is kept.
    """
    left = BYTES_MAX
    for digest, compressed in blobs.items():
        content = inflated(compressed, left, f"more than {size(BYTES_MAX)} of files were sent")
        if sha256(content).hexdigest() != digest:
            raise MachineError("a file that was sent came damaged")
        left -= len(content)
        _KEPT.pop(digest, None)
        _KEPT[digest] = content
    while sum(map(len, _KEPT.values())) > BYTES_MAX:
        del _KEPT[next(iter(_KEPT))]


def lay(files: Mapping[str, str], root: Path) -> None:
    """Write them below this directory, for this user alone. Raises MachineError."""
    if len(files) > FILES_MAX:
        raise MachineError(f"more than {FILES_MAX:,} files were sent")
    root.mkdir(mode=0o700)
    for path, digest in files.items():
        if not path.startswith("/") or len(path) > _PATH_MAX or os.path.normpath(path) != path:
            raise MachineError(f"a file was sent for a strange path: {path!r:.100}")
        if digest not in _KEPT:
            raise MachineError(f"{path} was not sent")
        place = Path(f"{root}{path}")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch(mode=0o600, exist_ok=False)
            place.write_bytes(_KEPT[digest])
        except OSError as error:
            raise MachineError(f"{path} can't be laid out: {error.strerror}") from None


def found_below(
    data: Mapping[str, Any], said: Mapping[str, Mapping[str, Any]], root: Path
) -> dict[str, Any]:
    """A run's config whose proxies find the user's files below this directory."""
    found = dict(data)
    found["arms"] = arms = [dict(arm) for arm in data["arms"]]
    for arm in arms:
        own = {key: _below(value, root) for key, value in said.get(arm["name"], {}).items()}
        if "proxy" in arm:
            arm["proxy"] = {**arm["proxy"], **own}
        elif any(f"proxy.{key}" in arm for key in own):
            arm.update({f"proxy.{key}": value for key, value in own.items()})
        elif own:
            found["proxy"] = {**found["proxy"], **own}
    return found


def _below(value: str | Iterable[str], root: Path) -> str | list[str]:
    if isinstance(value, str):
        return f"{root}{value}".rstrip("/")
    return [f"{root}{each}" for each in value]
