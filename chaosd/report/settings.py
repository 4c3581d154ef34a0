"""What a run was made with, flat: what may make one run differ from another."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from chaosd import plugins, shown
from chaosd.history.reader import RunReader

# Where results go, and when a run ends, makes no recovery longer.
ASIDE = frozenset({"name", "seed", "runs", "metrics", "until", "slo", "arms"})
# What a proxy's configuration is called in run directories that do not say it in `proxy_config`.
OLD_PROXY_CONFIG = "haproxy.cfg"
FACTS = ("chaosd", "runtime", "proxy_version")  # of the manifest


def settings(reader: RunReader) -> dict[str, Any]:
    """Each setting by its path, such as `proxy.resolvers.timeout_resolve`; empty if all is lost."""
    config = _config(reader)
    if not isinstance(config, dict):
        return {}
    found = dict(flat("", {key: part for key, part in config.items() if key not in ASIDE}))
    found |= dict(flat("proxy", reader.manifest.get("proxy_settings") or {}))
    found |= {fact: reader.manifest.get(fact) for fact in FACTS}
    if (secrets := reader.manifest.get("secrets")) is not None:
        found["secrets"] = f"by their fingerprint {secrets}"
    if found.get("proxy.config") is not None:  # its path says nothing of what is in it
        found["proxy.config"] = _digest(reader)
    return found


def _config(reader: RunReader) -> Any:
    """The effective config, without the secrets that older versions have stored in it."""
    return shown.mask_tree(_tree(reader))


def _tree(reader: RunReader) -> Any:
    try:
        return yaml.safe_load(reader.config())
    except (yaml.YAMLError, ValueError):
        return None


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
    """The texts that the run was made with, by name, for people: the config, and the proxy's."""
    config = reader.config()
    if list(shown.secrets_of(_tree(reader))):  # an older version wrote it
        config = yaml.safe_dump(_config(reader), sort_keys=False, allow_unicode=True)
    without_secrets = _masker(reader)
    found = {"config.yaml": config}
    found |= {name: without_secrets(text) for name, text in _proxy_texts(reader).items()}
    return {name: text for name, text in found.items() if text}


def _masker(reader: RunReader) -> Callable[[str], str]:
    """Takes the secrets out of a proxy's configuration."""
    try:
        kind: Any = plugins.find("proxies", str(reader.manifest.get("proxy") or "haproxy"))
    except LookupError:  # another machine's plugin
        return shown.masked
    return kind.shown if hasattr(kind, "shown") else shown.masked


def _proxy_texts(reader: RunReader) -> dict[str, str]:
    """The proxy's configuration as it ran, secrets and all: one of each arm, by name."""
    found = {}
    for path in _proxy_configs(reader):
        with suppress(OSError):  # it is only shown
            text = path.read_text(encoding="utf-8", errors="replace")
            found[f"{path.parent.name}/{path.name}"] = text
    return found


def _proxy_configs(reader: RunReader) -> Iterator[Path]:
    """One of each arm: its cells differ in addresses."""
    arms = reader.manifest.get("arms") or {}
    if len(arms) <= 1:
        name = reader.manifest.get("proxy_config", OLD_PROXY_CONFIG)
        yield from sorted(reader.directory.glob(f"*/{name}"))[:1] if _is_file_name(name) else []
        return
    for arm in arms.values():
        name, cells = arm.get("proxy_config"), arm.get("cells") or [None]
        if _is_file_name(name) and _is_file_name(cells[0]):
            path = reader.directory / cells[0] / name
            yield from [path] if path.is_file() else []


def _is_file_name(name: Any) -> bool:
    """A run directory may be damaged, or anybody's."""
    return isinstance(name, str) and re.fullmatch(r"[\w][\w.-]*", name) is not None


def _digest(reader: RunReader) -> str | None:
    """Of the file that the proxy ran with."""
    text = next(iter(_proxy_texts(reader).values()), None)
    if text is None:
        return None
    without = _masker(reader)(text)
    if without == text:
        return f"text {hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return f"text {shown.fingerprint([(without, text)])}"  # it must not say what was left out
