"""The images of the topology, and their names."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

from chaosd.runtimes.docker.engine import MissingError, translated
from chaosd.runtimes.local import server_file

HAPROXY_VERSIONS = ("2.2", "2.6", "3.0", "3.2")
DEFAULT_HAPROXY = "3.0"


def haproxy_tag(version: str) -> str:
    return f"chaosd-haproxy:{version}"


def app_tag() -> str:
    """It changes with server.py, so that an old image is never taken for a new one."""
    return f"chaosd-http-server:{hashlib.sha256(server_file().read_bytes()).hexdigest()[:12]}"


def missing(api: Any, tags: Sequence[str]) -> list[str]:
    """Those that the engine does not have."""
    found = []
    for tag in tags:
        try:
            translated(partial(api.inspect_image, tag))
        except MissingError:
            found.append(tag)
    return found
