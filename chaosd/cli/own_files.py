"""The options that name the user's own proxy files instead of a CONFIG, and what they come to."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from chaosd.cli.output import say
from chaosd.errors import RefusedError

CYCLES = 20
ALL = "all"
_WISHES = ("backend", "env", "host", "path", "proxy_version", "runtime")
# On Docker chaosd's DNS answers before Docker's: names of services, and as long as nobody has one.
_RUNTIMES: dict[str, Any] = {"local": "local", "docker": {"type": "docker", "dns": "forward"}}
NONE: dict[str, Any] = {"haproxy": [], **dict.fromkeys(_WISHES)}  # for commands without them


def add_options(parser: argparse.ArgumentParser) -> None:
    group = add_files(parser, "a CONFIG", backend="which backend moves; all: each in turn")
    group.add_argument(
        "--runtime",
        choices=tuple(_RUNTIMES),
        help="where it runs: on this machine's loopback (local)",
    )


def add_files(
    parser: argparse.ArgumentParser, instead_of: str, *, backend: str = "which backend moves"
) -> argparse._ArgumentGroup:
    """The options that say which files, what moves, and what is asked for."""
    group = parser.add_argument_group(f"your own HAProxy configuration, instead of {instead_of}")
    group.add_argument(
        "--haproxy",
        nargs="+",
        action="extend",
        default=[],
        type=Path,
        metavar="FILE",
        help="your file as it is, several files or a directory; they are never changed",
    )
    group.add_argument("--backend", metavar="NAME", help=backend)
    group.add_argument(
        "--env", type=Path, metavar="FILE", help="NAME=value lines: the variables it needs"
    )
    group.add_argument("--host", help="the host to ask for, where its rules look at it")
    group.add_argument("--path", help="the path to ask for, where its rules look at it")
    group.add_argument(
        "--proxy-version", metavar="VERSION", help="of HAProxy, such as 3.0 (haproxy install 3.0)"
    )
    return group


def problem(arguments: argparse.Namespace) -> str | None:
    """What does not go together, or None."""
    if arguments.config is None and not arguments.haproxy:
        return "name a CONFIG, or your own files by --haproxy FILE"
    if arguments.config is not None and arguments.haproxy:
        return "a CONFIG and --haproxy don't go together (in a CONFIG it is proxy.config)"
    config: Path | None = arguments.config
    if config is not None and config.suffix == ".cfg":
        return f"{config}: a CONFIG is YAML (your own HAProxy file: --haproxy {config})"
    wishes = [vars(arguments)[wish] for wish in _WISHES]
    if not arguments.haproxy and any(wish is not None for wish in wishes):
        return "--backend, --env, --host, --path, --proxy-version and --runtime go with --haproxy"
    return None


def each(arguments: argparse.Namespace) -> Iterator[argparse.Namespace]:
    """The same for each backend that can move, if `--backend all` asks for it."""
    if not arguments.haproxy or arguments.backend != ALL:
        yield arguments
        return
    from chaosd.proxies.haproxy.rewired import movable

    for name in movable(arguments.haproxy, arguments.env):
        yield argparse.Namespace(**{**vars(arguments), "backend": name})


def by_what_takes_them(
    arguments: argparse.Namespace, do: Callable[[argparse.Namespace], int]
) -> int:
    """Do it; where this machine's proxy refuses the files, by another version that takes them.

    What the user's files run on is not a version that refuses them.
    """
    try:
        return do(arguments)
    except RefusedError as error:
        if not may_be_another(arguments, error):
            raise
        say(error.problems[-1], f"so HAProxy {error.taken_by} is used", "")
        return do(argparse.Namespace(**vars(arguments) | {"proxy_version": error.taken_by}))


def may_be_another(arguments: argparse.Namespace, error: Exception) -> bool:
    """Whether another version is tried after this: not where only an exit code is wanted."""
    if not isinstance(error, RefusedError) or error.taken_by is None:
        return False
    strict = arguments.proxy_version is not None or vars(arguments).get("quiet")
    return bool(arguments.haproxy) and not strict


def text(arguments: argparse.Namespace) -> str:
    """The config that these options stand for: JSON, which YAML is, too."""
    proxy: dict[str, Any] = {
        "type": "haproxy",
        "config": [str(path.absolute()) for path in arguments.haproxy],
        "backend": arguments.backend,
        "env": None if arguments.env is None else str(arguments.env.absolute()),
        "host": arguments.host,
        "path": arguments.path,
        "version": arguments.proxy_version,
    }
    config = {
        "name": _name(arguments.haproxy[0]),
        "runtime": _RUNTIMES[arguments.runtime or "local"],
        "proxy": {key: value for key, value in proxy.items() if value is not None},
        "metrics": None,
        "until": {"cycles": CYCLES},
    }
    return json.dumps(config)


def _name(path: Path) -> str:
    found = re.sub(r"[^a-z0-9]+", "-", path.absolute().stem.lower()).strip("-")
    return found[:40].strip("-") or "haproxy"
