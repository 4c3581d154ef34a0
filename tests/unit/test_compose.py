"""What is found of a project, and what is made of it, without an engine."""

from __future__ import annotations

import copy
from ipaddress import IPv4Network
from itertools import islice

import pytest

from chaosd.errors import ConfigError, MachineError
from chaosd.plugins.proxy import Running
from chaosd.proxies.haproxy import HAProxy
from chaosd.proxies.haproxy.running import files_of
from chaosd.runtimes.compose.addresses import candidates
from chaosd.runtimes.compose.as_it_was import differences, secrets_of, without_values
from chaosd.runtimes.compose.project import Project, api_of, find, identity_of, way_in
from chaosd.runtimes.compose.recreation import body_of, endpoint_of
from chaosd.runtimes.docker.endpoint import MissingError

ID = "4f1c0ffee123" + "0" * 52
LABELS = {
    "com.docker.compose.project": "shop",
    "com.docker.compose.service": "web",
    "com.docker.compose.oneoff": "False",
    "com.docker.compose.config-hash": "abc",
    "team": "shop",
}


def container(service: str = "web", number: int = 1, **network) -> dict:
    """A container as an engine describes it, as far as it is looked at."""
    name = f"shop-{service}-{number}"
    end = {"IPAddress": "172.20.0.3", "Aliases": [ID[:12], name, service], **network}
    return {
        "Id": ID,
        "Name": f"/{name}",
        "Image": "sha256:1234",
        "RestartCount": 0,
        "State": {"Running": True, "Paused": False, "Pid": 42, "StartedAt": "09:00"},
        "Mounts": [
            {"Type": "volume", "Name": "f00", "Destination": "/own", "RW": True},
            {"Type": "volume", "Name": "shop_data", "Destination": "/data", "RW": False},
        ],
        "Config": {
            "Hostname": ID[:12],
            "Image": "web:latest",
            "Env": ["TOKEN=hush", "CHAOSD_IDENTITY=mine"],
            "Labels": LABELS | {"com.docker.compose.service": service},
            "Volumes": {"/own": {}},
        },
        "HostConfig": {
            "NetworkMode": "shop_default",
            "AutoRemove": False,
            "Binds": ["shop_data:/data:ro"],
            "RestartPolicy": {"Name": "always"},
        },
        "NetworkSettings": {
            "SandboxID": "a",
            "Ports": {"8000/tcp": [{"HostIp": "0.0.0.0", "HostPort": "32768"}], "8404/tcp": None},
            "Networks": {"shop_default": end},
        },
    }


class Engine:
    """An engine that has these containers and one network."""

    def __init__(self, *containers: dict, driver: str = "bridge") -> None:
        self._by_id = {str(number): each for number, each in enumerate(containers)}
        self._driver = driver

    def containers(self, *, filters: dict, **_) -> list[dict]:
        wanted = {each.partition("=")[0]: each.partition("=")[2] for each in filters["label"]}
        labels = {key: each["Config"]["Labels"] for key, each in self._by_id.items()}
        return [
            {"Id": key, "Labels": its}
            for key, its in labels.items()
            if all(its.get(name) == value for name, value in wanted.items())
        ]

    def inspect_container(self, name: str) -> dict:
        for key, each in self._by_id.items():
            if name in (key, each["Name"].lstrip("/")):
                return each
        raise MissingError("no such container")

    def inspect_network(self, name: str) -> dict:
        pools = [{"Subnet": "172.20.0.0/16", "Gateway": "172.20.0.1"}]
        return {"Name": name, "Driver": self._driver, "IPAM": {"Config": pools}}


def test_it_is_found_by_labels_and_by_names() -> None:
    engine = Engine(container(number=2), container(), container("haproxy"))
    found = find(engine, "shop", "web", "haproxy")
    assert found.names == "shop-web-1, shop-web-2"
    assert (found.network, str(found.subnet)) == ("shop_default", "172.20.0.0/16")
    assert find(engine, None, "shop-web-2", "shop-haproxy-1").names == "shop-web-2"


def one_off() -> dict:
    found = container()
    found["Config"]["Labels"] = found["Config"]["Labels"] | {"com.docker.compose.oneoff": "True"}
    return found


def changed(**host) -> dict:
    found = container()
    found["HostConfig"] |= host
    return found


def elsewhere() -> dict:
    found = container()
    found["NetworkSettings"]["Networks"] = {"other": {}}
    return found


@pytest.mark.parametrize(
    ("app", "said"),
    [
        (one_off(), "no container of service web of project shop runs"),
        (changed(AutoRemove=True), "started with --rm"),
        (changed(NetworkMode="host"), "network_mode host"),
        (changed(NetworkMode="container:abc"), "no address of its own"),
        (elsewhere(), "no network in common"),
    ],
)
def test_what_can_not_be_stopped_and_put_back_is_refused(app, said) -> None:
    with pytest.raises(MachineError, match=said):
        find(Engine(app, container("haproxy")), "shop", "web", "haproxy")


def test_an_overlay_network_is_not_understood() -> None:
    with pytest.raises(MachineError, match="overlay network"):
        find(Engine(container(), container("haproxy"), driver="overlay"), "shop", "web", "haproxy")


def test_a_recreation_has_all_but_what_is_one_containers_own() -> None:
    original = container()
    before = copy.deepcopy(original)
    body = body_of(original, "run.c1.1", {"chaosd.run": "run"})
    assert original == before
    assert body["Image"] == "sha256:1234"  # what runs, whatever the tag is by now
    assert body["Hostname"] == "run.c1.1"
    assert body["Env"] == ["TOKEN=hush", "CHAOSD_IDENTITY=run.c1.1"]
    assert body["Labels"] == original["Config"]["Labels"] | {
        "com.docker.compose.oneoff": "True",  # `up` does not count it
        "chaosd.run": "run",
    }
    assert body["HostConfig"]["Binds"] == ["shop_data:/data:ro", "f00:/own"]
    assert body["HostConfig"]["RestartPolicy"] == {"Name": "always"}
    assert endpoint_of(original, "shop_default")["Aliases"] == ["shop-web-1", "web"]


def test_a_host_name_that_was_chosen_stays() -> None:
    original = container()
    original["Config"]["Hostname"] = "web"
    assert body_of(original, "run.c1.1", {})["Hostname"] == "web"


def test_who_answers_is_known_by_its_environment_or_its_host() -> None:
    original = container()
    assert identity_of(original) == "mine"
    original["Config"]["Env"] = None
    assert identity_of(original) == ID[:12]


def test_only_ids_addresses_and_times_may_differ() -> None:
    before, after = container(), container(IPAddress="172.20.0.9", Aliases=["web", "shop-web-1"])
    before["NetworkSettings"]["Networks"]["shop_default"]["Aliases"] = ["shop-web-1", "web"]
    after["State"] |= {"Pid": 43, "StartedAt": "10:00"}
    after["NetworkSettings"]["SandboxID"] = "b"
    mounts = [{"Destination": "/own", "Name": "f00"}, {"Destination": "/data", "Name": "b"}]
    before["Mounts"], after["Mounts"] = mounts, mounts[::-1]
    assert differences(before, after) == []
    after["Mounts"] = [{**mounts[0], "Name": "another"}, mounts[1]]
    assert differences(before, after) == ["Mounts"]
    after["Mounts"] = mounts
    after["HostConfig"]["Binds"] = []
    after["Config"]["Labels"] = after["Config"]["Labels"] | {"more": "x"}
    assert differences(before, after) == ["Config.Labels.more", "HostConfig.Binds"]


def test_what_is_written_down_has_no_secrets() -> None:
    found = container()
    found["Config"]["Cmd"] = ["serve", "--password", "hush"]
    assert "hush" not in str(without_values(found))
    found["Config"]["Env"] = ["API_TOKEN=hush-hush", "MODE=production"]
    assert secrets_of(found) == ["hush-hush"]


def test_the_way_in_is_the_published_port() -> None:
    proxy = container("haproxy")
    assert str(way_in(proxy, "shop_default", None, "127.0.0.1")[0]) == "127.0.0.1:32768"
    assert str(way_in(proxy, "shop_default", 8404, "127.0.0.1")[0]) == "172.20.0.3:8404"
    proxy["NetworkSettings"]["Ports"] = {}
    with pytest.raises(MachineError, match=r"set runtime\.port"):
        way_in(proxy, "shop_default", None, "127.0.0.1")


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ("0.0.0.0:9999", "172.20.0.3:9999"),
        ("*:9999", "172.20.0.3:9999"),
        ("127.0.0.1:9999", None),
        (None, None),
    ],
)
def test_its_api_is_asked_at_its_address(there, here) -> None:
    assert api_of(container("haproxy"), "shop_default", there) == here


def test_addresses_are_asked_for_from_above_and_outside_of_the_engines_range() -> None:
    project = Project(
        app=(),
        proxy={},
        network="n",
        subnet=IPv4Network("10.1.0.0/28"),
        ranges=(IPv4Network("10.1.0.8/29"),),
        reserved=frozenset({"10.1.0.7"}),
    )
    assert list(islice(candidates(project), 3)) == ["10.1.0.6", "10.1.0.5", "10.1.0.4"]
    assert "10.1.0.14" in candidates(project)


def running(tmp_path, *argv: str) -> Running:
    (tmp_path / "haproxy.cfg").write_text(
        "global\n    stats socket /run/hap.sock level admin\n"
        "resolvers docker\n    nameserver dns 127.0.0.11:53\n    timeout resolve 700ms\n"
        "frontend front\n    bind :8000\n    default_backend web\n"
        "backend api\n    server a api:80 resolvers docker\n"
        'backend web\n    server w "${APP}:80" check inter 300ms resolvers docker\n'
    )
    return Running(
        name="shop-haproxy-1",
        argv=argv,
        directory="/etc",
        environment={"APP": "web"},
        app_names=frozenset({"web"}),
        fetch=lambda _: tmp_path / "haproxy.cfg",
    )


def test_a_proxy_is_met_by_the_files_of_its_command(tmp_path) -> None:
    command = running(tmp_path, "haproxy", "-W", "-f", "haproxy.cfg", "--", "/conf.d")
    assert files_of(command) == ["/etc/haproxy.cfg", "/conf.d"]
    met = HAProxy(HAProxy.Config(type="haproxy")).met(running(tmp_path, "haproxy", "-f", "x"))
    assert met.config.backend == "web"  # the one that asks for the app's name
    assert met.timers_s() == (0.7, 0.3)
    assert met.api_there == "/run/hap.sock"
    assert met.stand_in(80).name == "web"


def test_its_settings_are_those_of_its_files(tmp_path) -> None:
    config = HAProxy.Config(type="haproxy", retries=7)
    with pytest.raises(ConfigError, match=r"proxy\.retries: the proxy runs already"):
        HAProxy(config).met(running(tmp_path, "-f", "x"))
    with pytest.raises(ConfigError, match="no -f in the command of shop-haproxy-1"):
        HAProxy(HAProxy.Config(type="haproxy")).met(running(tmp_path))
