"""The settings of the user's own haproxy.cfg, read for the prediction."""

from pathlib import Path

import pytest

from chaosd.plugins.proxy import Move
from chaosd.proxies.haproxy import HAProxy
from chaosd.proxies.haproxy.cfg import own_file
from chaosd.proxies.haproxy.cfg.settings import read_settings
from chaosd.proxies.haproxy.cfg.wording import say

ROOT = Path(__file__).parents[2]
BASE = """\
global
    {global}
defaults{name}
    mode http
    timeout connect 500ms
    timeout client 5s
    timeout server 3s
    {defaults}
resolvers r
    nameserver dns "${{CHAOSD_DNS}}"
    {resolvers}
frontend f
    bind "${{CHAOSD_LISTEN}}"
    default_backend b
backend b
    {backend}
    server app "${{CHAOSD_APP}}" check resolvers r {server}
"""
EMPTY = dict.fromkeys(("global", "name", "defaults", "resolvers", "backend", "server"), "")


def read(tmp_path, **parts):
    path = tmp_path / "h.cfg"
    path.write_text(BASE.format(**EMPTY | parts))
    return settings(path)


def settings(path, version=None):
    effective = own_file.read_own(path, version=version, environment={})
    config, finding = read_settings(effective, own_file.app_servers(effective), path)
    return config, finding and say(finding)


def test_haproxys_defaults_hold_for_what_is_left_out(tmp_path):
    config, unread = read(tmp_path)
    assert unread is None
    assert config.server.resolve_prefer == "ipv6"
    assert config.server.inter.s == 2
    assert (config.server.fall, config.server.rise, config.retries) == (3, 2, 3)
    assert config.resolvers.timeout_resolve.s == config.resolvers.timeout_retry.s == 1
    assert config.resolvers.resolve_retries == 3
    assert config.resolvers.hold.obsolete.s == 0
    assert config.timeouts.check is None
    assert config.timeouts.connect.s == 0.5
    assert not config.redispatch


def test_what_is_said_is_read_with_its_units_and_its_order(tmp_path):
    config, unread = read(
        tmp_path,
        defaults="default-server inter 700 fall 5 rise 4 resolve-prefer ipv4\n"
        "    option redispatch",
        resolvers="timeout resolve 200ms\n    timeout retry 1500\n    resolve_retries 2\n"
        "    hold nx 3s\n    hold obsolete 1m",
        backend="timeout check 250ms\n    option redispatch 2\n    retries 1\n"
        "    option httpchk GET /up",
        server="inter 300ms init-addr last,none maxconn 30",
    )
    assert unread is None
    server, resolvers = config.server, config.resolvers
    assert (server.inter.s, server.fall, server.rise) == (0.3, 5, 4)
    assert server.resolve_prefer == "ipv4"
    assert (resolvers.timeout_resolve.s, resolvers.timeout_retry.s) == (0.2, 1.5)
    assert resolvers.resolve_retries == 2
    assert (resolvers.hold.nx.s, resolvers.hold.obsolete.s) == (3, 60)
    assert (config.timeouts.check.s, config.redispatch, config.retries) == (0.25, 2, 1)
    assert config.http_check == "/up"


def test_a_defaults_section_with_a_name_holds_and_can_be_taken_back(tmp_path):
    said = "option httpchk GET /up\n    timeout check 300ms\n    retries 7"
    config, unread = read(tmp_path, name=" web", defaults=said)
    assert unread is None
    assert (config.http_check, config.timeouts.check.s, config.retries) == ("/up", 0.3, 7)
    config, _ = read(tmp_path, name=" web", defaults=said, backend="no option httpchk")
    assert (config.http_check, config.retries) == (None, 7)


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        (
            {"server": "slowstart 10s"},
            "h.cfg:17: no prediction with `slowstart` on the server line",
        ),
        ({"server": "inter"}, "h.cfg:17: no prediction with `inter` without a value"),
        ({"server": 'inter "${X}"'}, 'h.cfg:17: no prediction with `"${X}"`, whose value'),
        ({"resolvers": "nameserver two 127.0.0.1:53"}, "more than one nameserver"),
        ({"resolvers": "parse-resolv-conf"}, "more than one nameserver"),
        ({"backend": "option tcp-check"}, "h.cfg:16: no prediction with `option tcp-check`"),
        ({"defaults": "retry-on all-retryable-errors"}, "no prediction with `retry-on"),
        ({"backend": "server b 10.0.0.9:80"}, "h.cfg:16: no prediction with another server"),
        ({"backend": "http-check connect port 9"}, "h.cfg:16: no prediction with `http-check con"),
        ({"global": "spread-checks 50"}, "h.cfg:2: no prediction with `spread-checks`"),
        ({"name": " web", "defaults": "option tcp-check"}, "no prediction with `option tcp-check`"),
        ({"server": "inter 0"}, "h.cfg: no prediction: server.inter: must be at least 1ms"),
        ({"server": "inter 30d"}, "h.cfg:17: no prediction with `30d`, which is longer than HAPr"),
        ({"server": "new-thing 5"}, "h.cfg:17: no prediction with `new-thing`, which is not known"),
        ({"server": "check-sni x"}, "h.cfg:17: no prediction with `check-sni` on the server line"),
        ({"defaults": "default-server slowstart 9s"}, "h.cfg:8: no prediction with `slowstart`"),
        ({"defaults": "timeout connect x"}, "h.cfg:8: no prediction with `x`, which is no time"),
    ],
)
def test_what_is_not_understood_is_not_guessed(tmp_path, parts, what):
    config, unread = read(tmp_path, **parts)
    assert config is None
    assert what in unread
    assert "\n" not in unread


def test_two_servers_for_the_app_are_beyond_it(tmp_path):
    path = tmp_path / "h.cfg"
    text = BASE.format(**EMPTY) + '    server two "${CHAOSD_APP}" check resolvers r\n'
    path.write_text(text)
    assert "more than one server" in settings(path)[1]


def test_the_example_is_predicted_as_the_same_settings_in_yaml():
    move = Move(
        published_s=0.2, listening_s=0.25, missing_s=0.0, missing_class="nxdomain", old_ip="refuse"
    )
    own = HAProxy(HAProxy.Config(type="haproxy", config=ROOT / "haproxy/haproxy.cfg"))
    ours = HAProxy(HAProxy.Config(type="haproxy"))
    assert own.predict(move) == ours.predict(move) is not None


def test_an_app_that_does_not_say_who_it_is_needs_a_line(tmp_path):
    proxy = HAProxy(HAProxy.Config(type="haproxy", config=ROOT / "haproxy/haproxy.cfg"))
    assert proxy.problems() == []
    (problem,) = proxy.problems(by_address=True)
    assert "http-response set-header X-Chaosd-Instance @%si" in problem


def plugin(tmp_path, text, **values):
    (tmp_path / "h.cfg").write_text(text)
    config = HAProxy.Config(type="haproxy", config=tmp_path / "h.cfg", **values)
    return HAProxy(config)


def problems(tmp_path, text, **values):
    found = plugin(tmp_path, text, **values).problems()
    return [line.removeprefix(f"{tmp_path}/") for line in found]


def test_of_several_defaults_sections_the_one_that_holds_is_taken(tmp_path):
    text = BASE.format(**EMPTY).replace("backend b", "defaults\n    retries 5\nbackend b")
    text = text.replace("    retries 5\n", "    timeout connect 1s\n    retries 5\n")
    path = tmp_path / "h.cfg"
    path.write_text(text)
    config, unread = settings(path)
    assert unread is None
    assert (config.retries, config.timeouts.connect.s) == (5, 1.0)
    path.write_text(text.replace("backend b", "backend b from web"))
    assert "there is no defaults section `web`" in problems(tmp_path, path.read_text())[0]


def test_a_time_in_microseconds_is_rounded_up_as_haproxy_does(tmp_path):
    config, _ = read(tmp_path, server="inter 1500us")
    assert config.server.inter.s == 0.002


def test_the_version_decides_what_is_inherited(tmp_path):
    parts = {"defaults": "default-server resolve-prefer ipv4", "backend": "default-server rise 1"}
    text = BASE.format(**EMPTY | parts)
    for version, preferred in (("2.6.12", "ipv6"), ("2.8.25", "ipv4"), ("3.4", "ipv4")):
        said = plugin(tmp_path, text, version=version).settings()
        assert said["server"]["resolve_prefer"] == preferred


def test_a_variable_that_haproxy_does_not_expand_is_named(tmp_path):
    text = BASE.format(**EMPTY).replace('"${CHAOSD_LISTEN}"', "${CHAOSD_LISTEN}")
    (problem,) = problems(tmp_path, text)
    assert problem == (
        "h.cfg:13: HAProxy does not expand CHAOSD_LISTEN here: variables are expanded inside "
        'double quotes only (write "${CHAOSD_LISTEN}", with the quotes)'
    )
    assert len(problems(tmp_path, text.replace("${CHAOSD_LISTEN}", "'$CHAOSD_LISTEN'"))) == 1


def test_what_haproxy_would_refuse_is_said_with_its_line(tmp_path):
    text = BASE.format(**EMPTY).replace("mode http", 'mode "http')
    assert problems(tmp_path, text) == ['h.cfg:4: unmatched quote "']
    assert problems(tmp_path, BASE.format(**EMPTY).rstrip("\n")) == [
        "h.cfg:17: the last line has no newline (end the file with one)"
    ]
    assert problems(tmp_path, "{% if x %}\n") == [
        "h.cfg:1: a template: `{% if` (give the file that is made of it)"
    ]


def test_a_part_that_may_hold_is_not_said_to_be_missing(tmp_path):
    text = BASE.format(**EMPTY).replace("frontend f", ".if feature(LUA)\nfrontend f")
    text = text.replace("backend b", ".endif\nbackend b")
    assert problems(tmp_path, text, binary="/nowhere/haproxy") == []
    proxy = plugin(tmp_path, text, binary="/nowhere/haproxy")
    assert any("h.cfg:12: no prediction: whether `feature(LUA)` holds" in a for a in proxy.advice())
    binary = tmp_path / "haproxy"
    binary.write_text("#!/bin/sh\necho 'Feature list : -LUA +POLL'\n")
    binary.chmod(0o755)
    assert "nothing binds" in problems(tmp_path, text, binary=str(binary))[0]


def test_the_app_may_be_named_through_another_variable(tmp_path):
    text = BASE.format(**EMPTY | {"global": 'setenv TARGET "${CHAOSD_APP}"'})
    text = text.replace('app "${CHAOSD_APP}"', 'app "${TARGET}"')
    assert problems(tmp_path, text) == []


def test_a_variable_of_the_environment_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("HOW_OFTEN", "700ms")
    text = BASE.format(**EMPTY | {"server": 'inter "${HOW_OFTEN}"'})
    assert plugin(tmp_path, text).settings()["server"]["inter"] == "700ms"
    text = text.replace("${HOW_OFTEN}", "${HOW_SELDOM-9s}")
    assert plugin(tmp_path, text).settings()["server"]["inter"] == "9s"


def test_quotes_and_escapes_do_not_hide_what_is_said(tmp_path):
    text = BASE.format(**EMPTY | {"server": "'inter' \"3s\" fall\\ 2"})
    path = tmp_path / "h.cfg"
    path.write_text(text)
    config, unread = settings(path)
    assert config is None
    assert "no prediction with `fall\\ 2`, which is not known here" in unread
    path.write_text(text.replace("\\ ", " "))
    assert settings(path)[0].server.inter.s == 3
