"""The effective value of every keyword, and who says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaosd.proxies.haproxy.cfg import select
from chaosd.proxies.haproxy.cfg.condition import BuildFacts
from chaosd.proxies.haproxy.cfg.dialect import Dialect
from chaosd.proxies.haproxy.cfg.effective import Effective, Origin, Server, Value
from chaosd.proxies.haproxy.cfg.reader import read_files
from chaosd.proxies.haproxy.cfg.resolve import resolve


def effective(tmp_path: Path, text: str, version: str | None = "2.6.12") -> Effective:
    (tmp_path / "h.cfg").write_text(text)
    dialect = Dialect.of(version)
    return resolve(
        read_files([tmp_path / "h.cfg"], supplied=["APP"], build=BuildFacts(dialect)), dialect
    )


def server(tmp_path: Path, text: str, version: str | None = "2.6.12") -> Server:
    (found,) = effective(tmp_path, text, version).servers
    return found


def said(value: Value) -> tuple[object, str, int | None]:
    return value.value, value.origin.value, value.place.line if value.place else None


INHERITED = """\
defaults
    default-server inter 1s fall 5 weight 7
    default-server fall 4
backend b
    default-server weight 8 check
    server s app:80 weight 9 no-check
    default-server rise 6
"""


def test_a_server_inherits_the_lines_before_it(tmp_path: Path) -> None:
    values = server(tmp_path, INHERITED).values
    assert said(values["inter"]) == (1000, "defaults", 2)
    assert said(values["fall"]) == (4, "defaults", 3)
    assert said(values["weight"]) == (9, "own", 6)
    assert said(values["check"]) == (False, "own", 6)
    assert said(values["rise"]) == (2, "haproxy", None)


def test_what_is_inherited_from_the_backend_says_so(tmp_path: Path) -> None:
    values = server(tmp_path, INHERITED.replace("weight 9 no-check", "")).values
    assert said(values["weight"]) == (8, "default-server", 5)
    assert said(values["check"]) == (True, "default-server", 5)


DEFAULTS = """\
defaults one
    timeout connect 1s
    retries 1
    option redispatch
defaults two from one
    retries 2
    default-server inter 5s
defaults
    retries 9
backend a
    server s a:80
backend b from one
    server s b:80
backend c from two
    no option redispatch
    timeout connect 7
    server s c:80
listen d from none
    server s d:80
"""


def test_a_proxy_takes_the_defaults_before_it_or_those_it_names(tmp_path: Path) -> None:
    found = effective(tmp_path, DEFAULTS)
    values = {proxy.name: proxy.values for proxy in found.proxies if proxy.kind != "defaults"}
    assert said(values["a"]["retries"]) == (9, "defaults", 9)
    assert said(values["a"]["timeout connect"]) == (None, "haproxy", None)
    assert said(values["b"]["retries"]) == (1, "defaults", 3)
    assert said(values["b"]["option redispatch"]) == (-1, "defaults", 4)
    assert said(values["c"]["retries"]) == (2, "defaults", 6)
    assert said(values["c"]["timeout connect"]) == (7, "own", 16)
    assert said(values["c"]["option redispatch"]) == (0, "own", 15)
    assert said(values["d"]["retries"]) == (3, "haproxy", None)
    assert [s.values["inter"].value for s in found.servers] == [2000, 2000, 5000, 2000]
    (problem,) = found.problems
    assert (problem.place.line, problem.what) == (
        *(18, "there is no defaults section `none` before this line"),
    )


RESET = """\
defaults
    default-server resolve-prefer ipv4 resolve-opts allow-dup-ip,ignore-weight resolve-net 10.0.0.0
backend b
    default-server backup
    server s app:80
"""


@pytest.mark.parametrize(
    ("version", "resets"),
    [
        *(("2.2.9", True), ("2.4.26", True), ("2.4.27", False), ("2.6.12", True)),
        *(("2.6.18", False), ("2.8.9", True), ("2.8.25", False), ("2.9.7", True)),
        *(("2.9.8", False), ("3.0.0", False), ("3.4.7", False), (None, False)),
    ],
)
def test_a_further_default_server_line_resets_the_preference_in_old_versions(
    tmp_path: Path, version: str | None, resets: bool
) -> None:
    values = server(tmp_path, RESET, version).values
    expected = ("ipv6", "haproxy", 4) if resets else ("ipv4", "defaults", 2)
    assert said(values["resolve-prefer"]) == expected
    assert values["allow-dup-ip"].value is not resets
    assert values["ignore-weight"].value is True  # this one is not reset
    assert values["resolve-net"].value == "10.0.0.0"


def test_every_line_after_the_preference_resets_it(tmp_path: Path) -> None:
    text = "backend b\n default-server resolve-prefer ipv4\n default-server check\n server s a:80\n"
    assert server(tmp_path, text, "2.6.12").values["resolve-prefer"].value == "ipv6"
    assert server(tmp_path, text, "3.0.1").values["resolve-prefer"].value == "ipv4"


@pytest.mark.parametrize(
    ("version", "name", "expected"),
    [
        ("2.6.12", "init-state", None),
        ("3.1.0", "init-state", "up"),
        ("3.2.20", "init-state", "none"),
        ("2.6.12", "resolve-prefer", "ipv6"),
        ("2.6.12", "init-addr", "last,libc"),
    ],
)
def test_haproxys_defaults_are_those_of_the_version(
    tmp_path: Path, version: str, name: str, expected: object
) -> None:
    value = server(tmp_path, "backend b\n server s a:80\n", version).values.get(name)
    assert (value.value if value else None) == expected
    assert value is None or value.origin is Origin.HAPROXY


def test_the_default_balance_changed(tmp_path: Path) -> None:
    for version, balance in (("3.2.1", "roundrobin"), ("3.3.0", "random")):
        (proxy,) = effective(tmp_path, "backend b\n", version).proxies
        assert proxy.values["balance"].value == balance


def test_how_a_server_is_checked_is_what_is_said_last(tmp_path: Path) -> None:
    text = "defaults\n option httpchk GET /\nbackend b\n option tcp-check\n"
    values = effective(tmp_path, text).proxies[-1].values
    assert "option httpchk" not in values
    assert said(values["option tcp-check"]) == (True, "own", 4)
    values = effective(tmp_path, "backend b\n option httpchk GET /up HTTP/1.1\n").proxies[0].values
    assert values["option httpchk"].value == "GET /up HTTP/1.1"


RESOLVERS = """\
resolvers r
    nameserver a 10.0.0.1:53
    nameserver b tcp@[2001:db8::1]:53 # both are asked
    parse-resolv-conf
    timeout resolve 250
    hold obsolete 1m
    hold obsolete 2m
    resolve_retries 5
    accepted_payload_size 8192
"""


def test_a_resolvers_section_has_its_values_and_haproxys(tmp_path: Path) -> None:
    found = effective(tmp_path, RESOLVERS).resolvers["r"]
    assert [(n.name, n.address.text) for n in found.nameservers] == [
        *(("a", "10.0.0.1:53"), ("b", "tcp@[2001:db8::1]:53")),
    ]
    assert found.parse_resolv_conf is not None
    assert said(found.values["timeout resolve"]) == (250, "own", 5)
    assert said(found.values["timeout retry"]) == (1000, "haproxy", None)
    assert said(found.values["hold obsolete"]) == (120_000, "own", 7)
    assert {name: value.value for name, value in found.values.items() if not value.is_said} == {
        "timeout retry": 1000,
        "hold valid": 10_000,
        "hold nx": 30_000,
        "hold refused": 30_000,
        "hold timeout": 30_000,
        "hold other": 30_000,
    }
    assert found.values["accepted_payload_size"].value == 8192


def test_a_second_resolvers_section_of_a_name_is_a_problem(tmp_path: Path) -> None:
    found = effective(tmp_path, RESOLVERS + "resolvers r\n timeout resolve 9s\n")
    assert found.resolvers["r"].values["timeout resolve"].value == 250
    (problem,) = found.problems
    assert problem.what == f"resolvers `r` is there already ({tmp_path}/h.cfg:1)"


def test_a_template_and_its_range(tmp_path: Path) -> None:
    found = server(tmp_path, "backend b\n server-template app 1-3 _http._tcp.x check\n")
    assert (found.is_template, found.name, found.count) == (True, "app", "1-3")
    assert found.address.text == "_http._tcp.x"
    assert found.values["check"].value is True


@pytest.mark.parametrize(
    ("words", "name", "unclear"),
    [
        ("inter", "inter", "without a value"),
        ("inter soon", "inter", "which is no time (write it like 250ms)"),
        ("fall many", "fall", "which is no whole number"),
        ('inter "$NONE"', "inter", "whose value is not known here"),
        ('inter "$APP"', "inter", "whose value is not known here"),
    ],
)
def test_a_value_that_is_not_understood_says_why(
    tmp_path: Path, words: str, name: str, unclear: str
) -> None:
    value = server(tmp_path, f"backend b\n server s a:80 {words}\n").values[name]
    assert (value.value, value.unclear) == (None, unclear)
    assert value.place is not None
    assert value.place.line == 2


def test_after_an_unknown_word_nothing_is_read(tmp_path: Path) -> None:
    found = server(tmp_path, "backend b\n server s a:80 check new-thing check inter 9s\n")
    (value,) = found.unread
    assert value.word is not None
    assert (value.word.text, value.word.start) == ("new-thing", 22)
    assert found.values["inter"].value == 2000
    inherited = "backend b\n default-server new-thing\n server s a:80\n"
    assert server(tmp_path, inherited).unread[0].origin is Origin.DEFAULT_SERVER


def test_a_server_without_an_address_is_a_problem(tmp_path: Path) -> None:
    found = effective(tmp_path, "backend b\n server s\n")
    assert not found.servers
    assert found.problems[0].what == "`server` lacks its name or its address"


def test_servers_are_chosen_by_their_address_or_by_their_backend(tmp_path: Path) -> None:
    text = (
        'frontend a\n bind :80\nbackend a\n server one "${APP}:80"\n server two x:80\n'
        "listen b\n server three \"$APP\"\npeers p\n server four '${APP}'\n"
    )
    found = effective(tmp_path, text)
    assert [s.name for s in select.by_address_variable(found, "APP")] == ["one", "three"]
    assert [s.name for s in select.by_backend(found, "a")] == ["one", "two"]
    assert select.by_backend(found, "none") == ()
