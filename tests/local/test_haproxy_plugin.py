"""The plugin against a real HAProxy: it takes what is rendered, and says what is read."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from chaosd.dns.server import DnsServer
from chaosd.errors import MachineError
from chaosd.history.values import Address
from chaosd.plugins.proxy import ServerState, Wiring
from chaosd.proxies.haproxy import HAProxy
from chaosd.proxies.haproxy.config import Config
from chaosd.proxies.haproxy.model.versions import parse_version
from chaosd.system.clock import RealClock, sleep

pytestmark = pytest.mark.haproxy
EXAMPLE = Path(__file__).parent.parent.parent / "haproxy" / "haproxy.cfg"
NAME, PORT = "app.chaosd", 8080
WAIT_S = 20.0  # for what comes within a second on an idle machine


@pytest.fixture
def plugin(haproxy: str) -> Callable[..., HAProxy]:
    def plugin(**values: Any) -> HAProxy:
        return HAProxy(Config.model_validate({"type": "haproxy", "binary": haproxy} | values))

    return plugin


def wiring(directory: Path, **values: Any) -> Wiring:
    plain = {
        "listen": Address("127.0.0.1", 8080),
        "dns": Address("127.0.0.1", 5353),
        "app_name": NAME,
        "app_port": PORT,
        "replicas": 1,
        "log": Address("127.0.0.1", 5140),
        "api": directory / "api",
        "directory": directory,
        "scratch": directory,
    }
    return Wiring(**(plain | values))


def complaint(proxy: HAProxy, wiring: Wiring) -> str | None:
    launch = proxy.launch(wiring)
    launch.write()
    return proxy.check(launch)


# --- the program ----------------------------------------------------------------------------------


def test_its_version(plugin: Callable[..., HAProxy]) -> None:
    version = plugin().version()
    assert re.fullmatch(r"\d+\.\d+(\.\d+)?(-dev\d+)?", version)
    assert parse_version(version) >= (2, 2)


def test_it_is_found_where_the_path_of_a_user_does_not_look(
    haproxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not haproxy.startswith(("/usr/sbin/", "/usr/local/sbin/")):
        pytest.skip("this machine's haproxy is somewhere else")
    monkeypatch.setenv("PATH", "/nowhere")
    assert HAProxy(Config(type="haproxy")).version()


@pytest.mark.parametrize(
    ("binary", "said"),
    [
        ("/nowhere/haproxy", "/nowhere/haproxy: No such file or directory (install HAProxy, or "),
        ("/bin/echo", "/bin/echo -v: not an HAProxy (it says: -v)"),
    ],
)
def test_a_binary_that_is_none(binary: str, said: str) -> None:
    with pytest.raises(MachineError, match=re.escape(said)):
        HAProxy(Config(type="haproxy", binary=binary)).version()


# --- config files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"server": {"check": False}, "timeouts": {"check": None}},
        {"redispatch": True, "http_reuse": "always", "nbthread": 1},
        {"redispatch": 1, "http_check": "/healthz"},
        {
            "resolvers": {
                "timeout_resolve": "1ms",
                "accepted_payload_size": 8192,
                "hold": {"nx": 0, "valid": "24d", "obsolete": "1500ms"},
            }
        },
        {
            "server": {
                "inter": "250ms",
                "fastinter": "100ms",
                "downinter": "5s",
                "init_addr": "127.0.0.9",
                "resolve_prefer": "ipv6",
                "on_marked_down": "shutdown-sessions",
                "extra": "weight 10 maxconn 100",
            }
        },
    ],
)
@pytest.mark.parametrize("replicas", [1, 3])
def test_haproxy_takes_what_is_rendered(
    plugin: Callable[..., HAProxy], values: dict[str, Any], replicas: int, tmp_path: Path
) -> None:
    proxy, wired = plugin(**values), wiring(tmp_path, replicas=replicas)
    assert complaint(proxy, wired) is None


def test_haproxy_takes_the_example(plugin: Callable[..., HAProxy], tmp_path: Path) -> None:
    proxy = plugin(config=EXAMPLE)
    assert proxy.problems() == []
    wired = wiring(tmp_path)
    assert complaint(proxy, wired) is None


def test_a_complaint_is_one_line_with_its_place(
    plugin: Callable[..., HAProxy], tmp_path: Path
) -> None:
    proxy, wired = plugin(server={"extra": "no-such-thing"}), wiring(tmp_path)
    text = proxy.render(wired)
    said = complaint(proxy, wired)
    assert said is not None
    line = text.splitlines().index(next(x for x in text.splitlines() if "no-such-thing" in x)) + 1
    assert said.startswith(f"{tmp_path}/haproxy.cfg:{line}: ")
    assert "unknown keyword 'no-such-thing'" in said
    assert "\n" not in said


def test_a_complaint_about_an_own_file_names_that_file(
    plugin: Callable[..., HAProxy], tmp_path: Path
) -> None:
    """And what it names by relative paths is looked for beside it."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "my.cfg").write_text(EXAMPLE.read_text() + "    errorfile 503 ./sorry.http\n")
    (mine / "sorry.http").write_text("HTTP/1.0 503 Sorry\r\n\r\n")
    proxy, wired = plugin(config=mine / "my.cfg"), wiring(tmp_path)
    assert complaint(proxy, wired) is None
    broken = EXAMPLE.read_text() + "    no-such-thing\n    neither\n"
    (mine / "my.cfg").write_text(broken)
    said = complaint(proxy, wired)
    assert said is not None
    last = len(broken.splitlines())
    places = [line.partition(": ")[0] for line in said.splitlines()]
    assert places == [f"{mine}/my.cfg:{last - 1}", f"{mine}/my.cfg:{last}"]  # all at once


def test_names_that_are_unknown_here_are_no_error(
    plugin: Callable[..., HAProxy], tmp_path: Path
) -> None:
    """The file is of another machine: HAProxy is told (`-dr`) not to insist on its names."""
    elsewhere = "\nbackend elsewhere\n    server s nowhere.invalid:80 init-addr libc\n"
    (tmp_path / "my.cfg").write_text(EXAMPLE.read_text() + elsewhere)
    proxy = plugin(config=tmp_path / "my.cfg")
    assert complaint(proxy, wiring(tmp_path)) is None


# --- what it says ---------------------------------------------------------------------------------


class Log(asyncio.DatagramProtocol):
    """Keeps what the plugin reads in the lines that come in."""

    def __init__(self, proxy: HAProxy) -> None:
        self.read = proxy.log_reader()
        self.said: list[tuple[str, dict[str, Any]]] = []

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if said := self.read(data.decode()):
            self.said.append(said)

    async def until(self, what: str, **data: Any) -> dict[str, Any]:
        """Wait for a line that says this, and forget it and those before it."""
        async with asyncio.timeout(WAIT_S):
            while True:
                for place, (found, more) in enumerate(self.said):
                    if found == what and data.items() <= more.items():
                        del self.said[: place + 1]
                        return more
                await sleep(RealClock(), 0.01)


class Standing:
    """A real HAProxy with a name server, a log and an app that comes and goes."""

    def __init__(self, proxy: HAProxy, net: str, directory: Path) -> None:
        self.proxy, self.net = proxy, net
        self.dns = DnsServer(RealClock(), lambda query: None)
        self.log = Log(proxy)
        self.api = str(directory / "api")
        self._apps: dict[str, asyncio.Server] = {}

    def ip(self, last: int) -> str:
        return f"{self.net}.{last}"

    async def listen(self, last: int) -> None:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()

        ip = self.ip(last)
        self._apps[ip] = await asyncio.start_server(hang_up, ip, PORT)

    def leave(self, last: int) -> None:
        self._apps.pop(self.ip(last)).close()

    def close(self) -> None:
        for app in self._apps.values():
            app.close()


@contextlib.asynccontextmanager
async def standing(proxy: HAProxy, directory: Path) -> AsyncIterator[Standing]:
    net = f"127.{secrets.randbelow(100) + 100}.{secrets.randbelow(256)}"
    world = Standing(proxy, net, directory)
    dns = await world.dns.start(world.ip(2))
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: world.log, local_addr=(world.ip(2), 0)
    )
    log = Address(*transport.get_extra_info("sockname"))
    await world.listen(11)
    world.dns.publish(NAME, [world.ip(11)])
    wired = wiring(directory, listen=Address(world.ip(1), 8080), dns=dns, log=log)
    launch = proxy.launch(wired)
    launch.write()
    child = await asyncio.create_subprocess_exec(*launch.argv, stderr=asyncio.subprocess.DEVNULL)
    try:
        yield world
    finally:
        child.kill()
        await child.wait()
        transport.close()
        world.close()
        await world.dns.close()


FAST = {
    "resolvers": {
        "timeout_resolve": "200ms",
        "timeout_retry": "100ms",
        "resolve_retries": 2,
        "hold": {"nx": "0s"},
    },
    "server": {"inter": "100ms", "fall": 2, "rise": 1},
}


def test_log_lines_and_counters_of_a_real_one(
    plugin: Callable[..., HAProxy], tmp_path: Path
) -> None:
    asyncio.run(_moves(plugin(**FAST), tmp_path))


async def _moves(proxy: HAProxy, directory: Path) -> None:
    async with standing(proxy, directory) as world:
        # From no address to the first one.
        server = {"server": "app/app"}
        found = await world.log.until("address_changed")
        assert found == server | {"old": None, "new": world.ip(11)}
        await world.log.until("ready", **server)

        # The app goes away, and its name moves to a new one.
        world.leave(11)
        down = await world.log.until("down", **server)
        assert down["reason"].startswith("Layer4 connection problem")
        await world.listen(12)
        world.dns.publish(NAME, [world.ip(12)])
        found = await world.log.until("address_changed")
        assert found == server | {"old": world.ip(11), "new": world.ip(12)}
        await world.log.until("up", **server)

        # The name is missing for a while.
        world.dns.withdraw(NAME)
        maintenance = await world.log.until("maint", **server)
        assert maintenance["reason"] == "DNS NX status"
        said = await proxy.read_servers(world.api)
        assert list(said.servers) == [ServerState(server="app/app", address=None, health="maint")]
        counters = said.counters["dns"]
        assert counters["valid"] >= 2
        assert counters["nx"] >= 2
        assert counters["update"] >= 2
        assert counters["timeout_derived"] <= 1  # one may be under way

        # And back.
        world.dns.publish(NAME, [world.ip(12)])
        await world.log.until("up", **server)
        said = await proxy.read_servers(world.api)
        back = ServerState(server="app/app", address=world.ip(12), health="up")
        assert list(said.servers) == [back]

        # A nameserver that says nothing any more: HAProxy's own counter never moves.
        world.dns.missing = "drop"
        world.dns.withdraw(NAME)
        async with asyncio.timeout(WAIT_S):
            while counters["timeout_derived"] < 3:
                await sleep(RealClock(), 0.1)
                counters = (await proxy.read_servers(world.api)).counters["dns"]
        assert counters["timeout"] == 0
