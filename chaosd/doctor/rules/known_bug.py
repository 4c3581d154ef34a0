"""Bugs of this very version that this file meets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from chaosd.doctor.finding import Facts, Finding, Remedy, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_server, of_words
from chaosd.proxies.haproxy.cfg.dialect import Version
from chaosd.proxies.haproxy.cfg.effective import Proxy, Server

Users = list[tuple[Proxy, Server]]


@dataclass(frozen=True)
class Bug:
    """From `first` on, until it was fixed in `fixed`; who has it, and what it does."""

    name: str
    first: Version
    fixed: Version
    does: str
    has: Callable[[Subject, Users], Users]


def _all(_: Subject, users: Users) -> Users:
    return users


def _services(subject: Subject, users: Users) -> Users:
    return [user for user in users if subject.target(user[1]).is_service]


def _several(subject: Subject, users: Users) -> Users:
    names = {subject.target(server).host.lower() for _, server in users}
    return users if len(names) > 1 else []


def _aged(subject: Subject, users: Users) -> Users:
    def is_held(server: Server) -> bool:
        section = subject.resolvers_of(server)
        return section is not None and bool(section.values["hold obsolete"].value)

    return [user for user in users if is_held(user[1])]


# From the tracker and the log of commits; the versions are those of releases.
BUGS = (
    Bug(
        "no questions of its own",
        (1, 6),
        (1, 8),
        "a name is asked for only when a check of its server starts, and at most every "
        "`hold valid`; without `check` never",
        _all,
    ),
    Bug(
        "#345",
        (1, 8),
        (1, 8, 23),
        "a name is asked for every `hold valid`, whatever `timeout resolve` says",
        _all,
    ),
    Bug(
        "#345",
        (2, 0),
        (2, 0, 9),
        "a name is asked for every `hold valid`, whatever `timeout resolve` says",
        _all,
    ),
    Bug(
        "whole seconds",
        (1, 8),
        (2, 5),
        "the age of a DNS record is a difference of whole seconds, so `hold obsolete` lasts up to "
        "a second longer or shorter than it says",
        _aged,
    ),
    Bug(
        "#50",
        (2, 2),
        (2, 2, 10),
        "where SRV answers have additional records, the last servers stay UP when the name goes",
        _services,
    ),
    Bug(
        "#1180", (2, 2, 10), (2, 2, 11), "servers of SRV names flap between UP and MAINT", _services
    ),
    Bug("#1180", (2, 3, 6), (2, 3, 7), "servers of SRV names flap between UP and MAINT", _services),
    Bug(
        "#1688",
        (2, 0),
        (2, 4),
        "while a nameserver is down, the answer for one name may be taken for another name: "
        "requests go to the wrong service",
        _several,
    ),
    Bug("#1740", (2, 6), (2, 6, 5), "it does not start if a nameserver can't be reached", _all),
    Bug("#1962", (2, 7), (2, 7, 1), "it may stop asking DNS at all", _all),
    Bug(
        "#3001",
        (1, 8),
        (3, 2, 5),
        "when the address or the route of HAProxy's own machine changes, every question is lost "
        "until a reload",
        _all,
    ),
    Bug(
        "#2578",
        (3, 0),
        (3, 0, 3),
        "a server that leaves maintenance may have port 0, or go DOWN and UP without an address",
        _all,
    ),
    Bug(
        "#2666", (3, 0), (3, 0, 5), "of more than 100 changes at once each 100th is lost", _services
    ),
    Bug("source check", (3, 2, 5), (3, 2, 18), "it takes DNS answers from anybody", _all),
    Bug(
        "SRV leak",
        (3, 2, 8),
        (3, 2, 16),
        "each SRV answer leaks memory, and AAAA targets are lost",
        _services,
    ),
)
_RARE = ("#3001",)  # not by what backends or nameservers do


class KnownBug(Rule):
    """One finding for each bug that this version has and this file meets."""

    id = "known-bug"
    severity = Severity.WARNING
    title = "a bug of this version of HAProxy"
    sentence = "HAProxy {version} has {bug}: {does} (HAProxy {fixed} and later do not)"

    def look(self, subject: Subject) -> Iterator[Finding]:
        users = list(subject.followers)
        for bug in BUGS:
            having = bug.has(subject, users)
            spot = of_server(having[0][1]) if having else _of_part(subject, bug)
            if not is_in(subject.version, bug) or spot is None:
                continue
            facts: Facts = {
                "version": subject.version_text,
                "bug": bug.name if bug.name[:1] != "#" else f"issue {bug.name}",
                "does": bug.does,
                "fixed": ".".join(map(str, bug.fixed)),
            }
            yield self.finding(
                spot,
                facts,
                backends=[proxy.name for proxy, _ in having],
                remedy=Remedy(advice=f"Upgrade to {facts['fixed']} or later."),
                severity=Severity.INFO if bug.name in _RARE else None,
                beyond=True,
            )


def _of_part(subject: Subject, bug: Bug) -> Spot | None:
    """A part of a configuration has no servers, but its resolvers meet what any of them meets."""
    if subject.backends or bug.has is not _all or not subject.effective.resolvers:
        return None
    section = next(iter(subject.effective.resolvers.values()))
    return of_words(subject.section_at(section.place).header)


def is_in(version: Version, bug: Bug) -> bool:
    """Whether a version has it. "3.0" is the newest of its line, with all that is fixed there."""
    same_line = version[:2] == bug.fixed[:2]
    if len(version) == 2 and same_line and len(bug.fixed) > 2:  # noqa: PLR2004
        return False
    return bug.first <= version < bug.fixed
