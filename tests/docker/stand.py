"""A real engine, or a skip that says why; and the daemon as a process of its own."""

from __future__ import annotations

from pathlib import Path

from running import Running

from chaosd.runtimes.docker import images
from chaosd.runtimes.docker.endpoint import from_environment

BASE = {
    "name": "t",
    "runtime": {"type": "docker"},
    "metrics": None,
    "proxy": {
        "type": "haproxy",
        "resolvers": {"timeout_resolve": "200ms", "timeout_retry": "200ms"},
    },
    "faults": [{"type": "recreate", "every": "3s"}],
    "measure": {"stable_for": "500ms"},
}


def why_not(version: str = images.DEFAULT_HAPROXY) -> str | None:
    """Why tests on an engine can't run here."""
    endpoint = from_environment()
    if (reason := endpoint.unreachable()) is not None:
        return reason
    with endpoint.client() as api:
        lacking = images.missing(api, [images.app_tag(), images.haproxy_tag(version)])
    return f"the engine has no image {', '.join(lacking)} (make images)" if lacking else None


class Daemon(Running):
    """One `chaosd run`, or another command, on an engine."""

    def __init__(
        self, where: Path, *options: str, env=None, inside=(), command=None, **keys
    ) -> None:
        words = command or ["run", "c.yaml"]
        super().__init__(where, BASE | keys, *words, *options, env=env, inside=inside)


def left_of(api, run_id: str) -> list[str]:
    """What the engine still has of this run."""
    wanted = {"label": f"chaosd.run={run_id}"}
    found = [c["Names"][0] for c in api.containers(all=True, filters=wanted)]
    return found + [n["Name"] for n in api.networks(filters=wanted)]


def volumes(api) -> set[str]:
    return {v["Name"] for v in api.volumes()["Volumes"] or []}
