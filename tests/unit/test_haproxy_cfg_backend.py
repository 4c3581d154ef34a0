"""A file's backends as the model has them, for the version that reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaosd.proxies.haproxy.cfg.backend import Unread, read_backends
from chaosd.proxies.haproxy.cfg.condition import BuildFacts
from chaosd.proxies.haproxy.cfg.dialect import Dialect
from chaosd.proxies.haproxy.cfg.host import Host
from chaosd.proxies.haproxy.cfg.limits import Change
from chaosd.proxies.haproxy.cfg.reader import read_files
from chaosd.proxies.haproxy.cfg.resolve import resolve
from chaosd.proxies.haproxy.cfg.wording import say_limit, say_unknown
from chaosd.proxies.haproxy.model.backend import Backend, CheckKind, Follows, ServerLine, Unknown

S, MS = 1_000_000_000, 1_000_000
HOST = Host(nameservers=3, has_ipv6=False)
RESOLVERS = "resolvers r\n  nameserver one 192.0.2.53:53\n"


def read(
    tmp_path: Path, text: str, version: str = "3.0.11", host: Host = HOST
) -> tuple[Backend | Unknown, ...]:
    path = tmp_path / "h.cfg"
    path.write_text(RESOLVERS + text)
    dialect = Dialect.of(version)
    document = read_files([path], build=BuildFacts(dialect))
    return read_backends(resolve(document, dialect), host)


def backend(tmp_path: Path, text: str, version: str = "3.0.11", host: Host = HOST) -> Backend:
    (found,) = read(tmp_path, text, version, host)
    assert isinstance(found, Backend)
    return found


def server(tmp_path: Path, line: str, version: str = "3.0.11", *, more: str = "") -> ServerLine:
    return backend(tmp_path, f"backend b\n  {more}\n  {line}\n", version).servers[0]


def changes(tmp_path: Path, text: str) -> list[str]:
    return [limit.changes for limit in backend(tmp_path, text).limits]


def test_haproxys_defaults_hold_for_what_is_left_out(tmp_path: Path) -> None:
    found = backend(tmp_path, "listen b\n  server a app:80 resolvers r\n")
    assert (found.name, found.line, found.mode) == ("b", 3, "tcp")
    assert found.timeout_connect_ns is found.timeout_server_ns is found.timeout_check_ns is None
    assert (found.retries, found.redispatch_every, found.all_backups) == (3, 0, False)
    assert not found.limits
    (line,) = found.servers
    assert (line.slots, line.host, line.port, line.follows) == (1, "app", 80, Follows.NAME)
    assert (line.prefers, line.allow_dup_ip, line.check) == ("AAAA", False, CheckKind.NONE)
    assert (line.inter_ns, line.fastinter_ns, line.downinter_ns) == (2 * S, 2 * S, 2 * S)
    assert (line.fall, line.rise, line.weight, line.backup) == (3, 2, 1, False)
    resolver = line.resolver
    assert resolver is not None
    assert (resolver.nameservers, resolver.timeout_resolve_ns, resolver.resolve_retries) == (
        *(1, S, 3),
    )
    assert (resolver.holds.obsolete_ns, resolver.holds.nx_ns) == (0, 30 * S)


@pytest.mark.parametrize(
    ("line", "follows", "host", "port"),
    [
        ("server a 10.0.0.1:80", Follows.FIXED, None, 80),
        ("server a [2001:db8::1]:80 resolvers r", Follows.FIXED, None, 80),
        ("server a unix@/run/a.sock", Follows.FIXED, None, None),
        ("server a app:80", Follows.START, "app", 80),
        ("server a App.Example resolvers r", Follows.NAME, "app.example", None),
        ("server a ipv4@app:80 resolvers r", Follows.NAME, "app", 80),
        ("server a _http._tcp.app resolvers r", Follows.SERVICE, "_http._tcp.app", None),
    ],
)
def test_how_a_server_comes_to_its_address(
    tmp_path: Path, line: str, follows: Follows, host: str | None, port: int | None
) -> None:
    found = server(tmp_path, line)
    assert (found.follows, found.host, found.port) == (follows, host, port)
    assert (found.resolver is not None) == (follows in (Follows.NAME, Follows.SERVICE))


@pytest.mark.parametrize(("count", "slots"), [("3", 3), ("1-3", 3), ("0-2", 3), ("5-6", 2)])
def test_a_template_makes_many(tmp_path: Path, count: str, slots: int) -> None:
    found = server(tmp_path, f"server-template s {count} app:80 resolvers r check")
    assert (found.name, found.slots) == ("s", slots)


@pytest.mark.parametrize("count", ["1-", "0", "three", "3-1"])
def test_a_number_that_haproxy_refuses_is_a_reason(tmp_path: Path, count: str) -> None:
    (found,) = read(tmp_path, f"backend b\n  server-template s {count} app:80 resolvers r\n")
    assert isinstance(found, Unknown)
    assert (found.why, found.backend, found.line) == (Unread.NO_SLOTS, "b", 4)
    assert say_unknown(found).endswith(
        f"h.cfg:4: `{count}` is not a number of servers (write it like 3 or 1-3)"
    )


def test_one_backend_that_is_not_read_leaves_the_others(tmp_path: Path) -> None:
    text = (
        "backend a\n  server-template s none app:80 resolvers r\n"
        "backend b\n  server s app:80 resolvers r new-word 5 check\n"
        "backend c\n  server s app:80 resolvers r inter 0\n"
        "backend d\n  mode log\n  server s app:80 resolvers r\n"
        "backend e\n  server s app:80 resolvers r check\n"
    )
    *bad, good = read(tmp_path, text)
    assert isinstance(good, Backend)
    assert [found.why for found in bad if isinstance(found, Unknown)] == [
        *(Unread.NO_SLOTS, Unread.UNKNOWN_WORD, Unread.REFUSED, Unread.NO_REQUESTS),
    ]
    said = [say_unknown(found).partition("h.cfg")[2] for found in bad if isinstance(found, Unknown)]
    assert said == [
        ":4: `none` is not a number of servers (write it like 3 or 1-3)",
        ":6: `new-word` is not a keyword that chaosd knows: the line is not read",
        ":8: `0`, which must be at least 1ms",
        ":10: `mode log` serves no requests",
    ]


# --- resolvers ---


def test_nameservers_are_counted(tmp_path: Path) -> None:
    line = "backend b\n  server s app:80 resolvers {}\n"
    more = "resolvers x\n  nameserver a 192.0.2.1:53\n  nameserver b 192.0.2.2:53\n{}"
    for extra, count in (("", 2), ("  parse-resolv-conf\n", 5)):
        (found,) = read(tmp_path, more.format(extra) + line.format("x"))
        assert isinstance(found, Backend)
        assert found.servers[0].resolver is not None
        assert found.servers[0].resolver.nameservers == count


@pytest.mark.parametrize(("version", "is_there"), [("2.2.9", False), ("2.6.12", True)])
def test_haproxy_makes_resolvers_of_its_own(tmp_path: Path, version: str, is_there: bool) -> None:
    (found,) = read(tmp_path, "backend b\n  server s app:80 resolvers default\n", version)
    assert isinstance(found, Backend)
    assert found.servers[0].resolver is not None
    assert found.servers[0].resolver.nameservers == (3 if is_there else 1)
    assert [x.changes for x in found.limits] == ([] if is_there else [Change.NO_RESOLVERS])


@pytest.mark.parametrize(
    ("version", "said", "has_ipv6", "families", "prefers"),
    [
        ("3.0.11", "", False, ("A", "AAAA"), "AAAA"),
        ("3.2.26", "", False, ("A", "AAAA"), "AAAA"),
        ("3.2.26", "dns-accept-family ipv4", True, ("A",), "A"),
        ("3.2.26", "dns-accept-family ipv6", True, ("AAAA",), "AAAA"),
        ("3.2.26", "dns-accept-family ipv4,ipv6", False, ("A", "AAAA"), "AAAA"),
        ("3.4.7", "", False, ("A",), "A"),
        ("3.4.7", "", True, ("A", "AAAA"), "AAAA"),
        ("3.4.7", "dns-accept-family ipv4,ipv6", False, ("A", "AAAA"), "AAAA"),
    ],
)
def test_families_are_those_of_the_version_and_the_hosts_routes(
    tmp_path: Path,
    version: str,
    said: str,
    has_ipv6: bool,
    families: tuple[str, ...],
    prefers: str,
) -> None:
    text = f"global\n  {said}\nbackend b\n  server s app:80 resolvers r\n"
    (line,) = backend(tmp_path, text, version, Host(1, has_ipv6)).servers
    assert line.resolver is not None
    assert (line.resolver.families, line.prefers) == (families, prefers)


@pytest.mark.parametrize(
    ("version", "words", "methods"),
    [
        ("2.2.5", "resolvers r", "last,libc"),
        ("2.2.9", "resolvers r", "last,libc,none"),
        ("2.6.12", "resolvers r", "last,libc,none"),
        ("2.6.12", "", "last,libc"),
        ("2.6.12", "resolvers r init-addr last,libc", "last,libc"),
        ("3.4.7", "resolvers r init-addr none", "none"),
    ],
)
def test_how_a_server_starts(tmp_path: Path, version: str, words: str, methods: str) -> None:
    found = server(tmp_path, f"server s app:80 {words}", version)
    assert ",".join(found.init_addr) == methods


@pytest.mark.parametrize(
    ("version", "prefers", "allows"),
    [("2.6.12", "AAAA", False), ("2.8.25", "A", True), ("3.2.26", "A", True)],
)
def test_a_second_default_server_line_resets_as_the_version_does(
    tmp_path: Path, version: str, prefers: str, allows: bool
) -> None:
    more = "default-server resolve-prefer ipv4 resolve-opts allow-dup-ip\n  default-server rise 1"
    found = server(tmp_path, "server s app:80 resolvers r", version, more=more)
    assert (found.prefers, found.allow_dup_ip, found.rise) == (prefers, allows, 1)


# --- checks ---


@pytest.mark.parametrize(
    ("more", "words", "kind"),
    [
        ("", "", CheckKind.NONE),
        ("option httpchk", "", CheckKind.NONE),
        ("", "check", CheckKind.CONNECTS),
        ("", "check port 80", CheckKind.CONNECTS),
        ("", "check port 81", CheckKind.ELSEWHERE),
        ("option httpchk", "check addr 192.0.2.9", CheckKind.ELSEWHERE),
        ("option httpchk", "check", CheckKind.ANSWERS),
        ("option httpchk\n  http-check connect port 81", "check", CheckKind.ELSEWHERE),
        ("option httpchk\n  no option httpchk", "check", CheckKind.CONNECTS),
        ("option httpchk\n  option tcp-check", "check", CheckKind.CONNECTS),
        ("option tcp-check\n  tcp-check connect port 81", "check", CheckKind.ELSEWHERE),
        ("option tcp-check\n  tcp-check expect string x", "check", CheckKind.ANSWERS),
        ("tcp-check expect string x", "check", CheckKind.CONNECTS),
        ("option redis-check", "check", CheckKind.ANSWERS),
        ("", "check ssl verify none", CheckKind.ANSWERS),
        ("", "check ssl verify none no-check-ssl", CheckKind.CONNECTS),
        ("option external-check", "check", CheckKind.OUTSIDE),
        ("", "agent-check agent-port 9", CheckKind.OUTSIDE),
        ("", "agent-check agent-port 9 check", CheckKind.CONNECTS),
        ("", "track b/other", CheckKind.CONNECTS),
        ("", "track other", CheckKind.CONNECTS),
        ("", "track b/nobody", CheckKind.NONE),
        ("", "track s", CheckKind.NONE),
    ],
)
def test_what_a_check_finds_out(tmp_path: Path, more: str, words: str, kind: CheckKind) -> None:
    lines = f"server s app:80 resolvers r {words}\n  server other app:80 check"
    assert server(tmp_path, lines, more=more).check is kind


# --- limits ---


@pytest.mark.parametrize(
    ("lines", "change"),
    [
        ("server s app:80 check observe layer4", Change.CROWD),
        ("server s app:80 slowstart 5s", Change.CROWD),
        ("server s app:80 agent-check", Change.AGENT),
        ("server s app:80 resolve-net 10.0.0.0/8", Change.PREFERRED_NET),
        ("server s app:80 disabled", Change.DISABLED),
        ('server s app:80 inter "${NOBODY}"', Change.UNSET),
        ("retry-on all-retryable-errors\n server s app:80", Change.RETRIED),
        ("use-server s if TRUE\n server s app:80", Change.WHO),
        ("balance source\n server s app:80", Change.WHO),
        ("balance leastconn\n server s app:80", Change.CROWD),
        ("balance hdr(Host)\n server s app:80", Change.WHO),
        ("balance hdr(X-Room)\n server s app:80", Change.BROUGHT),
        ("balance url_param user\n server s app:80", Change.BROUGHT),
        ("balance random(3)\n server s app:80", Change.CROWD),
        ("stick on src\n server s app:80", Change.WHO),
        ("stick on hdr(Host)\n server s app:80", Change.WHO),
        ("stick on hdr(X)\n server s app:80", Change.WHO),
        ("stick on hdr(Room) if { urlp(room) -m found }\n server s app:80", Change.BROUGHT),
        ("stick on req.cook(SID)\n server s app:80", Change.BROUGHT),
        ("cookie C insert\n server s app:80 cookie one", Change.BROUGHT),
        ("cookie C insert dynamic\n server s app:80", Change.BROUGHT),
        ("server s app:80 maxconn 5", Change.CROWD),
        ("server s app:80 resolvers elsewhere", Change.NO_RESOLVERS),
        ("option external-check\n server s app:80 check", Change.PROGRAM_CHECKS),
        ("http-check disable-on-404\n server s app:80", Change.DRAINED),
        ("http-request lua.do\n server s app:80", Change.PROGRAM),
        ("http-request set-dst src\n server s app:80", Change.DESTINATION),
        ("option redispatch -2\n server s app:80", Change.REDISPATCH),
    ],
)
def test_a_word_that_is_not_modelled_takes_nothing_else_away(
    tmp_path: Path, lines: str, change: Change
) -> None:
    text = f"backend b\n retries 7\n default-server fall 9\n {lines}\n server t app2:80\n"
    found = backend(tmp_path, text)
    assert [limit.changes for limit in found.limits] == [change]
    assert (found.retries, found.servers[0].fall) == (7, 9)
    assert say_limit(found.limits[0]).startswith(f"{tmp_path}/h.cfg:")


@pytest.mark.parametrize(
    "lines",
    [
        "retry-on conn-failure\n server s app:80",
        "stick-table type ip size 1m\n server s app:80",
        "cookie C insert\n server s app:80",
        "server s app:80 slowstart 0",
        "server s app:80 observe none",
        "server s app:80 ssl verify none sni str(x) maxconn 5000 send-proxy proto h2",
        "server s app:80 maxqueue 10",  # nobody waits at it
        "server s app:80 minconn 5",  # without maxconn
        "server s app:80 maxconn 9000 minconn 8000 maxqueue 10",
    ],
)
def test_what_changes_nothing_is_not_mentioned(tmp_path: Path, lines: str) -> None:
    assert not changes(tmp_path, f"backend b\n {lines}\n server t app2:80\n")


def test_few_places_on_the_way_to_the_backend_are_said(tmp_path: Path) -> None:
    text = (
        "global\n maxconn 50\ndefaults\n maxconn 5\n"
        "frontend other\n bind :81\n default_backend c\n maxconn 1\n"
        "frontend f\n bind :80\n default_backend b\nbackend b\n server s app:80\n"
    )
    narrow = text.replace("maxconn 50", "maxconn 4", 1)
    for each, expected in ((text, (6, "maxconn 5")), (narrow, (4, "maxconn 4"))):
        (limit,) = backend(tmp_path, each).limits
        assert (limit.line, limit.what, limit.changes) == (*expected, Change.CROWD)
    assert not changes(tmp_path, narrow.replace("maxconn 4", "").replace("maxconn 5", ""))


def test_words_of_a_queue_are_said_where_requests_have_to_wait(tmp_path: Path) -> None:
    text = "backend b\n server s app:80 {}\n"
    for words, said in (
        ("maxconn 5 maxqueue 7", {("maxqueue 7", Change.QUEUE), ("maxconn 5", Change.CROWD)}),
        ("maxconn 9000 minconn 5 maxqueue 7", {("minconn 5", Change.QUEUE)}),
    ):
        limits = backend(tmp_path, text.format(words)).limits
        assert {(limit.what, limit.changes) for limit in limits} == said


def test_servers_are_chosen_at_random_since_3_3(tmp_path: Path) -> None:
    text = "backend b\n server s app:80\n server t app2:80\n"
    assert not backend(tmp_path, text, "3.2.26").limits
    (limit,) = backend(tmp_path, text, "3.4.7").limits
    assert (limit.changes, limit.what) == (Change.CROWD, "balance random")
    assert not backend(tmp_path, text.replace("b\n", "b\n balance roundrobin\n", 1), "3.4.7").limits


def test_what_only_several_servers_have_is_not_said_of_one(tmp_path: Path) -> None:
    text = "backend b\n balance source\n server s app:80 slowstart 5s\n"
    assert not changes(tmp_path, text)


def test_what_holds_for_the_process_is_a_limit_of_each_backend(tmp_path: Path) -> None:
    text = (
        "global\n spread-checks 5\n nbproc 2\n"
        "backend b\n server s app:80 check\nbackend c\n server s app:80\n"
    )
    checked, plain = read(tmp_path, text)
    assert isinstance(checked, Backend)
    assert isinstance(plain, Backend)
    assert [x.changes for x in checked.limits] == [Change.CHECK_TIMES, Change.PROCESSES]
    assert [x.changes for x in plain.limits] == [Change.PROCESSES]


@pytest.mark.parametrize(
    ("rules", "is_limit"),
    [
        ("use_backend c if { nbsrv(b) lt 1 }", True),
        ("acl dead nbsrv(b) lt 1\n use_backend c if dead", True),
        ("acl dead nbsrv(b) lt 1\n monitor fail if dead", False),
        ("acl dead nbsrv(c) lt 1\n use_backend c if dead", False),
    ],
)
def test_a_backend_that_takes_over_is_a_limit(tmp_path: Path, rules: str, is_limit: bool) -> None:
    text = f"frontend f\n {rules}\n default_backend b\nbackend b\n server s app:80\n"
    assert changes(tmp_path, text) == ([Change.FALLBACK] if is_limit else [])


def test_nothing_is_tried_again_where_the_file_says_so(tmp_path: Path) -> None:
    assert backend(tmp_path, "backend b\n retry-on none\n server s app:80\n").retries == 0


def test_timeouts_of_zero_are_none(tmp_path: Path) -> None:
    text = "backend b\n timeout connect 0\n timeout server 5s\n server s app:80\n"
    found = backend(tmp_path, text)
    assert (found.timeout_connect_ns, found.timeout_server_ns) == (None, 5 * S)
