from __future__ import annotations

import os
import shutil

import pytest


@pytest.fixture
def haproxy() -> str:
    """The path of a real HAProxy, or a skip that says why."""
    path = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if path is None:
        pytest.skip("no haproxy on this machine")
    return path
