"""nginx's part of the config, the nginx.conf made of it, and what its log says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePath

import pytest
import wired
from pydantic import ValidationError

from chaosd.errors import MachineError
from chaosd.plugins.proxy import Predicts, ReadsLog, ReadsServers
from chaosd.proxies.nginx import Nginx
from chaosd.runtimes.docker import images

WIRING = replace(wired.WIRING, scratch=PurePath('/run/a "b"'))


def nginx(**values) -> Nginx:
    return Nginx(Nginx.Config.model_validate({"type": "nginx"} | values))


def conf(wiring=WIRING, **values) -> list[str]:
    text = nginx(**values).launch(wiring).files["nginx.conf"].decode()
    return [line.strip() for line in text.splitlines()]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "resolver 127.64.0.2:5300 ipv6=off;"),
        ({}, "resolver_timeout 30s;"),
        ({}, "server app.chaosd:8081 resolve max_fails=1 fail_timeout=10s;"),
        ({}, "listen 127.64.0.1:8080;"),
        ({}, "proxy_set_header Connection close;"),
        ({}, 'pid "/run/a \\"b\\"/nginx.pid";'),
        ({"resolver": {"valid": "2s"}}, "resolver 127.64.0.2:5300 valid=2s ipv6=off;"),
        ({"resolver": {"timeout": "1500ms"}}, "resolver_timeout 1500ms;"),
        ({"proxy_connect_timeout": "250ms"}, "proxy_connect_timeout 250ms;"),
        ({"next_upstream": {"when": ["error", "http_503"]}}, "proxy_next_upstream error http_503;"),
        ({"next_upstream": {"tries": 2}}, "proxy_next_upstream_tries 2;"),
        ({"max_fails": 0}, "server app.chaosd:8081 resolve max_fails=0 fail_timeout=10s;"),
        ({"keepalive": 8}, "keepalive 8;"),
        ({"keepalive": 8}, 'proxy_set_header Connection "";'),
        ({"log_requests": False}, "access_log off;"),
    ],
)
def test_a_setting_comes_to_its_directive(values, expected) -> None:
    assert expected in conf(**values)


def test_without_a_receiver_it_logs_to_standard_output() -> None:
    lines = conf(replace(WIRING, log=None))
    assert "access_log /dev/stdout chaosd;" in lines
    assert not any("syslog" in line for line in lines)


def test_an_answer_carries_its_address_only_if_asked() -> None:
    assert not any("X-Chaosd-Instance" in line for line in conf())
    assert 'add_header X-Chaosd-Instance "@$chaosd_ip";' in conf(replace(WIRING, by_address=True))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"resolver": {"valid": "500ms"}}, "nginx counts whole seconds here"),
        ({"version": 1.3}, "write the version in quotes"),
        ({"version": "1.30", "image": "mine"}, "leave one of the two out"),
        ({"listen": "8080"}, "not an address \\(write it like"),
    ],
)
def test_what_is_wrong_is_said(values, said) -> None:
    with pytest.raises(ValidationError, match=said):
        nginx(**values)


# --- its log: lines of nginx 1.31.3 ---------------------------------------------------------------

REQUEST = "<190>Nov 27 01:03:50 nginx: chaosd upstream={} answered={}"
NO_NAME = (
    "<187>Nov 27 01:03:51 nginx: 2026/11/27 01:03:51 [error] 946#946: "
    "app.internal could not be resolved (3: Host not found)"
)


def test_the_log_tells_when_another_address_answers() -> None:
    read, other = nginx().log_reader(), nginx().log_reader()

    def moved(old, new):
        return "address_changed", {"server": "app", "old": old, "new": new}

    assert read(REQUEST.format("127.1.0.9:8080", "0.001")) == moved(None, "127.1.0.9")
    assert read(REQUEST.format("127.1.0.9:8080", "0.001")) is None
    # One that failed says nothing, nor one for which there was no address at all.
    assert read(REQUEST.format("127.1.0.10:8080", "-")) is None
    assert read(REQUEST.format("app", "-")) is None
    two = REQUEST.format("127.1.0.9:8080, 127.1.0.10:8080", "-, 0.002")
    assert read(two) == moved("127.1.0.9", "127.1.0.10")
    assert other(two) == moved(None, "127.1.0.10")  # each cell has its own


def test_the_log_tells_of_a_name_that_is_missing() -> None:
    data = {"name": "app.internal", "reason": "3: Host not found"}
    assert nginx().log_reader()(NO_NAME) == ("unresolved", data)
    assert nginx().log_reader()("2026/11/27 [notice] 946#946: nginx/1.31.3") is None


# --- the program ----------------------------------------------------------------------------------


def program(directory: Path, says: str) -> str:
    file = directory / "nginx"
    file.write_text(f"#!/bin/sh\necho '{says}' >&2\n")
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize(
    ("says", "version", "said"),
    [
        ("nginx version: nginx/1.22.1", None, "is nginx 1.22.1, which can't look a name up again"),
        ("nginx version: nginx/1.27.2", None, "is nginx 1.27.2, which can't look a name up again"),
        ("nginx version: nginx/1.31.3", "1.30", "is 1.31.3, not the 1.30 of proxy.version"),
        ("hello", None, "-v: not an nginx (it says: hello)"),
    ],
)
def test_a_binary_that_will_not_do(tmp_path, says, version, said) -> None:
    with pytest.raises(MachineError) as caught:
        nginx(binary=program(tmp_path, says), version=version).version()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", ["1.27.3", "1.30.6", "2.0.0"])
def test_a_binary_that_will_do(tmp_path, version) -> None:
    assert nginx(binary=program(tmp_path, f"nginx version: nginx/{version}")).version() == version


def test_a_complaint_has_its_place(tmp_path) -> None:
    where = "/run/chaosd/nginx.conf:12"
    binary = program(tmp_path, f'nginx: [emerg] unknown directive "x" in {where}\nexit')
    Path(binary).write_text(Path(binary).read_text() + "exit 1\n")
    proxy = nginx(binary=binary)
    assert proxy.check(proxy.launch(WIRING)) == f'{where}: unknown directive "x"'


def test_its_abilities() -> None:
    proxy = nginx()
    assert isinstance(proxy, ReadsLog)
    assert not isinstance(proxy, ReadsServers | Predicts)
    assert proxy.timers_s() == ()
    assert nginx(resolver={"valid": "2s"}).timers_s() == (3.0,)
    assert "resolver.valid is not set" in " ".join(proxy.advice())


def test_its_image_is_one_that_is_made() -> None:
    assert nginx().image in {image.tag for image in images.wanted([], nginx=True)}
    assert nginx(image="mine").image == "mine"
