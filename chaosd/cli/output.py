"""What a command says: on standard output, and one line a problem on standard error."""

from __future__ import annotations

import argparse
import io
import os
import sys
from pathlib import Path
from typing import NoReturn, TextIO

from chaosd import shown
from chaosd.errors import output_error


def say(*texts: str) -> None:
    """Print, also if nobody reads any more, as in `chaosd … | head`: the exit code still counts."""
    try:
        print(shown.text("\n".join(texts)), flush=True)
    except BrokenPipeError:
        _discard(sys.stdout)
    except OSError as error:
        _discard(sys.stdout)
        raise output_error(error) from error


def complain(problem: str) -> None:
    """Print one problem. Where that can't be done, the exit code still says that there is one."""
    try:
        print(f"chaosd: {shown.line(problem)}", file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line as one line, whatever was typed."""

    def error(self, message: str) -> NoReturn:
        super().error(shown.line(message))


def open_missing_streams() -> None:
    """Open /dev/null for a stream that was closed: the next file would get its number instead."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - it stays open
            os.set_inheritable(stream.fileno(), stream.fileno() == number)
            setattr(sys, name, stream)


def escape_unknown_letters() -> None:
    """Write letters that the locale lacks by their numbers: a `?` is an unknown bound."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _discard(stream: TextIO) -> None:
    """Send the rest to /dev/null, so that Python does not end with an exit code of its own."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
