"""What every rule of the rewiring knows: the files, the choice, and chaosd's own addresses."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath

from chaosd.proxies.haproxy.cfg.address import Target, target
from chaosd.proxies.haproxy.cfg.effective import Effective, Proxy, Server
from chaosd.proxies.haproxy.cfg.source import Place, Section, Statement, Word
from chaosd.proxies.haproxy.rewire.carried import CarriedFiles
from chaosd.proxies.haproxy.rewire.choose import Choice
from chaosd.proxies.haproxy.rewire.edits import Edit, replace_word
from chaosd.proxies.haproxy.rewire.probe_route import ProbeRoute
from chaosd.proxies.haproxy.rewire.reasons import Lost, Reason

_NAME = re.compile(r"^str\(([^)]+)\)$")  # of an expression
CERTIFICATE = "made/certificate.pem"
_HERE = frozenset({"", "*", "127.0.0.1", "localhost", "[::1]", "::1", "0.0.0.0", "::", "[::]"})  # noqa: S104 - what a file says, nothing is bound


@dataclass(frozen=True, kw_only=True)
class Ours:
    """chaosd's own addresses, as haproxy.cfg has them."""

    entry: str
    dns: tuple[str, ...]  # nameservers: the first of a section's is the first of these, …
    log: str
    api: str
    app_port: int
    check_port: int  # where the stand-in app answers checks that go to another port
    app: str  # the address that the app has when HAProxy starts
    beside: str | None  # of the app that never moves; None: there is none
    nothing: str  # where nobody listens
    directory: PurePath  # where made files lie
    is_elsewhere: bool  # HAProxy does not run on this machine: files of it have to be carried there
    token: str  # of socket names that nobody else has
    descriptors: int | None  # that a process may have; None: not known
    by_address: bool  # answers have to say which address they come from


Lines = Mapping[str, str]  # by the words that it begins with: a line says it, and no other may


@dataclass(frozen=True)
class Overrides:
    """What chaosd's YAML sets over the user's files, as haproxy.cfg has it."""

    resolvers: Lines = field(default_factory=dict)
    server: tuple[str, ...] = ()  # words
    backend: Lines = field(default_factory=dict)
    frontend: Lines = field(default_factory=dict)
    process: Lines = field(default_factory=dict)


@dataclass
class Scene:
    """The files of one run, and what the rules collect about them."""

    effective: Effective
    choice: Choice
    probe_route: ProbeRoute
    ours: Ours
    base: Path  # what relative paths of the files are relative to
    root: Path | None = None  # below which absolute paths of the files are; None: of this machine
    programs: bool = False  # whether Lua and external checks may run
    overrides: Overrides = field(default_factory=Overrides)
    made: dict[str, bytes] = field(default_factory=dict)  # files, by their path in the directory
    carried: CarriedFiles = field(default_factory=CarriedFiles)
    lost: list[Lost] = field(default_factory=list)
    said: list[str] = field(default_factory=list)  # texts that checks look for in an answer
    script: dict[str, str] = field(default_factory=dict)  # what checks send → what they expect
    uses_check_port: bool = False

    def lose(self, place: Place, reason: Reason, detail: str = "") -> None:
        """Note what the copy does not have."""
        self.lost.append(Lost(place, reason, detail))

    def proxy(self, section: Section) -> Proxy:
        """The proxy that this section is."""
        return self.effective.proxy_at[section.header.place]

    def is_moved(self, section: Section) -> bool:
        """Whether it is the backend that moves."""
        return section.header.place == self.choice.backend.place

    def is_of_moved(self, section: Section) -> bool:
        """Whether it is the backend that moves, or the `defaults` that it has."""
        backend = self.choice.backend
        return section.header.place in (backend.place, backend.parent)

    def server(self, statement: Statement) -> Server | None:
        """The server of this line; None where the reader could not make one of it."""
        return self.effective.server_at.get(statement.place)

    def socket(self, bind: Statement) -> str:
        """The private socket that stands for this bind."""
        return f"abns@{self.ours.token}-{self._binds.index(bind) + 1}"

    def bind_of(self, server: Target) -> Statement | None:
        """The bind of the same files that a server points at."""
        if server.is_socket or not server.port or server.host not in _HERE | {"127.0.0.1"}:
            return None
        for bind in self._binds:
            for text in bind.texts[1].split(","):
                there = target(text)
                if there.port == server.port and there.host in _HERE | {server.host}:
                    return bind
        return None

    @cached_property
    def _binds(self) -> list[Statement]:
        lines = self.effective.document.statements()
        return [line for _, line in lines if line.says("bind") and line.words[1:]]

    @property
    def origin(self) -> PurePath:
        """What relative paths are relative to where HAProxy runs."""
        return self.ours.directory if self.ours.is_elsewhere else self.base

    def find(self, name: str, under: str = "") -> str | None:
        """The name by which HAProxy gets at a file or directory of the user's.

        The same name if that will do; another one where the file is carried to HAProxy; None if it
        is not there, or this user may not read it. `under` is the keyword of `global` that names
        the directory of relative names.
        """
        try:
            path = self._placed(self._directory(under) / Path(name))
            if not name or not os.access(path, os.R_OK):
                return None
            if not self.ours.is_elsewhere:
                return name if self.root is None else str(path)
            return str(self.ours.directory / self.carried.carry(path))
        except (OSError, ValueError):
            return None

    def _placed(self, named: Path) -> Path:
        if self.root is None or not named.is_absolute() or named.is_relative_to(self.root):
            return self.base / named
        return Path(f"{self.root}{os.path.normpath(named)}")

    def renamed(self, line: Statement, word: Word, there: str) -> Iterator[Edit]:
        """The file of this word is found by that name."""
        if there != word.text:
            yield replace_word(line, word, there, Reason.CARRIED)

    def _directory(self, keyword: str) -> str:
        lines = self.effective.document.statements("global")
        said = [line.texts[1] for _, line in lines if keyword and line.says(keyword)]
        return said[-1] if said else ""

    def names(self) -> tuple[str, ...]:
        """The hosts that a made certificate has to be for: of the probes, and of the servers."""
        found = [self.probe_route.request.host, self.choice.name]
        backend = self.choice.backend
        for line in (*backend.inherited, *backend.statements):
            for keyword, value in zip(line.texts, line.texts[1:], strict=False):
                if keyword == "verifyhost":
                    found.append(value)
                elif keyword in ("sni", "check-sni"):
                    found += _NAME.findall(value)[:1] if keyword == "sni" else [value]
        return tuple(dict.fromkeys(name for name in found if name))

    def certificate(self) -> str:
        """The path of a certificate that chaosd makes."""
        self.made.setdefault(CERTIFICATE, b"")
        return str(self.ours.directory / CERTIFICATE)

    def empty_file(self, name: str, content: bytes = b"") -> str:
        """The path of a file that stands for one that is missing."""
        made = f"made/{len(self.made)}-{PurePath(name).name or 'file'}"
        for known, data in self.made.items():
            if known.partition("-")[2] == PurePath(name).name and data == content:
                made = known
        self.made[made] = content
        return str(self.ours.directory / made)


Rule = Callable[[Scene, Section, Statement], Iterator[Edit]]
