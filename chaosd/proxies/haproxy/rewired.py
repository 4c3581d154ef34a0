"""A user's files as the plugin uses them: judged, chosen from, copied for a launch, predicted."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from chaosd import shown
from chaosd.errors import ConfigError
from chaosd.history.values import Address
from chaosd.plugins.probe import Knock
from chaosd.plugins.proxy import StandIn, Wiring
from chaosd.plugins.timeline import OLD
from chaosd.proxies.haproxy.cfg import own_file
from chaosd.proxies.haproxy.cfg.address import target
from chaosd.proxies.haproxy.cfg.backend import read_backend
from chaosd.proxies.haproxy.cfg.effective import Effective, Proxy, Server
from chaosd.proxies.haproxy.cfg.env_file import EnvironmentFileError, read_environment
from chaosd.proxies.haproxy.cfg.host import Host
from chaosd.proxies.haproxy.cfg.limits import before_backends
from chaosd.proxies.haproxy.cfg.record import record
from chaosd.proxies.haproxy.cfg.secrets import without_secrets
from chaosd.proxies.haproxy.cfg.settings import backend_of
from chaosd.proxies.haproxy.cfg.source import Place, Trouble
from chaosd.proxies.haproxy.config import Config
from chaosd.proxies.haproxy.model.backend import Backend, Limit, Unknown
from chaosd.proxies.haproxy.model.standing import BESIDE, NOBODY, Standing
from chaosd.proxies.haproxy.pasting import Sections
from chaosd.proxies.haproxy.rewire import diff, overrides, wording
from chaosd.proxies.haproxy.rewire.choose import NotChosenError, candidates, is_followed
from chaosd.proxies.haproxy.rewire.copies import Rewired
from chaosd.proxies.haproxy.rewire.own_files import (
    NOBODY_PORT,
    OwnFiles,
    Wish,
)

_NOT_READ = (Trouble.UNREADABLE, Trouble.REFUSED, Trouble.UNDECIDED)
_PLACED = re.compile(r"^\S+:\d+: ")
DIFFERENCE = "haproxy.diff"  # beside the copies, for people
_SETTLED_S_MAX = 60.0  # with longer timers a cycle ends unrecovered
TRY = Wiring(  # where only what does not depend on addresses is wanted
    listen=Address("127.64.0.1", 8080),
    dns=Address("127.64.0.2", 5353),
    app_name="",
    app_port=8080,
    replicas=1,
    log=None,
    api=Path("api.sock"),
    directory=Path("/nowhere"),
    scratch=Path("/nowhere"),
    beside="127.64.0.3",
)


class Facts(NamedTuple):
    """What is known of the program by now."""

    version: str | None
    features: frozenset[str] | None
    environment: Mapping[str, str]  # that it will inherit
    is_elsewhere: bool  # it does not run on this machine
    open_files_max: int | None  # that it may have; None: as many as it likes


class RewiredFiles:
    """The user's files behind one proxy plugin.

    `facts` says what is known of the program by now.
    """

    def __init__(self, config: Config, facts: Callable[[], Facts]) -> None:
        self._config, self._facts = config, facts
        self._read: tuple[Facts, OwnFiles] | None = None
        self._last: Rewired | None = None  # of the last launch
        self._copied: tuple[Rewired, Effective] | None = None  # those copies as HAProxy reads them
        self._difference: tuple[Rewired, list[str]] | None = None

    def files(self) -> OwnFiles:
        """The files for the version that is known by now. Raises EnvironmentFileError."""
        facts = self._facts()
        if self._read is None or self._read[0] != facts:
            config = self._config
            wish = Wish(
                backend=config.backend,
                host=config.host,
                path=config.path,
                root=config.root,
                programs=config.allow_programs,
                overrides=overrides.of(config),
            )
            extra = {} if config.env is None else read_environment(config.env)
            files = OwnFiles(
                config.files,
                wish,
                facts.version,
                environment=facts.environment,
                extra=extra,
                features=facts.features,
                is_elsewhere=facts.is_elsewhere,
                open_files_max=facts.open_files_max,
            )
            self._read = facts, files
        return self._read[1]

    # --- before a run ---

    def problems(self) -> list[str]:
        """What keeps the files from being measured, a line each."""
        try:
            files = self.files()
        except EnvironmentFileError as error:
            return [str(error)]
        found = [
            f"{problem.place}: {problem.what}"
            for problem in files.effective.problems
            if problem.trouble in _NOT_READ
        ]
        if found:
            return found
        try:
            _ = files.probe_route
        except NotChosenError as error:
            where = ", ".join(map(str, files.paths))
            return [f"{where}: {wording.not_chosen(str(error), error.names)}"]
        return []

    def stand_in(self, app_port: int) -> StandIn | None:
        if self.problems():
            return None
        files = self.files()
        choice, request = files.choice, files.probe_route.request
        app_env = files.rewired(_for_port(app_port)).app_env
        return StandIn(
            name=choice.name.lower().rstrip("."),
            instances=choice.instances,
            beside=choice.names_beside if choice.beside else None,
            env=app_env,
            knock=Knock(
                host=request.host,
                path=request.path,
                tls=request.tls,
                proxy_line=files.probe_route.accept_proxy and not request.tls,
                identified=True,
            ),
            settled_s=_settled_s(files.effective, choice.moved[0]),
            shakes_hands=request.tls or "CHAOSD_CERTIFICATE" in app_env,
        )

    def choices(self) -> list[str]:
        files = self.files()
        unset = [wording.unset(n, place, files.stand_ins[n]) for n, place in files.unset.items()]
        return [*wording.choices(files.choice, files.probe_route), *unset]

    def not_carried(self) -> list[str]:
        rewired = self._last or self.files().rewired(TRY)
        return [
            shown.masked(wording.lost(lost))
            for lost in sorted(rewired.lost, key=lambda lost: lost.place)
        ]

    def difference(self) -> list[str]:
        if self._last is None:
            return []
        if self._difference is None or self._difference[0] is not self._last:
            copies = self._last.copies
            lines = [line for copy in copies for line in diff.unified(copy, without_secrets)]
            self._difference = self._last, lines
        return self._difference[1]

    # --- a launch ---

    def copy(self, wiring: Wiring) -> dict[str, bytes]:
        """The copies and what lies beside them. Raises ConfigError, which `problems` foretells."""
        if problems := self.problems():
            raise ConfigError(*problems)
        self._last = self.files().rewired(wiring)
        if foreign := self.files().foreign(self._last, wiring):
            raise ConfigError(*(wording.foreign(self._user_place(place)) for place in foreign))
        found = {
            name: copy.text.encode()
            for name, copy in zip(self.names(), self._last.copies, strict=True)
        }
        difference = "\n".join([*self.difference(), *map(_comment, self.not_carried()), ""])
        return found | self._last.made | {DIFFERENCE: difference.encode()}

    def names(self) -> list[str]:
        """The names of the copies, in the order of the files."""
        rest = [f"haproxy-{number}.cfg" for number in range(2, len(self.files().sources) + 1)]
        return ["haproxy.cfg", *rest]

    def environment(self) -> dict[str, str]:
        """What the program is started with."""
        return self.files().environment

    @property
    def base(self) -> Path:
        """What relative paths are relative to."""
        return self.files().base

    def in_users_lines(self, directory: PurePath, said: str) -> str:
        """What HAProxy says of copies in this directory, with the user's lines for theirs."""
        at_copies = re.compile(rf"{re.escape(str(directory))}/([^/\s:]+):(\d+)")
        users = at_copies.sub(lambda at: self.users(at[1], int(at[2])), said)
        if users != said or _PLACED.match(said):
            return users
        return f"{', '.join(map(str, self.files().paths))}: {said}"

    def users(self, copy: str, line: int) -> str:
        """A line of a copy, as `file:line` of the user's."""
        assert self._last is not None  # noqa: S101 - it was launched, or it would not be checked
        return str(self._last.user_place(self.names().index(copy), line))

    # --- its settings ---

    def effective(self) -> tuple[Effective, tuple[Server, ...]]:
        """What the copies say, and the servers that are the app."""
        rewired = self._last or self.files().rewired(TRY)
        if self._copied is None or self._copied[0] is not rewired:
            self._copied = rewired, self.files().of_copies(rewired)
        found = self._copied[1]
        backend = found.backend(self.files().choice.backend.name)
        names = {server.name for server in self.files().choice.moved}
        servers = () if backend is None else backend.servers
        return found, tuple(server for server in servers if server.name in names)

    def backends(self, host: Host) -> tuple[Backend | Unknown, ...]:
        """All backends of the user's files, as they are; only the chosen one if one is chosen."""
        try:
            effective = self.files().effective
        except EnvironmentFileError:
            return ()
        before = before_backends(effective)
        return tuple(
            read_backend(effective, proxy, host, before)
            for proxy in effective.proxies
            if proxy.servers and self._config.backend in (None, proxy.name)
        )

    def movable(self) -> list[str]:
        """Which backends can move, where it is not said which one does."""
        if self._config.backend is not None:
            return []
        try:
            return [backend.name for backend in candidates(self.files().effective)]
        except EnvironmentFileError:
            return []

    def standing(self, backend: Backend) -> Standing:
        """How this one, which is `backend`'s, stands in a run."""
        choice = self.files().choice
        names = {server.name for server in choice.moved}
        places = {}
        for server in self._copied_backend().servers:
            where = BESIDE if server.name not in names else OLD
            if target(server.address.text).port == str(NOBODY_PORT):
                where = NOBODY
            places[server.name] = where
        return Standing(backend=backend, host=choice.name.lower(), places=places)

    def sections(self) -> Sections | None:
        """What of the user's files a setting of the YAML is set in; None if nobody knows."""
        if self.problems():
            return None
        choice, route = self.files().choice, self.files().probe_route
        used = {str(s.values["resolvers"].value) for s in choice.moved if is_followed(s)}
        frontend = choice.backend if route.frontend is None else route.frontend
        return Sections(
            resolvers=tuple(sorted(used)),
            backend=f"{choice.backend.kind} {choice.backend.name}",
            frontend=f"{frontend.kind} {frontend.name}",
            servers=tuple(server.name for server in choice.moved),
        )

    def _copied_backend(self) -> Proxy:
        found = self.effective()[0].backend(self.files().choice.backend.name)
        assert found is not None  # noqa: S101 - the copies have the sections of the files
        return found

    def backend(self, host: Host) -> Backend | Unknown | None:
        """The backend that moves, as the copies have it, with the lines of the user's files."""
        if self.problems():
            return None
        found = backend_of(*self.effective(), host)
        if isinstance(found, Unknown) and found.file is not None:
            place = self._user_place(Place(Path(found.file), found.line or 0))
            return replace(found, file=str(place.file), line=place.line)
        if isinstance(found, Backend):
            return replace(found, limits=tuple(map(self._of_user, found.limits)))
        return found

    def _of_user(self, limit: Limit) -> Limit:
        place = self._user_place(Place(Path(limit.file), limit.line))
        return replace(limit, file=str(place.file), line=place.line)

    def _user_place(self, place: Place) -> Place:
        """A line of a copy that is called as the user's file is: where it stands there."""
        rewired = self._last or self.files().rewired(TRY)
        for number, copy in enumerate(rewired.copies):
            if copy.path == place.file and place.line:
                return rewired.user_place(number, place.line)
        return place

    def settings(self) -> dict[str, Any]:
        """What holds of the app's servers, by their paths in the YAML."""
        if self.problems():
            return {}
        texts = "\0".join(without_secrets(source.text) for source in self.files().sources)
        digest = hashlib.sha256(texts.encode()).hexdigest()[:12]
        return record(*self.effective()) | {"config": f"text {digest}"}

    def timers_s(self) -> tuple[float, ...]:
        if self.problems():
            return own_file.default_timers_s()
        effective, servers = self.effective()
        return own_file.timers_s(effective, servers)


def movable(paths: Sequence[Path], env: Path | None) -> list[str]:
    """The backends of these files that can move. Raises ConfigError if there are none."""
    try:
        extra = {} if env is None else read_environment(env)
    except EnvironmentFileError as error:
        raise ConfigError(str(error)) from None
    files = OwnFiles(paths, Wish(), None, environment=os.environ, extra=extra)
    names = [backend.name for backend in candidates(files.effective)]
    if not names:
        unread = [p for p in files.effective.problems if p.trouble in _NOT_READ]
        where = ", ".join(map(str, paths))
        said = [f"{problem.place}: {problem.what}" for problem in unread]
        raise ConfigError(*(said or [f"{where}: {wording.nothing_moves()}"]))
    return names


def _comment(line: str) -> str:
    return f"# {line}"


def _for_port(app_port: int) -> Wiring:
    return replace(TRY, app_port=app_port)


def _settled_s(effective: Effective, server: Server) -> float:
    """How long a failover should take at most: all timers that may be waited for, one by one."""
    own, section = server.values, effective.resolvers.get(str(server.values["resolvers"].value))
    names = ("hold obsolete", "timeout resolve", "timeout retry")
    waits_ms = [section.values[name].value or 0 for name in names] if section is not None else []
    counts = int(own["fall"].value or 0) + int(own["rise"].value or 0)
    if own["check"].value:
        waits_ms.append(int(own["inter"].value or 0) * counts)
    return min(_SETTLED_S_MAX, 4.0 + sum(float(ms) for ms in waits_ms) / 1000)
