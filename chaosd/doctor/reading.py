"""Files, a directory or standard input into a Subject; and the same again with edits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaosd.doctor.setting import Guess, Setting, guess
from chaosd.doctor.subject import Subject
from chaosd.errors import ConfigError
from chaosd.proxies.haproxy import builds
from chaosd.proxies.haproxy.cfg.condition import BuildFacts, features_in
from chaosd.proxies.haproxy.cfg.dialect import Dialect
from chaosd.proxies.haproxy.cfg.effective import Effective
from chaosd.proxies.haproxy.cfg.env_file import EnvironmentFileError, read_environment
from chaosd.proxies.haproxy.cfg.files import BYTES_MAX, SourceText, load, of_bytes
from chaosd.proxies.haproxy.cfg.reader import read_texts
from chaosd.proxies.haproxy.cfg.resolve import resolve
from chaosd.proxies.haproxy.cfg.source import Document, Place, Problem, Trouble
from chaosd.proxies.haproxy.rewire.edits import Copy, Edit, apply
from chaosd.system import commands

STDIN = Path("-")
STDIN_NAME = Path("<stdin>")
_ASKS_S_MAX = 5.0


@dataclass(frozen=True)
class Program:
    """The HAProxy that the files are for."""

    version: str | None = None  # as "3.0.11", or "3.0"; None: the newest line
    features: frozenset[str] | None = None
    from_machine: bool = False  # it is the one that is installed here

    @property
    def build(self) -> BuildFacts:
        return BuildFacts(Dialect.of(self.version), self.features)


@dataclass(frozen=True)
class Files:
    """The user's files and environment. Nothing of them is ever written."""

    sources: tuple[SourceText, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def subject(self, program: Program, setting: Setting | None) -> tuple[Subject, Guess]:
        """What they mean to this HAProxy; the setting is guessed if it is None.

        Raises ConfigError for what is no haproxy.cfg.
        """
        effective, unset = self._read(program)
        if other := [p for p in effective.problems if p.trouble is Trouble.UNREADABLE]:
            raise ConfigError(*(f"{problem.place}: {problem.what}" for problem in other))
        guessed = guess(effective) if setting is None else Guess(setting)
        return Subject(effective, self.sources, guessed.setting, unset), guessed

    def _read(self, program: Program) -> tuple[Effective, frozenset[str]]:
        build = program.build
        document = read_texts(self.sources, environment=self.environment, build=build)
        if unset := _unset(document):  # read again with stand-ins: nothing is left out for want
            environment = {**{name: _stand_in(name) for name in unset}, **self.environment}
            document = read_texts(self.sources, environment=environment, build=build)
        return resolve(document, build.dialect), frozenset(unset)

    def about(self, subject: Subject, backends: Collection[str], edits: Sequence[Edit]) -> Files:
        """The same, with blank lines for the frontends and for all other backends.

        It is read again for each finding: a large file would take a minute. What an edit is in
        stays, and so does everything where one server goes by the checks of another.
        """
        if not backends or subject.has_tracks:
            return self
        places = {edit.place for edit in edits}
        blank: dict[Path, set[int]] = {}
        for section, lines in subject.extents:
            kept = section.name in backends and section.kind != "frontend"
            if not kept and not any(Place(section.place.file, line) in places for line in lines):
                blank.setdefault(section.place.file, set()).update(lines)
        sources = tuple(
            SourceText(source.path, _without(source.text, blank.get(source.path, set())))
            for source in self.sources
        )
        return Files(sources, self.environment)

    def edited(self, edits: Iterable[Edit]) -> tuple[Files, tuple[Copy, ...]]:
        """The same with edits, in memory."""
        found = list(dict.fromkeys(edits))
        copies = tuple(
            apply(source.path, source.text, [e for e in found if e.place.file == source.path])
            for source in self.sources
        )
        sources = tuple(SourceText(copy.path, copy.text) for copy in copies)
        return Files(sources, self.environment), copies


def _without(text: str, numbers: Collection[int]) -> str:
    """A text without these lines; conditions such as `.if` stay."""
    return "\n".join(
        "" if number in numbers and not line.lstrip().startswith(".") else line
        for number, line in enumerate(text.split("\n"), start=1)
    )


def _stand_in(name: str) -> str:
    """What a variable without a value is taken for: what two of them say is not the same."""
    return f"${{{name}}}"


def open_files(paths: Sequence[Path], environment: Mapping[str, str]) -> Files:
    """Read them in HAProxy's `-f` order. Raises ConfigError, a line for each that can't be."""
    sources: list[SourceText] = []
    problems: list[Problem] = []
    for path in paths:
        found, wrong = _standard_input() if path == STDIN else load([path])
        sources += found
        problems += wrong
    if problems:
        raise ConfigError(*(f"{problem.place}: {problem.what}" for problem in problems))
    return Files(tuple(sources), dict(environment))


def environment(path: Path | None) -> dict[str, str]:
    """The variables of a file of NAME=value lines. Raises ConfigError."""
    try:
        return {} if path is None else read_environment(path)
    except EnvironmentFileError as error:
        raise ConfigError(str(error)) from None


def _standard_input() -> tuple[list[SourceText], list[Problem]]:
    found = of_bytes(STDIN_NAME, sys.stdin.buffer.read(BYTES_MAX + 1))
    return ([], [found]) if isinstance(found, Problem) else ([found], [])


def _unset(document: Document) -> list[str]:
    return sorted(
        {
            name
            for section in document.sections
            for line in (section.header, *section.statements)
            for word in line.words
            for name in word.unset
        }
    )


# --- which HAProxy ---


def program(version: str | None) -> Program:
    """The HAProxy of this version, or the one of this machine. Raises ConfigError."""
    if version is None:
        binary = builds.at_hand()
        return Program() if binary is None else _ask(binary) or Program()
    if not builds.NAME.match(version):
        raise ConfigError(f"--version: `{version}` is no version (write it like 3.0 or 2.6.12)")
    build = builds.find(version)
    return Program(version if build is None else build.version)


def _ask(binary: str) -> Program | None:
    """What `haproxy -vv` says of itself; None if it does not say it in time."""
    try:
        done = commands.ended([binary, "-vv"], limit_s=_ASKS_S_MAX)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = builds.VERSION.match(done.stdout)
    return found and Program(found[1], features_in(done.stdout), from_machine=True)
