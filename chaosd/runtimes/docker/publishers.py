"""What carries connections from a port that Docker publishes into its container: docker-proxy.

Where an engine does without it (`userland-proxy: false`) the kernel does that, and there is none.
"""

from __future__ import annotations

from pathlib import Path

from chaosd.history.values import Address
from chaosd.system import processes

PROGRAM = "docker-proxy"
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - nothing is bound


def publishers(entry: Address, proc: Path = Path("/proc")) -> list[int]:
    """The processes behind this published port of this machine."""
    found = []
    for pid, words in processes.called(PROGRAM, proc):
        said = dict(zip(words[::2], words[1::2], strict=False))
        is_here = said.get("-host-ip") in (entry.host, *EVERYWHERE)
        if is_here and (said.get("-proto"), said.get("-host-port")) == ("tcp", str(entry.port)):
            found.append(pid)
    return found
