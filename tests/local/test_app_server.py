"""http-server/server.py as a process: the app, and what may be found at its old address."""

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from random import SystemRandom

import pytest

from chaosd.runtimes.local.loopback import claim, is_free

SERVER = Path(__file__).parents[2] / "http-server" / "server.py"
PORT = 8080
WAIT_S = 10.0  # for what comes at once on an idle machine
SILENCE_S = 0.5  # how long nothing must come


@pytest.fixture
def ip():
    network = asyncio.run(claim(SystemRandom(), 16))
    yield network.fresh(PORT)
    network.close()


class Process(subprocess.Popen):
    def line(self):
        """The next line that it says; "" at its end."""
        assert select.select([self.stdout], [], [], WAIT_S)[0], "it says nothing"
        return self.stdout.readline().rstrip("\n")

    def order(self, line):
        self.stdin.write(line + "\n")
        self.stdin.flush()

    def ends(self):
        return self.wait(WAIT_S)


@contextmanager
def running(*options, descriptors_max=None, **environment):
    command = [sys.executable, "-I", "-S", str(SERVER), *options]
    if descriptors_max:
        command = ["sh", "-c", f'ulimit -n {descriptors_max}; exec "$@"', "sh", *command]
    process = Process(
        command,
        env=os.environ | environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=1,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def serving(ip, *options, **more):
    with running("--listen", f"{ip}:{PORT}", "--identity", "r.c.1", *options, **more) as process:
        assert process.line().startswith(f"listening {ip}:{PORT} ")
        yield process


@contextmanager
def holding(ip, mode, **more):
    with running("--armed", "--mode", mode, **more) as process:
        assert process.line() == "armed"
        process.order(f"take {ip} {PORT}")
        assert process.line().startswith(f"holding {ip}:{PORT} ")
        yield process


def has_its_address(process):
    """Return when it has had a socket for a moment; trying to bind would be in its way."""
    deadline_s = time.monotonic() + WAIT_S
    found = ""
    while "socket:" not in found:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
        with suppress(OSError):
            files = Path(f"/proc/{process.pid}/fd").iterdir()
            found = " ".join(str(file.readlink()) for file in files)
    time.sleep(0.05)


def connect(ip):
    return socket.create_connection((ip, PORT), timeout=WAIT_S)


def read_all(client):
    client.settimeout(WAIT_S)
    data = b""
    while piece := client.recv(65536):
        data += piece
    return data


def exchange(ip, request):
    """Everything that comes back until the server closes the connection."""
    with connect(ip) as client:
        client.sendall(request)
        return read_all(client)


def parse(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    return status, dict(field.split(": ", 1) for field in fields), body.decode()


def get(ip, path="/", method="GET"):
    request = f"{method} {path} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"
    return parse(exchange(ip, request.encode()))


def refused(ip):
    """Whether a connection is refused at once."""
    start_s = time.monotonic()
    try:
        connect(ip).close()
    except ConnectionRefusedError:
        return time.monotonic() - start_s < 1
    return False


# --- the app --------------------------------------------------------------------------------------


def test_the_page_says_who_it_is_and_where(ip):
    with serving(ip, "--identity", "<k3f9>.c1.7"):
        status, fields, body = get(ip, "/?from=somebody")
        assert status == "HTTP/1.1 200 OK"
        assert fields["X-Chaosd-Instance"] == "<k3f9>.c1.7"
        assert fields["X-Chaosd-Address"] == f"{ip}:{PORT}"
        assert int(fields["Content-Length"]) == len(body)
        assert fields["Content-Type"] == "text/html; charset=utf-8"
        assert "Hello, world!" in body
        assert "&lt;k3f9>.c1.7" in body
        assert f"{ip}:{PORT}" in body


def test_paths_and_methods(ip):
    with serving(ip):
        assert get(ip, "/healthz")[0] == "HTTP/1.1 200 OK"
        assert get(ip, "/nowhere")[0] == "HTTP/1.1 404 Not Found"
        status, fields, body = get(ip, "/", "HEAD")
        assert (status, body) == ("HTTP/1.1 200 OK", "")
        assert int(fields["Content-Length"]) > 0
        assert get(ip, "/", "OPTIONS")[0] == "HTTP/1.1 200 OK"  # HAProxy's `option httpchk`
        assert get(ip, "/", "DELETE")[0] == "HTTP/1.1 405 Method Not Allowed"
        old = exchange(ip, b"OPTIONS / HTTP/1.0\r\n\r\n")
        assert old.startswith(b"HTTP/1.1 200 OK\r\n")
        with_body = exchange(ip, b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\na=b")
        assert with_body.startswith(b"HTTP/1.1 405 ")
        assert exchange(ip, b"\x16\x03\x01 hello\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        assert exchange(ip, b"GET /" + b"x" * 16384).startswith(b"HTTP/1.1 431 ")


def test_connections_are_kept_and_requests_may_come_together_or_in_pieces(ip):
    request = b"GET /healthz HTTP/1.1\r\nHost: app\r\n\r\n"
    with serving(ip), connect(ip) as client:
        client.sendall(request * 3 + request[:10])
        answers = b""
        while answers.count(b"HTTP/1.1 200 OK") < 3:
            answers += client.recv(65536)
        assert b"Connection: close" not in answers
        client.sendall(request[10:-2] + b"Connection: close\r\n\r\n")
        last = read_all(client)
        assert last.startswith(b"HTTP/1.1 200 OK")
        assert b"Connection: close" in last


def test_a_client_that_does_not_take_its_answers_gets_them_later(ip):
    count = 60_000
    request = b"GET / HTTP/1.1\r\n\r\n"
    with serving(ip) as process, connect(ip) as client:
        client.setblocking(False)
        unsent = request * count
        with suppress(BlockingIOError):
            while unsent:
                unsent = unsent[client.send(unsent) :]
        time.sleep(SILENCE_S)  # it answers until nothing more is taken
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        assert pages * os.sysconf("SC_PAGESIZE") < 40e6  # all the answers are 60 MB
        answered, tail = 0, b""
        while answered < count:
            readable, writable, _ = select.select([client], [client] if unsent else [], [], WAIT_S)
            assert readable or writable
            if writable:
                unsent = unsent[client.send(unsent) :]
            if readable:
                data = tail + client.recv(1 << 20)
                answered += data.count(b"</html>")
                tail = data[-6:]
        assert get(ip)[0] == "HTTP/1.1 200 OK"


def test_it_lets_nobody_in_while_it_is_starting(ip):
    start_s = time.monotonic()
    with running("--listen", f"{ip}:{PORT}", "--start-delay", "0.5") as process:
        assert refused(ip)
        has_its_address(process)
        assert not is_free(ip, PORT)
        assert refused(ip)
        assert process.line().startswith(f"listening {ip}:{PORT} ")
        assert time.monotonic() - start_s >= 0.5
        assert get(ip)[0] == "HTTP/1.1 200 OK"


def test_it_can_be_told_by_its_environment(ip):
    with running(CHAOSD_LISTEN=f"{ip}:{PORT}", CHAOSD_IDENTITY="from.env") as process:
        assert process.line().startswith(f"listening {ip}:{PORT} ")
        assert get(ip)[1]["X-Chaosd-Instance"] == "from.env"


def test_term_finishes_what_is_in_flight_and_lets_nobody_else_in(ip):
    with serving(ip) as process, connect(ip) as slow, connect(ip) as idle, connect(ip) as silent:
        slow.sendall(b"GET /healthz HTTP/1.1\r\n")
        idle.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert idle.recv(65536)
        process.send_signal(signal.SIGTERM)
        assert idle.recv(1) == b""  # it was waiting for nothing
        assert refused(ip)
        for client in (slow, silent):
            client.sendall(b"GET / HTTP/1.1\r\n\r\n" if client is silent else b"\r\n")
            answer = read_all(client)
            assert answer.startswith(b"HTTP/1.1 200 OK")
            assert b"Connection: close" in answer
        assert process.ends() == 0


def test_term_lets_nobody_fall_who_has_been_let_in(ip):
    with serving(ip) as process:
        process.send_signal(signal.SIGSTOP)
        clients = [connect(ip) for _ in range(600)]  # more than are accepted in one turn
        for client in clients:
            client.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        for client in clients:
            assert read_all(client).startswith(b"HTTP/1.1 200 OK")
            client.close()
        assert process.ends() == 0


def test_term_does_not_wait_for_ever(ip):
    with serving(ip) as process, connect(ip) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\n")
        assert refused(ip) is False
        process.send_signal(signal.SIGTERM)
        start_s = time.monotonic()
        assert process.ends() == 0
        assert time.monotonic() - start_s > 3


def test_term_ends_it_while_it_is_starting(ip):
    with running("--listen", f"{ip}:{PORT}", "--start-delay", "60") as process:
        has_its_address(process)
        process.send_signal(signal.SIGTERM)
        assert process.ends() == 0


@pytest.mark.parametrize("mode", ["app", "tarpit"])
def test_connections_are_bounded_and_the_oldest_goes_first(ip, mode):
    with serving(ip, "--mode", mode, descriptors_max=64) as process:
        clients = [connect(ip) for _ in range(150)]
        assert clients[0].recv(1) == b""
        if mode == "app":
            assert get(ip)[0] == "HTTP/1.1 200 OK"
        assert len(list(Path(f"/proc/{process.pid}/fd").iterdir())) <= 64
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--lissen", "x"], "unknown option --lissen (known: --listen, --identity, "),
        (["--mode", "blackhoel"], "unknown mode 'blackhoel' (known: app, imposter, "),
        (["--identity", "a\nb"], "the identity goes into a header: printable ASCII only"),
        (["--listen", "8080"], "cannot take 8080: "),
        (["--listen", "127.0.0.1:port"], "cannot take 127.0.0.1:port: "),
        (["--start-delay", "soon", "--listen", "127.0.0.1:0"], "cannot take "),
    ],
)
def test_a_wrong_option_is_one_line(options, said):
    with running(*options) as process:
        assert process.line().startswith(said)
        assert process.line() == ""
        assert process.ends() == 1


def test_an_address_in_use_is_one_line(ip):
    with serving(ip), running("--listen", f"{ip}:{PORT}") as second:
        assert second.line() == f"cannot take {ip}:{PORT}: [Errno 98] Address already in use"
        assert second.ends() == 1


# --- what may be found at its old address ---------------------------------------------------------


def test_refuse_has_the_address_and_refuses(ip):
    with holding(ip, "refuse"):
        assert refused(ip)
        assert not is_free(ip, PORT)


def test_imposter_is_another_application(ip):
    with holding(ip, "imposter"):
        status, fields, body = get(ip)
        assert status == "HTTP/1.1 200 OK"
        assert fields["X-Chaosd-Instance"] == "imposter"
        assert "Hello, world!" not in body


def test_blackhole_answers_nobody_at_all(ip):
    with holding(ip, "blackhole"):
        clients = [socket.socket() for _ in range(50)]
        waiting = select.poll()
        for client in clients:
            client.setblocking(False)
            client.connect_ex((ip, PORT))
            waiting.register(client, select.POLLIN | select.POLLOUT)
        assert not waiting.poll(SILENCE_S * 1000)
        for client in clients:
            client.close()
    assert refused(ip)


def test_tarpit_takes_everything_and_says_nothing(ip):
    with holding(ip, "tarpit"):
        clients = [connect(ip) for _ in range(20)]
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n" * 100)
        assert not select.select(clients, [], [], SILENCE_S)[0]
        for client in clients:
            client.close()


@pytest.mark.parametrize("mode", ["refuse", "imposter", "blackhole", "tarpit"])
def test_a_placeholder_ends_with_its_input_or_by_term(ip, mode):
    with running("--armed", "--mode", mode) as process:
        assert process.line() == "armed"
        process.stdin.close()
        assert process.ends() == 0
    with holding(ip, mode) as process:
        process.stdin.close()
        assert process.ends() == 0
    with holding(ip, mode) as process:
        process.send_signal(signal.SIGTERM)
        assert process.ends() == 0
    assert refused(ip)


def test_a_placeholder_waits_for_a_process_that_is_just_dying(ip):
    with running("--armed", "--mode", "refuse") as process, socket.socket() as dying:
        dying.bind((ip, PORT))
        dying.listen()
        assert process.line() == "armed"
        process.order(f"take {ip} {PORT}")
        assert not select.select([process.stdout], [], [], 0.1)[0]
        dying.close()
        assert process.line().startswith(f"holding {ip}:{PORT} ")


def test_a_placeholder_gives_up_in_one_line(ip):
    with serving(ip), running("--armed", "--mode", "refuse") as process:
        assert process.line() == "armed"
        process.order(f"take {ip} {PORT}")
        assert "Address already in use" in process.line()
        assert process.ends() == 1


def test_a_placeholder_takes_an_address_whose_connections_linger(ip):
    with serving(ip) as process:
        for _ in range(5):
            assert get(ip)[0] == "HTTP/1.1 200 OK"  # the server closes: TIME_WAIT is on its side
        process.kill()
        process.ends()
    assert not is_free(ip, PORT)
    with holding(ip, "refuse"):
        assert refused(ip)


def test_a_stand_in_answers_what_it_is_asked(ip):
    script = '{"PING\\r\\n": "+PONG\\r\\n", "AUTH x\\r\\n": ""}'
    stand_in = {"CHAOSD_PATHS": "any", "CHAOSD_SAYS": "all is well", "CHAOSD_SCRIPT": script}
    with serving(ip, "--also", str(PORT + 1), **stand_in):
        answer = exchange(ip, b"GET /any/path?x HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\nall is well\n" in answer
        with connect(ip) as client:
            client.sendall(b"AUTH x\r\nPI")
            client.sendall(b"NG\r\nPING\r\n")
            client.settimeout(WAIT_S)
            said = b""
            while len(said) < len(b"+PONG\r\n+PONG\r\n"):
                said += client.recv(100)
            assert said == b"+PONG\r\n+PONG\r\n"
        with socket.create_connection((ip, PORT + 1), timeout=WAIT_S) as client:
            client.sendall(b"GET /check HTTP/1.0\r\n\r\n")
            assert read_all(client).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_script_that_is_none_is_refused_in_a_line():
    with running("--script", "[1]", "--listen", "127.0.0.1:0") as process:
        said = [process.line(), process.line()]
        assert said[-1] == "--script is no JSON object of texts"
        assert process.ends() == 1
