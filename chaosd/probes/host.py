"""The parent's side of the prober: starts its process, tells it what to ask, hands samples on."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from typing import Any, cast

from chaosd.errors import MachineError
from chaosd.history.values import Address, StreamSpec
from chaosd.plugins.bases import ProbeConfig
from chaosd.plugins.probe import Deliver
from chaosd.probes.wire import Reader

START_TIMEOUT_S = 30.0  # a busy machine takes seconds to start Python
STOP_TIMEOUT_S = 3.0
SILENCE_CHECK_S = 5.0
SILENCE_CHECKS = 3  # in a row; one alone may be our own pause
STDERR_MAX = 8192  # bytes of its last words
_STDOUT, _STDERR = 1, 2


class ProbeHost(asyncio.SubprocessProtocol):
    """The prober (see plugins.Prober), in a process of its own so that nothing here disturbs it.

    `labels` are environment variables by which the process is found should it be left behind.
    Shots that are in flight when it is closed have no sample: pause a stream and wait for its
    timeout where they matter.
    """

    def __init__(self, labels: dict[str, str]) -> None:
        self._labels = labels
        self._transport: asyncio.SubprocessTransport | None = None
        self._deliver: Deliver | None = None
        self._failed: Callable[[Exception], None] | None = None
        self._reader = Reader()
        self._stderr = b""
        self._started: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._closing = False
        self._heard = False
        self._silences = 0
        self._silence_timer: asyncio.TimerHandle | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What the process said of itself: pid, loop, priority, descriptors."""
        return self._reader.hello or {}

    @property
    def priority(self) -> str:
        """Its turn at the processor: "fifo", "nice" or "normal"; "" before the start."""
        return str(self.facts.get("priority", ""))

    @property
    def pid(self) -> int:
        return int(self.facts.get("pid", 0))

    async def start(self, deliver: Deliver, failed: Callable[[Exception], None]) -> None:
        """Start the process and wait until it is ready. Raises MachineError, having cleaned up."""
        loop = asyncio.get_running_loop()
        self._deliver, self._failed = deliver, failed
        self._started, self._ended = loop.create_future(), loop.create_future()
        # -P: a file in the working directory must not be taken for a module of ours.
        command = (sys.executable, "-P", "-m", "chaosd.probes.worker")
        try:
            await loop.subprocess_exec(
                lambda: self, *command, env=os.environ | self._labels, start_new_session=True
            )
        except OSError as error:
            raise MachineError(f"the prober can't be started: {error}") from error
        try:
            await asyncio.wait_for(self._started, START_TIMEOUT_S)
        except TimeoutError as error:
            raise MachineError(
                f"the prober was not ready within {START_TIMEOUT_S:.0f} s{self._last_words()}"
            ) from error
        finally:
            if not self._reader.hello:
                await self.close()
        self._silence_timer = loop.call_later(SILENCE_CHECK_S, self._check_silence)

    def add(
        self, spec: StreamSpec, probe_type: str, config: ProbeConfig, identity_header: str
    ) -> None:
        self._command(
            do="add",
            stream=spec.stream,
            probe=probe_type,
            config=config.model_dump(mode="json"),
            identity_header=identity_header,
            interval_ns=spec.interval_ns,
            idle_every=spec.idle_every,
            timeout_ns=int(config.timeout),
        )

    def aim(self, stream: int, target: Address | None) -> None:
        self._command(do="aim", stream=stream, target=target)

    def pace(self, stream: int, *, dense: bool) -> None:
        self._command(do="pace", stream=stream, dense=dense)

    async def close(self) -> None:
        """Let the process end, or end it. May be called at any moment, and twice."""
        self._closing = True
        if self._silence_timer is not None:
            self._silence_timer.cancel()
        transport, ended = self._transport, self._ended
        if transport is None or ended is None:
            return
        try:
            if (stdin := transport.get_pipe_transport(0)) is not None:
                stdin.close()
            await asyncio.wait((ended,), timeout=STOP_TIMEOUT_S)
        finally:
            if not ended.done():
                transport.kill()
                await asyncio.wait((ended,), timeout=STOP_TIMEOUT_S)
            transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == _STDERR:
            self._stderr = (self._stderr + data)[-STDERR_MAX:]
            return
        self._heard = True
        try:
            for samples, complete in self._reader.feed(data):
                if (samples or complete) and self._deliver is not None:
                    self._deliver(samples, complete)
        except Exception as error:  # noqa: BLE001  # or the loop would only log it, and samples stop
            self._fail(error)
        if self._reader.hello and self._started is not None and not self._started.done():
            self._started.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The process has ended and all its pipes are read."""
        code = self._transport.get_returncode() if self._transport else None
        self._fail(MachineError(f"the prober died (exit status {code}){self._last_words()}"))
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _command(self, **command: Any) -> None:
        if self._transport is None:
            raise RuntimeError("the prober is not started")
        stdin = cast("asyncio.WriteTransport | None", self._transport.get_pipe_transport(0))
        if stdin is not None and not stdin.is_closing():
            stdin.write(json.dumps(command).encode() + b"\n")

    def _fail(self, error: Exception) -> None:
        """Tell the first failure that nobody has asked for, and only that."""
        if self._closing or self._failed is None:
            return
        self._closing = True
        if self._started is not None and not self._started.done():
            self._started.set_exception(error)
        else:
            self._failed(error)

    def _last_words(self) -> str:
        lines = self._stderr.decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""

    def _check_silence(self) -> None:
        """It speaks ten times a second; a probe that blocks its process would silence it."""
        self._silences = 0 if self._heard else self._silences + 1
        self._heard = False
        if self._silences >= SILENCE_CHECKS:
            silence_s = SILENCE_CHECKS * SILENCE_CHECK_S
            self._fail(MachineError(f"the prober hangs: no word for {silence_s:.0f} s"))
            return
        loop = asyncio.get_running_loop()
        self._silence_timer = loop.call_later(SILENCE_CHECK_S, self._check_silence)
