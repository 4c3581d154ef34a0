"""The user's own haproxy.cfg: what is missing in it, what that costs, and its timers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from wired import EXAMPLE, WIRING, config

from chaosd.proxies.haproxy import HAProxy

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
