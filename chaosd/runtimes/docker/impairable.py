"""What can be done to an instance on a Docker engine where it is: paused, hung, cut off."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

from chaosd.errors import MachineError
from chaosd.history.values import Instance
from chaosd.runtimes.docker.endpoint import ConflictError, MissingError, translated
from chaosd.runtimes.docker.engine_stage import EngineStage
from chaosd.runtimes.docker.members import Member

HANG, WELL = "SIGUSR1", "SIGUSR2"  # what chaosd's own app does by them


class Impairable(EngineStage):
    """The abilities CanPause, CanHang and CanPartition."""

    @property
    def _is_own(self) -> bool:
        raise NotImplementedError

    async def pause(self, instance: Instance) -> None:
        member = self._body(instance)
        await member.team.engine.do(partial(_pause, member.id))

    async def resume(self, instance: Instance) -> None:
        if (entry := self._find(instance)) is not None and entry.body is not None:
            await entry.body.team.engine.do(partial(_resume, entry.body.id))

    async def hang(self, instance: Instance) -> None:
        if not self._is_own or self._cell.app.command:
            raise MachineError("only chaosd's own app can be told to hang (leave app.image out)")
        member = self._body(instance)
        await member.team.signal(member, HANG)

    async def unhang(self, instance: Instance) -> None:
        if (entry := self._find(instance)) is not None and entry.body is not None:
            await entry.body.team.signal(entry.body, WELL)

    async def cut_off(self, instance: Instance) -> None:
        net, member = self._network, self._body(instance)
        await member.team.engine.do(lambda api: net.detach(api, member.id))

    async def rejoin(self, instance: Instance) -> None:
        entry, net = self._find(instance), self._network
        if entry is None or entry.body is None:
            return
        member, ip, name = entry.body, instance.address.host, self._cell.dns.name
        engine = member.team.engine
        has = await engine.do(lambda api: net.address_of(api, member.id))
        if has is None:
            await engine.do(lambda api: net.attach(api, member.id, ip, (name,)))

    def _body(self, instance: Instance) -> Member:
        entry = self._find(instance)
        if entry is None or entry.body is None:
            raise MachineError(f"app {instance.identity} is gone")
        return entry.body


def _pause(container: str, api: Any) -> None:
    translated(lambda: api.pause(container))


def _resume(container: str, api: Any) -> None:
    with suppress(ConflictError, MissingError):  # it is not paused, or gone
        try:
            translated(lambda: api.unpause(container))
        except MachineError as error:
            if "is not paused" not in str(error):  # which some engines say as an error of theirs
                raise
