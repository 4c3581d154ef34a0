"""A user's own haproxy.cfg, as chaosd uses it: does it take what chaosd supplies?

It is not judged here whether the file is valid as a whole: HAProxy itself does that
(`haproxy -c`). What this reader can't read is a finding, with its line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from chaosd.proxies.haproxy.cfg import select
from chaosd.proxies.haproxy.cfg.condition import BuildFacts
from chaosd.proxies.haproxy.cfg.dialect import Dialect
from chaosd.proxies.haproxy.cfg.effective import Effective, Server
from chaosd.proxies.haproxy.cfg.findings import Finding, Kind
from chaosd.proxies.haproxy.cfg.keywords import RESOLVERS_DEFAULTS, server_defaults
from chaosd.proxies.haproxy.cfg.reader import read_files
from chaosd.proxies.haproxy.cfg.resolve import resolve
from chaosd.proxies.haproxy.cfg.source import Place, Statement, Trouble
from chaosd.proxies.haproxy.cfg.wording import IDENTITY_HEADER

# The environment that chaosd starts the proxy with; the values differ from cell to cell.
LISTEN, DNS, APP = "CHAOSD_LISTEN", "CHAOSD_DNS", "CHAOSD_APP"
LOG, API = "CHAOSD_LOG", "CHAOSD_API"
_STRICT_SINCE = (2, 3)  # a program that lacks descriptors does not start
_DESCRIPTORS_BESIDE = 20  # at least, beside those of its connections
SUPPLIED = (LISTEN, DNS, APP, LOG, API)


def read_own(
    path: Path,
    *,
    version: str | None,
    environment: Mapping[str, str],
    features: frozenset[str] | None = None,
    either: bool = False,
) -> Effective:
    """Read the file as this version would, with chaosd's variables and this environment.

    `features` are those of the build, if it is at hand: `.if feature(…)` asks for them. With
    `either` parts are read, too, of which it is not known whether they hold.
    """
    dialect = Dialect.of(version)
    kept = {name: text for name, text in environment.items() if name not in SUPPLIED}
    build = BuildFacts(dialect, features)
    document = read_files([path], environment=kept, supplied=SUPPLIED, build=build, either=either)
    return resolve(document, dialect)


def is_undecided(effective: Effective) -> bool:
    """Whether a part of the file may or may not hold."""
    return any(problem.trouble is Trouble.UNDECIDED for problem in effective.problems)


def app_servers(effective: Effective) -> tuple[Server, ...]:
    """The servers that are the app."""
    return select.by_address_variable(effective, APP)


def problems(effective: Effective, path: Path, *, by_address: bool = False) -> list[Finding]:
    """Find what keeps chaosd from measuring this file.

    With `by_address` its answers have to carry the address that they come from.
    """
    found = [
        Finding(problem.place, Kind.NOT_READ, problem.what)
        for problem in effective.problems
        if problem.trouble in (Trouble.UNREADABLE, Trouble.REFUSED, Trouble.NO_NEWLINE)
    ]
    if any(problem.trouble is Trouble.UNREADABLE for problem in effective.problems):
        return found
    servers = app_servers(effective)
    asking = sorted(
        name
        for name, resolvers in effective.resolvers.items()
        if any(DNS in nameserver.address.variables for nameserver in resolvers.nameservers)
    )
    is_there = {
        Kind.NO_LISTENER: _uses(effective, LISTEN, "bind"),
        Kind.NO_SERVER: bool(servers),
        Kind.NO_NAMESERVER: bool(asking),
    }
    # A part of the file that may or may not hold may have what seems to be missing.
    undecided = is_undecided(effective)
    found += [Finding(Place(path, 0), k) for k, is_ in is_there.items() if not is_ | undecided]
    if by_address and not undecided and not _names_identity(effective):
        found.append(Finding(Place(path, 0), Kind.NO_IDENTITY))
    return found + [f for server in servers if (f := _lookup(server, asking))]


def too_many_connections(effective: Effective, open_files_max: int | None) -> list[Finding]:
    """Find a limit of connections beyond the descriptors that HAProxy may have.

    It would not start: each takes two. Up to 2.2, or with `no strict-limits`, it only warns.
    """
    lines = [line for _, line in effective.document.statements("global")]
    if open_files_max is None or effective.dialect.version < _STRICT_SINCE:
        return []
    if any(line.keyword == "strict-limits" and line.modifier == "no" for line in lines):
        return []
    said = [line for line in lines if line.says("maxconn") and line.words[1:]]
    if not said or not said[-1].texts[1].isdecimal():
        return []
    last = said[-1]
    if 2 * int(last.texts[1]) + _DESCRIPTORS_BESIDE <= open_files_max:
        return []
    detail = f"{open_files_max:,}"
    return [Finding(last.place, Kind.DESCRIPTORS, detail, " ".join(last.texts))]


def advice(effective: Effective, path: Path) -> list[Finding]:
    """Find what would be known if the file were a little different; nothing here stops a run."""
    if any(problem.trouble is Trouble.UNREADABLE for problem in effective.problems):
        return []
    found = []
    statements = effective.document.statements()
    logs = [(s, line) for s, line in statements if line.says("log") and _has(line, LOG)]
    if not logs:
        found.append(Finding(Place(path, 0), Kind.NO_LOG))
    elif all(section.kind == "global" for section, _ in logs) and not any(
        line.says("log", "global") for _, line in statements
    ):
        found.append(Finding(logs[0][1].place, Kind.UNUSED_LOG))
    if not any(line.says("stats", "socket") and _has(line, API) for _, line in statements):
        found.append(Finding(Place(path, 0), Kind.NO_API))
    return found


def timers_s(effective: Effective, servers: Sequence[Server] | None = None) -> tuple[float, ...]:
    """`timeout resolve` and then `inter` of what is at the app, in seconds, each once.

    HAProxy's defaults where the file doesn't say, or says it by a variable without a value.
    """
    own = server_defaults(effective.dialect.version)
    unknown = (RESOLVERS_DEFAULTS["timeout resolve"], own["inter"])
    resolve_ms, inter_ms = [], []
    if any(problem.trouble is Trouble.UNREADABLE for problem in effective.problems):
        return default_timers_s()
    for server in app_servers(effective) if servers is None else servers:
        section = effective.resolvers.get(str(server.values["resolvers"].value))
        polls = section.values["timeout resolve"].value if section else None
        resolve_ms.append(unknown[0] if polls is None else polls)
        if server.values["check"].value:
            inter = server.values["inter"].value
            inter_ms.append(unknown[1] if inter is None else inter)
    return tuple(dict.fromkeys(float(ms or 0) / 1000 for ms in [*resolve_ms, *inter_ms]))


def default_timers_s() -> tuple[float, ...]:
    """The same where nothing is known."""
    own = server_defaults(Dialect().version)
    return tuple(
        float(ms or 0) / 1000 for ms in (RESOLVERS_DEFAULTS["timeout resolve"], own["inter"])
    )


def _has(statement: Statement, variable: str) -> bool:
    return any(variable in word.variables for word in statement.words)


def _uses(effective: Effective, variable: str, keyword: str) -> bool:
    lines = effective.document.statements()
    return any(line.says(keyword) and _has(line, variable) for _, line in lines)


def _names_identity(effective: Effective) -> bool:
    return any(IDENTITY_HEADER in line.texts for _, line in effective.document.statements())


def _lookup(server: Server, asking: list[str]) -> Finding | None:
    """Say why this server is never looked up at chaosd's nameserver, if so."""
    used = server.values["resolvers"]
    if not used.is_said:
        return Finding(server.place, Kind.NEVER_RESOLVED, next(iter(asking), "…"))
    if asking and used.value not in asking:
        detail = (
            f'{used.value} has no nameserver at "${{{DNS}}}" (use: resolvers {", ".join(asking)})'
        )
        return Finding(server.place, Kind.OTHER_RESOLVERS, detail)
    return None
