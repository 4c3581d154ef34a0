"""The proxy's part of the config, the haproxy.cfg made of it, and the user's own haproxy.cfg."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import pytest
from pydantic import ValidationError

from chaosd.errors import MachineError
from chaosd.history.values import Address
from chaosd.plugins.proxy import Wiring
from chaosd.proxies.haproxy import HAProxy
from chaosd.proxies.haproxy.config import Config

EXAMPLE = Path(__file__).parent.parent.parent / "haproxy" / "haproxy.cfg"
WIRING = Wiring(
    listen=Address("127.64.0.1", 8080),
    dns=Address("127.64.0.2", 5300),
    app_name="app.chaosd",
    app_port=8081,
    replicas=1,
    log=Address("127.64.0.2", 5140),
    api=PurePath("/run/chaosd/api"),
    directory=PurePath("/run/chaosd"),
    scratch=PurePath("/run/chaosd"),
)


def config(**values: Any) -> Config:
    return Config.model_validate({"type": "haproxy"} | values)


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


# --- the user's own file --------------------------------------------------------------------------

WHOLE = """\
global
    log "${CHAOSD_LOG}" local0 notice
    stats socket "${CHAOSD_API}" mode 600 level user
defaults
    log global
resolvers mine
    nameserver dns "${CHAOSD_DNS}"
frontend f
    bind "${CHAOSD_LISTEN}"
backend b
    server app "${CHAOSD_APP}" resolvers mine check
"""


def own(text: str, tmp_path: Path) -> tuple[list[str], list[str]]:
    file = tmp_path / "my.cfg"
    file.write_text(text)
    proxy = HAProxy(config(config=file))
    settings = ("no prediction", "retries 3 without redispatch")
    advice = [line for line in proxy.advice() if not any(what in line for what in settings)]
    return (
        [line.removeprefix(f"{tmp_path}/") for line in proxy.problems()],
        [line.removeprefix(f"{tmp_path}/") for line in advice],
    )


def test_a_file_with_everything_in_it_is_fine(tmp_path: Path) -> None:
    assert own(WHOLE, tmp_path) == ([], [])
    assert own(EXAMPLE.read_text(), tmp_path) == ([], [])


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            '    bind "${CHAOSD_LISTEN}"\n',
            '    # bind "${CHAOSD_LISTEN}"\n',
            (
                'my.cfg: nothing binds to "${CHAOSD_LISTEN}", so probes can\'t get in '
                '(add: bind "${CHAOSD_LISTEN}" to a frontend)'
            ),
        ),
        (
            '"${CHAOSD_APP}"',
            "app.example.net:80",
            (
                'my.cfg: no server is at "${CHAOSD_APP}", so the app can\'t be reached '
                '(add: server app "${CHAOSD_APP}" check resolvers … to a backend)'
            ),
        ),
        (
            '"${CHAOSD_DNS}"',
            "10.0.0.2:53",
            (
                'my.cfg: no nameserver is at "${CHAOSD_DNS}", so moves can\'t be seen '
                '(add: nameserver dns "${CHAOSD_DNS}" to a resolvers section)'
            ),
        ),
        (
            " resolvers mine",
            "",
            (
                "my.cfg:11: this server is looked up once and never again "
                "(add: resolvers mine to the line)"
            ),
        ),
        (
            " resolvers mine",
            " resolvers other",
            'my.cfg:11: resolvers other has no nameserver at "${CHAOSD_DNS}" (use: resolvers mine)',
        ),
    ],
)
def test_what_is_missing_is_said_with_what_to_add(
    old: str, new: str, problem: str, tmp_path: Path
) -> None:
    assert WHOLE.count(old) == 1
    problems, advice = own(WHOLE.replace(old, new), tmp_path)
    # What stands there instead is not chaosd's, which is said of its line.
    assert [line for line in problems if " would ask " not in line] == [problem]
    assert advice == []


@pytest.mark.parametrize(
    ("old", "expected"),
    [
        (
            '    log "${CHAOSD_LOG}" local0 notice\n',
            (
                'my.cfg: nothing logs to "${CHAOSD_LOG}", so when the proxy saw the move, and '
                "when its server came and went, is known by its stats socket at best, to some "
                '30 ms (add: log "${CHAOSD_LOG}" local0 notice to global, '
                "and log global to defaults)"
            ),
        ),
        (
            "    log global\n",
            (
                "my.cfg:2: this log is used by no backend, so nothing of its servers is heard "
                "(add: log global to defaults)"
            ),
        ),
        (
            '    stats socket "${CHAOSD_API}" mode 600 level user\n',
            (
                'my.cfg: no stats socket is at "${CHAOSD_API}", so the resolver counters stay '
                'unknown (add: stats socket "${CHAOSD_API}" mode 600 level user to global)'
            ),
        ),
    ],
)
def test_what_costs_knowledge_is_advice_and_no_problem(
    old: str, expected: str, tmp_path: Path
) -> None:
    assert own(WHOLE.replace(old, ""), tmp_path) == ([], [expected])


@pytest.mark.parametrize(
    "text",
    [
        WHOLE.replace(" resolvers mine", "").replace(
            "    server", "    default-server resolvers mine\n    server"
        ),
        WHOLE.replace(" resolvers mine", "").replace(
            "defaults\n", "defaults\n    default-server check resolvers mine\n"
        ),
        WHOLE.replace('server app "', 'server-template app 3 "'),
        WHOLE.replace("${CHAOSD_LISTEN}", "$CHAOSD_LISTEN"),
        WHOLE.replace("frontend f\n", "listen f\n").replace("backend b\n", ""),
        WHOLE.replace("local0 notice", 'local0 notice # "${CHAOSD_LOG}"'),
        WHOLE.replace("frontend f\n", 'frontend f\n    http-request set-header X "a#b"\n'),
    ],
)
def test_other_ways_to_say_it_are_understood(text: str, tmp_path: Path) -> None:
    assert text != WHOLE
    assert own(text, tmp_path) == ([], [])


def test_what_stands_in_a_comment_is_not_there(tmp_path: Path) -> None:
    text = WHOLE.replace(" resolvers mine check", " check # resolvers mine")
    problems, _ = own(text, tmp_path)
    assert problems == [
        "my.cfg:11: this server is looked up once and never again (add: resolvers mine to the line)"
    ]


def test_a_variable_with_a_longer_name_is_another_one(tmp_path: Path) -> None:
    problems, _ = own(WHOLE.replace("${CHAOSD_LISTEN}", "${CHAOSD_LISTENER}"), tmp_path)
    assert len(problems) == 2
    assert "nothing binds to" in problems[0]
    assert "would be opened for real" in problems[1]


_SECOND = '    server two "${CHAOSD_APP}" resolvers mine check inter 7s\n'


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (1.0, 2.0)),
        ({"resolvers mine\n": "resolvers mine\n    timeout resolve 250\n"}, (0.25, 2.0)),
        ({"resolvers mine\n": 'resolvers mine\n    timeout resolve "5s"\n'}, (5.0, 2.0)),
        # Of another section, or another timeout, or of what is no server's.
        (
            {
                "resolvers mine\n": "resolvers mine\n    timeout retry 9s\n",
                "frontend f": "resolvers other\n    timeout resolve 9s\nfrontend f",
            },
            (1.0, 2.0),
        ),
        ({"mine check": "mine check fastinter 9s inter 500ms"}, (1.0, 0.5)),
        ({"mine check": "mine check inter 9s inter 1m"}, (1.0, 60.0)),
        ({"server app": "server inter"}, (1.0, 2.0)),
        ({"mine check": "mine"}, (1.0,)),
        ({"backend b\n": "backend b\n    default-server inter 300\n"}, (1.0, 0.3)),
        (
            {
                "log global\n": "log global\n    default-server inter 4s resolvers other check\n",
                "backend b\n": "backend b\n    default-server inter 3s no-check\n",
            },
            (1.0, 3.0),
        ),
        (
            {"log global\n": "log global\n    default-server check\n", "mine check": "mine"},
            (1.0, 2.0),
        ),
        ({"backend b\n": "backend a\n    default-server inter 9s\nbackend b\n"}, (1.0, 2.0)),
        ({"backend b\n": "backend b\n" + _SECOND}, (1.0, 7.0, 2.0)),
        # Who knows what a variable will say?
        (
            {
                "resolvers mine\n": 'resolvers mine\n    timeout resolve "${HOW_OFTEN}"\n',
                "mine check": 'mine check inter "$HOW_OFTEN"',
            },
            (1.0, 2.0),
        ),
    ],
)
def test_the_timers_of_an_own_file_are_its_own(
    changes: dict[str, str], expected: tuple[float, ...], tmp_path: Path
) -> None:
    text = WHOLE
    for old, new in changes.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    (tmp_path / "my.cfg").write_text(text)
    assert HAProxy(config(config=tmp_path / "my.cfg")).timers_s() == pytest.approx(expected)


def test_the_timers_of_a_file_that_is_not_there_are_haproxys_defaults(tmp_path: Path) -> None:
    assert HAProxy(config(config=tmp_path / "no.cfg")).timers_s() == (1.0, 2.0)


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


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    missing = tmp_path / "no.cfg"
    assert HAProxy(config(config=missing)).problems() == [
        f"{missing}: can't be read: No such file or directory (give the path of your haproxy.cfg)"
    ]
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    proxy = HAProxy(config(config=tmp_path / "binary"))
    assert proxy.problems() == [
        f"{tmp_path}/binary: can't be read: not text (give the path of your haproxy.cfg)"
    ]
    assert proxy.advice() == []


def test_an_own_file_is_run_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "my.cfg").write_text(WHOLE)
    proxy = HAProxy(config(config=tmp_path / "my.cfg", binary="/opt/haproxy"))
    launch = proxy.launch(replace(WIRING, directory=tmp_path / "run"))
    assert launch.files == {"haproxy.cfg": WHOLE.encode()}
    assert launch.argv == [
        *("/opt/haproxy", "-db", "-C", str(tmp_path)),
        *("-f", str(tmp_path / "run" / "haproxy.cfg")),
    ]


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


def test_beside_an_own_file_no_default_is_shown_that_does_not_hold(tmp_path: Path) -> None:
    text = EXAMPLE.read_text().replace("timeout resolve 1s", "timeout resolve 300ms")
    (tmp_path / "own.cfg").write_text(text)
    written = config(config=tmp_path / "own.cfg").model_dump(mode="json")
    assert "resolvers" not in written
    assert "retries" not in written
    assert "resolvers" in config().model_dump(mode="json")
    said = HAProxy(config(config=tmp_path / "own.cfg")).settings()
    assert said["resolvers"]["timeout_resolve"] == "300ms"
    assert HAProxy(config()).settings() == config().model_dump(mode="json", include={*said})
