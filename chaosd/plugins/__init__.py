"""Finding a plugin by its name; the contracts between the rooms are the files beside this one.

A kind of plugin has one noun everywhere: the YAML key `faults:`, the folder `faults/`, the
entry-point group `chaosd.faults`, the protocol `Fault`. A plugin is a class with a frozen pydantic
`Config` of its own; it is imported only when a config names it. See docs/writing-a-plugin.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache
from importlib import metadata
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

KINDS = ("runtimes", "proxies", "faults", "probes", "rules")


@lru_cache(maxsize=16)
def _installed(group: str, path: tuple[str, ...]) -> EntryPoints:  # noqa: ARG001 - the cache's key
    """Files of every package on the path are read for this."""
    return metadata.entry_points(group=group)


def entry_points(group: str) -> EntryPoints:
    """The entry points of this group, of all packages on `sys.path`."""
    return _installed(group, tuple(sys.path))


def available(kind: str) -> dict[str, EntryPoint]:
    """Every plugin of this kind that is installed, by name; nothing is imported."""
    return {point.name: point for point in sorted(entry_points(group=f"chaosd.{kind}"))}


def find(kind: str, name: str) -> type[Any]:
    """Import and return the plugin's class. Raises LookupError in words for the user."""
    points = available(kind)
    if name not in points:
        raise LookupError(unknown(name, points))
    loaded: type[Any] = points[name].load()
    return loaded


def unknown(name: str, known: Sequence[str] | dict[str, Any]) -> str:
    """Say that a name is not known, and which one was probably meant."""
    close = get_close_matches(name, list(known), n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"known: {', '.join(sorted(known))}"
    return f"unknown name `{name}` ({hint})"
