"""Where a Docker engine is and how it is asked: a value, so that there may be several at once.

Every call has a limit, and every failure is one line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import docker
import docker.errors
import docker.utils
import requests
import urllib3

from chaosd.errors import AwayError, MachineError
from chaosd.system.clock import SECOND_NS

T = TypeVar("T")

CALL_LIMIT_S = 60  # of the engine's silence, not of the call
PING_LIMIT_S = 3
DEFAULT_URL = "unix:///var/run/docker.sock"
SOCKETS = ("unix", "http+unix")
# Versions of the API whose answers are known here: engines 20.10 to 29. An older engine is asked in
# its own version, and one that takes only newer ones in the oldest that it takes.
API_MAX = (1, 51)

# What an engine mounts into each container, as its own processes see it. On the machine there are
# other mounts of such paths: while files are copied out of a container, or where it shares memory.
MOUNTS = Path("/proc/self/mountinfo")
_OWN_MOUNT = re.compile(
    r"^\S+ \S+ \S+ \S*/containers/([0-9a-f]{64})/\S+ /etc/(?:hosts|hostname|resolv\.conf) ",
    re.MULTILINE,
)
_AWAY = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)


class EngineAwayError(AwayError):
    """The engine does not answer (any more)."""


class MissingError(MachineError):
    """There is no such container, network or image."""


class ConflictError(MachineError):
    """Something with this name is there, or is being removed."""


@dataclass(frozen=True)
class Endpoint:
    """One engine's address. `named`: somebody says that it is there, by more than a default."""

    url: str = DEFAULT_URL
    tls: Any = None  # docker.tls.TLSConfig
    named: bool = True

    def client(self, limit_s: int = CALL_LIMIT_S) -> Any:
        """A new API client. Raises EngineAwayError."""

        def connect() -> Any:
            api = self._client("auto", limit_s)
            if _pair(api.api_version) > API_MAX:
                oldest = _pair(api.version(api_version=False).get("MinAPIVersion", "1.12"))
                major, minor = max(API_MAX, oldest)
                api.close()
                api = self._client(f"{major}.{minor}", limit_s)
            return api

        return translated(connect, self.url)

    def _client(self, version: str, limit_s: int) -> Any:
        return docker.APIClient(
            base_url=self.url,
            tls=self.tls or False,
            version=version,
            timeout=limit_s,
            use_ssh_client=urlsplit(self.url).scheme == "ssh",  # the user's own ssh and its keys
        )

    def unreachable(self) -> str | None:
        """Why it can't be used, in one line, or None."""
        try:
            self.client(PING_LIMIT_S).close()
        except MachineError as error:
            return str(error)
        return None

    def expected(self) -> bool:
        """Whether it is said to be there: by DOCKER_HOST, by a context elsewhere, or a socket."""
        return self.named or not self.is_socket or Path(urlsplit(self.url).path).exists()

    @property
    def is_socket(self) -> bool:
        return urlsplit(self.url).scheme in SOCKETS

    @property
    def host(self) -> str | None:
        """The machine that it is on, as its URL names it; None where it is a socket of this one."""
        return urlsplit(self.url).hostname


def from_environment() -> Endpoint:
    """The engine that DOCKER_HOST or the CLI's current context names, or the usual socket."""
    try:
        named = docker.utils.kwargs_from_env()
        context = {} if "base_url" in named else docker.ContextAPI.kwargs_from_context()
    except (docker.errors.DockerException, OSError):  # a context that is not there
        named, context = {}, {}
    both = context | named
    return Endpoint(both.get("base_url") or DEFAULT_URL, both.get("tls"), "base_url" in named)


def named(name: str) -> Endpoint:
    """The engine at this URL, or of the CLI's context of this name. Raises MachineError."""
    if "://" in name:
        return Endpoint(name)
    try:
        found = docker.ContextAPI.kwargs_from_context(name)
    except (docker.errors.DockerException, OSError, ValueError):
        found = {}
    if not found:
        raise MachineError(f"there is no Docker context {name} (docker context ls shows them)")
    return Endpoint(found["base_url"], found.get("tls"))


def translated(call: Callable[[], T], url: str = "") -> T:
    """Call it, with the SDK's many exceptions turned into our few; `url` is for their words."""
    try:
        return call()
    except docker.errors.NotFound as error:
        raise MissingError(_words(error)) from None
    except docker.errors.APIError as error:
        conflict = error.response is not None and error.response.status_code == 409  # noqa: PLR2004
        raise (ConflictError if conflict else MachineError)(_words(error)) from None
    except (docker.errors.DockerException, *_AWAY) as error:
        where = f" at {url}" if url else ""
        raise EngineAwayError(f"no Docker engine answers{where} ({_reason(error)})") from None


def unix_ns(stamp: str) -> int | None:
    """Read `2026-11-24T09:00:00.123456789Z`, or with an offset, to the nanosecond."""
    found = re.fullmatch(
        r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", stamp
    )
    if found is None:
        return None
    zone = "+00:00" if found[3] == "Z" else found[3]
    seconds = int(datetime.fromisoformat(found[1] + zone).timestamp())
    return seconds * SECOND_NS + int((found[2] or "0").ljust(9, "0"))


def own_container(api: Any) -> str | None:
    """The id of the container that chaosd itself runs in, if it is one of this engine's."""
    try:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = _OWN_MOUNT.search(mounts)
    if found is None:
        return None
    try:
        translated(lambda: api.inspect_container(found[1]))
    except MissingError:
        return None
    return found[1]


def _pair(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return int(major), int(minor)


def _words(error: Any) -> str:
    return " ".join(str(error.explanation or error).split())[:300]


def _reason(error: BaseException) -> str:
    """The innermost cause: the outer ones only say that there is one."""
    text = str(error)
    for known in ("No such file or directory", "Permission denied", "Connection refused"):
        if known in text:
            denied = known == "Permission denied"
            return "permission denied: is this user in the docker group?" if denied else known
    return "it takes too long" if "timed out" in text.lower() else " ".join(text.split())[:120]
