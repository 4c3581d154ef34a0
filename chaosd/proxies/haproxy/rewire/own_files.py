"""The user's files as one thing: read once for a version, chosen from, rewired for a wiring."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath

from chaosd.history.values import Address
from chaosd.plugins.proxy import Wiring
from chaosd.proxies.haproxy.cfg.condition import BuildFacts
from chaosd.proxies.haproxy.cfg.dialect import Dialect
from chaosd.proxies.haproxy.cfg.effective import Effective
from chaosd.proxies.haproxy.cfg.files import SourceText, load
from chaosd.proxies.haproxy.cfg.foreign import programs
from chaosd.proxies.haproxy.cfg.reader import read_texts
from chaosd.proxies.haproxy.cfg.resolve import resolve
from chaosd.proxies.haproxy.cfg.source import Place, Problem
from chaosd.proxies.haproxy.rewire import audit
from chaosd.proxies.haproxy.rewire.choose import Choice, choose
from chaosd.proxies.haproxy.rewire.copies import Rewired, rewire
from chaosd.proxies.haproxy.rewire.probe_route import ProbeRoute, find
from chaosd.proxies.haproxy.rewire.scene import Ours, Overrides, Scene

NOBODY_PORT = 1  # of the entry's address: nothing listens there
ANYWHERE = "0.0.0.0"  # noqa: S104 - of a container's own network
_KEPT_MAX = 2  # copies
STAND_IN = "chaosd"  # how the value of a variable begins that has none
_LABEL_MAX = 63  # of a host name


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the user says beside the files."""

    backend: str | None = None
    host: str | None = None
    path: str | None = None
    root: Path | None = None  # below which absolute paths of the files are
    programs: bool = False
    overrides: Overrides = field(default_factory=Overrides)


class OwnFiles:
    """The user's files, for one version of HAProxy. Nothing of them is ever written.

    `environment` is what HAProxy will inherit, `extra` what the user gives beside it. It
    `is_elsewhere` if it does not run on this machine. It may have `open_files_max` descriptors;
    None: as many as it likes.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        wish: Wish,
        version: str | None,
        *,
        environment: Mapping[str, str],
        extra: Mapping[str, str],
        features: frozenset[str] | None = None,
        is_elsewhere: bool = False,
        open_files_max: int | None = None,
    ) -> None:
        self.paths = tuple(paths)
        self._wish, self._extra = wish, dict(extra)
        self._environment = {**environment, **extra}
        self._is_elsewhere, self._open_files_max = is_elsewhere, open_files_max
        self._build = BuildFacts(Dialect.of(version), features)
        self.sources, self._problems = load(paths)
        # Of the latest addresses: a file may be large, and several want to know the same of it.
        self._rewired: dict[Wiring, Rewired] = {}
        self._copies: tuple[Rewired, Effective] | None = None

    @property
    def base(self) -> Path:
        """What relative paths in the files are relative to: where the first one lies."""
        first = self.paths[0]
        return (first if first.is_dir() else first.parent).resolve()

    @cached_property
    def effective(self) -> Effective:
        """What the files mean; a variable without a value has a stand-in's."""
        return self._read(self.sources, self._problems)

    @cached_property
    def unset(self) -> dict[str, Place]:
        """Variables that have no value here, each with the first line that has it."""
        document = read_texts(
            self.sources, self._problems, environment=self._environment, build=self._build
        )
        found: dict[str, Place] = {}
        for section in document.sections:
            for line in (section.header, *section.statements):
                for word in line.words:
                    for name in sorted(word.unset):
                        found.setdefault(name, line.place)
        return found

    @cached_property
    def stand_ins(self) -> dict[str, str]:
        """A value for each variable that has none: a host name of its own."""
        found: dict[str, str] = {}
        for variable in self.unset:
            words = re.findall(r"[a-z0-9]+", variable.lower())
            name = "-".join([STAND_IN, *words])[:_LABEL_MAX]
            ends = ("", *(f"-{number}" for number in range(2, len(self.unset) + 1)))
            free = (f"{name[: _LABEL_MAX - len(end)].rstrip('-')}{end}" for end in ends)
            found[variable] = next(value for value in free if value not in found.values())
        return found

    @property
    def environment(self) -> dict[str, str]:
        """What HAProxy is started with beside chaosd's own environment."""
        return {**self.stand_ins, **self._extra}

    @cached_property
    def choice(self) -> Choice:
        """Which backend moves. Raises NotChosenError."""
        return choose(self.effective, self._wish.backend)

    @cached_property
    def probe_route(self) -> ProbeRoute:
        """Where the probe comes in. Raises NotChosenError."""
        return find(self.effective, self.choice, self._wish.host, self._wish.path)

    def rewired(self, wiring: Wiring) -> Rewired:
        """The copies for these addresses. Raises NotChosenError."""
        if (known := self._rewired.get(wiring)) is not None:
            return known
        scene = Scene(
            effective=self.effective,
            choice=self.choice,
            probe_route=self.probe_route,
            ours=self._ours(wiring),
            base=self.base,
            root=None if self._wish.root is None else self._wish.root.resolve(),
            programs=self._wish.programs,
            overrides=self._wish.overrides,
        )
        if len(self._rewired) >= _KEPT_MAX:
            self._rewired.clear()
        found = self._rewired[wiring] = rewire(scene, self.sources)
        return found

    def foreign(self, rewired: Rewired, wiring: Wiring) -> list[Place]:
        """The lines of the copies that would open or ask what is not chaosd's, or run something.

        There are none, unless a rule is missing.
        """
        copies = self.of_copies(rewired)
        places = dict.fromkeys(audit.foreign(copies, self._ours(wiring)))
        if not self._wish.programs:
            places |= dict.fromkeys(finding.place for finding in programs(copies.document))
        return list(places)

    def of_copies(self, rewired: Rewired) -> Effective:
        """The copies as HAProxy reads them; lines are those of the copies."""
        if self._copies is not None and self._copies[0] is rewired:
            return self._copies[1]
        sources = [SourceText(copy.path, copy.text) for copy in rewired.copies]
        self._copies = rewired, self._read(sources, ())
        return self._copies[1]

    def _ours(self, wiring: Wiring) -> Ours:
        host = wiring.listen.host
        nothing = Address("127.0.0.1" if host == ANYWHERE else host, NOBODY_PORT)
        digest = hashlib.sha256(str(wiring.directory).encode()).hexdigest()[:12]
        api = wiring.api
        return Ours(
            entry=str(wiring.listen),
            dns=tuple(map(str, wiring.nameservers)),
            log="stdout format raw" if wiring.log is None else str(wiring.log),
            api=f"ipv4@{api}" if isinstance(api, Address) else str(api),
            app_port=wiring.app_port,
            check_port=wiring.app_port + 1,
            app=str(wiring.app_at or nothing),
            beside=wiring.beside,
            nothing=str(nothing),
            directory=PurePath(wiring.directory),
            is_elsewhere=self._is_elsewhere,
            token=f"chaosd-{digest}",
            descriptors=self._open_files_max,
            by_address=wiring.by_address,
        )

    def _read(self, sources: Sequence[SourceText], problems: Sequence[Problem]) -> Effective:
        environment = {**self.stand_ins, **self._environment}
        document = read_texts(sources, problems, environment=environment, build=self._build)
        return resolve(document, self._build.dialect)
