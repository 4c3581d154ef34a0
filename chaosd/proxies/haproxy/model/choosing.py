"""Which server a request is given to, where that goes by more than turns.

Reference: src/lb_fwlc.c, src/lb_chash.c, src/lb_map.c, src/backend.c (assign_server).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import lru_cache
from random import Random

from chaosd.plugins.simulation import below
from chaosd.proxies.haproxy.model.backend import Backend, Balance
from chaosd.proxies.haproxy.model.server import Server
from chaosd.proxies.haproxy.model.versions import HASHES_IDS, TIES_AT_RANDOM, Version

NODES = 16  # of a server in the ring, for each unit of its weight
_NODES_MAX = 4096  # between the keys of two servers
_HASHES = 2**32
_TURNS = 2**20


class Chooser:
    """Gives each request to one of several servers, as `balance` says."""

    def __init__(
        self, backend: Backend, servers: Sequence[Server], version: Version, rng: Random
    ) -> None:
        self._rng, self._servers = rng, servers
        self._places = {server.name: place for place, server in enumerate(servers, 1)}
        self._random_ties = version >= TIES_AT_RANDOM
        self._hashed_ids = HASHES_IDS <= version < TIES_AT_RANDOM
        self._draws = backend.draws
        self._slow = any(server.line.slowstart_ns for server in servers)
        weights = {server.line.weight for server in servers if server.line.weight}
        orders = Balance.TURNS, Balance.FIRST
        # Whether a new request's server depends on nothing but how many there were.
        self._same = len(weights) == 1
        self.goes_by_order = backend.balance in orders and self._same and not self._slow
        self._marks = backend.balance is Balance.LEAST and not self._random_ties
        # Whether these, of which requests were given to one last, get as many each.
        self._even: tuple[Sequence[Server], bool] = ((), True)
        self._choose = {
            Balance.TURNS: self._in_turn,
            Balance.LEAST: self._least,
            Balance.RANDOM: self._at_random,
            Balance.FIRST: self._first,
        }[backend.balance]
        self._ahead = {
            Balance.TURNS: self._turns_ahead,
            Balance.LEAST: self._least_ahead,
            Balance.RANDOM: self._drawn_ahead,
            Balance.FIRST: self._first_ahead,
        }[backend.balance]
        self.begin()

    def begin(self) -> None:
        """Begin (anew)."""
        self._turn = self._uses = 0
        self._credit: dict[str, float] = {}
        self._weights: dict[str, float] = {}  # by which they were chosen last
        self._next: Server | None = None  # already chosen, for the next request

    def start(self) -> None:
        """Begin anywhere in a turn."""
        self._turn = below(self._rng, _TURNS)
        for server in self._servers:
            server.used = -below(self._rng, _TURNS)

    def used(self, server: Server) -> None:
        """It has been given a request, or has ended one."""
        if self._marks:
            self._uses += 1
            server.used = self._uses

    def ahead(
        self, chosen: Sequence[Server], bad: Sequence[int], times_ns: range
    ) -> tuple[int, Mapping[int, int]]:
        """Give the new requests of these instants to servers, until one of these places is next.

        Each is answered at once. Returns how many they are, and which was the first of each place.
        """
        if self._next is not None:
            return 0, {}
        return self._ahead(chosen, bad, times_ns)

    def choose(self, chosen: Sequence[Server], avoid: Server | None, now_ns: int) -> Server:
        """Give a request to one of these. The one that it had is avoided, if there is another."""
        if self._next is None:
            return self._choose(chosen, avoid, now_ns)
        found, self._next = self._next, None
        return found

    def _drawn_ahead(
        self, chosen: Sequence[Server], bad: Sequence[int], times_ns: range
    ) -> tuple[int, Mapping[int, int]]:
        """Where each has to be chosen by itself."""
        firsts: dict[int, int] = {}
        for number, now_ns in enumerate(times_ns):
            server = self._choose(chosen, None, now_ns)
            place = chosen.index(server)
            if place in bad:
                self._next = server
                return number, firsts
            firsts.setdefault(place, number)
        return len(times_ns), firsts

    # --- one after the other ---

    def _is_even(self, chosen: Sequence[Server]) -> bool:
        """Whether these get as many requests each."""
        if self._same:
            return True
        known, even = self._even
        if known is not chosen:
            even = len({server.line.weight for server in chosen}) == 1
            self._even = chosen, even
        return even

    def _in_turn(self, chosen: Sequence[Server], avoid: Server | None, now_ns: int) -> Server:
        """Round robin. The one that a request had is avoided, if there is another."""
        if not self._slow and self._is_even(chosen):
            size = len(chosen)
            self._turn += 1
            if size > 1 and chosen[self._turn % size] is avoid:
                self._turn += 1
            return chosen[self._turn % size]
        weights = [server.weight(now_ns) for server in chosen]
        if min(weights) == max(weights):
            self._turn += 1
            self._weights = dict(zip([s.name for s in chosen], weights, strict=True))
            if len(chosen) > 1 and chosen[self._turn % len(chosen)] is avoid:
                self._turn += 1
            return chosen[self._turn % len(chosen)]
        return self._weighted(chosen, weights, avoid)

    def _turns_ahead(
        self, chosen: Sequence[Server], bad: Sequence[int], times_ns: range
    ) -> tuple[int, Mapping[int, int]]:
        if self._slow or not self._is_even(chosen):
            return self._drawn_ahead(chosen, bad, times_ns)
        first, size = self._turn + 1, len(chosen)
        count = len(times_ns)
        for place in bad:
            if (before := (place - first) % size) < count:
                count = before
        if not count:
            return 0, {}
        self._turn += count
        return count, {(first + number) % size: number for number in range(min(count, size))}

    def _weighted(
        self, chosen: Sequence[Server], weights: Sequence[float], avoid: Server | None
    ) -> Server:
        """By weight. A server that begins with a small share has its turn in the next round."""
        credit, known, total = self._credit, self._weights, sum(weights)
        for server, weight in zip(chosen, weights, strict=True):
            name = server.name
            if known and name not in known and weight < server.line.weight:
                credit[name] = -(1 + self._rng.random()) * total
            elif weight != known.get(name):
                credit[name] = 0.0
            credit[name] = credit.get(name, 0.0) + weight
        self._weights = {s.name: weight for s, weight in zip(chosen, weights, strict=True)}
        best = max(chosen, key=lambda server: (server is not avoid, credit[server.name]))
        credit[best.name] -= total
        return best

    # --- the one that holds the fewest ---

    def _least(self, chosen: Sequence[Server], avoid: Server | None, now_ns: int) -> Server:
        """The one that holds the fewest; of several the one that was used longest ago."""

        def load(server: Server) -> tuple[float, bool, float]:
            held = server.held
            load = (held + 1) / server.weight(now_ns) if held else 0.0
            return load, server is avoid, self._rng.random() if self._random_ties else server.used

        best = min(chosen, key=load)
        if best is avoid and len(chosen) > 1:
            best = min((server for server in chosen if server is not avoid), key=load)
        return best

    def _least_ahead(
        self, chosen: Sequence[Server], bad: Sequence[int], times_ns: range
    ) -> tuple[int, Mapping[int, int]]:
        """Those that hold nothing have their turns."""
        if not self._marks:
            return self._drawn_ahead(chosen, bad, times_ns)
        idle = [place for place, server in enumerate(chosen) if not server.held]
        idle.sort(key=lambda place: chosen[place].used)
        most = len(times_ns) if idle else 0
        count = min([most, *(idle.index(place) for place in bad if place in idle)])
        for number in range(max(0, count - len(idle)), count):
            chosen[idle[number % len(idle)]].used = self._uses + 2 * number + 2  # begun, and ended
        self._uses += 2 * count
        return count, {place: number for number, place in enumerate(idle[:count])}

    # --- by chance, or the first ---

    def _at_random(self, chosen: Sequence[Server], avoid: Server | None, now_ns: int) -> Server:
        """Of some that are drawn the one that holds the fewest for its weight."""
        nodes = tuple(
            [(self._places[s.name], max(1, round(NODES * s.weight(now_ns)))) for s in chosen]
        )
        keys, owners = _ring(nodes, hashed=self._hashed_ids)
        best: Server | None = None
        for _ in range(self._draws):
            at = _nearest(keys, self._rng.getrandbits(32))
            while chosen[owners[at]] is avoid and len(chosen) > 1:
                at = (at + 1) % len(keys)
            server = chosen[owners[at]]
            if best is None or server.held * best.weight(now_ns) <= best.held * server.weight(
                now_ns
            ):
                best = server
        assert best is not None  # noqa: S101 - at least one is drawn
        return best

    def _first(self, chosen: Sequence[Server], avoid: Server | None, now_ns: int) -> Server:
        """The first that is not full."""
        return next((server for server in chosen if server is not avoid), chosen[0])

    def _first_ahead(
        self, chosen: Sequence[Server], bad: Sequence[int], times_ns: range
    ) -> tuple[int, Mapping[int, int]]:
        return (0, {}) if 0 in bad else (len(times_ns), {0: 0})


def _nearest(keys: Sequence[int], drawn: int) -> int:
    """The place of the node that is nearest to this hash."""
    after = bisect_left(keys, drawn) % len(keys)
    before = after - 1
    to_after, to_before = (keys[after] - drawn) % _HASHES, (drawn - keys[before]) % _HASHES
    return before % len(keys) if to_before <= to_after else after


@lru_cache(maxsize=16)  # of 256 servers of weight 100 each is 3 MB
def _ring(nodes: tuple[tuple[int, int], ...], *, hashed: bool) -> tuple[array[int], array[int]]:
    """The keys of all nodes, in order, and whose each is, of servers with these numbers."""
    found: list[tuple[int, int]] = []
    for owner, (number, count) in enumerate(nodes):
        key = _full_hash(number) if hashed else number * _NODES_MAX
        found += ((_full_hash((key + node) % _HASHES), owner) for node in range(count))
    found.sort()
    return array("I", [key for key, _ in found]), array("I", [owner for _, owner in found])


def _full_hash(a: int) -> int:
    """Bob Jenkins' hash of an integer, as HAProxy has it (intops.h)."""
    a = ((a + 0x7ED55D16) + (a << 12)) % _HASHES
    a = ((a ^ 0xC761C23C) ^ (a >> 19)) % _HASHES
    a = ((a + 0x165667B1) + (a << 5)) % _HASHES
    a = ((a + 0xD3A2646C) ^ (a << 9)) % _HASHES
    a = ((a + 0xFD7046C5) + (a << 3)) % _HASHES
    a = ((a ^ 0xB55A4F09) ^ (a >> 16)) % _HASHES
    return a * 3221225473 % _HASHES
