"""Lines of every kind, whole and broken, in every section: never a traceback, never a leak."""

from __future__ import annotations

import random

import budget
import pytest
import rewiring
from rewiring import WIRING

from chaosd.proxies.haproxy.cfg.source import Trouble
from chaosd.proxies.haproxy.rewire import diff, table
from chaosd.proxies.haproxy.rewire.choose import NotChosenError

KEYWORDS = sorted({word for entry in table.TABLE for word in entry.keywords})
MORE = [
    "acl",
    "use_backend",
    "http-request",
    "http-response",
    "redirect",
    "tcp-request",
    "errorfile",
]
WORDS = [
    *("if", "unless", "{", "}", "!", "ssl", "crt", "ca-file", "port", "addr", "source", "10.0.0.1"),
    *(
        "10.0.0.1:80",
        "x.example:80",
        "[::1]:443",
        "*:80",
        ":::80",
        "/run/x.sock",
        "unix@x",
        "tcp@a:1",
    ),
    *(
        "external-check",
        "spoe",
        "connect",
        "expect",
        "status",
        "200-",
        "string",
        "socket",
        "global",
    ),
    *("lua.x", "hdr(host)", "-m", "-f", "map(", "%[path,map(/x)]", "path", "", '""', "'a b'", "$X"),
    *(
        "send",
        "file",
        "if",
        "x",
        "9999999999999",
        "-1",
        "src",
        "s",
        "app.example:80",
        "resolvers",
        "r",
    ),
    *(
        "check",
        "no-check",
        "track",
        "proto",
        "h2",
        "init-addr",
        "libc",
        "agent-check",
        "backup",
        "\\",
    ),
]
SECTIONS = [
    *("global", "defaults", "frontend f{n}", "backend b{n}", "listen l{n}", "resolvers r{n}"),
    *("peers p{n}", "ring q{n}", "mailers m{n}", "log-forward g{n}", "userlist u{n}", "cache c{n}"),
    *("crt-store t{n}", "fcgi-app a{n}", "http-errors e{n}", "program x{n}"),
]


def line(rng: random.Random) -> str:
    keyword = rng.choice(KEYWORDS + MORE)
    words = [rng.choice(WORDS) for _ in range(rng.randrange(6))]
    return "    " + " ".join([*(["no"] if rng.random() < 0.05 else []), keyword, *words])


def text(rng: random.Random) -> str:
    lines = ["backend app", "    server s app.example:80 resolvers r"]
    for number in range(rng.randrange(1, 8)):
        lines.append(rng.choice(SECTIONS).format(n=number))
        lines += [line(rng) for _ in range(rng.randrange(6))]
    return "\n".join(lines) + "\n"


@pytest.mark.sized
@pytest.mark.parametrize("seed", range(budget.of(3, 20)))
def test_no_line_makes_it_fail_or_leak(seed):
    rng = random.Random(seed)
    for _ in range(40):
        source = text(rng)
        files = rewiring.own_files(source, backend="app")
        try:
            rewired = files.rewired(WIRING)
        except NotChosenError:
            continue  # another backend of that name
        (copy,) = rewired.copies
        assert list(diff.unified(copy, str))
        assert len(copy.origins) == copy.text.count("\n") + 1 or copy.text.endswith("\n")
        broken = [p for p in files.effective.problems if p.trouble is Trouble.REFUSED]
        leaks = files.foreign(rewired, WIRING)
        lines = copy.text.split("\n")
        assert broken or not leaks, [lines[place.line - 1] for place in leaks]
