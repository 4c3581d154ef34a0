"""The settings of the user's own haproxy.cfg, read for the prediction."""

from pathlib import Path

import pytest

from chaosd.plugins.timeline import move as moved
from chaosd.proxies.haproxy import HAProxy, ownsettings

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
    return ownsettings.read(path)


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
        ({"server": "inter 500us"}, "h.cfg: no prediction: server.inter: HAProxy counts whole"),
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
    assert "more than one server" in ownsettings.read(path)[1]


def test_the_example_is_predicted_as_the_same_settings_in_yaml():
    move = moved(
        published_s=0.2, listening_s=0.25, missing_s=0.0, missing="nxdomain", old_ip="refuse"
    )
    own = HAProxy(HAProxy.Config(type="haproxy", config=ROOT / "haproxy/haproxy.cfg"))
    ours = HAProxy(HAProxy.Config(type="haproxy"))
    assert own.predict(move) == ours.predict(move) is not None


def test_an_app_that_does_not_say_who_it_is_needs_a_line(tmp_path):
    proxy = HAProxy(HAProxy.Config(type="haproxy", config=ROOT / "haproxy/haproxy.cfg"))
    assert proxy.problems() == []
    (problem,) = proxy.problems(by_address=True)
    assert "http-response set-header X-Chaosd-Instance @%si" in problem
