"""What a run was made with, flat: what may make one run differ from another."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from chaosd import plugins, shown
from chaosd.config.yamlfile import BoundedLoader, Unreadable
from chaosd.history import strict
from chaosd.history.reader import PLAN, RunReader
from chaosd.plugins.proxy import HidesSecrets
from chaosd.system.files import MB, read_utf8

# Where results go, and when a run ends, makes no recovery longer.
ASIDE = frozenset({"name", "seed", "runs", "metrics", "until", "slo", "arms"})
# What a proxy's configuration is called in run directories that do not say it in `proxy_config`.
OLD_PROXY_CONFIG = "haproxy.cfg"
# How a file of the user's own is told from another one, and that its settings are not known.
TEXT, UNREAD = "text ", ", unread"
CONFIG_CHARS_MAX = MB  # of config.yaml: chaosd writes some KB, and reading takes a second a MB
TEXT_BYTES_MAX = 4 * MB  # of a proxy's configuration that is shown
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
    config = _config(reader)
    if not isinstance(config, dict):
        return {}
    found = dict(flat("", {key: part for key, part in config.items() if key not in ASIDE}))
    found |= dict(flat("", shown.mask_tree(differs)))
    proxy_settings = manifest.get("proxy_settings") or {}
    found |= dict(flat("proxy", proxy_settings))
    found |= {fact: manifest.get(fact) for fact in FACTS}
    if (secrets := manifest.get("secrets")) is not None:
        found["secrets"] = f"by their fingerprint {secrets}"
    if proxy_settings.get("config") is not None:  # of a copy's originals: it differs run by run
        found = {key: value for key, value in found.items() if not key.startswith("proxy.config[")}
    elif found.get("proxy.config") is not None:  # its path says nothing of what is in it
        digest = _digest(reader, proxy_configs)
        found["proxy.config"] = digest if proxy_settings or not digest else f"{digest}{UNREAD}"
    return found


class _Loader(BoundedLoader):
    """Reads what chaosd writes, which has no aliases: they make a short text a large value."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise Unreadable(self.line + 1, "an alias, which chaosd does not write")
        return super().compose_node(parent, index)


def _config(reader: RunReader) -> Any:
    """The effective config, without the secrets that older versions have stored in it."""
    return shown.mask_tree(_tree(reader))


def _tree(reader: RunReader) -> Any:
    return _read(reader.config())


@lru_cache(maxsize=1)
def _read(text: str) -> Any:
    """The config as a tree. Its settings and its secrets are looked up in it: don't change it."""
    if len(text) > CONFIG_CHARS_MAX:
        return None
    try:
        config = yaml.load(text, _Loader)  # noqa: S506 - a safe one
    except (yaml.YAMLError, Unreadable, ValueError, TypeError):
        return None
    return config if strict.is_plain([config]) else None


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
    if len(config) > CONFIG_CHARS_MAX:
        config = ""  # nobody has looked for secrets in it
    elif list(shown.secrets_of(_tree(reader))):  # an older version wrote it
        config = yaml.safe_dump(_config(reader), sort_keys=False, allow_unicode=True)
    without_secrets = _masker(reader)
    found = {PLAN: reader.plan(), "config.yaml": config}
    found |= {name: without_secrets(text) for name, text in _proxy_texts(reader).items()}
    return {name: text for name, text in found.items() if text}


def _masker(reader: RunReader) -> Callable[[str], str]:
    """Takes the secrets out of a proxy's configuration."""
    try:
        kind = plugins.find("proxies", str(reader.manifest.get("proxy") or "haproxy"))
    except LookupError:  # another machine's plugin
        return shown.masked
    return kind.shown if issubclass(kind, HidesSecrets) else shown.masked


def _proxy_texts(reader: RunReader) -> dict[str, str]:
    """The proxy's configuration as it ran, secrets and all: one of each arm, by name."""
    found = {}
    for path in _proxy_configs(reader):
        with suppress(OSError):  # it is only shown
            text = read_utf8(path, TEXT_BYTES_MAX, errors="replace")
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
        yield from _config_of(reader, arm)


def _config_of(reader: RunReader, arm: Mapping[str, Any]) -> Iterator[Path]:
    name, cells = arm.get("proxy_config"), arm.get("cells") or [None]
    if _is_file_name(name) and _is_file_name(cells[0]):
        path = reader.directory / cells[0] / name
        yield from [path] if path.is_file() else []


def _is_file_name(name: Any) -> bool:
    """A run directory may be damaged, or anybody's."""
    return isinstance(name, str) and re.fullmatch(r"[\w][\w.-]*", name) is not None


def _digest(reader: RunReader, proxy_configs: Iterable[Path]) -> str | None:
    """Of the file that the proxy ran with."""
    try:
        text = read_utf8(next(iter(proxy_configs)), TEXT_BYTES_MAX, errors="replace")
    except (StopIteration, OSError):
        return None
    without = _masker(reader)(text)
    if without == text:
        return f"{TEXT}{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return f"{TEXT}{shown.fingerprint([(without, text)])}"  # it must not say what was left out
