"""The prober's own process: fires probes on time, whatever else the daemon does.

Commands come as JSON lines on stdin, samples leave as frames (see wire.py) on stdout; the process
ends when stdin closes, so it never outlives its parent. Being a program of its own it asks the
operating system for the time itself.

Every slot of an aimed stream, `origin + n * interval`, yields exactly one sample; of a stream that
idles only each so many-th slot is one. A slot that is
later than one interval and 50 ms (or than its timeout) is not sent but DROPPED. When the parent
does not read, nothing is sent once `BACKLOG_MAX` bytes wait for it; the slots of that time are
DROPPED too, and are told as one run when there is room again.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import resource
import signal
import struct
import sys
import traceback
from collections import deque
from collections.abc import Callable
from time import monotonic_ns
from typing import Any

from chaosd.history.values import Address, Outcome
from chaosd.plugins import find
from chaosd.plugins.probe import Probe
from chaosd.probes.pace import Pace
from chaosd.probes.wire import Writer
from chaosd.system import priority

LATE_MAX_NS = 50_000_000  # or one interval, if that is longer: a hiccup of a busy machine
RUN_MAX = 10_000  # slots in one run, so that neither side stalls over a long one
IN_FLIGHT_MARGIN = 64  # above rate x timeout, which is what a dead target needs
BACKLOG_MAX = 4 << 20  # bytes; about two minutes of 1,000 samples a second
FLUSH_NS = 100_000_000
HURRY_NS = 10_000_000  # the least time between two flushes when outcomes change all the time
GARBAGE_MAX = 10_000  # container objects since the last collection, live ones included
CLOSE_TIMEOUT_S = 1.0

_GOLDEN = 0.6180339887498949  # its multiples never come close to each other
_PR_SET_TIMERSLACK = 29
_TIMERFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1
_CLOCK_MONOTONIC = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Timer:
    """A timerfd in the loop: 50 µs late where the loop's own timers are a millisecond coarse."""

    def __init__(self, ring: Callable[[int], None]) -> None:
        self._ring = ring
        self._fd = _libc.timerfd_create(_CLOCK_MONOTONIC, _TIMERFD_FLAGS)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "no timerfd")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._ready)

    def set(self, first_ns: int, interval_ns: int = 0) -> None:
        """Ring at `first_ns` and each interval after it; never again if it is 0."""
        parts = (*divmod(interval_ns, 10**9), *divmod(first_ns, 10**9))
        if _libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, struct.pack("4l", *parts), None):
            raise OSError(ctypes.get_errno(), "the timerfd can't be set")

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _ready(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:  # it was set anew between the two
            return
        self._ring(monotonic_ns())


class Outbox:
    """Samples on their way to the parent: at once when something changes, else in batches."""

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self.writer = Writer()
        self.streams: dict[int, Stream] = {}
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._flushed_ns = 0
        self._timer = self._loop.call_soon(self.flush)
        self._hurried = False
        self.full = False  # so much waits for the parent that nothing may be added

    def hurry(self) -> None:
        """Something has changed that the parent wants to know."""
        if not self._hurried:
            self._hurried = True
            self._plan(self._flushed_ns + HURRY_NS - monotonic_ns())

    def flush(self) -> None:
        now_ns = monotonic_ns()
        waiting = self._transport.get_write_buffer_size
        if waiting() <= BACKLOG_MAX:
            marks = [(number, s.complete_ns(now_ns)) for number, s in self.streams.items()]
            self._transport.write(self.writer.take(marks))
        self.full = waiting() > BACKLOG_MAX
        self._flushed_ns, self._hurried = now_ns, False
        self._plan(FLUSH_NS)
        # Our own code makes no reference cycles, but libraries of other probes do.
        if gc.get_count()[0] > GARBAGE_MAX:
            gc.collect()

    def close(self) -> None:
        self.flush()
        self._timer.cancel()
        self._transport.close()

    def _plan(self, wait_ns: int) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(max(wait_ns, 0) / 1e9, self.flush)


class Shot:
    """One attempt of a stream; the probe ends it, or its deadline does."""

    __slots__ = ("_stream", "deadline_ns", "ended", "scheduled_ns", "sent_ns")

    def __init__(self, stream: Stream, scheduled_ns: int, deadline_ns: int) -> None:
        self._stream = stream
        self.scheduled_ns = scheduled_ns
        self.deadline_ns = deadline_ns
        self.sent_ns = 0
        self.ended = False

    def sent(self) -> None:
        if not self.sent_ns:
            self.sent_ns = self._stream.now_ns()

    def done(self, outcome: Outcome, status: int = 0, who: str = "") -> None:
        if not self.ended:
            self.ended = True
            self._stream.end(self, outcome, status, who)


class Stream:
    """One row of slots, one probe object, and the shots that are in flight."""

    def __init__(
        self,
        number: int,
        probe: Probe,
        outbox: Outbox,
        *,
        interval_ns: int,
        timeout_ns: int,
        idle_every: int = 1,
        timer: Callable[[Callable[[int], None]], Timer] = Timer,
        now_ns: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._number = number
        self._probe = probe
        self._outbox = outbox
        self._pace = Pace(interval_ns, idle_every)
        self._timeout_ns = timeout_ns
        self._late_max_ns = min(max(interval_ns, LATE_MAX_NS), timeout_ns)
        self._in_flight_max = timeout_ns * 5 // 4 // interval_ns + IN_FLIGHT_MARGIN
        self.now_ns = now_ns
        # Streams of one interval are spread over it, or all would fire at once.
        start_ns = now_ns()
        idle_ns = interval_ns * idle_every
        self._origin_ns = start_ns - start_ns % idle_ns + int(number * _GOLDEN % 1 * idle_ns)
        self._due_ns = self._origin_ns  # the next slot
        self._complete_ns = 0
        self._target: Address | None = None
        self._in_flight: deque[Shot] = deque()  # by scheduled time; ended ones behind the first
        self._last_outcome: Outcome | None = None
        self._last_who = ""
        self._ticks = timer(self.advance)
        self._expiry = timer(self._expire)
        self._expiry_set = False

    def aim(self, target: Address | None, now_ns: int) -> None:
        """Send to `target` from now on, on the same grid as ever; None pauses."""
        if target is None and self._target is not None:
            self.advance(now_ns)  # a slot that is due already is part of what was asked for
            self._skip_until(now_ns + 1, now_ns)
            self._ticks.set(0)
        elif target is not None and self._target is None:
            self._due_ns = max(self._due_ns, self._pace.from_ns(now_ns, self._origin_ns))
            self._ticks.set(self._due_ns, self._pace.interval_ns)
        self._target = target

    def pace(self, now_ns: int, *, dense: bool) -> None:
        """Use all slots from now on, or only some of them."""
        if self._target is not None:
            self.advance(now_ns)  # a slot that is due already is part of what was asked for
            self._skip_until(now_ns + 1, now_ns)
        handled_ns = max(now_ns, self._due_ns - self._pace.interval_ns)
        self._pace.turn(dense=dense)
        self._due_ns = self._pace.from_ns(handled_ns + 1, self._origin_ns)
        if self._target is not None:
            self._ticks.set(self._due_ns, self._pace.interval_ns)

    def advance(self, now_ns: int) -> None:
        """Fire every slot that is due; give up those that are too late to be sent."""
        if self._target is None or self._outbox.full:
            return  # nothing could be told: these slots will be too late when there is room
        oldest_ns = now_ns - self._late_max_ns
        if self._due_ns < oldest_ns:
            self._skip_until(oldest_ns, now_ns, RUN_MAX)
        while oldest_ns <= self._due_ns <= now_ns:
            scheduled_ns = self._due_ns
            self._due_ns += self._pace.interval_ns
            self._fire(scheduled_ns, self._target)

    def end(self, shot: Shot, outcome: Outcome, status: int, who: str) -> None:
        """Store how a shot ended; it ended now."""
        done_ns = self.now_ns()
        in_flight = self._in_flight
        while in_flight and in_flight[0].ended:
            in_flight.popleft()
        if outcome is Outcome.DROPPED:
            sent_ns = done_ns
        else:
            sent_ns = shot.sent_ns or done_ns
            if done_ns > shot.deadline_ns:
                outcome, status, who = Outcome.TIMEOUT, 0, ""
        self._outbox.writer.sample(
            who, self._number, shot.scheduled_ns, sent_ns, done_ns, outcome, status
        )
        if outcome is not self._last_outcome or who != self._last_who:
            self._last_outcome, self._last_who = outcome, who
            self._outbox.hurry()

    def complete_ns(self, now_ns: int) -> int:
        """Every sample scheduled before this instant has been handed to the outbox.

        What was said once holds: a change of pace takes no slot before it into use.
        """
        self._complete_ns = max(self._complete_ns, self._handed_ns(now_ns))
        return self._complete_ns

    def _handed_ns(self, now_ns: int) -> int:
        if self._in_flight:
            return self._in_flight[0].scheduled_ns
        if not self._pace.dense:  # a slot before the next one may come to be used
            return min(self._due_ns, now_ns) if self._target is not None else now_ns
        return self._due_ns if self._target is not None else max(self._due_ns, now_ns)

    async def close(self) -> None:
        """Stop; what is in flight has no sample."""
        self._ticks.close()
        self._expiry.close()
        await self._probe.close()

    def _fire(self, scheduled_ns: int, target: Address) -> None:
        shot = Shot(self, scheduled_ns, scheduled_ns + self._timeout_ns)
        if len(self._in_flight) >= self._in_flight_max:
            shot.done(Outcome.DROPPED)
            return
        self._in_flight.append(shot)
        if not self._expiry_set:
            self._expiry_set = True
            self._expiry.set(shot.deadline_ns)
        self._probe.fire(shot, target)

    def _skip_until(self, until_ns: int, now_ns: int, count_max: int = sys.maxsize) -> None:
        """Every slot before `until_ns` that was not fired is DROPPED."""
        interval_ns = self._pace.interval_ns
        count = min(-(-(until_ns - self._due_ns) // interval_ns), count_max)
        if count > 0:
            for first in range(0, count, RUN_MAX):
                self._outbox.writer.skipped(
                    self._number,
                    self._due_ns + first * interval_ns,
                    interval_ns,
                    min(count - first, RUN_MAX),
                    now_ns,
                )
            self._due_ns += count * interval_ns
            self._last_outcome = None
            self._outbox.hurry()

    def _expire(self, now_ns: int) -> None:
        in_flight = self._in_flight
        while in_flight and in_flight[0].deadline_ns <= now_ns:
            shot = in_flight[0]
            self._probe.abandon(shot)
            # What was never sent says nothing about the target.
            shot.done(Outcome.TIMEOUT if shot.sent_ns else Outcome.DROPPED)
        self._expiry_set = bool(in_flight)
        if in_flight:
            self._expiry.set(in_flight[0].deadline_ns)


class Commands(asyncio.Protocol):
    """The parent's words, and all that they have made."""

    def __init__(self, outbox: Outbox) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outbox = outbox
        self._text = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._text = (self._text + data).split(b"\n")
        for line in lines:
            command = json.loads(line)
            match command.pop("do"):
                case "add":
                    self._add(**command)
                case "aim":
                    self._aim(**command)
                case _:
                    self._pace(**command)

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def broken(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception that nobody expects ends the process: its last line is what is told."""
        error = context.get("exception") or RuntimeError(context["message"])
        if isinstance(error, BrokenPipeError) or self.ended.done():
            self.connection_lost(None)
        else:
            self.ended.set_exception(error)

    def _add(
        self,
        *,
        stream: int,
        probe: str,
        config: dict[str, Any],
        identity_header: str,
        interval_ns: int,
        timeout_ns: int,
        idle_every: int = 1,
    ) -> None:
        plugin = find("probes", probe)
        self._outbox.streams[stream] = Stream(
            stream,
            plugin(plugin.Config.model_validate(config), identity_header),
            self._outbox,
            interval_ns=interval_ns,
            timeout_ns=timeout_ns,
            idle_every=idle_every,
        )
        gc.collect()
        gc.freeze()

    def _aim(self, *, stream: int, target: tuple[str, int] | None) -> None:
        address = Address(*target) if target else None
        self._outbox.streams[stream].aim(address, monotonic_ns())

    def _pace(self, *, stream: int, dense: bool) -> None:
        self._outbox.streams[stream].pace(monotonic_ns(), dense=dense)


class Pipe(asyncio.BaseProtocol):
    """The way out; it is over when nobody reads any more."""

    def __init__(self, lost: Callable[[Exception | None], None]) -> None:
        self._lost = lost

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(exc)


def _raise_descriptors() -> int:
    """Allow as many sockets as may be: a dead target needs rate x timeout of them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


async def _serve(out: int) -> None:
    loop = asyncio.get_running_loop()
    facts = {
        "pid": os.getpid(),
        "loop": type(loop).__module__.partition(".")[0],
        "priority": priority.take(priority.PROBER),
        "descriptors": _raise_descriptors(),
    }
    commands: Commands | None = None

    def lost(error: Exception | None) -> None:
        if commands is not None:
            commands.connection_lost(error)

    transport, _ = await loop.connect_write_pipe(lambda: Pipe(lost), os.fdopen(out, "wb", 0))
    transport.write(Writer.hello(facts))
    outbox = Outbox(transport)
    commands = Commands(outbox)
    loop.set_exception_handler(commands.broken)
    await loop.connect_read_pipe(lambda: commands, os.fdopen(os.dup(0), "rb", 0))
    try:
        await commands.ended
    finally:
        for stream in outbox.streams.values():
            await asyncio.wait_for(stream.close(), CLOSE_TIMEOUT_S)
        outbox.close()


def main() -> None:
    # The parent decides when it is over; a Ctrl-C or a stopping service reaches the whole group.
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    out = os.dup(1)
    os.dup2(2, 1)  # whatever a probe prints must not get between the frames
    _libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    gc.disable()
    try:
        import uvloop
    except ImportError:
        loop = asyncio.new_event_loop
    else:
        loop = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop) as runner:
        try:
            runner.run(_serve(out))
        except Exception:  # noqa: BLE001  # whatever it was, its last line is told by the parent
            traceback.print_exc()
            sys.exit(1)


if __name__ == "__main__":
    main()
