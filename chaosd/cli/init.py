"""`chaosd init`: a commented config to start from."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from chaosd.cli.output import say
from chaosd.errors import ConfigError, Exit, MachineError

HELP = "write a commented config to start from"
STARTER = "starter"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        type=Path,
        nargs="?",
        default=Path("chaosd.yaml"),
        metavar="FILE",
        help="where to write it (default: chaosd.yaml); a file that exists is never overwritten",
    )


def run(arguments: argparse.Namespace) -> int:
    from chaosd.system.shipped import shipped

    file: Path = arguments.file
    text = named(shipped(f"configs/{STARTER}.yaml").read_text(encoding="utf-8"), file)
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise ConfigError(f"{file}: exists already (name another file: chaosd init FILE)") from None
    except OSError as error:
        raise MachineError(f"{file}: can't be written: {error.strerror or error}") from None
    say(f"{file}: written; next: chaosd check {file}")
    return Exit.OK


def named(text: str, file: Path) -> str:
    """Return the starter config under the name of the file that it is written to."""
    text = text.replace(f"{STARTER}.yaml", str(file))
    name = re.sub(r"[^a-z0-9]+", "-", file.stem.lower()).strip("-")
    return text.replace(f"name: {STARTER} ", f"name: {name or STARTER} ", 1)
