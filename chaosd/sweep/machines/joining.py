"""The way to the workers: those of a dask scheduler, or some that are started on this machine."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from chaosd.errors import ConfigError, MachineError

LOCAL_MAX = 64
_LOCAL = re.compile(r"local:([1-9]\d?)")
_DASK = re.compile(r"(dask|dask\+tls|tls)://([^/\s]+:\d+)")


@dataclass(frozen=True, kw_only=True)
class On:
    """Where a sweep is to be made."""

    workers: int  # to be started on this machine; 0: others have started them
    scheduler: str  # its address, as dask has it; empty: one is started on this machine


@dataclass(frozen=True, kw_only=True)
class Joined:
    """The way is open."""

    client: Any  # dask's
    is_local: bool

    @property
    def can_isolate(self) -> bool:
        """Whether each round can have a network namespace of its own."""
        return self.is_local and os.geteuid() == 0 and shutil.which("unshare") is not None


def on(text: str) -> On:
    """Read what the user typed. Raises ConfigError, and MachineError without dask."""
    local, dask = _LOCAL.fullmatch(text), _DASK.fullmatch(text)
    if local is None and dask is None:
        raise ConfigError(
            f"--on {text}: is local:N, or dask:// or tls://HOST:PORT (such as --on local:4)"
        )
    workers = int(local[1]) if local is not None else 0
    if workers > LOCAL_MAX:
        raise ConfigError(f"--on {text}: at most {LOCAL_MAX} workers on one machine")
    if find_spec("distributed") is None:
        raise MachineError("--on needs dask.distributed (pip install 'chaosd[dask]')")
    scheduler = "" if dask is None else f"{'tls' if 'tls' in dask[1] else 'tcp'}://{dask[2]}"
    return On(workers=workers, scheduler=scheduler)


@contextmanager
def joined(wanted: On) -> Iterator[Joined]:
    """Be connected until this is done. Raises MachineError if nobody answers there."""
    dask: Any = import_module("distributed")  # heavy, and without types
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if wanted.scheduler:
        try:
            # Its certificates are those of dask's own configuration.
            security = dask.Security() if wanted.scheduler.startswith("tls") else None
            client = dask.Client(wanted.scheduler, security=security, set_as_default=False)
        except (OSError, TypeError, RuntimeError, ValueError) as error:
            what = str(error) or type(error).__name__
            raise MachineError(f"no scheduler answers at {wanted.scheduler}: {what}") from None
        with client:
            yield Joined(client=client, is_local=False)
        return
    try:
        cluster = dask.LocalCluster(
            n_workers=wanted.workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit=0,
            silence_logs=logging.CRITICAL,
        )
    except (OSError, RuntimeError) as error:  # dask's configuration may want TLS
        raise MachineError(f"no workers can be started here: {error.__cause__ or error}") from None
    with cluster, dask.Client(cluster, set_as_default=False) as client:
        yield Joined(client=client, is_local=True)
