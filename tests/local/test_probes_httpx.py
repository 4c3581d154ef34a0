"""The probe for everything else: the same outcomes, and TLS, HTTP/2, redirects, authentication."""

import asyncio
import gc
import os
import shutil
import ssl
import subprocess

import pytest
from probing import BAD, GOOD, Server, closed_port, outcomes, probing

from chaosd.history.values import Address, Outcome
from chaosd.probes.httpx import HttpxProbe
from chaosd.proxies.haproxy import builds

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
OPENSSL = shutil.which("openssl", path=PATH)
HAPROXY = builds.at_hand()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1 and app.example, with its key in the same file."""
    if OPENSSL is None:
        pytest.skip("there is no openssl on this machine")
    directory = tmp_path_factory.mktemp("tls")
    key, cert, both = (directory / name for name in ("key.pem", "cert.pem", "both.pem"))
    request = f"{OPENSSL} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = "subjectAltName=IP:127.0.0.1,DNS:app.example"
    subprocess.run(
        [*request.split(), "-subj", "/CN=test", "-addext", names, "-keyout", key, "-out", cert],
        check=True,
        capture_output=True,
    )
    both.write_text(cert.read_text() + key.read_text())
    return both


def server_context(certificate, seen=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if seen is not None:
        context.sni_callback = lambda sock, name, context: seen.append(name)
    return context


async def greet(reader, writer):
    """A server that speaks first, and not TLS."""
    writer.write(b"220 mail.example\r\n")
    await reader.read(1)
    writer.close()


@pytest.mark.parametrize("connection", ["new", "keep-alive"])
def test_every_outcome(connection):
    async def main():
        async with Server().listening() as here, probing() as prober:
            cases = {path: (path, here, {}) for path in GOOD | BAD}
            cases["/hang"] = ("/hang", here, {"timeout": "300ms"})
            cases["refused"] = ("/ok", closed_port(), {})
            # A broadcast address: no TCP connection can lead there.
            cases["unreachable"] = ("/ok", Address("127.255.255.255", 80), {})
            for path in ("/moved", "/circle", "/away"):
                cases[f"follow {path}"] = (path, here, {"follow_redirects": True})
            # What happens to Upgrade is httpx's own business: it takes 101 for an answer.
            del cases["/upgrade"]
            config = {"connection": connection, "rate": "4/s"}
            found = await outcomes(prober, HttpxProbe, cases, **config)
        expected = GOOD | BAD
        del expected["/upgrade"]
        expected |= {"refused": ("REFUSED", 0, ""), "unreachable": ("UNREACHABLE", 0, "")}
        expected |= {
            "follow /moved": ("OK", 200, "app-1"),
            "follow /circle": ("GARBLED", 0, ""),
            "follow /away": ("GARBLED", 0, ""),
        }
        assert found == {name: {outcome} for name, outcome in expected.items()}

    asyncio.run(main())


def test_tls_is_checked_against_the_name_that_is_asked_for(certificate):
    async def main():
        seen = []
        tls = {"scheme": "https"}
        trusted = tls | {"verify": str(certificate)}
        context = server_context(certificate, seen)
        async with (
            Server().listening(ssl=context) as here,
            probing() as prober,
        ):
            plain = await asyncio.start_server(greet, "127.0.0.1", 0)
            cases = {
                "trusted": ("/ok", here, trusted),
                "unknown authority": ("/ok", here, tls),
                "unchecked": ("/ok", here, tls | {"verify": False}),
                "by name": ("/ok", here, trusted | {"host": "app.example"}),
                "by name and port": ("/ok", here, trusted | {"host": "app.example:8443"}),
                "wrong name": ("/ok", here, trusted | {"host": "other.example"}),
                "not tls": ("/ok", Address(*plain.sockets[0].getsockname()), trusted),
                "kept": ("/ok", here, trusted | {"connection": "keep-alive"}),
                "reset": ("/reset", here, trusted),
                "refused": ("/ok", closed_port(), trusted),
            }
            found = await outcomes(prober, HttpxProbe, cases, rate="5/s")
            plain.close()
        ok, bad = {("OK", 200, "app-1")}, {("TLS", 0, "")}
        assert found == {
            "trusted": ok,
            "unknown authority": bad,
            "unchecked": ok,
            "by name": ok,
            "by name and port": ok,
            "wrong name": bad,
            "not tls": bad,
            "kept": ok,
            "reset": {("RESET", 0, "")},
            "refused": {("REFUSED", 0, "")},
        }
        assert {"app.example", "other.example"} <= set(seen)
        assert "app.example:8443" not in seen

    asyncio.run(main())


HTTP2 = """
global
    log stdout format raw local0 emerg
defaults
    mode http
    timeout client 5s
    timeout connect 1s
    timeout server 5s
frontend entry
    bind {address} ssl crt {certificate} alpn h2,http/1.1
    http-request return status 200 hdr X-Chaosd-Instance "v%[fc_http_major]"
"""


@pytest.mark.haproxy
@pytest.mark.skipif(HAPROXY is None, reason="there is no haproxy on this machine")
@pytest.mark.parametrize("connection", ["new", "keep-alive"])
def test_http2(certificate, tmp_path, connection):
    address = closed_port()
    config = tmp_path / "haproxy.cfg"
    config.write_text(HTTP2.format(address=address, certificate=certificate))

    async def main():
        async with probing() as prober:
            more = {"scheme": "https", "verify": str(certificate), "connection": connection}
            two = prober.add(HttpxProbe, rate="20/s", http2=True, **more)
            one = prober.add(HttpxProbe, rate="20/s", **more)
            for stream in (one, two):
                prober.aim(stream, address)
                await prober.until(
                    lambda stream=stream: any(
                        sample.outcome == Outcome.OK for sample in prober.samples.get(stream, ())
                    )
                )
                await prober.count(stream, len(prober.sent(stream)) + 10)
            await prober.pause(one, two)
            last = {stream: prober.sent(stream)[-5:] for stream in (one, two)}
            assert {(sample.outcome, sample.who) for sample in last[one]} == {(0, "v1")}
            assert {(sample.outcome, sample.who) for sample in last[two]} == {(0, "v2")}

    with subprocess.Popen([HAPROXY, "-db", "-q", "-f", config]) as process:
        try:
            asyncio.run(main())
        finally:
            process.kill()


def test_headers_and_authentication():
    async def main():
        server = Server()
        async with server.listening() as here, probing() as prober:
            stream = prober.add(
                HttpxProbe,
                path="/ok?a=%20b",
                host="app.example",
                headers={"X-Asked-By": "us"},
                auth={"username": "user", "password": "pass"},
            )
            first, rest = server.answers["/ok"].split(b"\r\n", 1)
            server.answers["/ok?a=%20b"] = b"\r\n".join((first, b"Set-Cookie: to=one", rest))
            prober.aim(stream, here)
            await prober.count(stream, 3)
            (samples,) = await prober.pause(stream)
            assert {sample.outcome for sample in samples} == {Outcome.OK}
        head = server.heads[-1].lower()
        assert head.startswith("get /ok?a=%20b http/1.1\r\n")
        assert head.count("host:") == 1
        for line in (
            "host: app.example",
            "x-asked-by: us",
            "authorization: basic dxnlcjpwyxnz",
            "connection: close",
            "user-agent: chaosd",
        ):
            assert f"\r\n{line}\r\n" in head
        assert "\r\ncookie:" not in head  # each is a new user

    asyncio.run(main())


def test_connections_are_new_or_kept():
    async def main():
        for connection in ("new", "keep-alive"):
            server = Server()
            async with server.listening() as here, probing() as prober:
                stream = prober.add(HttpxProbe, path="/ok", rate="50/s", connection=connection)
                prober.aim(stream, here)
                await prober.count(stream, 40)
                (samples,) = await prober.pause(stream)
                assert {sample.outcome for sample in samples} == {Outcome.OK}
                assert server.requests == len(samples)
                if connection == "new":
                    assert server.connections == len(samples)
                else:
                    assert server.connections < len(samples) / 2

    asyncio.run(main())


def test_open_loop_while_the_target_hangs():
    async def main():
        async with Server().listening() as here, probing() as prober:
            stream = prober.add(HttpxProbe, path="/hang", rate="50/s", timeout="1s")
            prober.aim(stream, here)
            await prober.count(stream, 75)
            (samples,) = await prober.pause(stream)
        assert set(prober.gaps(stream)) == {1}
        assert {sample.outcome for sample in samples} == {Outcome.TIMEOUT}
        assert all(sample.done_ns - sample.scheduled_ns >= 10**9 for sample in samples)
        assert samples[0].done_ns > samples[20].sent_ns

    asyncio.run(main())


def test_no_task_is_left_when_a_probe_is_abandoned_or_closed():
    async def main():
        class Shot:
            scheduled_ns = deadline_ns = 0
            ends = ()

            def sent(self):
                pass

            def done(self, outcome, status=0, who=""):
                self.ends = (*self.ends, outcome)

        server = Server()
        async with server.listening() as here:
            probe = HttpxProbe(HttpxProbe.Config(path="/hang"), "x")
            shots = [Shot() for _ in range(5)]
            for shot in shots:
                probe.fire(shot, here)
            for _ in range(500):
                if server.requests == 5:
                    break
                await asyncio.sleep(0.01)
            probe.abandon(shots[0])
            probe.abandon(shots[0])
            await asyncio.sleep(0.05)
            assert len(probe._asking) == 4
            await probe.close()
            assert not probe._asking
            assert [shot.ends for shot in shots] == [()] * 5

    asyncio.run(main())
    gc.collect()
