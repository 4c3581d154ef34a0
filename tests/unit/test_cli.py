"""The command line: what is loaded, and when."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from chaosd.cli import COMMANDS, main

HEAVY = ("asyncio", "numpy", "pyarrow", "pydantic", "scipy", "uvloop", "yaml")


@pytest.mark.parametrize("words", [["version"], ["--help"], ["run", "--help"]])
def test_no_command_waits_for_the_libraries_of_another(words: list[str]) -> None:
    program = (
        "import sys\n"
        "from chaosd.cli import main\n"
        "try:\n main(sys.argv[1:])\n"
        "except SystemExit:\n pass\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    assert loaded >= {"chaosd.cli"}
    assert not loaded & set(HEAVY)


def test_the_version_is_said_in_a_moment() -> None:
    """Beside a Python that does nothing, for the machine may be busy: 60 ms and 20 ms alone."""

    def fastest_s(*arguments: str) -> float:
        times = []
        for _ in range(3):
            begun = time.perf_counter()
            subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
            times.append(time.perf_counter() - begun)
        return min(times)

    assert fastest_s("-m", "chaosd", "version") < 0.1 + 5 * fastest_s("-c", "")


def test_every_command_says_in_its_help_what_it_does() -> None:
    for name, command in COMMANDS.items():
        assert command.HELP[0].islower(), name
        assert not command.HELP.endswith("."), name


# --- init -----------------------------------------------------------------------------------------


def test_init_writes_a_config_that_is_right(tmp_path: Path) -> None:
    file = tmp_path / "My Shop_2.yaml"
    assert main(["init", str(file)]) == 0
    # Simulated, so that this machine needs no HAProxy.
    assert main(["check", "-q", str(file), "--set", "runtime=sim"]) == 0
    text = file.read_text()
    assert "\nname: my-shop-2 " in text
    assert "starter" not in text


def test_init_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "chaosd.yaml"
    file.write_text("mine")
    assert main(["init", str(file)]) == 2
    assert file.read_text() == "mine"
    expected = f"chaosd: {file}: exists already (name another file: chaosd init FILE)\n"
    assert capsys.readouterr().err == expected


def test_init_says_where_it_can_not_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "none" / "chaosd.yaml"
    assert main(["init", str(file)]) == 3
    expected = f"chaosd: {file}: can't be written: No such file or directory\n"
    assert capsys.readouterr().err == expected
