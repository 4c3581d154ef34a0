"""A probe of somebody else's: the connection alone, without a request."""

from __future__ import annotations

import asyncio
from typing import ClassVar, Literal

from chaosd.history.values import Address, Outcome
from chaosd.plugins.bases import ProbeConfig
from chaosd.plugins.probe import Shot


class Banner:
    class Config(ProbeConfig):
        type: Literal["banner"] = "banner"

    identifies: ClassVar[bool] = False

    def __init__(self, config: Config, identity_header: str) -> None:
        self._tasks: dict[Shot, asyncio.Task[None]] = {}

    def fire(self, shot: Shot, target: Address) -> None:
        self._tasks[shot] = asyncio.get_running_loop().create_task(self._ask(shot, target))

    def abandon(self, shot: Shot) -> None:
        if task := self._tasks.pop(shot, None):
            task.cancel()

    async def close(self) -> None:
        for task in list(self._tasks.values()):
            task.cancel()

    async def _ask(self, shot: Shot, target: Address) -> None:
        shot.sent()
        try:
            _, writer = await asyncio.open_connection(*target)
            shot.done(Outcome.OK)
            writer.close()
        except ConnectionRefusedError:
            shot.done(Outcome.REFUSED)
        except OSError:
            shot.done(Outcome.UNREACHABLE)
        finally:
            self._tasks.pop(shot, None)
