"""Events and cycles as JSON lines, and back: the stored form and its version.

A line's keys are stable (`kind`, `at_ns`, `cell`, `cycle`, then `verb`, `edge`, `data` of a deed,
or `source`, `what`, `error_ns`, `data` of what was said). Run directories of format 0 said reasons
in words: format_0.py makes values of them. A line of a kind that this
version does not know is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, get_type_hints

from chaosd.history import deeds, disturbances, format_0, strict
from chaosd.history import events as ev
from chaosd.history.causes import Cause, CauseKind, Doubt, DoubtKind, Lag, LagKind
from chaosd.history.cycles import Cycle, CycleKind, CycleOutcome, DisturbanceSpan, Prediction
from chaosd.history.deeds import Deed
from chaosd.history.disturbances import Disturbance
from chaosd.history.events import AnyEvent, Event, Inbox, ServerChange, ServerChanged, Teller

FORMAT = 1  # of run directories as this version writes them

Data = Mapping[str, Any]

# What is said, by the words under which it is stored.
SAID: dict[tuple[str, str], type[Any]] = {
    ("engine", "stream"): ev.StreamOpened,
    ("engine", "paced"): ev.StreamPaced,
    ("engine", "instance"): ev.InstancePlaced,
    ("engine", "begin"): ev.FaultBegan,
    ("engine", "injected"): ev.FaultInjected,
    ("engine", "fault_ended"): ev.FaultEnded,
    ("engine", "disturbance_began"): ev.DisturbanceBegan,
    ("engine", "disturbance_ended"): ev.DisturbanceEnded,
    ("engine", "predicted"): ev.RecoveryPredicted,
    ("engine", "end"): ev.CycleEnded,
    ("engine", "skipped"): ev.CycleSkipped,
    ("engine", "disturbed"): ev.Disturbed,
    ("engine", "due"): ev.DeedDue,
    ("world", "lag"): ev.WorldWatched,
    ("world", "unread"): ev.DatagramUnread,
    ("world", "machine"): ev.MachineRead,
    ("engine", "target"): ev.TargetFound,
    ("app", "listening"): ev.InstanceListening,
    ("app", "reachable"): ev.InstanceReachable,
    ("app", "gone"): ev.InstanceGone,
    ("app", "retired"): ev.InstanceRetired,
    ("dns", "published"): ev.NamePublished,
    ("dns", "withdrawn"): ev.NameWithdrawn,
    ("dns", "known"): ev.NameKnown,
    ("dns", "answer"): ev.NameAnswered,
    ("dns", "queries"): ev.QueriesCounted,
    ("dns", "strangers"): ev.StrangersAsked,
    ("proxy.log", "refused"): ev.LogRefused,
    ("proxy.api", "resolvers"): ev.ResolversRead,
    ("proxy.api", "counted"): ev.ResolversCounted,
    ("proxy.api", "process"): ev.ProxyMeasured,
    ("command", "line"): ev.LinePrinted,
    ("docker", "engine"): ev.EngineFound,
    ("docker", "restored"): ev.ContainersRestored,
}
DEEDS: dict[str, type[Any]] = {
    "set_up": deeds.SetUp,
    "tear_down": deeds.TearDown,
    "start": deeds.StartInstance,
    "stop": deeds.StopInstance,
    "reschedule": deeds.RescheduleInstance,
    "hold": deeds.HoldAddress,
    "release": deeds.ReleaseAddress,
    "fault_dns": deeds.FaultDns,
    "restore_dns": deeds.RestoreDns,
    "switch": deeds.SwitchName,
    "impair": deeds.ImpairInstance,
    "restore": deeds.RestoreInstance,
    "renew_proxy": deeds.RenewProxy,
}
DISTURBANCES: dict[str, type[Any]] = {
    "move": disturbances.InstanceMoves,
    "restart": disturbances.InstanceRestarts,
    "bluegreen": disturbances.InstanceReplaced,
    "impaired": disturbances.InstanceImpaired,
    "scaled": disturbances.AppScaled,
    "rolled": disturbances.AppRolled,
    "proxy_renewed": disturbances.ProxyRenewed,
    "dns": disturbances.DnsAnswersWrongly,
    "program": disturbances.ProgramDisturbs,
}
PROGRAMS = ("inject", "heal")  # the roles of RunProgram are its verbs
EDGES: dict[str, type[Any]] = {"asked": deeds.Asked, "done": deeds.Done, "failed": deeds.Failed}
CONTAINER_ACTIONS = ("die", "oom", "start", "connect", "disconnect")
COUNTS = ("samples", "failed", "masked", "misrouted", "dropped")  # of a cycle
COUNT_MAX = 10**9  # a config lets a cycle have two million
QUANTILE = re.compile(r"p[0-9]{1,3}")
STORED_NAMES = {"probe_type": "type"}  # a field's name in the stored form, where it differs
_SAID_BY = {kind: words for words, kind in SAID.items()}
_WORD_BY = {kind: word for word, kind in DISTURBANCES.items()}
_VERB_BY = {kind: verb for verb, kind in DEEDS.items()}


# --- out -----------------------------------------------------------------------------------------


def encode_event(event: AnyEvent) -> str:
    """One JSON line, keys in a fixed order, so that equal runs are equal bytes."""
    what = event.what
    if isinstance(what, ev.Unknown):
        return _dump(what.line)
    head = {"at_ns": event.at_ns, "cell": event.cell, "cycle": event.cycle}
    if isinstance(what, deeds.Asked | deeds.Done | deeds.Failed):
        edge = next(name for name, kind in EDGES.items() if isinstance(what, kind))
        verb, data = _deed_words(what.deed)
        if isinstance(what, deeds.Failed):
            data = {**data, "error": what.error}
        return _dump({"kind": "action", **head, "verb": verb, "edge": edge, "data": data})
    source, name, data = _words_of(what)
    said = {"source": source, "what": name, "error_ns": event.error_ns, "data": data}
    return _dump({"kind": "reading", **head, **said})


def _deed_words(deed: Deed) -> tuple[str, Data]:
    if isinstance(deed, deeds.OtherDeed):
        return deed.verb, deed.details
    if isinstance(deed, deeds.RunProgram):
        return deed.role, {"program": list(deed.program)}
    return _VERB_BY[type(deed)], _data(deed)


def _words_of(what: Any) -> tuple[str, str, Data]:
    if isinstance(what, ServerChanged):
        told = {"server": what.server, "old": what.old, "new": what.new, "reason": what.reason}
        wanted = ("server", "old", "new") if what.change is ServerChange.ADDRESS else ("server",)
        data = {k: v for k, v in told.items() if k in wanted or v is not None}
        return what.told_by.value, what.change.value, data
    if isinstance(what, ev.ContainerChanged):
        data = _data(what)
        return "docker", what.action, {k: data[k] for k in ("container", "exit") if k in data}
    if isinstance(what, ev.OtherReading):
        return what.source, what.what, what.details
    source, name = _SAID_BY[type(what)]
    if isinstance(what, ev.RecoveryPredicted):
        return source, name, asdict(what.prediction)
    if isinstance(what, ev.DisturbanceBegan | ev.DisturbanceEnded):
        word, details = disturbance_words(what.disturbance)
        return source, name, {"fault": what.fault, "type": word, "data": details}
    return source, name, _data(what)


def disturbance_words(disturbance: Disturbance) -> tuple[str, Data]:
    """The word of its kind, and its fields: the stored form."""
    if isinstance(disturbance, disturbances.OtherDisturbance):
        return disturbance.what, disturbance.details
    return _WORD_BY[type(disturbance)], _data(disturbance)


def _data(what: Any) -> dict[str, Any]:
    """The fields, without those that are optional and not known."""
    optional = {f.name for f in fields(what) if f.default is None}
    return {
        STORED_NAMES.get(key, key): value
        for key, value in asdict(what).items()
        if value is not None or key not in optional
    }


def encode_cycle(cycle: Cycle, reason: str | None = None) -> str:
    """One JSON line. `reason` says in words why the cycle is no sample, or poor: for people."""
    return _dump({**asdict(cycle), "valid_reason": reason})


def _dump(value: Data) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


# --- in ------------------------------------------------------------------------------------------


def decode_event(line: str) -> AnyEvent:
    """The event of one line of events.jsonl, of any format. Raises ValueError for anything else."""
    try:
        return _event(strict.parse(line))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an event: {strict.shown(line)}") from error


def _event(value: dict[str, Any]) -> AnyEvent:
    kind = value["kind"]
    head = {name: value[name] for name in ("at_ns", "cell", "cycle")}
    error_ns = value.get("error_ns", 0)
    strict.check(Event, {**head, "error_ns": error_ns})
    if kind == "action" and value["edge"] in EDGES:
        deed, error = deed_of(value["verb"], value["data"])
        edge = EDGES[value["edge"]]
        failed = {"error": error} if edge is deeds.Failed else {}
        return Event(**head, what=edge(deed=deed, **failed))
    if kind == "reading":
        what = reading_of(value["source"], value["what"], value["data"])
        return Event(**head, error_ns=error_ns, what=what)
    return Event(**head, what=ev.Unknown(line=_plain(value)))


def deed_of(verb: str, data: dict[str, Any]) -> tuple[Deed, str]:
    """A deed from its stored form, and the error it failed with, if any."""
    error = str(data.get("error", ""))
    strict.check(deeds.OtherDeed, {"verb": verb})
    strict.check(deeds.Failed, {"error": error})
    if verb in PROGRAMS and "program" in data:
        strict.check(deeds.RunProgram, {"program": data["program"]})
        return deeds.RunProgram(role=verb, program=tuple(data["program"])), error
    if verb in DEEDS and (made := _decoded(DEEDS[verb], data)) is not None:
        return made, error
    details = {key: value for key, value in data.items() if key != "error"}
    return deeds.OtherDeed(verb=verb, details=_plain(details)), error


def reading_of(source: str, what: str, data: dict[str, Any]) -> ev.What:
    """What was said, from its stored form."""
    strict.check(ev.OtherReading, {"source": source, "what": what})
    if source in set(Teller) and what in set(ServerChange):
        names = ("server", "old", "new", "reason")
        told = {name: data[name] for name in names if name in data}
        told.setdefault("server", "")
        strict.check(ServerChanged, told)
        return ServerChanged(told_by=Teller(source), change=ServerChange(what), **told)
    if source == "docker" and what in CONTAINER_ACTIONS:
        changed = {"container": data["container"], "exit": data.get("exit")}
        strict.check(ev.ContainerChanged, changed)
        return ev.ContainerChanged(action=what, **changed)
    data = format_0.translated(source, what, data)
    kind = SAID.get((source, what)) or format_0.SAID.get((source, what))
    if kind is ev.RecoveryPredicted:
        return ev.RecoveryPredicted(prediction=_prediction(data))
    if kind is ev.DisturbanceBegan or kind is ev.DisturbanceEnded:
        strict.check(DisturbanceSpan, {"fault": data["fault"], "type": data["type"]})
        disturbance = disturbance_of(data["type"], data["data"])
        edge: ev.What = kind(fault=data["fault"], disturbance=disturbance)
        return edge
    found = _decoded(kind, data) if kind is not None else None
    if found is None:
        return ev.OtherReading(source=source, what=what, details=_plain(data))
    said: ev.What = found
    return said


def _plain(details: Data) -> dict[str, Any]:
    """What nobody here knows, if it can at least be written again."""
    if not isinstance(details, dict) or not strict.is_plain([details]):
        raise TypeError("a value that can't be written again")
    return details


@dataclass(frozen=True, slots=True)
class _Shape:
    """How to make a value of a class: its fields by their stored names, and what each becomes."""

    names: dict[str, str]
    required: frozenset[str]
    become: dict[str, Callable[[Any], Any]]


def _cause(data: Any) -> Cause | None:
    if data is None:
        return None
    names = {f.name for f in fields(Cause)} - {"kind"}
    kept = {key: value for key, value in data.items() if key in names}
    strict.check(Cause, kept)
    return Cause(kind=CauseKind(data["kind"]), **kept)


def _doubt(data: Any) -> Doubt | None:
    if data is None:
        return None
    lag = data.get("lag")
    kinds = {"kind": DoubtKind(data["kind"]), "lag": None if lag is None else LagKind(lag)}
    kept = {**data, **kinds}
    strict.check(Doubt, kept)
    return Doubt(**kept)


def disturbance_of(word: str, data: Data) -> Disturbance:
    """A disturbance from its stored form."""
    if word in DISTURBANCES and (made := _decoded(DISTURBANCES[word], data)) is not None:
        disturbance: Disturbance = made
        return disturbance
    return disturbances.OtherDisturbance(what=word, details=_plain(data))


def _span(data: Data) -> DisturbanceSpan:
    names = {f.name for f in fields(DisturbanceSpan)}
    values = {key: value for key, value in data.items() if key in names}
    strict.check(DisturbanceSpan, values)
    return DisturbanceSpan(**{**values, "data": _plain(values.get("data", {}))})


def _lags(data: Any) -> tuple[Lag, ...]:
    """What a newer version has found besides is left out: it is judged there."""
    kinds, found = set(LagKind), []
    for lag in data:
        if lag["kind"] in kinds:
            kept = {**lag, "kind": LagKind(lag["kind"])}
            strict.check(Lag, kept)
            found.append(Lag(**kept))
    return tuple(found)


def _prediction(data: Data) -> Prediction:
    names = {f.name for f in fields(Prediction)}
    kept = {key: value for key, value in data.items() if key in names}
    strict.check(Prediction, kept)
    for quantiles in (kept.get("quantiles_s"), kept.get("stable_quantiles_s")):
        for name in quantiles or ():
            if QUANTILE.fullmatch(name) is None:
                raise ValueError(f"a quantile can't be called {strict.shown(name)}")
    return Prediction(**kept)


BECOME: dict[Any, Callable[[Any], Any]] = {
    tuple[str, ...]: tuple,
    tuple[str, ...] | None: lambda data: None if data is None else tuple(data),
    tuple[Lag, ...]: _lags,
    CycleKind: CycleKind,
    Inbox: Inbox,
    Cause: _cause,
    Cause | None: _cause,
}
_shapes: dict[type[Any], _Shape] = {}


def _shape(kind: type[Any]) -> _Shape:
    if kind not in _shapes:
        hints, all_fields = get_type_hints(kind), fields(kind)
        _shapes[kind] = _Shape(
            names={STORED_NAMES.get(f.name, f.name): f.name for f in all_fields},
            required=frozenset(
                f.name for f in all_fields if f.default is MISSING and f.default_factory is MISSING
            ),
            become={n: BECOME[h] for n, h in hints.items() if h in BECOME},
        )
    return _shapes[kind]


def _decoded(kind: type[Any], data: Data) -> Any:
    """A value of this class, or None if the stored form lacks what it needs."""
    shape = _shape(kind)
    values = {shape.names[key]: value for key, value in data.items() if key in shape.names}
    if not shape.required <= values.keys():
        return None
    for name, become in shape.become.items():
        if name in values:
            values[name] = become(values[name])
    strict.check(kind, values)
    return kind(**values)


def decode_cycle(line: str) -> Cycle:
    """The cycle of one line of cycles.jsonl, of any format. Raises ValueError for anything else."""
    try:
        value = format_0.translated_cycle(strict.parse(line))
        names = {f.name for f in fields(Cycle)}
        value = {key: one for key, one in value.items() if key in names}
        predicted = value["predicted"]
        value |= {
            "outcome": CycleOutcome(value["outcome"]),
            "kind": CycleKind(value["kind"]),
            "cause": _cause(value.get("cause")),
            "doubt": _doubt(value.get("doubt")),
            "predicted": _prediction(predicted) if predicted else None,
            "disturbances": tuple(_span(each) for each in value.get("disturbances", ())),
        }
        strict.check(Cycle, value)
        cycle = Cycle(**value)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a cycle: {strict.shown(line)}") from error
    for name in COUNTS:
        if getattr(cycle, name) > COUNT_MAX:
            raise ValueError(f"{name} can't be {getattr(cycle, name)}")
    if cycle.end_ns < cycle.t0_ns or {"/", "\0"} & set(cycle.cell):
        raise ValueError(f"not a cycle, its end or its cell can't be so: {strict.shown(line)}")
    return cycle
