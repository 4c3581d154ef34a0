"""`chaosd haproxy`: list, install or remove builds of HAProxy, side by side, without root."""

from __future__ import annotations

import argparse

from chaosd.cli.output import say
from chaosd.errors import ConfigError, Exit

HELP = "list, install or remove builds of HAProxy to test against"
VERSIONS = "2.2, 2.6, 2.8, 3.0, 3.2 or 3.4"


def add_options(parser: argparse.ArgumentParser) -> None:
    deeds = parser.add_subparsers(metavar="DEED", dest="deed", required=True)
    deeds.add_parser("list", help="list what there is and what is installed")
    install = deeds.add_parser("install", help="fetch builds into the cache; root is not needed")
    install.add_argument(
        "versions",
        nargs="*",
        metavar="VERSION",
        help=f"{VERSIONS}; without one: 3.0 (2.8 where there is no apt), unless one is installed",
    )
    install.add_argument("--all", action="store_true", help="all of these versions")
    install.add_argument("--mirror", metavar="URL", help="of Debian (default: the one of apt)")
    remove = deeds.add_parser("remove", help="remove builds from the cache")
    remove.add_argument("versions", nargs="*", metavar="VERSION", help="as `list` names them")
    remove.add_argument("--all", action="store_true", help="all that are installed")


def run(arguments: argparse.Namespace) -> int:
    {"list": _list, "install": _install, "remove": _remove}[arguments.deed](arguments)
    return Exit.OK


def _list(_: argparse.Namespace) -> None:
    from chaosd.proxies.haproxy import builds

    found = {build.name: build for build in builds.installed()}
    for name in sorted({*builds.LINES, *found}, key=lambda name: [*map(int, name.split("."))]):
        if (build := found.get(name)) is not None:
            say(f"{name:7} {build.version:8} {build.origin:42} {build.binary}")
        else:
            say(f"{name:7} {'-':8} {builds.LINES[name]}")
    system = builds.of_the_system()
    say(f"{'system':7} {system or '-'}")


def _install(arguments: argparse.Namespace) -> None:
    from chaosd.proxies.haproxy import builds
    from chaosd.proxies.haproxy.builds import install

    names = list(builds.LINES) if arguments.all else arguments.versions
    if names:
        install.install(names, mirror=arguments.mirror, say=say)
    elif (build := builds.find(None)) is not None:
        say(f"{build.name}: HAProxy {build.version} is installed")
    else:
        install.install_any(mirror=arguments.mirror, say=say)


def _remove(arguments: argparse.Namespace) -> None:
    from chaosd.proxies.haproxy import builds
    from chaosd.proxies.haproxy.builds import install

    names = arguments.versions
    if arguments.all:
        names = [build.name for build in builds.installed()]
    elif not names:
        raise ConfigError("haproxy remove: name a version, or --all")
    install.remove(names, say)
