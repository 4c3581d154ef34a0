"""What takes an old IP: a container that runs before T0, so that taking the IP over is quick."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from chaosd.errors import MachineError
from chaosd.runtimes.docker.endpoint import EngineAwayError
from chaosd.runtimes.docker.engine import Engine
from chaosd.runtimes.docker.members import Blueprint, Members
from chaosd.runtimes.docker.network import Network
from chaosd.system.clock import SECOND_NS, sleep

ARM_LIMIT_S = 20.0
TAKE_LIMIT_S = 5.0  # how long the engine may still keep the address of the one that is gone
TAKE_PAUSE_S = 0.01


class DockerHolder:
    """A placeholder on no network until it takes the IP."""

    def __init__(self, engine: Engine, network: Network, team: Members, container: str) -> None:
        self._engine = engine
        self._network = network
        self._team = team
        self._container = container

    async def take(self, ip: str) -> None:
        clock, network, container = self._engine.clock, self._network, self._container
        limit_ns = clock.now_ns() + round(TAKE_LIMIT_S * SECOND_NS)
        while True:
            try:
                await self._engine.do(lambda api: network.attach(api, container, ip))
            except EngineAwayError:
                raise
            except MachineError as error:
                # Its address is free a little later than the container is gone.
                if clock.now_ns() > limit_ns:
                    raise MachineError(f"the placeholder can't take {ip}: {error}") from None
                await sleep(clock, TAKE_PAUSE_S)
            else:
                break
        has = await self._engine.do(lambda api: network.address_of(api, container))
        if has != ip:
            raise MachineError(f"the placeholder has {has or 'no address'}, not {ip}")

    async def release(self) -> None:
        await self._team.discard(self._container)


class Nobody:
    """Takes the IP by leaving it vacant: nobody answers for it on the network."""

    def __init__(self, engines: Sequence[Engine], network: Network) -> None:
        self._engines = engines
        self._network = network

    async def take(self, ip: str) -> None:
        """Make sure that it is vacant, on each of the network's engines."""
        network = self._network
        clock = self._engines[0].clock
        limit_ns = clock.now_ns() + round(TAKE_LIMIT_S * SECOND_NS)
        for engine in self._engines:
            while (holder := await engine.do(lambda api: network.holder_of(api, ip))) is not None:
                if clock.now_ns() > limit_ns:
                    raise MachineError(f"{ip} is not vacant: {holder} has it")
                await sleep(clock, TAKE_PAUSE_S)

    async def release(self) -> None:
        """Nothing holds it."""


async def arm(
    engine: Engine, network: Network, team: Members, blueprint: Blueprint
) -> DockerHolder:
    """Start one that listens, and take it off the network until it is wanted.

    Raises MachineError.
    """
    armed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def heard(line: str, _at_ns: int, _error_ns: int) -> None:
        if line.startswith("listening ") and not armed.done():
            armed.set_result(None)

    member = await team.create(blueprint, heard)
    member.expected = True  # until it holds something, its end is for who waits for it
    try:
        await team.start(member)
        async with asyncio.timeout(ARM_LIMIT_S):
            await armed
        await engine.do(lambda api: network.detach(api, member.id))
    except TimeoutError:
        team.soon(team.discard(member.id))
        what = f"the placeholder {member.name} is not ready"
        raise MachineError(f"{what}: {member.last_line or 'it says nothing'}") from None
    except BaseException:
        team.soon(team.discard(member.id))
        raise
    return DockerHolder(engine, network, team, member.id)
