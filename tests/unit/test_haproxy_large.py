"""A large haproxy.cfg takes time that grows with its length, not with its square."""

from __future__ import annotations

import time
from pathlib import Path

from chaosd.proxies.haproxy.config import Config
from chaosd.proxies.haproxy.rewired import TRY, Facts, RewiredFiles

HEAD = """
resolvers dns
    nameserver a 10.0.0.53:53
defaults
    mode http
    timeout client 30s
    timeout connect 5s
    timeout server 30s
frontend f
    bind :8080
    default_backend b0
"""
FACTS = Facts("3.2", None, {}, is_elsewhere=False, open_files_max=None)
SERVERS = 20  # of each backend


def cpu_s(where: Path, backends: int) -> float:
    """What it takes to copy a file of so many backends."""
    lines = [HEAD]
    for backend in range(backends):
        lines.append(f"backend b{backend}\n    balance roundrobin\n")
        names = [f"app-{backend}-{number}.internal:80" for number in range(SERVERS)]
        lines += [f"    server s{n} {name} check resolvers dns\n" for n, name in enumerate(names)]
    file = where / f"{backends}.cfg"
    file.write_text("".join(lines))
    config = Config(type="haproxy", config=(file,), backend="b0")
    files = RewiredFiles(config, lambda: FACTS)
    began_s = time.process_time()
    assert files.problems() == []
    assert b"b0" in files.copy(TRY)["haproxy.cfg"]
    files.settings()
    return time.process_time() - began_s


def test_the_time_of_a_file_grows_with_its_length(tmp_path) -> None:
    cpu_s(tmp_path, 1)  # what is loaded at the first time
    few_s = min(cpu_s(tmp_path, 5) for _ in range(2))
    many_s = min(cpu_s(tmp_path, 40) for _ in range(2))
    assert many_s < 8 * 3 * few_s  # its square would be 64 times
