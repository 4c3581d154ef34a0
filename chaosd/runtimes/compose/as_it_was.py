"""Whether a container is as it was: what the engine says of it, compared but for what must differ.

Ids of endpoints, addresses that the engine chooses, times and process numbers differ whenever a
container is started again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chaosd import shown
from chaosd.runtimes.compose.project import Inspected

# By their paths; what is below one is left out, too.
DIFFERS = {
    *("State.Pid", "State.StartedAt", "State.FinishedAt", "State.ExitCode", "State.Health"),
    *("RestartCount", "ExecIDs"),
    *("NetworkSettings.SandboxID", "NetworkSettings.SandboxKey", "NetworkSettings.Ports"),
    *("NetworkSettings.EndpointID", "NetworkSettings.IPAddress", "NetworkSettings.MacAddress"),
    "NetworkSettings.GlobalIPv6Address",
}
DIFFERS_IN_NETWORK = {"EndpointID", "IPAddress", "MacAddress", "GlobalIPv6Address"}


def essence(container: Inspected) -> dict[str, Any]:
    """What stays of a container when it is stopped and started again, by paths."""
    return dict(_leaves(container, ""))


def differences(before: Inspected, after: Inspected) -> list[str]:
    """The paths at which it is not as it was."""
    was, is_now = essence(before), essence(after)
    return sorted(path for path in {*was, *is_now} if was.get(path) != is_now.get(path))


def without_values(container: Inspected) -> dict[str, Any]:
    """The same for a file: variables without their values, and nothing that looks like a secret."""
    config = dict(container["Config"])
    config["Env"] = [f"{each.partition('=')[0]}=…" for each in config.get("Env") or ()]
    found: dict[str, Any] = shown.mask_tree({**container, "Config": config})
    return found


def secrets_of(container: Inspected) -> list[str]:
    """Values of its variables that must not be shown, wherever they turn up."""
    variables = {"variables": list(container["Config"].get("Env") or ())}
    found = list(shown.secrets_of(variables))
    return [value for where, value in found if shown.is_telling(where, value)]


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if path in DIFFERS:
        return
    if isinstance(value, Mapping) and value:
        of_network = path.startswith("NetworkSettings.Networks.")
        for key, each in value.items():
            if not (of_network and key in DIFFERS_IN_NETWORK):
                yield from _leaves(each, f"{path}.{key}" if path else str(key))
        return
    # The order of these says nothing, and the engine tells mounts in a new one each time.
    if path == "Mounts" and value:
        value = sorted(value, key=lambda mount: str(mount.get("Destination")))
    elif path.endswith((".Aliases", ".DNSNames")) and value:
        value = sorted(value)
    yield path, value
