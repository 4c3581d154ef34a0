"""A user's file opens only what chaosd supplies, and runs nothing unless the user says so."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest

from chaosd.plugins.proxy import ProxyHost
from chaosd.proxies.haproxy import HAProxy

ROOT = Path(__file__).parents[2]
MAYBE = ".if openssl_version_atleast(1.1)\n"  # which is known nowhere
BASE = """\
global
    stats socket "${CHAOSD_API}" mode 600 level operator
    %(global)s
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
    %(defaults)s
resolvers r
    nameserver dns "${CHAOSD_DNS}"
    %(resolvers)s
frontend f
    bind "${CHAOSD_LISTEN}"
    default_backend b
    %(frontend)s
backend b
    server app "${CHAOSD_APP}" check resolvers r
    %(backend)s
%(sections)s
"""
NOTHING = dict.fromkeys(("global", "defaults", "resolvers", "frontend", "backend", "sections"), "")


def problems(tmp_path, *, env=None, version="3.0", allow=False, monkeypatch=None, **parts):
    path = tmp_path / "h.cfg"
    path.write_text(BASE % (NOTHING | parts))
    config = HAProxy.Config(type="haproxy", config=path, version=version, allow_programs=allow)
    return [line.removeprefix(f"{path}:") for line in HAProxy(config).problems()]


SOCKETS = [
    ("bind", {"frontend": "bind :18099"}),
    ("bind", {"frontend": "bind :80,:81"}),
    ("bind", {"frontend": 'bind "${CHAOSD_LISTEN},:81"'}),
    ("bind", {"frontend": 'bind "${CHAOSD_LISTEN}0"'}),
    ("bind", {"frontend": "bind fd@3"}),
    ("bind", {"frontend": "bind quic4@:443 ssl crt x.pem"}),
    ("bind", {"frontend": 'bind "quic4@${CHAOSD_LISTEN}"'}),
    ("bind", {"frontend": "bind unix@/run/haproxy.sock"}),
    ("bind", {"frontend": "bind abns@x"}),
    ("bind", {"frontend": "bind sockpair@4"}),
    ("bind", {"frontend": "bind rhttp@b/app"}),
    ("bind", {"frontend": 'bind "${NOT_SET_HERE}"'}),
    ("bind", {"frontend": 'bind "${CHAOSD_APP}"'}),
    ("bind", {"frontend": "bind '*:80'"}),
    ("bind", {"frontend": '"bind" :80'}),
    ("bind", {"frontend": 'bi"nd" :80'}),
    ("bind", {"global": "setenv CHAOSD_LISTEN :18099"}),
    ("bind", {"sections": "listen x\n    bind 10.0.0.1:80"}),
    ("listen x :80", {"sections": "listen x :80"}),
    ("stats", {"global": "stats socket /run/haproxy.sock level admin"}),
    ("stats", {"global": "stats socket ipv4@127.0.0.1:9999"}),
    ("stats", {"global": 'stats socket "${CHAOSD_LISTEN}"'}),
    ("peer", {"sections": "peers p\n    peer me 127.0.0.1:1024"}),
    ("server", {"sections": "peers p\n    server other 10.0.0.9:1024"}),
    ("bind", {"sections": "peers p\n    bind :1024\n    server me"}),
    ("bind", {"sections": "log-forward l\n    bind :514"}),
    ("dgram-bind", {"sections": "log-forward l\n    dgram-bind :514"}),
    ("nameserver", {"resolvers": "nameserver two 10.0.0.1:53"}),
    ("nameserver", {"resolvers": "nameserver two tcp@10.0.0.1:53"}),
    ("parse-resolv-conf", {"resolvers": "parse-resolv-conf"}),
    ("bind", {"frontend": ".if defined(CHAOSD_LISTEN)\n    bind :80\n.endif"}),
    # Not known here, so that it may hold there: both parts of it count.
    ("bind", {"frontend": f"{MAYBE}    bind :80\n.endif"}),
    ("bind", {"frontend": f"{MAYBE}.else\n    bind :80\n.endif"}),
    (
        "bind",
        {"frontend": f"{MAYBE}.elif openssl_version_before(9)\n    bind :80\n.endif"},
    ),
]


@pytest.mark.parametrize(("words", "parts"), SOCKETS, ids=[str(parts) for _, parts in SOCKETS])
def test_a_line_that_opens_a_socket_is_refused_and_named(tmp_path, words, parts) -> None:
    (problem,) = problems(tmp_path, **parts)
    assert "\n" not in problem
    number, _, what = problem.partition(": ")
    line = (tmp_path / "h.cfg").read_text().splitlines()[int(number) - 1].strip()
    assert what.startswith(f"`{line}` would ")
    assert words in line.replace('"', "")
    assert "(take the line out" in what


@pytest.mark.parametrize(
    "parts",
    [
        {"frontend": 'bind "${CHAOSD_LISTEN}" ssl crt x.pem'},
        {"frontend": 'bind "ipv4@${CHAOSD_LISTEN}"'},
        {"frontend": "bind ${CHAOSD_LISTEN}"},
        {"global": 'stats socket "${CHAOSD_API}" expose-fd listeners level user'},
        {"sections": "defaults d\nlisten x from d\n    bind ${CHAOSD_LISTEN}"},
        {"sections": "peers p\n    bind ${CHAOSD_LISTEN}\n    server me"},
        # It certainly does not hold.
        {"frontend": ".if defined(PRODUCTION_ONLY)\n    bind :80\n.endif"},
        {"frontend": ".if version_before(2.4)\n    bind :80\n.endif"},
        {"backend": "# bind :80"},
        {"backend": "http-request set-header X-Bind bind"},
    ],
)
def test_what_chaosd_supplies_may_be_opened(tmp_path, parts) -> None:
    assert problems(tmp_path, **parts) == []


PROGRAMS = [
    {"global": "lua-load evil.lua"},
    {"global": "lua-load-per-thread evil.lua arg"},
    {"global": "external-check", "backend": "external-check command /bin/evil"},
    {"sections": "program p\n    command /bin/evil --now"},
    {"global": "ssl-passphrase-cmd /bin/evil"},
    {"global": f"{MAYBE}    lua-load evil.lua\n.endif"},
]


@pytest.mark.parametrize("parts", PROGRAMS, ids=map(str, PROGRAMS))
def test_programs_are_off_and_the_line_says_how_to_allow_them(tmp_path, parts) -> None:
    (problem,) = problems(tmp_path, **parts)
    number, _, what = problem.partition(": ")
    line = (tmp_path / "h.cfg").read_text().splitlines()[int(number) - 1]
    assert "evil" in line
    assert re.search(r"would run `.*evil.*` as this user", what)
    assert "proxy.allow_programs: true, or --allow-programs" in what
    assert problems(tmp_path, allow=True, **parts) == []


def test_every_line_is_said_at_once_in_the_files_order(tmp_path) -> None:
    found = problems(
        tmp_path,
        **{
            "global": "lua-load a.lua",
            "frontend": "bind :80",
            "sections": "peers p\n    peer a b:1",
        },
    )
    assert [line.split("`")[1] for line in found] == ["lua-load a.lua", "bind :80", "peer a b:1"]


def test_an_api_by_tcp_is_no_admins(tmp_path) -> None:
    path = tmp_path / "h.cfg"
    admin = BASE.replace("level operator", "level admin") % NOTHING
    path.write_text(admin)
    proxy = HAProxy(HAProxy.Config(type="haproxy", config=path, version="3.0"))
    assert proxy.problems() == []  # a socket with a mode of its own
    host = ProxyHost(
        directory=PurePosixPath("/x"), scratch=PurePosixPath("/y"), run=None, open_files_max=1024
    )
    proxy.move_to(host)
    (problem,) = proxy.problems()
    assert "would let every user of the engine's machine command this HAProxy" in problem
    assert "(chaosd only reads: say level user)" in problem
    path.write_text(BASE % NOTHING)
    assert proxy.problems() == []


def test_the_shipped_example_may_run(tmp_path) -> None:
    config = HAProxy.Config(type="haproxy", config=ROOT / "haproxy/haproxy.cfg")
    assert HAProxy(config).problems() == []


def test_the_switch_of_the_command_line_is_the_one_of_the_config(tmp_path, capsys) -> None:
    from chaosd.cli import loading, parser

    path = tmp_path / "c.yaml"
    path.write_text("name: x\n")
    arguments = parser().parse_args(["check", str(path), "--allow-programs"])
    assert loading.load(arguments)[0].proxy.allow_programs is True
    assert loading.load(parser().parse_args(["run", str(path)]))[0].proxy.allow_programs is False
