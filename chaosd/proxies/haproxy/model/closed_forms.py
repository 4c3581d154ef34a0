"""The recovery that HAProxy's algorithm gives, in closed form: T0 to the first fresh good answer.

Two questions in turn. *Switch*: when does the server get the new address? That is the first valid
answer after the name has the new IP and the old record is obsolete, so it hangs on the phase of
the polls. *Rejoin*: is the server usable then, or must checks bring it back first? That hangs on
the phase of the checks. The bounds hold for all phases; the mean is over even phases of both.

Symbols, in seconds: T_res `timeout resolve`, Tr `timeout retry`, R `resolve_retries`, I/If/Id
`inter`/`fastinter`/`downinter`, F `fall`, r `rise`, C the duration of a failing check, P = T_res +
one round trip, D published, A listening. Sources: HAProxy's src/resolvers.c, server.c, check.c.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from chaosd.history.cycles import Prediction
from chaosd.plugins.timeline import Meets, Timeline, Unreached
from chaosd.proxies.haproxy.model.moves import Move, recognise
from chaosd.proxies.haproxy.model.resolution import HOLDS
from chaosd.proxies.haproxy.model.settings import Hold, InitState, Settings
from chaosd.proxies.haproxy.model.versions import (
    CHECKS_ASK_AGAIN,
    COUNTS_MILLISECONDS,
    FORGETS_ANSWERS,
    HAS_INIT_STATE,
    OLDEST,
    Version,
    parse_version,
)

# What one poll takes beyond its timer: a round trip to a near nameserver, and HAProxy's clock in
# milliseconds. A check's timer is late by the latter too.
LATE_S_MEAN, LATE_S_MAX = 0.001, 0.002
ARP_RETRY_S, ARP_LATE_S_MAX = 1.0, 0.02  # the kernel's timer runs in its own ticks
PHASES = 64  # of the polls, over which the mean is taken
# A server that is up for less than this may give no fresh request an answer: probes come in turns.
UNSEEN_S = 0.02


class Bounds(NamedTuple):
    lower: float
    upper: float

    def union(self, other: Bounds) -> Bounds:
        return Bounds(min(self.lower, other.lower), max(self.upper, other.upper))


class Switch(NamedTuple):
    """When the address changes in one phase of the polls, and whether from maintenance."""

    at_s: float
    maintenance: bool


def recovery(settings: Settings, version: str | None, timeline: Timeline) -> Prediction | Unreached:
    """Lower, mean and upper bound in seconds after T0, or why the formulas don't reach."""
    if (why := unreached(settings, version)) is not None:
        return why
    move = recognise(timeline, settings.prefers)
    if isinstance(move, Unreached):
        return move
    if move.took_s >= _s(settings.timeout_retry_ns):
        return Unreached.SLOW_NAMESERVER
    predicted = _predict(settings, version, move)
    if predicted is None:
        return Unreached.OBSOLETE_IN_MAINTENANCE
    reachable, published = move.reachable_s, move.published_s
    if reachable is None or reachable <= published:
        return predicted
    return _with_arp(predicted, settings, version, move, reachable - published)


def unreached(settings: Settings, version: str | None) -> Unreached | None:
    """Why no timeline is reached under these settings, or None."""
    if settings.unknown_words:
        return Unreached.UNKNOWN_WORDS
    return Unreached.OLD_VERSION if parse_version(version) < OLDEST else None


def _predict(settings: Settings, version: str | None, move: Move) -> Prediction | None:
    """Predict a move to a host that answers ARP as soon as its name is published.

    None where HAProxy before 2.5 leaves maintenance while `hold obsolete` keeps the old address.
    """
    # A vacant IP refuses on loopback and is a black hole on a bridge: anything in between.
    vacant = (Meets.REFUSE, Meets.BLACKHOLE)
    found = []
    for old_ip in vacant if move.old_ip == Meets.VACANT else (move.old_ip,):
        case = _Case.of(
            settings,
            parse_version(version),
            replace(move, old_ip=old_ip),
        )
        if (prediction := case.predict()) is None:
            return None
        found.append(prediction)
    return Prediction(
        lower_s=min(p.lower_s for p in found),
        mean_s=math.fsum(p.mean_s for p in found) / len(found),
        upper_s=max(p.upper_s for p in found),
    )


def _with_arp(
    predicted: Prediction, settings: Settings, version: str | None, move: Move, nobody_s: float
) -> Prediction:
    """What is added where a host answers ARP so long after its name is published, as on Docker.

    A proxy that switches in between sends its first packet to nobody. The kernel asks for the host
    again after 1 s (neigh/retrans_time_ms), and holds back whatever is sent meanwhile: at worst it
    is as if the app listened no earlier than that, checks that fail until then included.
    """
    reachable, listening = move.published_s + nobody_s, move.listening_s
    met = reachable + ARP_RETRY_S + ARP_LATE_S_MAX
    latest = _predict(settings, version, replace(move, listening_s=max(listening, met)))
    meets_nobody = min(1.0, nobody_s / _s(settings.timeout_resolve_ns))
    stalled = reachable - nobody_s / 2 + ARP_RETRY_S
    more = max(0.0, stalled - max(reachable, listening))
    return Prediction(
        lower_s=predicted.lower_s,
        mean_s=predicted.mean_s + meets_nobody * more,
        upper_s=max(predicted.upper_s, met, latest.upper_s if latest is not None else 0.0),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One move under one set of settings, all in seconds."""

    settings: Settings
    published: float  # D
    listening: float  # A
    missing: float  # when the name began to be missing; infinity if it never was
    hold: Hold  # which hold counts then
    t_res: float
    t_retry: float
    rounds: int
    obsolete: float  # Ho, at least: the old record is obsolete so long after L
    obsolete_most: float  # at most: more where ages are counted in whole seconds
    inter: float
    fast: float
    down: float
    late: float  # what one poll takes beyond its timer, at most
    late_mean: float
    fails: bool  # checks of the old IP fail
    check_s: float  # C
    asks_again: bool  # a failed check may make an extra poll
    forgets: bool
    init_state: InitState
    others: bool  # several servers share the name
    held: float  # until then the old IP refuses, whatever is found there afterwards
    refused: int  # checks that may have been refused by then, at most
    may_ask: bool  # one of those may make an extra poll, too

    @classmethod
    def of(cls, settings: Settings, version: Version, move: Move) -> _Case:
        fails_4 = settings.check and move.old_ip in (Meets.REFUSE, Meets.BLACKHOLE)
        fails_7 = settings.check and move.old_ip == Meets.TARPIT and settings.http_check
        check_ns = 0
        if fails_7:
            check_ns = settings.timeout_check_ns or settings.inter_ns
        elif move.old_ip == Meets.BLACKHOLE:
            check_ns = settings.inter_ns
            if settings.timeout_check_ns:
                check_ns = min(check_ns, settings.timeout_connect_ns)
        least = most = _s(settings.holds.obsolete_ns)
        if version < COUNTS_MILLISECONDS:  # floor(now) > floor(L) + floor(Ho)
            least = math.floor(least)
            most = least + 1.0
        refused = 0
        if settings.check and move.held_s > 0:
            refused = 1 + int(move.held_s / _s(settings.fastinter_ns))
        queries = 1 if settings.prefers == "A" else 2
        return cls(
            settings=settings,
            published=move.published_s,
            listening=move.listening_s,
            missing=math.inf if move.missing_s is None else move.missing_s,
            hold=HOLDS[move.missing],
            t_res=_s(settings.timeout_resolve_ns),
            t_retry=_s(settings.timeout_retry_ns),
            rounds=settings.resolve_retries,
            obsolete=least,
            obsolete_most=most,
            inter=_s(settings.inter_ns),
            fast=_s(settings.fastinter_ns),
            down=_s(settings.downinter_ns),
            late=queries * (LATE_S_MAX + move.took_s),
            late_mean=queries * (LATE_S_MEAN + move.took_s),
            fails=fails_4 or fails_7,
            check_s=_s(check_ns) + (LATE_S_MAX if check_ns else 0.0),
            asks_again=fails_4 and version >= CHECKS_ASK_AGAIN,
            forgets=version >= FORGETS_ANSWERS,
            init_state=(settings.init_state if version >= HAS_INIT_STATE else None) or "up",
            others=bool(move.others),
            held=move.held_s,
            refused=refused,
            may_ask=(fails_4 or refused > 0) and version >= CHECKS_ASK_AGAIN,
        )

    def predict(self) -> Prediction | None:
        if self.missing >= self.published:
            bounds = self._among_others() if self.others else self._rejoin(self._switch())
            switches = [self._switch_at(place) for place in _evenly()]
        else:
            never, always = self._maintenance()
            lives_on = self.obsolete_most > self.published - self.missing
            if not never and lives_on and not self.forgets:
                return None
            bounds = self._through_gap(never=never, always=always)
            switches = [self._switch_in_gap(place) for place in _evenly()]
        mean = math.fsum(self._mean_after(switch) for switch in switches) / len(switches)
        return Prediction(
            lower_s=bounds.lower,
            mean_s=min(max(mean, bounds.lower), bounds.upper),
            upper_s=bounds.upper,
        )

    # --- switch, where the name was never missing ---

    def _switch(self) -> Bounds:
        """T_sw = L + kP with L, the last answer with the old IP, in (D - P, D].

        k = max(1, ⌈Ho / P⌉) polls pass until the old record is obsolete (resolv_check_response).
        Failing checks make more polls, at the first one that is `hold valid` after the last
        resolution (chk_report_conn_err). Those that come too early for `hold obsolete` only move
        the grid: at most P passes after D + Ho.
        """
        period = self.t_res + self.late
        least = max(1, math.ceil(self.obsolete / period))
        most = max(1, math.ceil(self.obsolete_most / self.t_res))
        lower = self.published + (least - 1) * self.t_res
        upper = self.published + most * period + self.late
        if self.may_ask and self._hold_valid < self.t_res:
            lower = self.published + max(0.0, self.obsolete - period)
            upper = max(upper, self.published + self.obsolete + period + self.late)
        if self.asks_again and self._hold_valid < self.t_res:
            obsolete = self.published + self.obsolete
            upper = min(obsolete + period + self.late, self._first_failing_after(obsolete))
        return Bounds(lower, upper)

    def _among_others(self) -> Bounds:
        """A valid answer without an address for this server is maintenance at once, without hold.

        That needs a poll between the old IP's end and D; without one it is a plain switch. In
        maintenance no check fails, so that none asks again.
        """
        latest = self.published + self.obsolete_most + self.t_res + 2 * self.late
        switch = Bounds(self.published, max(self._switch().upper, latest))
        return self._rejoin(switch).union(self._rejoin_from_maintenance(switch))

    def _first_failing_after(self, at: float) -> float:
        """The latest first failing check that may ask, if the last resolution was before `at`."""
        first = self.inter + self.check_s + LATE_S_MAX
        spacing = max(self.fast, self.down) + self.check_s + LATE_S_MAX
        return max(at + self.late + self._hold_valid, first) + spacing + self.late

    def _switch_at(self, phase: float) -> Switch:
        period = self.t_res + self.late_mean
        polls = max(1, math.ceil((self.obsolete + self.obsolete_most) / 2 / period))
        at = self.published + (polls - 1 + phase) * period + self.late_mean
        if self.asks_again and self._hold_valid < self.t_res:
            spacing = self.down + self.check_s
            polling = min(period, spacing * max(1, math.ceil(self._hold_valid / spacing)))
            start = max(self.published + self.obsolete, self.inter / 2 + self.check_s)
            at = min(at, start + phase * polling + self.late_mean)
        return Switch(at, maintenance=False)

    # --- switch, where the name was missing for a while ---

    @property
    def _hold_valid(self) -> float:
        return _s(self.settings.holds.valid_ns)

    @property
    def _hold(self) -> float:
        return _s(self.settings.holds.after_ns(self.hold))

    @property
    def _silence(self) -> float:
        """What the last round of a resolution costs: an unanswered one has to be waited for."""
        return self.t_retry if self.hold == Hold.TIMEOUT else 0.0

    def _maintenance(self) -> tuple[bool, bool]:
        """Whether the server surely never, or surely always, goes into maintenance in the gap.

        It does at the first end of a resolution e_k = L + k (T_res + (R - 1) Tr [+ Tr if silent])
        that is `hold` after L, the last valid answer in (s - P, s] (snr_update_srv_status); and
        only if the last query of that resolution came before D. Its second query, for the other
        family, may come after D: that finds nothing, and `hold other` counts.
        """
        hold = self._hold
        other = _s(self.settings.holds.other_ns)
        least_hold = hold if self._silence else min(hold, other)
        short = self.t_res + (self.rounds - 1) * self.t_retry + self._silence
        long = short + 2 * self.late * self.rounds
        before = self.missing - self.t_res - self.late
        after = self.missing + self.late
        soonest = before + max(1, math.ceil(least_hold / long)) * short
        latest = after + max(1, math.ceil(hold / short)) * long
        if self.may_ask:  # after an error at once, whatever `hold valid` says
            soonest = max(self.missing + short - self.t_res, before + least_hold)
            latest = after + hold + long
        asked_before = self.published + self._silence
        return soonest >= asked_before + 2 * self.late, latest < asked_before

    def _gap_bounds(self) -> Bounds:
        """T_sw is the first query after D: (R - 1) pauses of Tr, then one of T_res [+ Tr]."""
        pause = max(self.t_retry if self.rounds > 1 else 0.0, self.t_res + self._silence)
        return Bounds(self.published, self.published + pause + 3 * self.late)

    def _through_gap(self, *, never: bool, always: bool) -> Bounds:
        answered = self._gap_bounds()
        # Without maintenance, the old record has to become obsolete first, counted from L.
        period = self.t_res + self.late
        alive = Bounds(
            max(answered.lower, self.missing - period + self.obsolete),
            max(answered.upper, self.missing + self.obsolete_most + period + self.late),
        )
        if never:
            return self._rejoin(alive if self.obsolete_most else answered)
        woken = self._rejoin_from_maintenance(answered)
        if always:
            return woken
        return woken.union(self._rejoin(alive if self.obsolete_most else answered))

    def _switch_in_gap(self, phase: float) -> Switch:
        """Walk through the queries of one phase, whole resolutions at a time."""
        late = self.late_mean
        period = self.t_res + late
        first = self.missing + phase * period
        last_valid = first - period
        cycle = (self.rounds - 1) * (self.t_retry + late) + self.t_res + late + self._silence
        at = first
        if first < self.published:
            whole, rest = divmod(self.published - first, cycle)
            tries = math.ceil(rest / (self.t_retry + late))
            step = tries * (self.t_retry + late) if tries < self.rounds else cycle
            at = first + whole * cycle + step
        end = last_valid + max(1, math.ceil(self._hold / cycle)) * cycle
        maintenance = end - self._silence < self.published
        if self.obsolete_most and not maintenance:
            obsolete = last_valid + (self.obsolete + self.obsolete_most) / 2
            at += max(0, math.ceil((obsolete - at) / period)) * period
        return Switch(at + late, maintenance)

    # --- rejoin ---

    @property
    def _rise(self) -> float:
        """From the first passed check to UP: r - 1 more, `fastinter` apart (srv_getinter)."""
        return (self.settings.rise - 1) * self.fast

    def _rejoin(self, switch: Bounds) -> Bounds:
        """T_rec = M = max(T_sw, A) if the server is UP then, else M + ε + (r - 1) If.

        ε, the time to the next check that meets the new instance, is in [0, Id + C]: a check that
        is under way at M may still wait for the old IP. DOWN takes F failed checks:
        t_down = U(0, I) + C + (F - 1)(If + C) from the first instant of failing on. Checks that
        are refused before the old IP is held take no time: t_down is sooner by C for each. A check
        that began at the old IP may also take the server DOWN after M; if that is so soon that no
        fresh request was answered before, it is as if it had been DOWN at M.
        """
        lower, upper = max(switch.lower, self.listening), max(switch.upper, self.listening)
        if not self.settings.check:
            return Bounds(max(0.0, lower), max(0.0, upper))
        least, most = self._exposure(switch)
        rise = self.settings.rise
        # A new instance that is not listening yet refuses, which takes no time.
        quick = 0.0 if self.listening > switch.lower else self.check_s
        fall = self.settings.fall
        soonest = max(0, fall - self.refused) * quick + (fall - 1) * self.fast
        after_down = self.down + self._rise + (rise + 1) * LATE_S_MAX
        if most > soonest + self.down:  # one more check may meet the old IP
            after_down += self.check_s
        latest = self.inter + fall * (self.check_s + LATE_S_MAX) + (fall - 1) * self.fast
        if least > latest:
            lower += self._rise
        unseen = UNSEEN_S if self.fails and self.check_s else 0.0
        if most + unseen > soonest:
            upper += after_down
        if not self.fails and self.refused >= fall:  # DOWN before the old IP was held
            upper = max(upper, self.held + after_down)
        return Bounds(max(0.0, lower), max(0.0, upper))

    def _exposure(self, switch: Bounds) -> Bounds:
        """For how long checks have been failing at M = max(T_sw, A)."""
        if self.fails and switch.lower > 0:
            return Bounds(max(switch.lower, self.listening), max(switch.upper, self.listening))
        least = max(0.0, self.listening - switch.upper)
        most = max(0.0, self.listening - switch.lower)
        if self.fails:
            most = max(most, switch.upper)
        # One that was refused before the old IP was held, and the next met the new IP: in a row.
        next_s = self.held + self.fast + LATE_S_MAX
        if self.refused and self.listening > switch.lower and next_s >= switch.lower:
            most = max(most, self.listening)
        return Bounds(0.0 if self.fails else least, most)

    def _rejoin_from_maintenance(self, switch: Bounds) -> Bounds:
        """Leaving maintenance makes the server UP without a check, one failure from DOWN.

        `init-state` changes that (3.1): `down` wants one passed check, `fully-down` all of them;
        the check goes on in the rhythm of `inter` that it had in maintenance, or, if that was
        short, at the time that was set before it.
        """
        lower, upper = max(switch.lower, self.listening), max(switch.upper, self.listening)
        if not self.settings.check:
            return Bounds(lower, upper)
        settings = self.settings
        late = (settings.rise + 1) * LATE_S_MAX
        listens = self.listening <= switch.lower
        # A check that is under way may come to its end at the old IP after maintenance is left.
        pause = max(self.inter, self.fast, self.down) + self.check_s + LATE_S_MAX
        if self.init_state == "fully-down":
            return Bounds(lower + self._rise, upper + pause + self._rise + late)
        after_down = self.down + self.check_s + self._rise + late
        if self.init_state == "down":
            quick = listens and not self.check_s
            return Bounds(lower, upper + (pause if quick else max(pause, after_down)))
        if listens:
            return Bounds(lower, upper)
        fall = settings.fall if self.init_state == "fully-up" else 1
        if self.listening > switch.upper + pause + (fall - 1) * self.fast + fall * LATE_S_MAX:
            lower += self._rise
        return Bounds(lower, max(upper, self.listening + after_down))

    def _mean_after(self, switch: Switch) -> float:
        """The mean over the phases of the checks, for one phase of the polls."""
        settings = self.settings
        meet = max(switch.at_s, self.listening, 0.0)
        if not settings.check:
            return meet
        if switch.maintenance and self.init_state in ("down", "fully-down"):
            listens = self.listening <= switch.at_s
            wait = (self.inter if listens else self.down) / 2
            rise = 0.0 if listens and self.init_state == "down" else self._rise
            return meet + wait + rise
        if switch.maintenance:
            failing = self.listening - switch.at_s
            soonest = (settings.fall - 1) * self.fast if self.init_state == "fully-up" else 0.0
            check_s = 0.0
        else:
            old = self.fails and switch.at_s > 0
            failing = meet if old else self.listening - switch.at_s
            check_s = self.check_s if old else 0.0
            soonest = settings.fall * check_s + (settings.fall - 1) * self.fast
        is_down = min(max((failing - soonest) / self.inter, 0.0), 1.0)
        return meet + is_down * ((self.down + check_s) / 2 + self._rise)


def _s(ns: int) -> float:
    return ns / 1e9


def _evenly() -> list[float]:
    return [(place + 0.5) / PHASES for place in range(PHASES)]
