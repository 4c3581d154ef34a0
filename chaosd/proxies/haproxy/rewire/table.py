"""Which rule rewrites which line: by the section it stands in and its first word."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from chaosd.proxies.haproxy.cfg.source import Section, Statement
from chaosd.proxies.haproxy.rewire import (
    absent_sections,
    binds,
    checks,
    files,
    names,
    process,
    servers,
)
from chaosd.proxies.haproxy.rewire.scene import Rule

PROXIES = ("frontend", "backend", "listen", "defaults")
ANYWHERE = ()  # also where HAProxy does not take it: it says so then, and nothing is opened


class Entry(NamedTuple):
    """A rule for the lines that begin with these words, in sections of these kinds."""

    sections: tuple[str, ...]
    keywords: tuple[str, ...]
    rule: Rule


TABLE = (
    # The frontend that probes ask.
    Entry(ANYWHERE, ("bind",), binds.bind),
    Entry(("peers",), ("default-bind",), binds.default_bind),
    # Servers.
    Entry(PROXIES, ("server", "server-template"), servers.server),
    Entry((*PROXIES, "peers"), ("default-server",), servers.default_server),
    Entry(PROXIES, ("use-fcgi-app",), absent_sections.fcgi_app),
    Entry(ANYWHERE, ("dispatch",), servers.dispatch),
    Entry(ANYWHERE, ("source",), servers.source),
    # Checks.
    Entry(PROXIES, ("option",), checks.option),
    Entry(PROXIES, ("http-check",), checks.http_check),
    Entry(PROXIES, ("tcp-check",), checks.tcp_check),
    # Names.
    Entry(ANYWHERE, ("nameserver",), names.nameserver),
    Entry(("resolvers",), ("parse-resolv-conf",), names.parse_resolv_conf),
    # The process.
    Entry(("global",), tuple(process.GLOBAL), process.leave_out),
    Entry(ANYWHERE, tuple(process.PROGRAMS), process.leave_out),
    Entry(("global",), ("maxconn",), process.maxconn),
    Entry(ANYWHERE, ("stats",), process.stats),
    Entry(ANYWHERE, ("log",), process.log),
    Entry(("ring",), ("server",), process.log_target),
    Entry(ANYWHERE, ("peer",), servers.peer),
    Entry(("peers",), ("server",), servers.peer),
    # Files.
    Entry(("global",), files.ABOUT_A_FILE, files.about_a_file),
    Entry(("crt-store",), ("load",), files.store),
    Entry(PROXIES, ("load-server-state-from-file", "server-state-file-name"), files.state_file),
    Entry(PROXIES, ("email-alert",), files.mailers),
    Entry(ANYWHERE, (), files.any_line),
)


def rules(section: Section, line: Statement) -> Iterator[Rule]:
    """The rules that look at this line."""
    for entry in TABLE:
        in_section = not entry.sections or section.kind in entry.sections
        if in_section and (not entry.keywords or line.keyword in entry.keywords):
            yield entry.rule
