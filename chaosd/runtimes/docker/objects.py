"""What chaosd makes on an engine: labelled, limited, and found again by its labels.

Only what carries our labels is ever touched. `chaosd.owner` says which process made it, and
`chaosd.machine` on which machine, so that a run that lives is never taken for a dead one.
The one exception is what a config allows: `chaosd.restores` names the containers that a run may
stop. Who removes what carries this label starts them again first.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from chaosd.errors import MachineError
from chaosd.runtimes.docker.endpoint import (
    ConflictError,
    EngineAwayError,
    MissingError,
    own_container,
    translated,
)
from chaosd.system import processes
from chaosd.system.clock import SECOND_NS, Clock, pause

RUN, CELL, OWNER = "chaosd.run", "chaosd.cell", "chaosd.owner"
MACHINE, HOME = "chaosd.machine", "chaosd.home"
NAMELESS = "unknown"  # a machine that can't be told from others
MACHINE_ID = Path("/etc/machine-id")
RESTORES = "chaosd.restores"  # ids of containers that are not ours, with spaces between them
REMOVE_LIMIT_S = 30.0
REMOVE_PAUSE_S = 0.05
NOBODY, ROOT = "65534:65534", "0:0"
LOG_MAX = {"max-size": "5m", "max-file": "2"}
SCRATCH_OPTIONS = "mode=1777,size=64m"  # of a directory in memory that a program may write
OPEN_FILES_MAX = 16384  # HAProxy sizes its tables by this limit


def labels(run_id: str, cell: str, home: str | None) -> dict[str, str]:
    """What every object of a cell carries; `home` is the container that chaosd runs in."""
    owner = {OWNER: processes.owner(), MACHINE: _machine(), HOME: home or ""}
    return {RUN: run_id, CELL: cell, **owner}


def host_config(
    api: Any, *, memory_mb: int, pids: int, own_image: bool = True, **more: Any
) -> dict[str, Any]:
    """The limits of a container. Images that are not ours may need to write and to change user."""
    hardening: dict[str, Any] = {"security_opt": ["no-new-privileges"]}
    if own_image:
        hardening |= {"cap_drop": ["ALL"], "read_only": True}
    config: dict[str, Any] = api.create_host_config(
        **hardening,
        mem_limit=memory_mb << 20,
        pids_limit=pids,
        log_config={"Type": "json-file", "Config": LOG_MAX},
        ulimits=[{"Name": "nofile", "Soft": OPEN_FILES_MAX, "Hard": OPEN_FILES_MAX}],
        **more,
    )
    return config


def mounts(binds: Mapping[str, Path]) -> list[Any] | None:
    """Directories of this machine, by where a container has them."""
    from docker.types import Mount

    return [Mount(inside, str(ours), type="bind") for inside, ours in binds.items()] or None


def tar(files: Mapping[str, bytes]) -> bytes:
    """An archive of these files, readable by everybody."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        made: set[str] = set()
        for name, data in files.items():
            for parent in reversed(Path(name).parents[:-1]):
                if str(parent) not in made:
                    made.add(str(parent))
                    folder = tarfile.TarInfo(str(parent))
                    folder.type, folder.mode = tarfile.DIRTYPE, 0o755
                    archive.addfile(folder)
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def remove(api: Any, clock: Clock, container: str) -> None:
    """Remove a container with its anonymous volumes, and wait until it is gone, in a thread.

    Raises MachineError if it is still there after 30 s.
    """

    def attempt() -> bool:
        with suppress(ConflictError):  # its removal is in progress
            translated(lambda: api.remove_container(container, force=True, v=True))
        translated(lambda: api.inspect_container(container))
        return False

    _until_gone(attempt, clock, f"container {container[:12]}")


def remove_network(api: Any, clock: Clock, network: str) -> None:
    """Remove a network of ours, with what is still attached to it, and wait until it is gone."""

    def attempt() -> bool:
        attached = translated(lambda: api.inspect_network(network)).get("Containers") or {}
        for container in attached:
            with suppress(MachineError):
                translated(partial(_disconnect, api, container, network))
        with suppress(MachineError):  # an endpoint that is just being made, for instance
            translated(lambda: api.remove_network(network))
        translated(lambda: api.inspect_network(network))
        return False

    _until_gone(attempt, clock, f"network {network[:12]}")


def _disconnect(api: Any, container: str, network: str) -> None:
    api.disconnect_container_from_network(container, network, force=True)


def _until_gone(attempt: Callable[[], bool], clock: Clock, what: str) -> None:
    """Attempt again and again until it raises MissingError."""
    limit_ns = clock.now_ns() + round(REMOVE_LIMIT_S * SECOND_NS)
    while clock.now_ns() < limit_ns:
        try:
            attempt()
        except MissingError:
            return
        pause(REMOVE_PAUSE_S)
    raise MachineError(f"{what} can't be removed within {REMOVE_LIMIT_S:g} s")


class OfRun(NamedTuple):
    """What there is of one cell, by ids."""

    containers: list[str]
    guards: list[tuple[str, str]]  # each with the value of its RESTORES
    networks: list[str]


def of_run(api: Any, run_id: str, cell: str) -> OfRun:
    """What carries the labels of one cell."""
    wanted = {"label": [f"{RUN}={run_id}", f"{CELL}={cell}", OWNER]}
    containers = translated(lambda: api.containers(all=True, filters=wanted))
    networks = translated(lambda: api.networks(filters=wanted))
    tags = {each["Id"]: each.get("Labels") or {} for each in containers}
    return OfRun(
        containers=[each for each, its in tags.items() if RESTORES not in its],
        guards=[(each, its[RESTORES]) for each, its in tags.items() if RESTORES in its],
        networks=[n["Id"] for n in networks],
    )


def hand_back(api: Any, clock: Clock, guard: str, restores: str) -> list[str]:
    """Start again what a run has stopped, and then remove the guard that says so, in a thread.

    Returns the names of those that were started. One that is gone is somebody else's doing.
    Raises MachineError if one can't be started: then the guard stays.
    """
    started = []
    for each in restores.split():
        try:
            found = translated(partial(api.inspect_container, each))
        except MissingError:
            continue
        if found["State"]["Running"]:
            continue
        name = found["Name"].lstrip("/")
        try:
            translated(partial(api.start, each))
        except EngineAwayError:
            raise
        except MachineError as error:
            what = f"container {name} was stopped by chaosd and can't be started again"
            raise MachineError(f"{what}: {error} (then `chaosd clean` starts it)") from None
        started.append(name)
    remove(api, clock, guard)
    return started


def guarded(api: Any) -> set[str]:
    """The ids of all containers that runs may have stopped."""
    found = translated(lambda: api.containers(all=True, filters={"label": [RESTORES, OWNER]}))
    return {id_ for each in found for id_ in (each.get("Labels") or {}).get(RESTORES, "").split()}


def sweep(api: Any, clock: Clock) -> list[str]:
    """Remove what dead owners have left on this engine, and say each in a few words.

    Networks of a swarm are left: other nodes may have containers in them.
    """
    swept = []
    containers = api.containers(all=True, filters={"label": [OWNER, RUN]})
    dead = [(each, tags) for each, tags in _labelled(containers) if _is_dead(api, tags)]
    # What stands in the place of others goes first: it has their addresses and ports.
    for container, tags in sorted(dead, key=lambda each: RESTORES in each[1]):
        name = (container.get("Names") or ["?"])[0].lstrip("/")
        said = f"container {name} of run {tags[RUN]}"
        if RESTORES in tags:
            started = hand_back(api, clock, container["Id"], tags[RESTORES])
            said += "".join(f", and started {each} again" for each in started)
        else:
            remove(api, clock, container["Id"])
        swept.append(said)
    return swept + _sweep_networks(api, clock, of_swarm=False)


def sweep_overlays(api: Any, clock: Clock) -> list[str]:
    """The same of the swarm's networks, on a manager, once no node has containers of ours."""
    return _sweep_networks(api, clock, of_swarm=True)


def forget_overlays(api: Any, clock: Clock) -> list[str]:
    """Return when this node knows no more of those: it hears a little later that they are gone."""
    for network, tags in _labelled(api.networks(filters={"label": [OWNER, RUN]})):
        if network.get("Scope") == "swarm" and _is_dead(api, tags):
            forget_network(api, clock, network["Id"])
    return []


def forget_network(api: Any, clock: Clock, network: str) -> None:
    """Return when this node knows no more of a network that a manager has removed."""

    def attempt() -> bool:
        translated(lambda: api.inspect_network(network))
        return False

    _until_gone(attempt, clock, f"network {network[:12]}")


def _sweep_networks(api: Any, clock: Clock, *, of_swarm: bool) -> list[str]:
    swept = []
    for network, tags in _labelled(api.networks(filters={"label": [OWNER, RUN]})):
        if (network.get("Scope") == "swarm") is of_swarm and _is_dead(api, tags):
            remove_network(api, clock, network["Id"])
            swept.append(f"network {network['Name']} of run {tags[RUN]}")
    return swept


def tags_of_dead(api: Any, labels: Mapping[str, str] | None) -> dict[str, str] | None:
    """Our labels on something that a dead owner has left; None if it is no such thing."""
    tags = dict(labels or {})
    complete = all(tags.get(label) for label in (RUN, CELL, OWNER, MACHINE))
    return tags if complete and _is_dead(api, tags) else None


def _labelled(found: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """Those with all of our labels; an engine's filter is not relied upon for that."""
    for each in found:
        tags = each.get("Labels") or {}
        if all(tags.get(label) for label in (RUN, CELL, OWNER, MACHINE)):
            yield each, tags


def _is_dead(api: Any, tags: dict[str, str]) -> bool:
    """Whether the owner certainly lives no more; one that can't be judged from here is not dead."""
    if home := tags.get(HOME):
        if own_container(api) == home:
            # Each start of a container has a PID namespace of its own: another one is over.
            return not processes.is_from_here(tags[OWNER]) or processes.is_dead(tags[OWNER])
        try:
            inspected = translated(lambda: api.inspect_container(home))
        except MissingError:
            return True
        return not inspected["State"]["Running"]
    if tags[MACHINE] != _machine():
        return False
    boot = tags[OWNER].rpartition(":")[2]
    rebooted = boot != processes.owner().rpartition(":")[2]
    # Without a number of its own another boot may be that of another machine, whose run lives.
    return (rebooted and tags[MACHINE] != NAMELESS) or processes.is_dead(tags[OWNER])


def _machine() -> str:
    """What tells this machine from others, also after it was started anew; else NAMELESS.

    Images of containers have none, or the word that stands there before the first start.
    """
    try:
        said = MACHINE_ID.read_text(encoding="utf-8").strip()
    except OSError:
        return NAMELESS
    return NAMELESS if said in ("", "uninitialized") else said
