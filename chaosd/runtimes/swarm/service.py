"""The app as a service of the swarm: what the manager is told, and what it says of its tasks.

All in threads, on a manager's API.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from chaosd.errors import MachineError
from chaosd.runtimes.docker import objects
from chaosd.runtimes.docker.endpoint import MissingError, translated
from chaosd.runtimes.docker.members import Blueprint
from chaosd.system.clock import Clock, pause

# A node asks the registry that an image's name has before it takes its own: this one refuses.
NO_REGISTRY = "127.0.0.1:1"
Order = Literal["stop-first", "start-first"]
RUNNING = ("running",)
ENDED = ("complete", "shutdown", "failed", "rejected", "remove", "orphaned")
UPDATE_ATTEMPTS_MAX = 5  # the manager changes a service or a node, too
ATTEMPT_PAUSE_S = 0.05


class Task(NamedTuple):
    """One incarnation of the app, as the manager knows it."""

    id: str
    node: str  # its id; "" until one is chosen
    ip: str | None  # known from when it is chosen where it runs
    container: str | None
    state: str
    is_wanted: bool  # the manager wants it to run
    error: str

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True, kw_only=True)
class ServiceSpec:
    """What the service is made of."""

    blueprint: Blueprint
    network: str
    labels: dict[str, str]
    replicas: int
    constraints: Sequence[str]
    endpoint: Literal["dnsrr", "vip"] = "dnsrr"


def local_tag(image: str) -> str:
    """The name under which a node takes this image from itself alone."""
    return f"{NO_REGISTRY}/{image}"


def create(api: Any, spec: ServiceSpec) -> str:
    """Make the service; its id.

    Its name is answered with the addresses of its tasks (dnsrr), or with one of its own (vip).
    """
    from docker import types

    made, alias = spec.blueprint, spec.blueprint.aliases[0].removeprefix("tasks.")
    hardening = (
        {"read_only": True, "cap_drop": ["ALL"], "user": made.user} if made.own_image else {}
    )
    container = types.ContainerSpec(
        made.image,
        args=list(made.command) if made.command else None,
        env=[f"{key}={value}" for key, value in made.environment.items()],
        labels=spec.labels,
        dns_config=types.DNSConfig(nameservers=list(made.dns)) if made.dns else None,
        **hardening,
    )
    template = types.TaskTemplate(
        container,
        resources=types.Resources(mem_limit=made.memory_mb << 20),
        restart_policy=types.RestartPolicy(condition="any", delay=0),
        placement=types.Placement(constraints=list(spec.constraints)),
        networks=[types.NetworkAttachmentConfig(spec.network, aliases=[alias])],
    )
    made_one = translated(
        lambda: api.create_service(
            template,
            name=made.name,
            labels=spec.labels,
            mode=types.ServiceMode("replicated", replicas=spec.replicas),
            endpoint_spec=types.EndpointSpec(mode=spec.endpoint),
        )
    )
    return str(made_one["ID"])


def virtual_ip(api: Any, service: str, network: str) -> str | None:
    """The address of its own that it has in this network; None if it has none (dnsrr)."""
    endpoint = translated(lambda: api.inspect_service(service)).get("Endpoint") or {}
    found = translated(lambda: api.inspect_network(network))["Id"]
    for each in endpoint.get("VirtualIPs") or []:
        if each["NetworkID"] == found and each.get("Addr"):
            return str(each["Addr"]).partition("/")[0]
    return None


def tasks(api: Any, service: str, network: str) -> list[Task]:
    """Its tasks, the oldest first."""
    found = translated(lambda: api.tasks(filters={"service": service}))
    return [_task(each, network) for each in sorted(found, key=lambda each: each["CreatedAt"])]


def _task(said: dict[str, Any], network: str) -> Task:
    ip = None
    for each in said.get("NetworksAttachments") or []:
        if each["Network"]["Spec"]["Name"] == network and each.get("Addresses"):
            ip = each["Addresses"][0].partition("/")[0]
    status = said["Status"]
    return Task(
        id=said["ID"],
        node=said.get("NodeID", ""),
        ip=ip,
        container=(status.get("ContainerStatus") or {}).get("ContainerID") or None,
        state=status["State"],
        is_wanted=said["DesiredState"] in RUNNING,
        error=status.get("Err") or status.get("Message") or "",
    )


def force_update(api: Any, service: str, order: Order, number: int) -> None:
    """Let each task be replaced, as `docker service update --force` does.

    The same number again, one more than the last one, is no further update.
    """

    def attempt() -> None:
        found = api.inspect_service(service)
        template = found["Spec"]["TaskTemplate"]
        template["ForceUpdate"] = number
        update = {"Parallelism": 1, "Order": order, "FailureAction": "pause"}
        api.update_service(
            service,
            found["Version"]["Index"],
            task_template=template,
            name=found["Spec"]["Name"],
            update_config=update,
            fetch_current_spec=True,
        )

    _until_it_is_in_sequence(attempt)


def drain(api: Any, node: str, service: str, labels: dict[str, str]) -> None:
    """Let no task run on this node any more; its labels say who has done that.

    Raises MachineError if others have tasks there.
    """
    others = {
        each["ServiceID"]
        for each in translated(lambda: api.tasks(filters={"node": node}))
        if each["DesiredState"] in RUNNING and each.get("ServiceID") not in (None, "", service)
    }
    if others:
        raise MachineError(
            f"the node runs tasks of {len(others)} other services, which draining it would move"
        )
    _set_node(api, node, "drain", labels)


def activate(api: Any, node: str, labels: dict[str, str]) -> None:
    """Let tasks run there again."""
    _set_node(api, node, "active", dict.fromkeys(labels))


def _set_node(api: Any, node: str, availability: str, labels: dict[str, Any]) -> None:
    def attempt() -> None:
        found = api.inspect_node(node)
        merged = {**(found["Spec"].get("Labels") or {}), **labels}
        kept = {key: value for key, value in merged.items() if value is not None}
        spec = {**found["Spec"], "Availability": availability, "Labels": kept}
        api.update_node(node, found["Version"]["Index"], spec)

    _until_it_is_in_sequence(attempt)


def _until_it_is_in_sequence(attempt: Any) -> None:
    """The manager refuses a change of what it has changed itself meanwhile."""
    for number in range(UPDATE_ATTEMPTS_MAX):
        try:
            translated(attempt)
        except MachineError as error:
            if "out of sequence" not in str(error) or number + 1 == UPDATE_ATTEMPTS_MAX:
                raise
            pause(ATTEMPT_PAUSE_S)
        else:
            return


def remove(api: Any, _clock: Clock, service: str) -> None:
    with suppress(MissingError):
        translated(lambda: api.remove_service(service))


def of_run(api: Any, run_id: str, cell: str) -> list[str]:
    """The ids of the services of one cell."""
    wanted = {"label": [f"{objects.RUN}={run_id}", f"{objects.CELL}={cell}", objects.OWNER]}
    return [each["ID"] for each in translated(lambda: api.services(filters=wanted))]


def sweep(api: Any, clock: Clock) -> list[str]:
    """Remove services of dead owners, and let nodes that they have drained run tasks again."""
    swept = []
    for each in api.services(filters={"label": objects.OWNER}):
        if tags := objects.tags_of_dead(api, each["Spec"].get("Labels")):
            remove(api, clock, each["ID"])
            swept.append(f"service {each['Spec']['Name']} of run {tags[objects.RUN]}")
    for each in api.nodes():
        if tags := objects.tags_of_dead(api, each["Spec"].get("Labels")):
            own = [key for key in tags if key.startswith("chaosd.")]
            activate(api, each["ID"], dict.fromkeys(own, ""))
            name = each["Description"]["Hostname"]
            swept.append(f"the drain of {name} of run {tags[objects.RUN]}")
    return swept
