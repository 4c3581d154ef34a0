from __future__ import annotations

import pytest
from stand import Daemon, why_not

from chaosd.runtimes.docker.endpoint import from_environment


@pytest.fixture
def engine():
    """The engine's API."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    api = from_environment().client()
    yield api
    api.close()


@pytest.fixture
def daemon():
    """Start daemons; one that is still there at the end is killed."""
    started: list[Daemon] = []

    def start(*arguments, **keys) -> Daemon:
        started.append(Daemon(*arguments, **keys))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            each.process.communicate()
