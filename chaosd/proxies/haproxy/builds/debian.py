"""HAProxy of Debian, by the machine's own apt with a state of its own: no root is needed.

apt verifies the suite's signature and every file's checksum. Of the packages that HAProxy depends
on only libraries are taken: what its installation scripts call is not needed to run it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from chaosd.errors import MachineError
from chaosd.system import commands

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
STEP_LIMIT_S = 300  # of one call of apt
ANSWER_LIMIT_S = 20  # of a silent mirror
SUITES = {
    *("bullseye", "bookworm", "trixie", "forky", "sid", "experimental"),
    *("oldoldstable", "oldstable", "stable", "testing", "unstable"),
}
LIBRARY = re.compile(r"^(lib|zlib)")
# `'URI' FILE BYTES SHA256:HASH`, as `apt-get --print-uris` has it.
_URI = re.compile(
    r"^'[^']+' (\S+)_(\S+)_(\S+)\.deb (\d+) (?:SHA256|SHA512):([0-9a-f]+)$", re.MULTILINE
)


class Package(NamedTuple):
    """A package that is to be fetched."""

    name: str
    version: str
    size_bytes: int


def lacking() -> str | None:
    """Say what Debian's packages can't be fetched without; None if it is all here."""
    for program in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(program) is None:
            return f"there is no {program} on this machine"
    return None


def mirror() -> str:
    """Return the mirror that this machine's apt takes Debian from. Raises MachineError."""
    if (reason := lacking()) is not None:
        raise MachineError(reason)
    found = choose_mirror(_run(["apt-get", "indextargets", "Created-By: Packages"]))
    if found is None:
        raise MachineError("apt is set up with no Debian mirror (name one: --mirror URL)")
    return found


def choose_mirror(targets: str) -> str | None:
    """Return the mirror of Debian itself out of what `apt-get indextargets` says, if there is one.

    Mirrors of updates, of security and of other vendors are others. Where nothing was fetched yet
    apt does not know whose a mirror is; then the one whose path ends as Debian's do is likelier.
    """
    likely: list[tuple[int, str]] = []
    for stanza in targets.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line)
        whose, uri = fields.get("Origin"), fields.get("Repo-URI")
        main = fields.get("Component") == "main" and fields.get("Release") in SUITES
        if uri and main and whose in {None, "Debian"}:
            path = uri.rstrip("/").endswith("/debian")
            likely.append(((whose == "Debian") * 2 + path, uri.rstrip("/")))
    return max(likely, key=lambda each: each[0])[1] if likely else None


def without_password(uri: str) -> str:
    """Return a mirror's address as it may be shown and stored."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def versions(madison: str) -> list[str]:
    """Return the versions that `apt-cache madison haproxy` lists, the newest first."""
    return [row.split("|")[1].strip() for row in madison.splitlines() if row.count("|") == 2]  # noqa: PLR2004 - name, version, place


def packages(uris: str) -> list[Package]:
    """Return HAProxy and its libraries out of what `apt-get install --print-uris` says."""
    found = [Package(match[1], unquote(match[2]), int(match[4])) for match in _URI.finditer(uris)]
    return [
        package for package in found if package.name == "haproxy" or LIBRARY.match(package.name)
    ]


class Apt:
    """An apt with a state of its own, in a directory, that knows these suites of Debian only."""

    def __init__(self, directory: Path, suites: tuple[str, ...], mirror: str) -> None:
        self._directory, self._mirror = directory, mirror
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (directory / folder).mkdir(parents=True)
        (directory / "status").touch()  # nothing is installed: every library is to be fetched
        options = "target=Packages lang=none"
        if KEYRING.is_file():
            options += f" signed-by={KEYRING}"
        lines = "".join(f"deb [{options}] {mirror} {suite} main\n" for suite in suites)
        (directory / "sources.list").write_text(lines, encoding="utf-8")

    def update(self) -> None:
        """Fetch the lists of packages, signatures verified. Raises MachineError."""
        try:
            self._apt("apt-get", "update", "--error-on=any")
        except MachineError as error:
            raise MachineError(f"{error} (another mirror: --mirror URL)") from None

    def version(self, wanted: str) -> str:
        """Return the newest HAProxy that is a `wanted`, as "3.0". Raises MachineError."""
        offered = versions(self._apt("apt-cache", "madison", "haproxy"))
        for version in offered:
            if re.match(rf"(\d+:)?{re.escape(wanted)}(?!\d)", version):
                return version
        found = ", ".join(offered) or "none"
        raise MachineError(
            f"HAProxy {wanted}: Debian has none (its suites have {found}, at "
            f"{without_password(self._mirror)})"
        )

    def needed(self, version: str) -> list[Package]:
        """Return HAProxy in this version and its libraries, as apt resolves them."""
        words = ("install", "--yes", "--print-uris", "--no-install-recommends")
        found = packages(self._apt("apt-get", *words, f"haproxy={version}"))
        if not any(package.name == "haproxy" for package in found):
            raise MachineError(f"HAProxy {version}: apt-get does not say where it is")
        return found

    def fetch(self, needed: list[Package], folder: Path) -> list[Path]:
        """Download packages into a folder, checksums verified. Raises MachineError."""
        names = [f"{package.name}={package.version}" for package in needed]
        self._apt("apt-get", "download", *names, folder=folder)
        files = sorted(folder.glob("*.deb"))
        if len(files) != len(needed):
            raise MachineError(f"apt-get download: {len(files)} files came, not {len(needed)}")
        return files

    def _apt(self, program: str, *words: str, folder: Path | None = None) -> str:
        return _run([program, *self._options(), *words], folder)

    def _options(self) -> Iterator[str]:
        here = self._directory
        for option in (
            f"Dir::State={here}/state",
            f"Dir::State::status={here}/status",
            f"Dir::Cache={here}/cache",
            "Dir::Cache::pkgcache=pkgcache.bin",
            "Dir::Cache::srcpkgcache=srcpkgcache.bin",
            f"Dir::Etc::sourcelist={here}/sources.list",
            "Dir::Etc::sourceparts=/dev/null",
            "Dir::Etc::preferences=/dev/null",
            "Dir::Etc::preferencesparts=/dev/null",
            # Old suites' and sid's index files are past their date on mirrors that stand still.
            "Acquire::Check-Valid-Until=false",
            "Acquire::PDiffs=false",
            "Acquire::ForceHash=SHA256",
            "Acquire::Retries=2",
            f"Acquire::http::Timeout={ANSWER_LIMIT_S}",
            f"Acquire::https::Timeout={ANSWER_LIMIT_S}",
            "APT::Sandbox::User=root",  # as the user who runs it: _apt may not write there
            "APT::Get::List-Cleanup=false",
        ):
            yield from ("-o", option)


def unpack(files: list[Path], root: Path) -> None:
    """Unpack packages into one root, without running any of their scripts."""
    for file in files:
        _run(["dpkg-deb", "--extract", str(file), str(root)])
    shutil.rmtree(root / "usr" / "share", ignore_errors=True)  # documents; nobody reads them here


def _run(command: list[str], folder: Path | None = None) -> str:
    name = " ".join(word for word in (command[0], _verb(command)) if word)
    try:
        done = commands.ended(command, limit_s=STEP_LIMIT_S, folder=folder)
    except subprocess.TimeoutExpired:
        raise MachineError(f"{name}: not done after {STEP_LIMIT_S} s") from None
    except OSError as error:
        raise MachineError(f"{name}: {error.strerror or error}") from None
    if done.returncode:
        raise MachineError(f"{name}: {commands.error_line(done.stderr)[:300]}")
    return done.stdout


def _verb(command: list[str]) -> str:
    options = {word for word, before in zip(command[1:], command, strict=False) if before == "-o"}
    return next((w for w in command[1:] if not w.startswith("-") and w not in options), "")
