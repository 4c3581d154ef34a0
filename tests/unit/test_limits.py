"""What a shell's limits do: one line and exit 3, whatever they are."""

from __future__ import annotations

import errno
import resource

import pytest

from chaosd.cli import limits, main
from chaosd.errors import MachineError

NO_LIMIT = resource.RLIM_INFINITY


def limited(monkeypatch, **wanted) -> None:
    kept = {resource.RLIMIT_AS: NO_LIMIT, resource.RLIMIT_NOFILE: NO_LIMIT}
    kept |= {getattr(resource, name): value for name, value in wanted.items()}
    monkeypatch.setattr(resource, "getrlimit", lambda which: (kept[which], NO_LIMIT))


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"RLIMIT_AS": 200_000 << 10}, "195 MB of address space and chaosd takes 1024 at least"),
        ({"RLIMIT_NOFILE": 12}, "12 open files and chaosd takes 64 at least (ulimit -n)"),
    ],
)
def test_a_limit_that_is_too_low_is_said_before_anything_is_done(
    monkeypatch, capsys, wanted, said
) -> None:
    limited(monkeypatch, **wanted)
    assert main(["report", "/nowhere"]) == 3
    out = capsys.readouterr()
    assert out.err.startswith(f"chaosd: this shell allows {said}")
    assert out.err.count("\n") == 1


def test_without_limits_nothing_is_said(monkeypatch) -> None:
    limited(monkeypatch)
    limits.check()
    limited(monkeypatch, RLIMIT_AS=8 << 30, RLIMIT_NOFILE=1024)
    limits.check()


def failing(error: BaseException, cause: BaseException | None = None):
    def run(_) -> int:
        raise error from cause

    return run


@pytest.mark.parametrize(
    ("error", "cause", "lacks"),
    [
        (MemoryError(), None, "memory"),
        (ImportError("libarrow.so: failed to map segment from shared object"), None, "memory"),
        (RuntimeError("can't start new thread"), None, "threads"),
        (OSError(errno.EMFILE, "Too many open files"), None, "open files"),
        (ValueError("bad"), OSError(errno.ENOSPC, "No space left"), "space on the disk"),
        (BaseExceptionGroup("some", [MemoryError()]), None, "memory"),
    ],
)
def test_what_the_machine_lacks_is_no_bug(monkeypatch, capsys, error, cause, lacks) -> None:
    monkeypatch.setattr("chaosd.cli.version.run", failing(error, cause))
    limited(monkeypatch)
    assert main(["version"]) == 3
    said = f"chaosd: the machine, or a limit of this shell, allows no more {lacks} (see `ulimit -a`"
    assert capsys.readouterr().err == f"{said})\n"


def test_a_bug_is_still_one(monkeypatch, capsys) -> None:
    monkeypatch.setattr("chaosd.cli.version.run", failing(ValueError("x"), KeyError("y")))
    limited(monkeypatch)
    assert main(["version"]) == 70
    assert "this is a bug" in capsys.readouterr().err


def test_a_limit_of_the_machine_is_a_machine_error(monkeypatch) -> None:
    limited(monkeypatch, RLIMIT_AS=1)
    with pytest.raises(MachineError, match="ulimit -v"):
        limits.check()
