"""The embedded world: real HAProxy, real DNS packets, real app processes on loopback addresses."""

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from stages import BINARY, World, ask, files, run, silent

from chaosd.errors import ConfigError, MachineError
from chaosd.runtimes import readiness

needs_haproxy = [
    pytest.mark.haproxy,
    pytest.mark.skipif(BINARY is None, reason="there is no haproxy on this machine"),
]
pytestmark = needs_haproxy

# An app of the user's own: it says nothing, and it ignores SIGTERM.
OWN_APP = """
import http.server, os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("X-Chaosd-Instance", os.environ["CHAOSD_IDENTITY"])
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_): pass
host, port = os.environ["CHAOSD_LISTEN"].split(":")
http.server.HTTPServer.request_queue_size = 512
http.server.HTTPServer((host, int(port)), Handler).serve_forever()
"""
OWN_COMMAND = (sys.executable, "-c", OWN_APP)


# --- a cell ---------------------------------------------------------------------------------------


def test_a_cell_stands_and_is_taken_down_without_a_trace(tmp_path):
    async def scenario():
        world = World(tmp_path / "runs" / "cell")
        assert world.runtime.unavailable() is None
        stage = await world.set_up()
        (instance,) = stage.app
        assert await ask(stage.entry) == instance.identity
        assert await ask(instance.address) == instance.identity
        assert stage.entry.host.rpartition(".")[0] == instance.address.host.rpartition(".")[0]
        assert str(stage.entry) in (world.cell.directory / "haproxy.cfg").read_text()
        said = await world.proxy.read_servers(stage.api)
        assert said.counters
        assert stage.dns_queries > 0
        cost = stage.proxy_process()
        assert cost["rss_bytes"] > 1_000_000
        assert cost["fds"] > 3
        assert len(world.processes()) == 2 + 1  # app, proxy, and the zygote
        await stage.close()
        assert world.processes() == []
        assert stage.proxy_process() == {}
        assert [file.name for file in files(world)] == ["haproxy.cfg", "haproxy.log"]
        assert await ask(stage.entry) == "ECONNREFUSED"
        assert world.failures == []

    run(scenario())


def test_the_world_says_what_happens_in_its_order(tmp_path):
    async def scenario():
        async with World(tmp_path).standing() as world:
            old, new, holder = await world.replace()
            await world.answered_by(new.identity)
            at_ns = world.recorder.at_ns
            moved = {"old": old.address.host, "new": new.address.host}
            await world.until(lambda: world.recorder.all("proxy.log/address_changed")[1:])
            story = [
                at_ns("app/listening", identity=old.identity),
                at_ns("app/gone", identity=old.identity),
                at_ns("dns/withdrawn"),
                at_ns("dns/published", ips=[new.address.host]),
            ]
            assert story == sorted(story)
            # Where it is forked it may listen before its name is published.
            assert at_ns("app/listening", identity=new.identity) > at_ns("dns/withdrawn")
            assert at_ns("dns/published") < at_ns("dns/answer", rcode="NOERROR", qtype="A")
            assert at_ns("proxy.log/address_changed", **moved) > at_ns(
                "dns/answer", ips=[new.address.host]
            )
            # Only answers that differ are stored, however often they are given.
            await world.until(lambda: world.stage.dns_queries > 8)
            assert len(world.recorder.all("dns/answer")) <= 4
            assert world.stage.app == (new,)
            await holder.release()

    run(scenario())


@pytest.mark.parametrize("manner", ["refuse", "imposter", "blackhole", "tarpit"])
def test_the_old_address_is_what_was_wished_and_the_proxy_finds_the_new_one(tmp_path, manner):
    async def scenario():
        async with World(tmp_path).standing() as world:
            old, new, holder = await world.replace(manner)
            there = old.address
            if manner == "refuse":
                assert await ask(there) == "ECONNREFUSED"
            elif manner == "imposter":
                assert await ask(there) == "imposter"
            else:
                assert await silent(there, connects=manner == "tarpit")
            heard = await world.answered_by(new.identity)
            assert heard <= {"imposter", "503", "504"}
            await holder.release()
            assert await ask(there) == "ECONNREFUSED"
            assert world.failures == []

    run(scenario())


def test_a_placeholder_may_be_let_go_without_having_been_needed(tmp_path):
    async def scenario():
        async with World(tmp_path).standing() as world:
            holder = await world.stage.hold("tarpit")
            await holder.release()
            assert len(world.processes()) == 2 + 1  # app, proxy, and the zygote
            with pytest.raises(MachineError, match="can't make an old IP `vacant`"):
                await world.stage.hold("vacant")
            (instance,) = world.stage.app
            holder = await world.stage.hold("refuse")
            with pytest.raises(MachineError, match=r"refuse placeholder .*Address already in use"):
                await holder.take(instance.address.host)
            assert world.failures == []

    run(scenario())


def test_cells_beside_each_other_do_not_meet(tmp_path):
    async def scenario():
        worlds = [World(tmp_path / name) for name in "abc"]
        await asyncio.gather(*(world.set_up() for world in worlds))
        try:
            networks = {world.stage.entry.host.rpartition(".")[0] for world in worlds}
            assert len(networks) == len(worlds)  # although they have the same seed
            for world in worlds:
                assert await ask(world.stage.entry) == world.stage.app[0].identity
        finally:
            assert all(2 <= len(world.processes()) <= 3 for world in worlds)
            await worlds[0].stage.close()
            assert await ask(worlds[1].stage.entry) == worlds[1].stage.app[0].identity

    run(scenario())


# --- the name -------------------------------------------------------------------------------------


def test_a_stale_name_keeps_answering_until_the_next_instance(tmp_path):
    async def scenario():
        async with World(tmp_path, dns={"missing": "stale"}).standing() as world:
            (old,) = world.stage.app
            await world.stage.stop(old, "KILL", 1.0)
            asked = world.stage.dns_queries
            await world.until(lambda: world.stage.dns_queries > asked + 2)
            assert [answer["ips"] for answer in world.recorder.all("dns/answer")] == [
                [old.address.host]
            ]
            new = await world.stage.start(world.stage.next_identity())
            await world.answered_by(new.identity)
            assert world.recorder.all("dns/answer")[-1]["ips"] == [new.address.host]

    run(scenario())


# --- programs of the user's own -------------------------------------------------------------------


def test_a_program_of_the_user_s_own_is_found_by_asking_and_killed_after_its_grace(tmp_path):
    async def scenario():
        async with World(tmp_path, app={"command": OWN_COMMAND}).standing() as world:
            (old,) = world.stage.app
            assert await ask(world.stage.entry) == old.identity
            assert world.recorder.at_ns("app/listening", identity=old.identity)
            await world.stage.stop(old, "TERM", 0.2)
            assert await ask(old.address) == "ECONNREFUSED"
            assert world.failures == []

    run(scenario())


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ({"command": ("no-such-program",)}, r"can't be started: .*no-such-program"),
        ({"command": ("sh", "-c", "echo no luck; exit 7")}, "exit status 7: no luck"),
        ({"command": ("sleep", "60"), "ready_timeout_s": 0.3}, "does not listen on"),
        (
            {"command": ("sh", "-c", "echo listening 127.0.0.1:1; sleep 60")},
            r"listens on 127\.0\.0\.1:1, not on 127\.",
        ),
    ],
)
def test_an_app_that_does_not_come_up_is_one_line(tmp_path, app, said):
    async def scenario():
        world = World(tmp_path, app=app)
        with pytest.raises(MachineError, match=said) as raised:
            await world.set_up()
        assert "\n" not in str(raised.value)
        await world.until(lambda: world.processes() == [])  # a program's own children, too
        assert world.failures == []

    run(scenario())


# --- what goes wrong ------------------------------------------------------------------------------


def test_a_port_that_somebody_has_everywhere_is_one_line(tmp_path):
    async def scenario():
        with socket.socket() as stranger:
            stranger.bind(("0.0.0.0", 0))
            stranger.listen()
            port = stranger.getsockname()[1]
            world = World(tmp_path, app={"port": port})
            with pytest.raises(MachineError, match=rf"port {port} is taken .* app\.port"):
                await world.set_up()
        assert world.processes() == []

    run(scenario())


def test_a_door_that_is_taken_is_one_line(tmp_path):
    async def scenario():
        with socket.socket() as stranger:
            stranger.bind(("127.0.0.1", 0))
            entry = "{}:{}".format(*stranger.getsockname())
            world = World(tmp_path, proxy={"listen": entry})
            with pytest.raises(MachineError, match=rf"entry {entry} is taken .* proxy\.listen"):
                await world.set_up()
        assert world.processes() == []

    run(scenario())


def test_a_proxy_that_never_finds_the_app_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(readiness, "ENTRY_LIMIT_S", 0.5)

    async def scenario():
        world = World(tmp_path, proxy={"server": {"extra": "disabled"}})
        with pytest.raises(MachineError, match=r"does not answer .* it says HTTP/1\.1 503 .*last:"):
            await world.set_up()
        assert world.processes() == []

    run(scenario())


def test_a_config_that_the_proxy_refuses_is_the_user_s(tmp_path):
    async def scenario():
        world = World(tmp_path, proxy={"server": {"extra": "nonsense"}})
        with pytest.raises(ConfigError, match=r"refuses its config: .*haproxy\.cfg:.*nonsense"):
            await world.set_up()
        assert world.processes() == []

    run(scenario())


def test_a_cancelled_set_up_leaves_nothing(tmp_path):
    async def scenario():
        for pause_s in (0.0, 0.02, 0.05, 0.1, 0.15):
            world = World(tmp_path)
            task = asyncio.ensure_future(world.set_up())
            await asyncio.sleep(pause_s)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
                await world.stage.close()
            assert world.processes() == []

    run(scenario())


def test_what_dies_by_itself_is_told_and_what_is_stopped_is_not(tmp_path):
    async def scenario():
        async with World(tmp_path, app={"replicas": 2}).standing() as world:
            first, second = world.stage.app
            await world.stage.stop(first, "KILL", 1.0)
            assert world.failures == []
            os.kill(pid_of(world, second.identity), signal.SIGTERM)
            await world.until(lambda: world.failures)
            assert str(world.failures[0]).startswith(f"app {second.identity} (pid ")
            assert "died: exit status 0" in str(world.failures[0])
            assert world.stage.app == ()
            assert len(world.recorder.all("dns/withdrawn")) == 1
            os.kill(pid_of(world, "haproxy"), signal.SIGSEGV)
            await world.until(lambda: world.failures[1:])
            assert "haproxy (pid " in str(world.failures[1])
            assert "died: signal SIGSEGV" in str(world.failures[1])
            assert "\n" not in str(world.failures[1])
            assert await ask(world.stage.entry) == "ECONNREFUSED"

    run(scenario())


def test_a_placeholder_that_dies_while_it_is_needed_is_told(tmp_path):
    async def scenario():
        async with World(tmp_path).standing() as world:
            _, _, holder = await world.replace("tarpit")
            os.kill(pid_of(world, "tarpit"), signal.SIGKILL)
            await world.until(lambda: world.failures)
            assert str(world.failures[0]).startswith("tarpit placeholder (pid ")
            await holder.release()

    run(scenario())


def pid_of(world, word):
    """The process of this cell with that word in its name."""
    return next(child.pid for child in world.stage._children if word in child.name)


@pytest.mark.parametrize("name", ["deep-" * 20, """a $b, 'c": {d};#é"""])
def test_a_directory_that_no_socket_can_be_in_is_reached_by_a_shortcut(tmp_path, name):
    async def scenario():
        world = World(tmp_path / name / "cell")
        async with world.standing():
            api = Path(world.stage.api)
            assert api.parent.is_symlink()
            assert api.parent.resolve() == world.cell.directory.resolve()
            assert (await world.proxy.read_servers(world.stage.api)).counters
        assert not api.parent.is_symlink()
        assert not (world.cell.directory / "api.sock").exists()

    run(scenario())
