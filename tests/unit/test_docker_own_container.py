"""Which container chaosd runs in itself, as its mounts say it."""

from __future__ import annotations

import pytest

from chaosd.runtimes.docker import endpoint
from chaosd.runtimes.docker.endpoint import MissingError, own_container

ID, DIRECTORY = "4f1c" * 16, "/var/lib/docker/containers/" + "4f1c" * 16
INSIDE = "".join(
    f"{number} 1200 254:0 {DIRECTORY}/{name} /etc/{name} rw,relatime - ext4 /dev/vda rw\n"
    for number, name in enumerate(("resolv.conf", "hostname", "hosts"), start=1300)
)
# While files are copied out of it the engine mounts what belongs into it, on the machine.
COPIED = INSIDE.replace(" /etc/", " /var/lib/docker/overlay2/ab12/merged/etc/")
SHARES = f"85 42 0:78 / {DIRECTORY}/mounts/shm rw,nosuid - tmpfs shm rw,size=65536k\n"
ROOT = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"


class Engine:
    """An engine that has this container, or has it not."""

    def __init__(self, container: str) -> None:
        self.container = container

    def inspect_container(self, name: str) -> dict:
        if name != self.container:
            raise MissingError("no such container")
        return {"Id": name}


@pytest.mark.parametrize(
    ("mounts", "has", "found"),
    [
        pytest.param(ROOT + INSIDE, ID, ID, id="inside"),
        pytest.param(ROOT + INSIDE, "another", None, id="inside of another engine's"),
        pytest.param(ROOT, ID, None, id="on the machine"),
        pytest.param(ROOT + COPIED, ID, None, id="while files are copied out of it"),
        pytest.param(ROOT + SHARES, ID, None, id="while it shares its memory"),
    ],
)
def test_it_is_the_one_whose_files_are_mounted_here(
    tmp_path, monkeypatch, mounts, has, found
) -> None:
    monkeypatch.setattr(endpoint, "MOUNTS", tmp_path / "mountinfo")
    endpoint.MOUNTS.write_text(mounts)
    assert own_container(Engine(has)) == found
