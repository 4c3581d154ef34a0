"""The reader against a real HAProxy: the same words, the same branches, the same acceptance.

HAProxy shows the words of a line by `.warning`: it prints the first argument, and complains of a
second one by its text. So each generated line is a `.warning`, and each condition guards one.
"""

from __future__ import annotations

import re
import socket
import subprocess
from pathlib import Path
from random import Random

import pytest

from chaosd.proxies.haproxy import builds
from chaosd.proxies.haproxy.cfg.condition import BuildFacts, features_in
from chaosd.proxies.haproxy.cfg.dialect import Dialect
from chaosd.proxies.haproxy.cfg.reader import read_files
from chaosd.proxies.haproxy.cfg.resolve import resolve
from chaosd.proxies.haproxy.cfg.source import Document, Trouble

pytestmark = pytest.mark.haproxy
SEEDS = (0, pytest.param(1, marks=pytest.mark.slow))
ENVIRONMENT = {"A": "one", "B": "two  words ", "EMPTY": "", "N": "7", "Q": "a\"b'c#d\\e"}
SAID = re.compile(
    r"\[(?:WARNING|ALERT|NOTICE)\]\s+\(\d+\)\s*:\s*(.*?)(?=^\[(?:WARNING|ALERT|NOTICE)\]|\Z)",
    re.DOTALL | re.MULTILINE,
)
LINE = re.compile(r"(?:config : )?parsing \[[^\]]*:(\d+)\]\s*: ?(.*)", re.DOTALL)


def build_of(haproxy: str) -> BuildFacts:
    said = subprocess.run([haproxy, "-vv"], capture_output=True, text=True, check=True).stdout
    version = re.match(r"HA-?Proxy version (\d+\.\d+(?:\.\d+)?)", said)
    assert version is not None
    return BuildFacts(Dialect.of(version[1]), features_in(said))


@pytest.fixture(params=["system", *(build.name for build in builds.installed())])
def reader(request: pytest.FixtureRequest) -> str:
    """A HAProxy of this machine: the system's, and each that `chaosd haproxy install` made."""
    if request.param == "system":
        return str(request.getfixturevalue("haproxy"))
    found = builds.read(builds.directory() / request.param)
    assert found is not None
    return str(found.binary)


@pytest.fixture
def build(reader: str) -> BuildFacts:
    return build_of(reader)


@pytest.fixture
def has_conditions(build: BuildFacts) -> None:
    if not build.dialect.has_conditions:
        pytest.skip("a version before .warning and .if")


def said_by(haproxy: str, file: Path) -> tuple[int, dict[int, str]]:
    """The exit code of `haproxy -c`, and what it says first of each line."""
    done = subprocess.run(
        [haproxy, "-c", "-f", str(file)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=20,
        check=False,
    )
    found: dict[int, str] = {}
    for what in SAID.findall(done.stderr):
        # 3.2 warns of empty words before it says anything else of a line.
        if (place := LINE.match(what)) and "is empty and marks the end" not in what:
            found.setdefault(int(place[1]), place[2].strip("\n"))
    return done.returncode, found


def said_by_us(document: Document) -> dict[int, str]:
    found = {note.place.line: f"'{note.text}'." for note in document.notes}
    for problem in document.problems:
        found.setdefault(problem.place.line, f"{problem.column}: {problem.what}")
    return found


def same(line: str, ours: str, theirs: str) -> bool:
    """Whether HAProxy says the same in other words. It counts columns in bytes."""
    if theirs.startswith("'") or ours.startswith("'"):
        return ours.strip() == theirs.strip()
    for what in ("unmatched quote", "unmatched brace"):
        if what in theirs:
            column = re.search(r"position (\d+)", theirs)
            before = line[: int(ours.partition(":")[0]) - 1] if what in ours else ""
            return (
                what in ours and column is not None and len(before.encode()) == int(column[1]) - 1
            )
    pairs = {
        "forbidden first char": "variable",
        "hexadecimal": "hexadecimal",
        "word expansion": "list of words",
        "Unexpected argument": "takes one text",
        "too many words": "words in a line",
    }
    return any(theirs_has in theirs and ours_has in ours for theirs_has, ours_has in pairs.items())


PIECES = (
    *("a", "bc", " ", "  ", "\t", '"', '"', "'", "\\", "\\\\", "\\n", "\\t", "\\x41", "\\x4"),
    *("\\ ", "\\#", '\\"', "\\'", "\\$", "#", "$", "$A", "${A}", '"$A"', '"${B}"', '"${B[*]}"'),
    *('"${A-x}"', '"${NONE-x y}"', '"${N-}"', '"${A', "${1}", '"${A[*}"', "'$A'", '"x${A}y"'),
    *("é", "\r", '"${Q}"', ".", "-", "{", "}", '"${.LINE}"', '"${NONE-}"', ",", "(", ")"),
)


def lines(rng: Random, count: int) -> list[str]:
    return ["".join(rng.choices(PIECES, k=rng.randint(1, 7))) for _ in range(count)]


@pytest.mark.usefixtures("has_conditions")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_line_has_the_same_words(
    reader: str, build: BuildFacts, seed: int, tmp_path: Path
) -> None:
    file = tmp_path / "words.cfg"
    # HAProxy 2.6 reads a line again if it has no room for it, and then stumbles over `${A-x}`.
    first = f".notice {'x' * 5000}"
    made = [f".warning {line}" for line in lines(Random(seed), 60)]
    # From 3.1 on a broken line ends the first of two passes, and only the second one says notes.
    broken = [line for line in made if is_broken(line, file, build)]
    whole = [line for line in made if line not in broken]
    assert broken
    assert whole
    for part in (whole, broken[:40]):
        file.write_bytes("".join(f"{line}\n" for line in (first, *part)).encode())
        _, theirs = said_by(reader, file)
        ours = said_by_us(read_files([file], environment=ENVIRONMENT, build=build))
        wrong = [
            (line, ours.get(number), theirs.get(number))
            for number, line in enumerate(part, start=2)
            if not same(line, ours.get(number, ""), theirs.get(number, ""))
        ]
        assert not wrong


def is_broken(line: str, file: Path, build: BuildFacts) -> bool:
    file.write_bytes(f"{line}\n".encode())
    document = read_files([file], environment=ENVIRONMENT, build=build)
    return any(problem.column for problem in document.problems)


TERMS = (
    *("1", "0", "", "0x1", "defined(A)", "defined(NONE)", "defined()", "feature(OPENSSL)"),
    *("feature(NONE)", 'streq("$A",one)', "streq(a,b)", "strneq(a,b)", "strneq(a,a)", "streq(a)"),
    *('streq("a b","a b")', "version_atleast(2.4)", "version_before(2.4)", "version_atleast(9.9)"),
    *("version_atleast(2.6.12)", "version_before(2.6.12)", "version_before(2.6.13-dev3)"),
    *("unknown(1)", "streq(a,b", 'streq("x\\,y",z)', "version_atleast(x)", "strstr(abc,b)"),
)


def condition(rng: Random) -> str:
    text = rng.choice(TERMS)
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        other = rng.choice(TERMS)
        text = rng.choice(
            (f"{text} && {other}", f"{text}||{other}", f"!{text}", f"( {text} )", f"! ({text})")
        )
    return text


@pytest.mark.usefixtures("has_conditions")
@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_branch_is_taken(
    reader: str, build: BuildFacts, seed: int, tmp_path: Path
) -> None:
    rng = Random(seed)
    for number in range(6):
        file = tmp_path / f"branches{number}.cfg"
        conditions = [condition(rng) for _ in range(4)]
        text = "".join(
            f'.if {one}\n.warning "if"\n.elif {one} || {other}\n.warning "elif"\n'
            '.else\n.warning "else"\n.endif\n'
            for one, other in zip(conditions, conditions[1:], strict=False)
        )
        file.write_text(text)
        _, theirs = said_by(reader, file)
        document = read_files([file], environment=ENVIRONMENT, build=build)
        ours = {note.place.line: f"'{note.text}'." for note in document.notes}
        taken = {line: what for line, what in theirs.items() if what.startswith("'")}
        broken = min(set(theirs) - set(taken), default=None)
        if broken is None or build.dialect.version < (3, 1):  # else it says nothing else
            assert ours == taken, text
        first = min((problem.place.line for problem in document.problems), default=None)
        assert first == broken, text


SERVER_WORDS = (
    *("check", "no-check", "inter 2s", "inter 500us", "fastinter 1m", "downinter 5000", "fall 2"),
    *("rise 1", "weight 10", "resolvers r", "resolve-prefer ipv4", "resolve-opts allow-dup-ip"),
    *("init-addr last,none", "backup", "no-backup", "disabled", "enabled", "slowstart 10s"),
    *("observe layer4", "on-error fastinter", "on-marked-down shutdown-sessions", "maxconn 5"),
    *("agent-check agent-port 99", "send-proxy", "source 127.0.0.1", "non-stick", "max-reuse 2"),
    *("error-limit 3", "minconn 2", "pool-max-conn 4", "addr 127.0.0.1", "port 80"),
    *("resolve-net 10.0.0.0/8", "log-proto legacy", "proxy-v2-options crc32c", "socks4 1.2.3.4:5"),
)
PROXY_LINES = (
    *("retries 2", "option redispatch", "option redispatch 2", "no option redispatch"),
    *("timeout check 5s", "timeout server 1h", "timeout connect 1d", "timeout queue 3s"),
    *("option httpchk GET /", "option tcp-check", "balance leastconn", "default-server inter 1s"),
    *("default-server resolve-prefer ipv4 check", "default-server no-check backup"),
)
BROKEN_SERVER = ("inter", "inter 2x", "no-such", "inter 25d", "resolvers r 3s", '"inter 2s"')
BROKEN_PROXY = ("no retries 2", "timeout queue 3x", "default-server no-such", '"a')


def one_of(rng: Random, good: tuple[str, ...], broken: tuple[str, ...]) -> str:
    return rng.choice(broken if rng.random() < 0.05 else good)


def whole_file(rng: Random) -> str:
    text = "global\n    setenv T 3s\nresolvers r\n    nameserver n 127.0.0.1:5399\n"
    text += "frontend f\n    timeout client 1s\n    bind abns@chaosd-reader\n"
    names: list[str] = []
    for number in range(rng.randint(1, 3)):
        name = rng.choice(("", f" d{number}"))
        parent = f" from {rng.choice(names)}" if names and rng.random() < 0.5 else ""
        names += [name.strip()] if name else []
        text += f"defaults{name}{parent}\n    mode tcp\n    timeout client 1s\n"
        text += "".join(
            f"    {one_of(rng, PROXY_LINES, BROKEN_PROXY)}\n" for _ in range(rng.randint(0, 2))
        )
        parent = (
            f" from {rng.choice([*names, *names, 'none'])}" if names and rng.random() < 0.2 else ""
        )
        text += f'backend b{number}{parent}\n    timeout connect "$T"\n    timeout server 1s\n'
        text += "".join(
            f"    {one_of(rng, PROXY_LINES, BROKEN_PROXY)}\n" for _ in range(rng.randint(0, 2))
        )
        words = " ".join(one_of(rng, SERVER_WORDS, BROKEN_SERVER) for _ in range(rng.randint(0, 4)))
        text += f"    server s{number} app.test:80 init-addr none {words}\n"
    return text


@pytest.mark.parametrize("seed", SEEDS)
def test_what_haproxy_takes_is_read_whole(
    reader: str, build: BuildFacts, seed: int, tmp_path: Path
) -> None:
    """And what this reader refuses, HAProxy refuses, too."""
    rng, taken = Random(seed), 0
    for number in range(8):
        file = tmp_path / f"whole{number}.cfg"
        file.write_text(text := whole_file(rng))
        code, _ = said_by(reader, file)
        document = read_files([file], environment=ENVIRONMENT, build=build)
        effective = resolve(document, build.dialect)
        refused = [p for p in effective.problems if p.trouble is not Trouble.UNDECIDED]
        values = [v for proxy in effective.proxies for v in proxy.values.values()]
        values += [v for server in effective.servers for v in server.values.values()]
        unclear = [v for v in values if v.unclear]
        unread = [v for server in effective.servers for v in server.unread]
        if code == 0:
            taken += 1
            assert not refused + unclear + unread, text
        if refused or unclear or unread:
            assert code != 0, text
    assert taken or build.dialect.version < (2, 4)  # it knows no `from`


RESET = """\
frontend f
    mode tcp
    timeout client 1s
    bind abns@chaosd-reader-{port}
defaults
    mode tcp
    timeout connect 1s
    timeout server 1s
    default-server resolve-prefer ipv4 init-addr none
resolvers r
    nameserver n 127.0.0.1:{port}
backend b
    {line}
    server s name.test:80 resolvers r
"""


@pytest.mark.parametrize("line", ["default-server weight 10", "balance leastconn"])
def test_the_first_query_is_for_the_preferred_family(
    reader: str, build: BuildFacts, line: str, tmp_path: Path
) -> None:
    """A second default-server line resets it where HAProxy has that fault."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dns:
        dns.bind(("127.0.0.1", 0))
        dns.settimeout(10)
        file = tmp_path / "reset.cfg"
        file.write_text(RESET.format(port=dns.getsockname()[1], line=line))
        child = subprocess.Popen(
            [reader, "-db", "-f", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            query = dns.recv(2000)
        finally:
            child.kill()
            child.wait()
    family = {1: "ipv4", 28: "ipv6"}[query[query.index(b"\4test\0") + len(b"\4test\0") + 1]]
    (server,) = resolve(read_files([file], build=build), build.dialect).servers
    assert server.values["resolve-prefer"].value == family


ADDRESSES = """\
resolvers r
    nameserver n $NS
frontend f
    mode tcp
    timeout client 1s
    bind '${LISTEN}'
    default_backend b
backend b
    mode tcp
    timeout connect 1s
    timeout server 1s
    server s $HOST:${PORT} resolvers r init-addr none
"""


def test_variables_of_addresses_are_expanded_without_quotes(
    reader: str, build: BuildFacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = {"NS": "127.0.0.1:53", "LISTEN": "abns@a", "HOST": "app.test", "PORT": "80"}
    for name, text in here.items():
        monkeypatch.setitem(ENVIRONMENT, name, text)
    file = tmp_path / "addresses.cfg"
    file.write_text(ADDRESSES)
    assert said_by(reader, file)[0] == 0
    effective = resolve(read_files([file], environment=ENVIRONMENT, build=build), build.dialect)
    assert effective.servers[0].address.text == "app.test:80"
    assert effective.resolvers["r"].nameservers[0].address.text == "127.0.0.1:53"
    (bind,) = [line for _, line in effective.document.statements() if line.says("bind")]
    assert bind.texts == ("bind", "abns@a")
    monkeypatch.setitem(ENVIRONMENT, "LISTEN", "no:such")
    assert said_by(reader, file)[0] != 0
