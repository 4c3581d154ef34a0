"""What users see of one trial: of the requests that begin in it, which fail, and which come late.

Theory of operation. A trial leaves a history: from which instant on which servers are usable, at
which address. It is cut where a server or an address changes. Requests that begin in one piece and
find a good server are answered at once. One that is given to a server that does not answer is
walked through: attempts, pauses, retries, in the history as it goes on. Its fate depends on when it
began only through what comes later, so that a few walks stand for all requests of a piece; those
of servers that are chosen in turn are parts of a request. Nothing is drawn by chance.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

from chaosd.plugins.simulation import NEVER_NS
from chaosd.plugins.timeline import Clients, Meets
from chaosd.proxies.haproxy.model.backend import PATIENCE_S, SLOW_S, Backend
from chaosd.proxies.haproxy.model.requests import (
    attempt_ns,
    candidates,
    redispatches,
)
from chaosd.proxies.haproxy.model.server import SECOND_NS, Server
from chaosd.proxies.haproxy.model.timeline_world import whole_ns

TRIES_MAX = 1000  # of one request that are walked through; it counts as failed then
WALK_NS, WALKS_MAX = 250_000_000, 12  # how far apart walks of a piece begin, and how many there are
_BISECTIONS = 8
# Clients of whom nothing is known: after so long without an answer nobody waits any more.
PATIENT = Clients(patience_s=PATIENCE_S, slow_after_s=SLOW_S)
_SERVED = frozenset({Meets.LISTENING, Meets.IMPOSTER})
_ENDS = frozenset({Meets.TARPIT, Meets.UNWELL})  # a request that meets these has its answer

# Of each server, in their order: its address if it is usable.
Usable = tuple[str | None, ...]
Look = Callable[[int, str], Meets]


class Choice(NamedTuple):
    """A server that requests are given to."""

    place: int  # among all servers
    ip: str
    share: float  # of the requests


class State(NamedTuple):
    """Which servers are usable, and what that means for requests."""

    usable: Usable
    choices: tuple[Choice, ...]
    others: bool  # several that are no backups


class Fate(NamedTuple):
    """What becomes of requests that were given to one server at one instant, in parts of 1."""

    failed: float
    masked: float
    misrouted: float
    good_ns: int  # when the first good answer comes
    ends_ns: int


class _Stretch(NamedTuple):
    """Requests that have one fate."""

    start_ns: int
    end_ns: int
    fails: bool


class Users:
    """The users of a backend, for all trials of a scene."""

    def __init__(
        self, backend: Backend, servers: Sequence[Server], clients: Clients = PATIENT
    ) -> None:
        self.backend = backend
        self.slow_ns = whole_ns(clients.slow_after_s)
        self.patience_ns = whole_ns(clients.patience_s)
        self.tries_most = min(backend.retries, TRIES_MAX)
        self._servers = servers
        self._places = {server.name: place for place, server in enumerate(servers)}
        self._states: dict[Usable, State] = {}
        self.attempts_ns = {met: attempt_ns(backend, met) for met in Meets}

    def see(
        self,
        history: Sequence[tuple[int, Usable]],
        *,
        meets: Look,
        edges_ns: Sequence[int],
        new: str | None,
        until_ns: int,
    ) -> Seen:
        """Look at the requests that begin from T0 until this instant."""
        states = {at_ns: self._state(usable) for at_ns, usable in history}
        return Seen(self, states, meets=meets, edges_ns=edges_ns, new=new, until_ns=until_ns)

    def _state(self, usable: Usable) -> State:
        if (known := self._states.get(usable)) is not None:
            return known
        up = [
            server
            for server, ip in zip(self._servers, usable, strict=True)
            if ip is not None and server.line.weight
        ]
        chosen = candidates(self.backend, up)
        weights = sum(server.line.weight for server in chosen)
        choices: list[Choice] = []
        for server in chosen:
            place = self._places[server.name]
            choices.append(Choice(place, usable[place] or "", server.line.weight / weights))
        others = sum(not server.line.backup for server in up) > 1
        self._states[usable] = state = State(usable, tuple(choices), others)
        return state

    def walk_ns(self, met: Meets) -> int:
        """How long a request may be under way at most that meets this."""
        took_ns, pause_ns = self.attempts_ns[met]
        return (self.backend.retries + 1) * (took_ns + pause_ns)


class Seen:
    """What users see of one trial; requests in seconds' worth.

    The history is in pieces in which nothing changes. When it is over is found out if asked for.
    """

    def __init__(
        self,
        users: Users,
        states: dict[int, State],
        *,
        meets: Look,
        edges_ns: Sequence[int],
        new: str | None,
        until_ns: int,
    ) -> None:
        self._users, self._backend, self._meets, self._new = users, users.backend, meets, new
        times = sorted({0, *(at for at in (*states, *edges_ns) if 0 < at < until_ns)})
        changes = sorted(states)
        self._starts = times
        self._states = [states[changes[bisect_right(changes, at) - 1]] for at in times]
        self._stretches: list[_Stretch] = []
        self._failed = self._masked = self._misrouted = 0.0
        self._slowest_ns = 0
        ends = [*times[1:], until_ns]
        for start_ns, end_ns, state in zip(times, ends, self._states, strict=True):
            self._piece(start_ns, end_ns, state)
        self.failed_s = self._failed / SECOND_NS
        self.masked_s = self._masked / SECOND_NS
        self.misrouted_s = self._misrouted / SECOND_NS
        self.slowest_s = self._slowest_ns / SECOND_NS

    def _piece(self, start_ns: int, end_ns: int, state: State) -> None:
        if not state.choices:
            self._failed += end_ns - start_ns
            self._stretches.append(_Stretch(start_ns, end_ns, fails=True))
            return
        bad: dict[str, Choice] = {}  # those at one address have one fate
        longest_ns = 0
        misrouted = False
        for choice in state.choices:
            met = self._meets(start_ns, choice.ip)
            if met is Meets.IMPOSTER:
                self._misrouted += choice.share * (end_ns - start_ns)
                misrouted = True
            elif met is not Meets.LISTENING:
                known = bad.get(choice.ip)
                share = choice.share + (known.share if known else 0.0)
                bad[choice.ip] = choice._replace(share=share)
                longest_ns = max(longest_ns, self._users.walk_ns(met))
        if not bad:
            self._stretches.append(_Stretch(start_ns, end_ns, misrouted))
            return
        # Those that end in this piece have one fate; the others are looked at one by one.
        tail_ns = min(longest_ns, end_ns - start_ns)
        if (body_ns := end_ns - start_ns - tail_ns) > 0:
            self._walk(start_ns, start_ns + body_ns, bad.values(), misrouted=misrouted)
        number = min(WALKS_MAX, -(-tail_ns // WALK_NS))
        for place in range(number):
            first_ns = start_ns + body_ns + place * tail_ns // number
            last_ns = start_ns + body_ns + (place + 1) * tail_ns // number
            self._walk(first_ns, last_ns, bad.values(), misrouted=misrouted)

    def _walk(self, start_ns: int, end_ns: int, bad: Iterable[Choice], *, misrouted: bool) -> None:
        fails, worth_ns, middle_ns = misrouted, end_ns - start_ns, (start_ns + end_ns) // 2
        for choice in bad:
            fate = self._fate(middle_ns, choice)
            worth = choice.share * worth_ns
            self._failed += worth * fate.failed
            self._masked += worth * fate.masked
            self._misrouted += worth * fate.misrouted
            fails |= fate.failed > 0 or fate.misrouted > 0
            self._slowest_ns = max(self._slowest_ns, fate.ends_ns - middle_ns)
        self._stretches.append(_Stretch(start_ns, end_ns, fails))

    def _at(self, now_ns: int) -> State:
        return self._states[bisect_right(self._starts, now_ns) - 1]

    def _fate(self, start_ns: int, choice: Choice) -> Fate:
        """Walk requests through that are given to this server now."""
        backend, users, meets = self._backend, self._users, self._meets
        attempts_ns, tries_most = users.attempts_ns, users.tries_most
        stays = not backend.redispatch_every
        now_ns, tries, part = start_ns, 0, 1.0
        failed = masked = misrouted = 0.0
        good_ns = NEVER_NS
        while part > 0:
            met = meets(now_ns, choice.ip)
            if met in _SERVED:
                waited_ns = now_ns - start_ns
                if waited_ns >= users.patience_ns:  # the answer takes a while, too
                    failed += part
                elif met is Meets.IMPOSTER:
                    misrouted += part
                else:
                    masked += part if waited_ns >= users.slow_ns else 0.0
                    good_ns = min(good_ns, now_ns)
                break
            tries += 1
            took_ns, wait_ns = attempts_ns[met]
            now_ns += took_ns
            if met in _ENDS or tries > tries_most:
                failed += part
                break
            if stays:
                now_ns += wait_ns
                continue
            state = self._states[bisect_right(self._starts, now_ns) - 1]
            lost = state.usable[choice.place] is None
            if not redispatches(backend, tries, others=state.others, lost=lost):
                now_ns += wait_ns
                continue
            now_ns += 0 if state.others else wait_ns
            choices = self._at(now_ns).choices
            if not choices:
                failed += part
                break
            # The one that it had is avoided, if there is another.
            rest = [other for other in choices if other.place != choice.place] or choices
            total = sum(other.share for other in rest)
            bad = [o for o in rest if meets(now_ns, o.ip) is not Meets.LISTENING]
            good = part * (1 - sum(other.share for other in bad) / total) if bad else part
            waited_ns = now_ns - start_ns
            if good > 0 and waited_ns < users.patience_ns:
                good_ns = min(good_ns, now_ns)
                masked += good if waited_ns >= users.slow_ns else 0.0
            elif good > 0:
                failed += good
            part -= good
            choice = max(bad, key=_share, default=choice)
        return Fate(failed, masked, misrouted, good_ns, now_ns)

    # --- when it is over ---

    @property
    def recovery_s(self) -> float:
        """When the new instance answers fresh requests; inf: never."""
        new = self._new
        if new is None:
            return self.stable_s
        for at_ns, state in zip(self._starts, self._states, strict=True):
            if new in state.usable and self._meets(at_ns, new) is Meets.LISTENING:
                return at_ns / SECOND_NS
        return float("inf")

    @cached_property
    def stable_s(self) -> float:
        """When the first good answer comes after which nothing fails.

        0: nothing ever failed; inf: never.
        """
        failing = [place for place, stretch in enumerate(self._stretches) if stretch.fails]
        if not failing:
            return 0.0
        if failing[-1] == len(self._stretches) - 1:
            return float("inf")
        last = self._stretches[failing[-1]]
        after = self._stretches[failing[-1] + 1]
        bad_ns, good_ns = (last.start_ns + last.end_ns) // 2, (after.start_ns + after.end_ns) // 2
        if not self._first_answers(last.end_ns)[1]:
            good_ns = last.end_ns
        for _ in range(_BISECTIONS):
            middle_ns = (bad_ns + good_ns) // 2
            if self._first_answers(middle_ns)[1]:
                bad_ns = middle_ns
            else:
                good_ns = middle_ns
        answered_ns = self._first_answers(good_ns)[0]
        place = bisect_right(self._starts, good_ns)
        for start_ns in self._starts[place:]:
            if start_ns >= answered_ns:
                break
            answered_ns = min(answered_ns, self._first_answers(start_ns)[0])
        return answered_ns / SECOND_NS

    def _first_answers(self, now_ns: int) -> tuple[int, bool]:
        """When the first good answer to requests of this instant comes; whether any fails."""
        state = self._at(now_ns)
        answered_ns, fails = NEVER_NS, not state.choices
        for choice in state.choices:
            met = self._meets(now_ns, choice.ip)
            if met is Meets.LISTENING:
                answered_ns = now_ns
                continue
            fate = self._fate(now_ns, choice)
            answered_ns = min(answered_ns, fate.good_ns)
            fails |= fate.failed > 0 or fate.misrouted > 0
        return answered_ns, fails


def _share(choice: Choice) -> float:
    return choice.share
