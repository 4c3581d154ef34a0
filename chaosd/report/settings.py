"""What a run was made with, flat: what may make one run differ from another."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from chaosd.history.reader import RunReader

# Where results go, and when a run ends, makes no recovery longer.
ASIDE = frozenset({"name", "seed", "runs", "metrics", "until", "slo", "arms"})
# What a proxy's configuration is called in run directories that do not say it in `proxy_config`.
OLD_PROXY_CONFIG = "haproxy.cfg"
# How a file of the user's own is told from another one, and that its settings are not known.
TEXT, UNREAD = "text ", ", unread"
FACTS = ("chaosd", "runtime", "proxy_version")  # of the manifest


def settings(reader: RunReader) -> dict[str, Any]:
    """Each setting by its path, such as `proxy.resolvers.timeout_resolve`; empty if all is lost.

    Where there are several arms these are the first one's.
    """
    return _settings(reader, reader.manifest, {}, _proxy_configs(reader))


def arm_settings(reader: RunReader) -> dict[str, dict[str, Any]]:
    """The settings of each arm by its name; empty where there is only one."""
    arms = reader.manifest.get("arms") or {}
    if len(arms) <= 1:
        return {}
    return {
        name: _settings(
            reader,
            {**reader.manifest, **arm},
            arm.get("differs") or {},
            _config_of(reader, arm),
        )
        for name, arm in arms.items()
    }


def _settings(
    reader: RunReader,
    manifest: Mapping[str, Any],
    differs: Mapping[str, Any],
    proxy_configs: Iterable[Path],
) -> dict[str, Any]:
    try:
        config = yaml.safe_load(reader.config())
    except (yaml.YAMLError, ValueError):
        config = None
    if not isinstance(config, dict):
        return {}
    found = dict(flat("", {key: part for key, part in config.items() if key not in ASIDE}))
    found |= dict(flat("", differs))
    proxy_settings = manifest.get("proxy_settings") or {}
    found |= dict(flat("proxy", proxy_settings))
    found |= {fact: manifest.get(fact) for fact in FACTS}
    if found.get("proxy.config") is not None:  # its path says nothing of what is in it
        digest = _digest(proxy_configs)
        found["proxy.config"] = digest if proxy_settings or not digest else f"{digest}{UNREAD}"
    return found


def flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The values of a tree, each by its path such as `faults[0].every`."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from flat(f"{path}.{key}" if path else str(key), part)
    elif isinstance(value, list):
        for place, part in enumerate(value):
            yield from flat(f"{path}[{place}]", part)
    else:
        yield path, value


def files(reader: RunReader) -> dict[str, str]:
    """The texts that the run was made with, by name: the effective config, and the proxy's."""
    found = {"config.yaml": reader.config()}
    for path in _proxy_configs(reader):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:  # it is only shown
            continue
        found[f"{path.parent.name}/{path.name}"] = text
    return {name: text for name, text in found.items() if text}


def _proxy_configs(reader: RunReader) -> Iterator[Path]:
    """One of each arm: its cells differ in addresses."""
    arms = reader.manifest.get("arms") or {}
    if len(arms) <= 1:
        name = reader.manifest.get("proxy_config", OLD_PROXY_CONFIG)
        yield from sorted(reader.directory.glob(f"*/{name}"))[:1] if _is_file_name(name) else []
        return
    for arm in arms.values():
        yield from _config_of(reader, arm)


def _config_of(reader: RunReader, arm: Mapping[str, Any]) -> Iterator[Path]:
    name, cells = arm.get("proxy_config"), arm.get("cells") or [None]
    if _is_file_name(name) and _is_file_name(cells[0]):
        path = reader.directory / cells[0] / name
        yield from [path] if path.is_file() else []


def _is_file_name(name: Any) -> bool:
    """A run directory may be damaged, or anybody's."""
    return isinstance(name, str) and re.fullmatch(r"[\w][\w.-]*", name) is not None


def _digest(proxy_configs: Iterable[Path]) -> str | None:
    """Of the file that the proxy ran with."""
    try:
        data = next(iter(proxy_configs)).read_bytes()
    except (StopIteration, OSError):
        return None
    text = data.decode("utf-8", errors="replace")
    return f"{TEXT}{hashlib.sha256(text.encode()).hexdigest()[:12]}"
