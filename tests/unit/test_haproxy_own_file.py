"""The settings of the user's own haproxy.cfg, read for the prediction."""

from pathlib import Path

import pytest

from chaosd.plugins.timeline import move as moved
from chaosd.proxies.haproxy import HAProxy
from chaosd.proxies.haproxy.cfg import own_file
from chaosd.proxies.haproxy.cfg.settings import backend_of, settings_of
from chaosd.proxies.haproxy.cfg.wording import say, say_unknown
from chaosd.proxies.haproxy.config import OF_THE_FILE
from chaosd.proxies.haproxy.model.backend import Backend

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
S, MS = 1_000_000_000, 1_000_000
EMPTY = dict.fromkeys(("global", "name", "defaults", "resolvers", "backend", "server"), "")


def read(tmp_path, **parts):
    path = tmp_path / "h.cfg"
    path.write_text(BASE.format(**EMPTY | parts))
    return settings(path)


def settings(path, version=None):
    effective = own_file.read_own(path, version=version, environment={})
    backend = backend_of(effective, own_file.app_servers(effective))
    if isinstance(backend, Backend):
        return settings_of(backend), None
    return None, say_unknown(backend)


def test_haproxys_defaults_hold_for_what_is_left_out(tmp_path):
    found, unread = read(tmp_path)
    assert unread is None
    assert found.prefers == "AAAA"
    assert (found.inter_ns, found.fastinter_ns, found.downinter_ns) == (2 * S, 2 * S, 2 * S)
    assert (found.fall, found.rise, found.retries) == (3, 2, 3)
    assert found.timeout_resolve_ns == found.timeout_retry_ns == S
    assert found.resolve_retries == 3
    assert (found.holds.obsolete_ns, found.holds.nx_ns) == (0, 30 * S)
    assert found.timeout_check_ns is None
    assert found.timeout_connect_ns == S // 2
    assert found.redispatch_every == 0
    assert (found.check, found.http_check, found.init_state) == (True, False, None)


def test_what_is_said_is_read_with_its_units_and_its_order(tmp_path):
    found, unread = read(
        tmp_path,
        defaults="default-server inter 700 fall 5 rise 4 resolve-prefer ipv4\n"
        "    option redispatch",
        resolvers="timeout resolve 200ms\n    timeout retry 1500\n    resolve_retries 2\n"
        "    hold nx 3s\n    hold obsolete 1m",
        backend="timeout check 250ms\n    option redispatch 2\n    retries 1\n"
        "    option httpchk GET /up",
        server="inter 300ms downinter 5s init-addr last,none maxconn 300",
    )
    assert unread is None
    assert (found.inter_ns, found.fall, found.rise) == (300 * MS, 5, 4)
    assert (found.fastinter_ns, found.downinter_ns) == (300 * MS, 5 * S)
    assert found.prefers == "A"
    assert (found.timeout_resolve_ns, found.timeout_retry_ns) == (200 * MS, 1500 * MS)
    assert found.resolve_retries == 2
    assert (found.holds.nx_ns, found.holds.obsolete_ns) == (3 * S, 60 * S)
    assert (found.timeout_check_ns, found.redispatch_every, found.retries) == (250 * MS, 2, 1)
    assert found.http_check


def test_a_defaults_section_with_a_name_holds_and_can_be_taken_back(tmp_path):
    said = "option httpchk GET /up\n    timeout check 300ms\n    retries 7\n    option redispatch"
    found, unread = read(tmp_path, name=" web", defaults=said)
    assert unread is None
    assert (found.http_check, found.timeout_check_ns, found.retries) == (True, 300 * MS, 7)
    assert found.redispatch_every == -1
    back = "no option httpchk\n    no option redispatch"
    found, _ = read(tmp_path, name=" web", defaults=said, backend=back)
    assert (found.http_check, found.retries, found.redispatch_every) == (False, 7, 0)


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ({"server": "inter"}, "h.cfg:17: `inter` without a value"),
        ({"server": "inter 0"}, "h.cfg:17: `0`, which must be at least 1ms"),
        ({"server": "inter 30d"}, "h.cfg:17: `30d`, which is longer than HAPr"),
        ({"server": "new-thing 5"}, "h.cfg:17: `new-thing` is not a keyword that chaosd knows"),
        ({"defaults": "timeout connect x"}, "h.cfg:8: `x`, which is no time"),
    ],
)
def test_what_is_not_understood_is_not_guessed(tmp_path, parts, what):
    found, unread = read(tmp_path, **parts)
    assert found is None
    assert what in unread
    assert "\n" not in unread


@pytest.mark.parametrize(
    "parts",
    [
        {"server": "observe layer4"},
        {"server": 'inter "${X}"'},
        {"server": "agent-check"},
        {"server": "port 9"},
        {"resolvers": "nameserver two 127.0.0.1:53"},
        {"resolvers": "parse-resolv-conf"},
        {"backend": "server b 10.0.0.9:80"},
        {"backend": 'server two "${CHAOSD_APP}" check resolvers r'},
        {"backend": "option httpchk\n    http-check connect port 9"},
        {"global": "spread-checks 50"},
        {"backend": "timeout connect 0"},
    ],
)
def test_what_the_closed_forms_do_not_reach_is_read_all_the_same(tmp_path, parts):
    assert read(tmp_path, **parts) == (None, None)


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
    found, unread = settings(path)
    assert unread is None
    assert (found.retries, found.timeout_connect_ns) == (5, S)
    path.write_text(text.replace("backend b", "backend b from web"))
    assert "there is no defaults section `web`" in problems(tmp_path, path.read_text())[0]


def test_a_time_in_microseconds_is_rounded_up_as_haproxy_does(tmp_path):
    found, _ = read(tmp_path, server="inter 1500us")
    assert found.inter_ns == 2 * MS


def test_the_version_decides_what_is_inherited(tmp_path):
    parts = {"defaults": "default-server resolve-prefer ipv4", "backend": "default-server rise 1"}
    text = BASE.format(**EMPTY | parts)
    for version, preferred in (("2.6.12", "ipv6"), ("2.8.25", "ipv4"), ("3.4", "ipv4")):
        said = plugin(tmp_path, text, version=version).settings()
        assert said["server"]["resolve_prefer"] == preferred


@pytest.mark.parametrize(
    "written", ["$CHAOSD_{}", "${{CHAOSD_{}}}", "'$CHAOSD_{}'", '"${{CHAOSD_{}}}"']
)
def test_in_an_address_a_variable_is_expanded_whatever_its_quotes(tmp_path, written):
    text = BASE.format(**EMPTY)
    for name in ("LISTEN", "APP", "DNS"):
        text = text.replace(f'"${{CHAOSD_{name}}}"', written.format(name))
    assert problems(tmp_path, text) == []


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
    found, unread = settings(path)
    assert found is None
    assert "`fall\\ 2` is not a keyword that chaosd knows" in unread
    path.write_text(text.replace("\\ ", " "))
    assert settings(path)[0].inter_ns == 3 * S


def test_the_record_has_the_same_paths_as_the_yaml(tmp_path):
    """So a run with an own file compares with one whose settings are in the YAML."""
    said = HAProxy(HAProxy.Config(type="haproxy", config=ROOT / "haproxy/haproxy.cfg")).settings()
    ours = HAProxy.Config(type="haproxy").model_dump(mode="json", include={*said})
    assert said.keys() == ours.keys() == {*OF_THE_FILE}
    for part in ("resolvers", "server", "timeouts"):
        assert said[part].keys() == ours[part].keys()
    assert said == ours


def test_settings_beyond_the_model_are_recorded_too(tmp_path):
    """Several servers, options, and a variable without a value."""
    more = 'server two "${CHAOSD_APP}" resolvers r slowstart 10s check inter 3s maxconn "${UNSET}"'
    text = BASE.format(**EMPTY | {"defaults": "option tcpka", "backend": "balance leastconn"})
    text += f"    {more}\n"
    said = plugin(tmp_path, text).settings()
    assert said["server"]["slowstart"] == {"b/app": None, "b/two": "10s"}
    assert said["server"]["inter"] == {"b/app": "2s", "b/two": "3s"}
    assert said["server"]["fall"] == 3
    assert said["server"]["maxconn"] == {"b/app": None, "b/two": '"${UNSET}"'}
    assert said["backend"] == {"balance": "leastconn", "option tcpka": True}


def test_without_a_timeout_there_is_still_a_prediction(tmp_path):
    move = moved(
        published_s=0.2, listening_s=0.25, missing_s=0.0, missing="nxdomain", old_ip="refuse"
    )
    text = BASE.format(**EMPTY).replace("    timeout server 3s\n", "")
    assert plugin(tmp_path, text, version="2.6.12").predict(move) is not None


@pytest.mark.parametrize(
    ("lines", "version", "most", "said"),
    [
        ("maxconn 5000", "3.0.1", 10_000, "h.cfg:2: `maxconn 5000` takes two descriptors for each"),
        ("maxconn 9\n    maxconn 5000", None, 10_000, "h.cfg:3: `maxconn 5000` takes two"),
        ("maxconn 4900", "3.0.1", 10_000, None),
        ("maxconn 5000", "3.0.1", None, None),
        ("maxconn 5000", "2.2.9", 10_000, None),
        ("maxconn 5000\n    no strict-limits", "3.0.1", 10_000, None),
    ],
)
def test_more_connections_than_descriptors_are_said_before_the_run(
    tmp_path, lines, version, most, said
):
    path = tmp_path / "h.cfg"
    path.write_text(BASE.format(**EMPTY | {"global": lines}))
    effective = own_file.read_own(path, version=version, environment={})
    found = own_file.too_many_connections(effective, most)
    assert len(found) == (said is not None)
    assert said is None or said in say(found[0])
