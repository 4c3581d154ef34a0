"""chaosd's DNS in a container is a part of us that has to run without the rest."""

from __future__ import annotations

import subprocess
import sys

from chaosd.runtimes.docker import sidecar


def test_its_files_are_all_that_it_imports(tmp_path) -> None:
    for name, data in sidecar._program().items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-S", "-B", "-c", "import chaosd.dns.forwarder"],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
