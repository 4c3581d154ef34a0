"""What a rule looks at: the files as one version of HAProxy takes them, and where they are used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise
from pathlib import Path

from chaosd.doctor.finding import Spot
from chaosd.doctor.setting import Setting
from chaosd.proxies.haproxy.cfg.address import Target, target
from chaosd.proxies.haproxy.cfg.dialect import Version
from chaosd.proxies.haproxy.cfg.effective import Effective, Proxy, Resolvers, Server, Value
from chaosd.proxies.haproxy.cfg.files import SourceText
from chaosd.proxies.haproxy.cfg.source import Place, Section, Statement, Word
from chaosd.proxies.haproxy.rewire.choose import is_followed

_IMPLICIT = "default"  # a resolvers section that newer versions have by themselves


@dataclass(frozen=True)
class Subject:
    """The files, read."""

    effective: Effective
    sources: tuple[SourceText, ...]
    setting: Setting
    unset: frozenset[str] = frozenset()  # variables that have no value here

    @property
    def version(self) -> Version:
        return self.effective.dialect.version

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version))

    # --- servers ---

    @cached_property
    def backends(self) -> tuple[Proxy, ...]:
        """The `backend` and `listen` sections that have servers."""
        kinds = ("backend", "listen")
        return tuple(p for p in self.effective.proxies if p.kind in kinds and p.servers)

    def servers(self) -> Iterator[tuple[Proxy, Server]]:
        """Every server that is used, with its backend."""
        for proxy in self.backends:
            for server in proxy.servers:
                if not server.values["disabled"].value:
                    yield proxy, server

    @cached_property
    def followers(self) -> tuple[tuple[Proxy, Server], ...]:
        """The servers whose names are looked up again and again, as far as they are understood."""
        return tuple(
            (proxy, server)
            for proxy, server in self.servers()
            if is_followed(server) and not server.unread
        )

    def followers_by_backend(self) -> list[tuple[Proxy, list[Server]]]:
        """The same, together for each backend that has some."""
        groups = groupby(self.followers, key=lambda follower: follower[0].name)
        followers = [list(group) for _, group in groups]
        return [(group[0][0], [server for _, server in group]) for group in followers]

    @cached_property
    def lacking(self) -> dict[str, list[Server]]:
        """The servers whose `resolvers` section is in none of the files, by its name.

        HAProxy wants it of those by address, too.
        """
        found: dict[str, list[Server]] = {}
        for server in self.effective.servers:
            used = server.values["resolvers"]
            if not used.is_said or used.value is None or server.unread:
                continue
            name = str(used.value)
            implicit = name == _IMPLICIT and self.effective.dialect.has_default_resolvers
            if name not in self.effective.resolvers and not implicit:
                found.setdefault(name, []).append(server)
        return found

    @property
    def is_part(self) -> bool:
        """Whether there are other files that belong to these: what is not said may be said there.

        A file without any `defaults` that names resolvers which it does not have.
        """
        return bool(self.lacking) and not any(True for _ in self.statements("defaults"))

    def resolvers_of(self, server: Server) -> Resolvers | None:
        """The section that a server names, if it is in the files."""
        return self.effective.resolvers.get(str(server.values["resolvers"].value))

    def users_of(self, section: Resolvers) -> list[tuple[Proxy, Server]]:
        """The servers whose names this section looks up."""
        return [
            (proxy, server)
            for proxy, server in self.followers
            if server.values["resolvers"].value == section.name
        ]

    def target(self, server: Server) -> Target:
        """The address of a server, taken apart."""
        return target(server.address.text)

    def is_known(self, word: Word) -> bool:
        """Whether its text does not come from a variable that has no value here."""
        return not (word.variables & self.unset or word.unset)

    # --- lines ---

    @cached_property
    def extents(self) -> tuple[tuple[Proxy, range], ...]:
        """The lines of each `frontend`, `backend` and `listen`: up to the next section."""
        headers = sorted(section.header.place for section in self.effective.document.sections)
        after = {
            one: other.line if other.file == one.file else self._lines_of(one.file) + 1
            for one, other in pairwise([*headers, Place(Path(), 0)])
        }
        return tuple(
            (proxy, range(proxy.place.line, after[proxy.place]))
            for proxy in self.effective.proxies
            if proxy.kind != "defaults"
        )

    def _lines_of(self, file: Path) -> int:
        return max(self._lines.get(file, {}), default=0)

    @cached_property
    def has_tracks(self) -> bool:
        """Whether a server goes by the checks of another."""
        return any("track" in server.values for server in self.effective.servers)

    @cached_property
    def _sections(self) -> dict[Place, Section]:
        return {section.header.place: section for section in self.effective.document.sections}

    def section_at(self, place: Place) -> Section:
        """The section whose header stands here."""
        return self._sections[place]

    @cached_property
    def _statements(self) -> dict[Place, Statement]:
        return {line.place: line for _, line in self.effective.document.statements()}

    def statement_at(self, place: Place) -> Statement | None:
        """What this line says, if it says something in a section."""
        return self._statements.get(place)

    def parent_of(self, proxy: Proxy) -> Section | None:
        """The `defaults` section that a proxy inherits from."""
        return None if proxy.parent is None else self._sections.get(proxy.parent)

    def statements(self, *kinds: str) -> Iterator[tuple[Section, Statement]]:
        """The lines of all sections of these kinds; of all sections if none is given."""
        yield from self.effective.document.statements(*kinds)

    def line(self, place: Place) -> str:
        """A line of the files as it stands there; nothing for a place that is no line."""
        return self._lines.get(place.file, {}).get(place.line, "")

    @cached_property
    def _lines(self) -> dict[Path, dict[int, str]]:
        return {
            source.path: dict(enumerate(source.text.split("\n"), start=1))
            for source in self.sources
        }


# --- spots ---


def of_word(place: Place, word: Word) -> Spot:
    return Spot(place, word.start, word.end)


def of_words(statement: Statement, first: int = 0, last: int = -1) -> Spot:
    """From one word of a line to another, both included."""
    return Spot(statement.place, statement.words[first].start, statement.words[last].end)


def of_value(value: Value, otherwise: Spot) -> Spot:
    """Where a value is said, or another spot where nobody says it."""
    if value.place is None or value.word is None:
        return otherwise
    return of_word(value.place, value.word)


def of_setting(subject: Subject, value: Value, otherwise: Spot) -> Spot:
    """Where a value is said, its keyword included: `hold obsolete 10s`."""
    if value.place is None or value.word is None:
        return otherwise
    text = subject.line(value.place)
    start = len(text) - len(text.lstrip()) + 1
    return Spot(value.place, start, value.word.end)


def of_server(server: Server) -> Spot:
    """A server's name and address."""
    return Spot(server.place, server.statement.words[0].start, server.address.end)
