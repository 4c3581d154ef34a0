"""Files that come with chaosd and are no Python of its own: the app's server, the Dockerfiles."""

from __future__ import annotations

from pathlib import Path

from chaosd.errors import MachineError


def shipped(name: str) -> Path:
    """Where a file such as `http-server/server.py` is: in the installed package, or in a checkout.

    Raises MachineError.
    """
    package = Path(__file__).parents[1]
    for file in (package / "data" / name, package.parent / name):
        if file.is_file():
            return file
    raise MachineError(f"{package}: this installation lacks its {name}")
