"""The words for causes, doubts and remarks: values in, sentences out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from chaosd.analysis.compare import Reason, ReasonKind
from chaosd.analysis.precision import Shortfall, ShortfallKind
from chaosd.analysis.remarks import Remark, RemarkKind
from chaosd.analysis.slo import FAIL, OK, Objective, Why, WhyKind
from chaosd.analysis.summary import Report
from chaosd.history.causes import Cause, CauseKind, Doubt, DoubtKind, LagKind
from chaosd.history.cycles import Cycle, Prediction
from chaosd.history.endings import Ending, EndKind
from chaosd.history.flight_record import Suspicion
from chaosd.plugins.timeline import Unreached


def cause(found: Cause) -> str:
    """Why a cycle is no sample."""
    match found.kind:
        case CauseKind.STOPPED:
            return "chaosd was stopped in the middle of it"
        case CauseKind.RUN_FAILED:
            return "the run ended with an error in the middle of it"
        case CauseKind.NOT_STEADY:
            what = "the app did not answer steadily before it"
            return f"{what} ({found.detail})" if found.detail else what
        case CauseKind.NEVER_BEGAN:
            return "it never began"
        case CauseKind.NOT_FRESH:
            return f"{found.detail} is not a fresh IP: it was in use lately"
        case CauseKind.NOT_UNDONE:
            return f"it could not be undone: {found.detail}"
        case CauseKind.TOO_LONG:
            return f"the fault took more than {found.seconds or 0.0:.0f} s"
        case CauseKind.NO_BEGINNING:
            return "the fault never said when it began"
        case CauseKind.NO_SAMPLES:
            return "the prober delivers nothing any more"
        case CauseKind.ENTRY_SHARED:
            other = "a process that is not this run's"
            return f"{other} listens at {found.detail}, the proxy's address, and may have answered"
        case CauseKind.ENGINE_AWAY:
            return "the Docker engine went away"
        case CauseKind.ENGINE_RESTARTED:
            return "the Docker engine was restarted"
        case CauseKind.MACHINE | CauseKind.BUG:
            return found.detail
        case CauseKind.NOT_SETTLED:
            return f"cycle {found.cycle} had not settled"
        case CauseKind.MACHINE_LATE:
            return "this machine is short of CPU: fewer cycles are made"
        case CauseKind.TIME_PASSED:
            return f"its time had passed by {found.seconds or 0.0:.3f} s"


PROXIES = {"haproxy": "HAProxy", "nginx": "nginx"}  # as people write them


def doubt(found: Doubt, proxy: str = "") -> str:
    """Why a cycle is poor. `proxy` is the type of the one that is tested."""
    match found.kind:
        case DoubtKind.NO_PROBES:
            return "no probe was sent"
        case DoubtKind.PROBES_DROPPED:
            return f"{found.count} of {found.total} probes could not be sent in time"
        case DoubtKind.PROBES_LATE:
            late_ms = (found.seconds or 0.0) * 1e3
            return f"probes were sent late (1 % by more than {late_ms:.1f} ms)"
        case DoubtKind.WORLD_LATE:
            return _lag(found, PROXIES.get(proxy, "the proxy"))


def _lag(found: Doubt, proxy: str) -> str:
    """What was late in the world, and by how much."""
    seconds, count = f"{found.seconds or 0.0:.3g} s", f"{found.count or 0:,}"
    match found.lag:
        case LagKind.PROXY_STOPPED:
            return f"{proxy} was stopped for {seconds}"
        case LagKind.APP_STOPPED:
            return f"the app was stopped for {seconds}"
        case LagKind.DNS_STOPPED:
            return f"the DNS server was stopped for {seconds}"
        case LagKind.ENTRY_STOPPED:
            return f"docker-proxy, which publishes the proxy's port, was stopped for {seconds}"
        case LagKind.DAEMON_STOPPED:
            return f"chaosd stood still for {seconds} (it, or the machine, was stopped)"
        case LagKind.ENGINE_SILENT:
            return f"the Docker engine did not answer for {seconds}"
        case LagKind.CONNTRACK_FULL:
            return f"the machine dropped {count} packets: its connection-tracking table is full"
        case LagKind.UDP_DROPPED:
            return f"the machine dropped {count} datagrams: a receive buffer was full"
        case LagKind.LISTEN_DROPPED:
            return f"the machine dropped {count} new connections: a listening queue was full"
        case LagKind.PROXY_WAITED:
            return f"{proxy} waited {seconds} for a CPU"
        case LagKind.APP_WAITED:
            return f"the app waited {seconds} for a CPU"
        case LagKind.DNS_WAITED:
            return f"the DNS server waited {seconds} for a CPU"
        case LagKind.ENTRY_WAITED:
            return f"docker-proxy, which publishes the proxy's port, waited {seconds} for a CPU"
        case LagKind.APP_START_WAITED:
            return f"the app waited {seconds} for a CPU until it listened"
        case LagKind.DAEMON_WAITED:
            return f"chaosd waited {seconds} for a CPU"
        case LagKind.DAEMON_BUSY:
            return f"chaosd was busy with other work for {seconds}"
        case LagKind.DNS_UNREAD:
            return f"a DNS question lay unread for {seconds}"
        case LagKind.LOG_UNREAD:
            return f"a line of the proxy's log lay unread for {seconds}"
        case LagKind.DEED_LATE:
            return f"a deed of chaosd's was {seconds} late"
        case LagKind.PROXY_SILENT:
            return f"{proxy} did not answer its API for {seconds}, and did not compute either"
        case None:
            return "the world was late"


def reason(cycle: Cycle) -> str | None:
    """Why a cycle is no sample, or poor; None if it is neither."""
    if cycle.cause is not None:
        lost = ", without a recovery" if cycle.cut_off else ""
        return cause(cycle.cause) + lost
    return None if cycle.doubt is None else doubt(cycle.doubt, cycle.proxy)


def ending(found: Ending) -> str:
    """How a run ended."""
    match found.kind:
        case EndKind.DONE:
            return "done"
        case EndKind.STOPPED:
            return "stopped before it was done"
        case EndKind.FAILED:
            return f"failed: {found.detail}"
        case EndKind.BUG:
            return "failed: a bug of chaosd"


def suspicion(found: Suspicion) -> str:
    """Why a cycle has a flight record."""
    return {
        Suspicion.NOT_RECOVERED: "not recovered within the limit",
        Suspicion.ANOMALY: "outside of the predicted band",
        Suspicion.MISROUTED: "requests answered by somebody else",
        Suspicion.REQUESTS: "more or fewer requests lost than predicted",
    }[found]


def shortfall(found: Shortfall) -> str:
    """Why `until.precision` was not reached."""
    match found.kind:
        case ShortfallKind.FAILOVERS:
            return f"{found.count} more failovers are needed until all of it can be judged"
        case ShortfallKind.NO_INTERVAL:
            return "p95 is not known"
        case ShortfallKind.WIDE:
            return f"p95 is known to ± {found.share:.1%} only"


# --- objectives ----------------------------------------------------------------------------------


def objective(found: Objective) -> str:
    """Why an objective is not kept; empty if it is."""
    why = "" if found.why is None else _why(found.why)
    if found.seems is None:
        return why
    seems = {OK: "seems kept", FAIL: "seems broken"}.get(found.seems, why)
    return f"{seems}; the measurement is too poor to tell"


def _why(why: Why) -> str:
    count, total = why.count or 0, why.total or 0
    return {
        WhyKind.ABOVE: "all of its interval is above the target",
        WhyKind.BELOW: "all of its interval is below the target",
        WhyKind.SOME: f"{count:,} of {total:,} where none should be",
        WhyKind.TOO_FEW: f"too few cycles: {count} of {total}",
        WhyKind.BOUND_NEEDS: f"its upper bound takes {total} cycles",
        WhyKind.NO_BOUND: "its upper bound is not known",
        WhyKind.WITHIN_BAR: "the target is within its error bar (a higher probe rate would tell)",
        WhyKind.WITHIN_INTERVAL: "the target is within its interval (more cycles would tell)",
        WhyKind.NOTHING_COUNTED: "nothing was counted",
        WhyKind.FEW_CLUSTERS: "its interval takes two cycles",
        WhyKind.NOTHING_BAD: f"nothing bad was seen, but it takes {total} cycles to be sure",
    }[why.kind]


def reasons(report: Report) -> list[str]:
    """Why the verdict is not ok; empty if it is."""
    if report.doubts:
        return doubts(report)
    return [f"{o.name}: {objective(o)}" for o in report.objectives if o.result != OK]


# --- predictions ---------------------------------------------------------------------------------


def unreached(found: Unreached) -> str:
    """Why there is no prediction."""
    return {
        Unreached.UNREAD_SETTINGS: "the settings of your own file are not understood",
        Unreached.LEFT_OUT: "what is not in the model decides when the new instance answers (the "
        "lines with `not in it` say what that is)",
        Unreached.OTHER_SERVERS: "other servers stand beside the app, and what they answer is not "
        "known (chaosd run --haproxy FILE plays them)",
        Unreached.LOOKED_UP_ONCE: "a name without `resolvers` is looked up once, at start, and "
        "never again: there is no recovery until a reload",
        Unreached.UNKNOWN_WORDS: "the model does not know what proxy.server.extra does",
        Unreached.OLD_VERSION: "before HAProxy 2.1 the resolver worked differently",
        Unreached.OBSOLETE_IN_MAINTENANCE: "before HAProxy 2.5, a server that leaves "
        "maintenance while `hold obsolete` lasts may take its old address again",
        Unreached.SLOW_NAMESERVER: "the nameserver takes longer for an answer than `timeout retry`",
        Unreached.NO_NEW_ADDRESS: "the name never answers a new address",
        Unreached.NOT_LISTENING: "nobody listens at the new address",
        Unreached.NO_RECOVERY: "there is no recovery in any reasonable time",
        Unreached.SEVERAL_NAMESERVERS: "the model knows one nameserver only",
        Unreached.PROXY_CHANGES: "the model does not know a proxy that is reloaded or restarted",
        Unreached.OTHER_TIMELINE: "the model knows only a move of one instance to a new address",
        Unreached.CACHE: "the model knows no cache between the proxy and its nameserver",
        Unreached.OTHER_ANSWERS: "the model does not know what the proxy makes of these answers",
    }[found]


def foretold(found: Prediction) -> str:
    """What users are predicted to see where nothing moves."""
    share = found.unaffected_share or 0.0
    if share == 1:
        return "users unaffected"
    lost = found.failed_s or {}
    outage = f"an outage of {lost.get('lower', 0.0):.2f} s to {lost.get('upper', 0.0):.2f} s"
    ends = f"over {found.lower_s:.2f} s to {found.upper_s:.2f} s after T0"
    return f"{outage}, {ends}" + (f" (none in {share:.0%} of cycles)" if share else "")


# --- two runs compared ---------------------------------------------------------------------------


def comparison(found: Reason) -> str:
    """Why two runs compare as they do."""
    match found.kind:
        case ReasonKind.DOUBT:
            return f"{found.side}: {found.detail}"
        case ReasonKind.NUMBER:
            return str(found.number)
        case ReasonKind.COARSE:
            return (
                f"{found.number} is known to {found.seconds:.3f} s by the probes, too coarsely: a "
                "higher rate would tell"
            )
        case ReasonKind.MISSING:
            return (
                f"{found.side} does not say how many seconds of requests were {found.number} "
                "(`chaosd report RUN_DIR` makes a report of an earlier chaosd anew)"
            )
        case ReasonKind.WIDE:
            return (
                f"{found.number} may differ by more than {found.share:.0%}: more cycles would tell"
            )


# --- a run as a whole ----------------------------------------------------------------------------

LIKE_MAX = 3  # of many that are alike, this many are named
ALIKE_REST_MIN = 0.01  # of what is not alike in recoveries: beyond, all of them are one


def count_cycles(count: int | None) -> str:
    return f"{count} cycle{'' if count == 1 else 's'}"


def doubts(report: Report) -> list[str]:
    """Why the measurement says nothing; where there are several arms, which one's."""
    return remarks(report.doubts)


def notes(report: Report) -> list[str]:
    """What else has to be known; where there are several arms, of which one."""
    return remarks(report.notes)


def remark(found: Remark) -> str:
    """A doubt or a note, as a sentence."""
    return remarks([found])[0]


def remarks(found: Iterable[Remark]) -> list[str]:
    """Sentences: what is so in many cells is said once, with their number.

    So is what differs from cell to cell in its numbers only.
    """
    by_kind: dict[tuple[str, RemarkKind, bool], dict[str, list[str]]] = {}
    for each in found:
        arm = "" if each.arm is None else f"{each.arm}: "
        cells = by_kind.setdefault((arm, each.kind, each.cell is None), {})
        cells.setdefault(_without_cell(each), []).extend([] if each.cell is None else [each.cell])
    return [arm + text for (arm, *_), alike in by_kind.items() for text in _shortened(alike)]


def _shortened(cells: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Sentences of one kind, by the cells of which each is true."""
    of_run = not any(cells.values())  # each of these is said
    shown = len(cells) if of_run or len(cells) <= LIKE_MAX + 1 else LIKE_MAX
    for text, some in list(cells.items())[:shown]:
        yield _in_cells(text, some)
    if left := sum(map(len, list(cells.values())[shown:])):
        yield f"{left} more cells: the like, with other numbers"


def _in_cells(text: str, cells: Sequence[str]) -> str:
    if len(cells) <= 1:
        return f"cell {cells[0]}: {text}" if cells else text
    some = ", ".join(cells[:LIKE_MAX])
    others = f" and {len(cells) - LIKE_MAX} more" if len(cells) > LIKE_MAX else ""
    return f"{len(cells)} cells ({some}{others}): {text}"


def _without_cell(found: Remark) -> str:
    """The sentence without its cell."""
    of_fault = found.cell is not None and found.fault is not None
    return (f"fault {found.fault}: " if of_fault else "") + _remark(found)


def _remark(found: Remark) -> str:
    count, total, seconds = found.count or 0, found.total or 0, found.seconds or 0.0
    cycles, of_cycles = count_cycles(count), f"{count} of {count_cycles(total)}"
    match found.kind:
        case RemarkKind.RUN_FAILED:
            return f"the run ended with an error: {found.detail}"
        case RemarkKind.RUN_BUG:
            return "the run ended with an error: a bug of chaosd"
        case RemarkKind.NO_CYCLE:
            return "no valid cycle"
        case RemarkKind.POOR:
            return f"{of_cycles} poor (at most 5 % may be)"
        case RemarkKind.INVALID_CYCLES:
            return f"{of_cycles} invalid (at most 5 % may be)"
        case RemarkKind.SILENT_CONTROLS:
            return f"{of_cycles} of control without a good answer"
        case RemarkKind.SILENT_RESTARTS:
            return f"{of_cycles} at the same address without a recovery"
        case RemarkKind.LOST_SAMPLES:
            return f"samples are lost: {count:,} are stored, and its cycles are made of {total:,}"
        case RemarkKind.CONTRADICTING:
            return (
                f"the numbers of {cycles} contradict each other (was cycles.jsonl edited? "
                "it is not believed)"
            )
        case RemarkKind.LOST_EVENTS:
            return f"events are lost: the end of cycle {count} is not among them"
        case RemarkKind.NOT_ENDED:
            return "the run has not ended by itself: this is what was stored until now"
        case RemarkKind.MISROUTED:
            return f"{count:,} requests were answered by another app (misrouted)"
        case RemarkKind.ANOMALIES:
            return f"{cycles} outside of the predicted band: anomalies"
        case RemarkKind.SURPRISING:
            return f"{cycles} lost more or fewer requests than predicted"
        case RemarkKind.INVALID:
            return f"{cycles} invalid: not counted in any number"
        case RemarkKind.POOR_CYCLES:
            return f"{cycles} poor: not counted in any number"
        case RemarkKind.FEWER_CELLS:
            return (
                f"{count} of {total} cells were started: for more this machine lacks {found.detail}"
            )
        case RemarkKind.IN_TURNS:
            return f"not all arms ran side by side: for that this machine lacks {found.detail}"
        case RemarkKind.CUT_OFF:
            longest = ", the longest" if count > 1 else ""
            lasted = f"{longest} after {seconds:.1f} s without a recovery"
            return f"{cycles} cut off{lasted}: the quantiles count them as longer than that"
        case RemarkKind.STOPPED:
            return f"{cycles} cut off: not counted in any number"
        case RemarkKind.EARLY:
            return (
                f"{cycles} recovered by a retried request, up to {seconds:.3f} s before fresh "
                "requests got through: predictions are for fresh requests"
            )
        case RemarkKind.UNAFFECTED:
            return f"unaffected in {of_cycles}: no request failed, counted as a recovery of 0 s"
        case RemarkKind.EASED:
            return f"{cycles} left out, because this machine was short of CPU"
        case RemarkKind.SKIPPED:
            return f"{cycles} skipped: the cycle before had not settled"
        case _:
            return _remark_of_numbers(found)


def _remark_of_numbers(found: Remark) -> str:
    count, total, seconds = found.count or 0, found.total or 0, found.seconds or 0.0
    match found.kind:
        case RemarkKind.DISAGREEING:
            return (
                f"{count_cycles(count)} of {total} had good answers between bad ones: measured "
                "from first to last failure, the outage is longer than by its lost probes (by "
                f"{seconds:.3f} s at most)"
            )
        case RemarkKind.ALIKE:
            # The variance of a mean of such values is so many times that of independent ones.
            alike = found.value or 0.0
            wider = math.sqrt((1 + alike) / max(1 - alike, ALIKE_REST_MIN))
            return (
                f"{found.fault}: successive recoveries are alike (serial correlation {alike:.2f}): "
                f"intervals should be about {wider:.1f} times as wide, or the run longer"
            )
        case RemarkKind.ALARMED_CONTROLS:
            names = {"dropped": "not sent"}
            counts = ", ".join(
                f"{number:,} {names.get(kind, kind)}" for kind, number in found.parts
            )
            return (
                f"{count} of {count_cycles(total)} of control had {counts} of {found.samples:,} "
                "requests, though nothing was taken away: the fault does not explain that many"
            )
        case RemarkKind.MISROUTED_RESTARTS:
            return (
                f"{count:,} requests were answered by another app (misrouted) in "
                f"{count_cycles(total)} in which nobody else had its address"
            )
        case RemarkKind.LOG_REFUSED:
            lines = f"{count:,} log line{'' if count == 1 else 's'} came from another sender"
            return (
                f"{lines} than the proxy ({found.detail}) and {'was' if count == 1 else 'were'} "
                "not believed"
            )
        case RemarkKind.STRANGERS:
            return (
                f"{count:,} question{'' if count == 1 else 's'} to chaosd's DNS came from another "
                f"sender than the proxy ({found.detail}) and {'is' if count == 1 else 'are'} in no "
                "number"
            )
        case RemarkKind.WITHIN_FLOOR:
            return (
                f"the median recovery is no longer than control cycles take (up to {seconds:.3f} "
                "s): such recoveries can't be told from no disturbance"
            )
        case _:
            return str(found.kind)
