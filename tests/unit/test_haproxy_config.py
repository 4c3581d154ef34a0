"""The proxy's part of the config, and the haproxy.cfg made of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from wired import EXAMPLE, WIRING, config

from chaosd.errors import MachineError
from chaosd.history.values import Address
from chaosd.plugins.proxy import Wiring
from chaosd.proxies.haproxy import HAProxy
from chaosd.proxies.haproxy.config import Config


def complaint(**values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        config(**values)
    (error,) = caught.value.errors()
    where = ".".join(str(part) for part in error["loc"] if part not in ("bool", "constrained-int"))
    return f"{where}: {error['msg'].removeprefix('Value error, ')}"


# --- the YAML's part ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"resolvers": {"timeout_resolve": "500us"}},
            "resolvers.timeout_resolve: HAProxy counts whole milliseconds (write it like 250ms)",
        ),
        ({"server": {"inter": 0}}, "server.inter: must be at least 1ms"),
        ({"timeouts": {"connect": "25d"}}, "timeouts.connect: HAProxy's timers end at 24 days"),
        (
            {"server": {"init_addr": "last,lbc"}},
            "server.init_addr: unknown method `lbc` (known: last, libc, none, or an IP address)",
        ),
        ({"server": {"extra": "weight 1\n bind :80"}}, "server.extra: must be a single line"),
        ({"listen": "8080"}, "listen: not an address (write it like 127.0.0.1:8080)"),
        ({"listen": "127.0.0.1:0"}, "listen: not an address (write it like 127.0.0.1:8080)"),
        (
            {"listen": "[::1]:8080"},
            "listen: an IPv6 address; the entry is an IPv4 one (write it like 127.0.0.1:8080)",
        ),
        (
            {"config": "my.cfg", "retries": 1},
            "retries: set in two places (with `config`, your own file says it)",
        ),
        (
            {"config": "my.cfg", "server": {"inter": "1s"}},
            "server: set in two places (with `config`, your own file says it)",
        ),
    ],
)
def test_mistakes_are_said_in_words(values: dict[str, Any], expected: str) -> None:
    assert complaint(**values) == expected


def test_holds_may_be_zero_and_an_own_file_may_stand_beside_defaults() -> None:
    assert config(resolvers={"hold": {"nx": 0}}).resolvers.hold.nx == 0
    assert config(config="my.cfg", retries=3, listen="127.0.0.1:80").config == Path("my.cfg")


def test_an_own_file_is_relative_to_the_yaml() -> None:
    values = {"type": "haproxy", "config": "my.cfg"}
    loaded = Config.model_validate(values, context={"base": Path("/etc/chaosd")})
    assert loaded.config == Path("/etc/chaosd/my.cfg")


@pytest.mark.parametrize(
    ("redispatch", "every"), [(False, 0), (0, 0), (True, -1), (-1, -1), (1, 1), (3, 3)]
)
def test_redispatch_is_a_switch_or_a_number(redispatch: bool | int, every: int) -> None:
    assert config(redispatch=redispatch).redispatch_every == every


# --- the file made of it --------------------------------------------------------------------------


def rendered(wiring: Wiring = WIRING, **values: Any) -> str:
    return HAProxy(config(**values)).render(wiring)


def test_the_whole_file() -> None:
    assert rendered() == (
        """\
# Written by chaosd.
global
    # Only what happens to servers; a line per request would drown it.
    log 127.64.0.2:5140 local0 notice
    stats socket /run/chaosd/api mode 600 level user

defaults
    mode http
    log global
    timeout connect 1s
    timeout client 5s
    timeout server 5s
    timeout check 1s
    retries 3

resolvers chaosd
    nameserver dns 127.64.0.2:5300
    timeout resolve 1s
    timeout retry 1s
    resolve_retries 3
    hold valid 10s
    hold obsolete 0s
    hold nx 30s
    hold refused 30s
    hold timeout 30s
    hold other 30s

frontend entry
    bind 127.64.0.1:8080
    default_backend app

backend app
    server app app.chaosd:8081 resolvers chaosd resolve-prefer ipv4 init-addr last,none \
check inter 2s fall 3 rise 2
"""
    )


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"resolvers": {"timeout_resolve": "1500ms"}}, "    timeout resolve 1500ms"),
        ({"resolvers": {"hold": {"valid": "2m"}}}, "    hold valid 120s"),
        ({"resolvers": {"accepted_payload_size": 8192}}, "    accepted_payload_size 8192"),
        ({"redispatch": True}, "    option redispatch"),
        ({"redispatch": 2}, "    option redispatch 2"),
        ({"http_reuse": "never"}, "    http-reuse never"),
        ({"nbthread": 2}, "    nbthread 2"),
        ({"http_check": "/healthz"}, "    option httpchk"),
        (
            {"http_check": "/healthz"},
            "    http-check send meth GET uri /healthz ver HTTP/1.1 hdr Host app.chaosd:8081",
        ),
    ],
)
def test_settings_become_lines(values: dict[str, Any], line: str) -> None:
    assert line in rendered(**values).splitlines()
    assert line not in rendered().splitlines()


def test_all_that_a_server_can_have_and_none() -> None:
    full = rendered(
        server={
            "inter": "1s",
            "fastinter": "500ms",
            "downinter": "3s",
            "init_state": "down",
            "on_marked_down": "shutdown-sessions",
            "extra": " weight 10 ",
        }
    )
    assert full.splitlines()[-1] == (
        "    server app app.chaosd:8081 resolvers chaosd resolve-prefer ipv4 init-addr last,none "
        "check inter 1s fastinter 500ms downinter 3s fall 3 rise 2 init-state down "
        "on-marked-down shutdown-sessions weight 10"
    )
    assert " check inter" not in rendered(server={"check": False})
    assert "timeout check" not in rendered(timeouts={"check": None})


def test_replicas_are_a_template() -> None:
    assert "    server-template app 3 app.chaosd:" in rendered(replace(WIRING, replicas=3))


# --- its program, its timers, and what one should know of them ----------------------------------


def test_a_binary_that_can_not_run_says_why(tmp_path: Path) -> None:
    binary = tmp_path / "haproxy"
    binary.write_text(
        "#!/bin/sh\necho 'libcrypto.so.3: cannot open' >&2\necho more >&2\nexit 127\n"
    )
    binary.chmod(0o755)
    with pytest.raises(MachineError) as caught:
        HAProxy(config(binary=str(binary))).version()
    said = "not an HAProxy (it says: libcrypto.so.3: cannot open)"
    assert str(caught.value) == f"{binary} -v: {said}"


def test_the_addresses_as_environment() -> None:
    expected = {
        "CHAOSD_LISTEN": "127.64.0.1:8080",
        "CHAOSD_DNS": "127.64.0.2:5300",
        "CHAOSD_APP": "app.chaosd:8081",
        "CHAOSD_LOG": "127.64.0.2:5140",
        "CHAOSD_API": "/run/chaosd/api",
    }
    assert HAProxy(config()).launch(WIRING).env == expected
    there = replace(WIRING, log=None, api=Address("0.0.0.0", 9999))
    expected |= {"CHAOSD_LOG": "stdout", "CHAOSD_API": "ipv4@0.0.0.0:9999"}
    assert HAProxy(config()).launch(there).env == expected


def test_timers_that_faults_must_not_lock_to() -> None:
    assert HAProxy(config()).timers_s() == (1.0, 2.0)
    assert HAProxy(config(server={"check": False})).timers_s() == (1.0,)


@pytest.mark.parametrize(
    ("server", "resolvers", "is_locked"),
    [
        ({}, {}, False),  # the defaults: nothing goes DOWN within one poll
        ({"inter": "500ms", "fall": 2}, {}, True),
        ({"inter": "470ms", "fall": 2}, {"timeout_resolve": "1130ms"}, False),
        ({"inter": "500ms", "fall": 2, "check": False}, {}, False),
        # A server that is UP is checked each `inter`, whatever `fastinter` is.
        ({"inter": "500ms", "fastinter": "330ms", "fall": 2}, {}, True),
        ({"inter": "3s", "fastinter": "700ms", "fall": 2}, {"timeout_resolve": "1400ms"}, False),
        ({"fall": 2}, {"hold": {"obsolete": "2s"}}, True),  # 2 s and 1 s: the other way round
        ({"fall": 2}, {}, False),
    ],
)
def test_periods_that_lock_are_told_where_it_matters(server, resolvers, is_locked) -> None:
    advice = HAProxy(config(server=server, resolvers=resolvers)).advice()
    assert any("keep their phase for minutes" in line for line in advice) == is_locked


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, ["retries 3 without redispatch: "]),
        ({"redispatch": 1}, []),
        ({"retries": 0}, []),
        (
            {"redispatch": True, "resolvers": {"timeout_resolve": "200ms"}},
            ["timeout retry 1s is longer than timeout resolve 200ms: "],
        ),
        (
            {
                "redispatch": True,
                "server": {"check": False},
                "resolvers": {"hold": {"obsolete": "30s"}},
            },
            ["hold obsolete 30s: "],
        ),
    ],
)
def test_what_settings_do_that_one_would_not_think_is_told_beforehand(
    tmp_path: Path, values, told
) -> None:
    advice = HAProxy(config(**values)).advice()
    assert len(advice) == len(told)
    assert all(line.startswith(what) for line, what in zip(advice, told, strict=True))
    # Of an own file, too, as far as it is understood.
    text = EXAMPLE.read_text().replace("timeout resolve 1s", "timeout resolve 100ms")
    (tmp_path / "own.cfg").write_text(text)
    own_advice = HAProxy(config(config=tmp_path / "own.cfg")).advice()
    assert any(line.startswith("timeout retry 1s is longer than") for line in own_advice)
