"""The stored form of events and cycles: what is written is read again, and nothing is lost."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, get_args

import fake
import pytest

from chaosd.history import deeds
from chaosd.history import events as ev
from chaosd.history.causes import Cause, CauseKind, Doubt, DoubtKind, Lag, LagKind
from chaosd.history.codec import decode_cycle, decode_event, encode_cycle, encode_event
from chaosd.history.cycles import CycleKind, CycleOutcome, Prediction
from chaosd.history.disturbances import Disturbance, DnsAnswersWrongly, OtherDisturbance
from chaosd.report import words

PREDICTION = Prediction(lower_s=0.1, mean_s=0.2, upper_s=0.3, quantiles_s={"p50": 0.2})
# A value for each kind of field, so that no class is forgotten.
VALUES: dict[Any, Any] = {
    "str": "x",
    "int": 7,
    "bool": True,
    "bool | None": True,
    "float": 1.5,
    "str | None": "y",
    "int | None": 8,
    "tuple[str, ...]": ("a", "b"),
    "tuple[str, ...] | None": ("c",),
    "CycleKind": CycleKind.RESTART,
    "Prediction": PREDICTION,
    "Cause": Cause(kind=CauseKind.NOT_SETTLED, cycle=3),
    "Cause | None": Cause(kind=CauseKind.STOPPED),
    "Mapping[str, Mapping[str, int]]": {"dns": {"sent": 3}},
    "dict[str, Any]": {"k": 1},
    "Disturbance": DnsAnswersWrongly(answer="drop", qtype="A"),
    "tuple[Lag, ...]": (Lag(kind=LagKind.APP_WAITED, from_ns=3, seconds=0.5, count=2),),
    "Inbox": ev.Inbox.LOG,
    "Teller": ev.Teller.API,
    "ServerChange": ev.ServerChange.MAINT,
}
NAMED = {"role": "heal", "action": "die", "verb": "poke"}  # where not any text will do
DEEDS = list(get_args(deeds.Deed))
SAID = [
    k for k in get_args(ev.What) if k not in (deeds.Asked, deeds.Done, deeds.Failed, ev.Unknown)
]


def filled(kind: type) -> Any:
    return kind(**{f.name: NAMED.get(f.name, VALUES[str(f.type)]) for f in fields(kind)})


def again(event: ev.AnyEvent) -> ev.AnyEvent:
    return decode_event(encode_event(event))


@pytest.mark.parametrize("kind", SAID, ids=lambda kind: kind.__name__)
def test_what_was_said_is_read_as_it_was_written(kind) -> None:
    event = ev.Event(at_ns=5, cell="c1", cycle=2, error_ns=9, what=filled(kind))
    assert again(event) == event


@pytest.mark.parametrize("kind", DEEDS, ids=lambda kind: kind.__name__)
def test_deeds_are_read_as_they_were_written(kind) -> None:
    deed = filled(kind)
    for what in (
        deeds.Asked(deed=deed),
        deeds.Done(deed=deed),
        deeds.Failed(deed=deed, error="no"),
    ):
        event = ev.Event(at_ns=5, cell="c1", cycle=2, what=what)
        assert again(event) == event


@pytest.mark.parametrize("kind", get_args(Disturbance), ids=lambda kind: kind.__name__)
def test_disturbances_are_read_as_they_were_written(kind) -> None:
    disturbance = filled(kind)
    for what in (ev.DisturbanceBegan, ev.DisturbanceEnded):
        event = ev.Event(at_ns=5, cell="c1", cycle=2, what=what(fault="f", disturbance=disturbance))
        assert again(event) == event


def test_a_disturbance_of_a_newer_version_is_kept() -> None:
    event = ev.Event(
        at_ns=5,
        cell="c1",
        cycle=2,
        what=ev.DisturbanceBegan(
            fault="f", disturbance=OtherDisturbance(what="partition", details={"from": "node2"})
        ),
    )
    line = encode_event(event)
    assert json.loads(line)["data"]["type"] == "partition"
    assert encode_event(decode_event(line)) == line


def test_what_a_newer_version_wrote_is_kept() -> None:
    line = '{"kind":"tremor","at_ns":1,"cell":"c1","cycle":0,"size":3}'
    assert encode_event(decode_event(line)) == line
    told = (
        '{"kind":"reading","at_ns":1,"cell":"c1","cycle":0,"source":"gps","what":"fix","data":{}}'
    )
    assert decode_event(told).what == ev.OtherReading(source="gps", what="fix")
    # A field that is not known is left out, and what is known is read.
    more = json.loads(encode_event(fake.instance("a", "127.0.0.1")))
    more["data"]["colour"] = "red"
    assert decode_event(json.dumps(more)) == fake.instance("a", "127.0.0.1")


HEAD = '{"kind":"action","at_ns":1,"cell":"c1","cycle":0,"edge":"done","data":{},'


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "7", "{}", '{"kind":"reading"}', "\0", '{"kind":[]}'),
        HEAD + '"verb":1e999}',  # it could not be written again
        HEAD + '"verb":null}',
        HEAD.replace("action", "reading") + '"source":"x","what":1e999}',
        HEAD.replace("{}", '{"error":"\\ud800"}') + '"verb":"x","edge":"failed"}',
    ],
)
def test_what_is_no_event_is_a_value_error(text) -> None:
    with pytest.raises(ValueError, match=r".*"):
        decode_event(text)
    with pytest.raises(ValueError, match=r".*"):
        decode_cycle(text)


@pytest.mark.parametrize("kind", CauseKind)
def test_every_cause_has_words_and_is_stored(kind) -> None:
    cause = Cause(kind=kind, detail="because", seconds=1.5, cycle=4)
    cycle = fake.cycle(outcome=CycleOutcome.INVALID, recovery_s=None, cause=cause, cut_off=True)
    assert words.cause(cause)
    assert decode_cycle(encode_cycle(cycle, "in words")) == cycle


@pytest.mark.parametrize("kind", DoubtKind)
def test_every_doubt_has_words_and_is_stored(kind) -> None:
    lag = LagKind.PROXY_STOPPED if kind is DoubtKind.WORLD_LATE else None
    doubt = Doubt(kind=kind, count=3, total=9, seconds=0.02, lag=lag)
    cycle = fake.cycle(doubt=doubt)
    assert words.doubt(doubt)
    assert decode_cycle(encode_cycle(cycle)) == cycle
