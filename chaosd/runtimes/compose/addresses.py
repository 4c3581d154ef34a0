"""Fresh addresses in a network that is not chaosd's.

Where the network's subnet was chosen by its user, an address in it can be asked for: `Asked`.
Elsewhere, as in the default network of a compose project, the engine refuses that and always gives
the lowest address that is free. There all lower ones are held by small containers that do nothing,
and one of them lets go of the address that is wanted: `Held`.
See docs/decisions/0060-compose.md.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network
from itertools import chain
from random import Random
from typing import Any, NamedTuple, Protocol

from chaosd.errors import MachineError
from chaosd.runtimes.compose.project import Project, ip_of
from chaosd.runtimes.docker import images
from chaosd.runtimes.docker.endpoint import EngineAwayError, translated
from chaosd.runtimes.docker.engine import Engine
from chaosd.runtimes.docker.members import Blueprint, Members
from chaosd.runtimes.docker.network import Network

KEEPERS_MAX = 64  # containers that hold an address each
IDLE = ["python3", "-I", "-S", "-c", "import signal; signal.pause()"]


class ProjectNetwork(Network):
    """A network of the project's."""

    def __init__(self, project: Project) -> None:
        super().__init__(project.network, project.subnet, Random(0))  # noqa: S311 - draws nothing
        self.gives_lowest = False  # an address can't be asked for here

    def attach(
        self, api: Any, container: str, ip: str | None, aliases: tuple[str, ...] = ()
    ) -> None:
        if not self.gives_lowest or ip is None:
            super().attach(api, container, ip, aliases)
            return
        super().attach(api, container, None, aliases)
        has = self.address_of(api, container)
        if has != ip:  # that one is not free yet
            self.detach(api, container)
            raise MachineError(f"network {self.name} gives {has or 'no address'}, not {ip}")

    def endpoint(self, api: Any, ip: str | None, aliases: tuple[str, ...] = ()) -> Any:
        return super().endpoint(api, None if self.gives_lowest else ip, aliases)

    def holders(self, api: Any) -> dict[str, str]:
        """The container of each address that is in use, by ids."""
        attached = translated(lambda: api.inspect_network(self.name)).get("Containers") or {}
        return {
            each.get("IPv4Address", "").partition("/")[0]: container
            for container, each in attached.items()
        }

    def wanted(self, api: Any) -> set[str]:
        """The addresses that containers are to have here, whether they run or not."""
        listed = api.containers(all=True, filters={"network": self.name})
        found = (each["NetworkSettings"]["Networks"].get(self.name) or {} for each in listed)
        return {(each.get("IPAMConfig") or {}).get("IPv4Address", "") for each in found} - {""}


class Addresses(Protocol):
    """How the app gets an address."""

    async def fresh(self) -> str:
        """One that the app has not had lately: the next container of it to be started gets it."""

    async def make_way(self, ip: str) -> None:
        """Let the next container that is started get this one, which is free."""

    async def tidy(self) -> None:
        """Get ready for the next one, while there is time."""

    async def prepare(self, old: str) -> None:
        """Do what can be done for the next fresh one while this address is still in use."""

    @property
    def leaves_vacant(self) -> bool:
        """Whether an address that was given up can stay nobody's."""


class Place(NamedTuple):
    """What addresses are given in."""

    engine: Engine
    network: ProjectNetwork
    project: Project
    lately: deque[str]  # what the app had, the latest last


class Asked:
    """Any address of the subnet, from its upper end: the engine gives away the lower ones."""

    leaves_vacant = True

    def __init__(self, place: Place) -> None:
        self._place = place

    async def fresh(self) -> str:
        engine, network, _, lately = self._place

        def taken(api: Any) -> set[str]:
            return {*network.holders(api), *translated(lambda: network.wanted(api))}

        used = await engine.do(taken)
        for ip in candidates(self._place.project):
            if ip not in used and ip not in lately:
                lately.append(ip)
                return ip
        raise MachineError(f"network {network.name} has no fresh address left")

    async def make_way(self, ip: str) -> None:
        """It is asked for."""

    async def tidy(self) -> None:
        """There is nothing to do."""

    async def prepare(self, old: str) -> None:
        """Neither is here."""


class Held:
    """The lowest address that is free: whichever of those below the highest one is let go of."""

    leaves_vacant = False  # the next container would get it

    def __init__(self, place: Place, team: Members, name: Callable[[int], str]) -> None:
        """`name` names the keepers."""
        self._place, self._team, self._name = place, team, name
        self._keepers: list[str] = []
        self._made = 0
        self._prepared: str | None = None  # was let go of, for the next one
        self._highest = 0  # address of a keeper, so far

    async def set_up(self) -> None:
        """Hold as many addresses as are not to be given again, and all below the app's."""
        project, lately = self._place.project, self._place.lately
        highest = max(int(IPv4Address(ip_of(each, project.network))) for each in project.app)
        # One more than must not come again: it is let go of while the others are held.
        await asyncio.gather(*(self._another() for _ in range(1 + (lately.maxlen or 0))))
        while self._made < KEEPERS_MAX:
            _ = self._gaps(await self._holders())
            if self._highest > highest:
                return
            await self._another()
        raise MachineError(
            f"network {project.network} has too many gaps below {IPv4Address(highest)}, and gives "
            "only the lowest (give it a subnet in your compose file)"
        )

    async def fresh(self) -> str:
        holders = await self._holders()
        prepared, self._prepared = self._prepared, None
        ip = prepared if prepared in self._gaps(holders) else self._unused(holders)
        if ip is None:
            raise MachineError(f"network {self._place.network.name} has no fresh address left")
        await self.make_way(ip)
        self._place.lately.append(ip)
        return ip

    async def prepare(self, old: str) -> None:
        """Let go of a higher one: what holds the old one gets that first, which is lower then."""
        ip = self._unused(await self._holders(), above=int(IPv4Address(old)))
        if ip is not None:
            await self.make_way(ip)
        self._prepared = ip

    def _unused(self, holders: Mapping[str, str], above: int = 0) -> str | None:
        """The lowest that the app has not had lately, of those that keepers have or nobody."""
        mine = [ip for ip, who in holders.items() if who in self._keepers]
        known = sorted(int(IPv4Address(ip)) for ip in {*mine, *self._gaps(holders)})
        found = (str(IPv4Address(number)) for number in known if number > above)
        return next((ip for ip in found if ip not in self._place.lately), None)

    async def make_way(self, ip: str) -> None:
        engine, network, *_ = self._place
        holders = await self._holders()
        while (gaps := self._gaps(holders)) and int(IPv4Address(gaps[0])) < int(IPv4Address(ip)):
            await self._fill()
            holders = await self._holders()
        keeper = holders.get(ip)
        if keeper in self._keepers:
            await engine.do(lambda api: network.detach(api, keeper))

    async def tidy(self) -> None:
        """Fill all gaps."""
        for _ in range(KEEPERS_MAX):
            if not self._gaps(await self._holders()):
                return
            await self._fill()

    async def _fill(self) -> None:
        """Let a keeper have the lowest address that is free."""
        engine, network, *_ = self._place
        busy = set((await self._holders()).values())
        idle = [keeper for keeper in self._keepers if keeper not in busy]
        if not idle:
            await self._another()
            return
        await engine.do(lambda api: network.attach(api, idle[0], None))

    async def _another(self) -> None:
        if self._made >= KEEPERS_MAX:
            raise MachineError(f"network {self._place.network.name} has too many gaps")
        self._made += 1
        member = await self._team.create(keeper(self._name(self._made)), _deaf)
        await self._team.start(member)
        self._keepers.append(member.id)

    async def _holders(self) -> Mapping[str, str]:
        return await self._place.engine.do(self._place.network.holders)

    def _gaps(self, holders: Mapping[str, str]) -> list[str]:
        """Addresses that nobody has, up to the highest that a keeper ever had; in their order."""
        project = self._place.project
        held = [int(IPv4Address(ip)) for ip, who in holders.items() if who in self._keepers]
        self._highest = max([*held, self._highest])
        pool = project.ranges[0] if project.ranges else project.subnet
        first = int(pool.network_address) + (pool == project.subnet)
        numbers = (str(IPv4Address(n)) for n in range(first, self._highest + 1))
        return [ip for ip in numbers if ip not in holders and ip not in project.reserved]


def candidates(project: Project) -> Iterator[str]:
    """All addresses of its subnet, from above; those that the engine gives away itself, last."""

    def of(network: IPv4Network) -> range:
        return range(int(network.broadcast_address) - 1, int(network.network_address), -1)

    inside = project.ranges[0] if project.ranges else None
    numbers = of(project.subnet)
    outside = (n for n in numbers if inside is None or IPv4Address(n) not in inside)
    for number in chain(outside, of(inside) if inside else ()):
        if (ip := str(IPv4Address(number))) not in project.reserved:
            yield ip


def keeper(name: str, ip: str | None = None) -> Blueprint:
    """A container that does nothing but have an address."""
    return Blueprint(
        name=name, image=images.app_tag(), ip=ip, entrypoint=IDLE, memory_mb=32, pids=8
    )


async def found_out(place: Place, team: Members, name: Callable[[int], str]) -> Addresses:
    """Ask for an address: whether that can be done in this network. Raises MachineError."""
    asked, had = Asked(place), list(place.lately)
    ip = await asked.fresh()
    member = await team.create(keeper(name(0), ip), _deaf)
    member.expected = True
    try:
        await team.start(member)
    except EngineAwayError:
        raise
    except MachineError:
        place.network.gives_lowest = True
    finally:
        place.lately.clear()
        place.lately.extend(had)
        await team.discard(member.id)
    if not place.network.gives_lowest:
        return asked
    held = Held(place, team, name)
    await held.set_up()
    return held


def _deaf(_line: str, _at_ns: int, _error_ns: int) -> None:
    """What a keeper says is nobody's concern."""
