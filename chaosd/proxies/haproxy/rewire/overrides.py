"""Settings of chaosd's YAML over those of the user's files: what arms and `--set` change.

Only what the YAML says itself counts, not its defaults. It is set where it holds for the backend
that moves: in its resolvers section, its servers' lines, itself, and its frontend.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import BaseModel

from chaosd.proxies.haproxy.cfg.source import Place, Statement
from chaosd.proxies.haproxy.config import Config
from chaosd.proxies.haproxy.render import time
from chaosd.proxies.haproxy.rewire.choose import is_followed
from chaosd.proxies.haproxy.rewire.edits import (
    Drop,
    Edit,
    Insert,
    append_words,
    replace_line,
)
from chaosd.proxies.haproxy.rewire.reasons import Reason
from chaosd.proxies.haproxy.rewire.scene import Lines, Overrides, Scene
from chaosd.units import Duration


def of(config: Config) -> Overrides:
    """What this config sets over the user's files."""
    said = config.model_fields_set
    timeouts = _said(config.timeouts)
    backend = {f"timeout {name}": _line("timeout", name, value) for name, value in timeouts}
    client = {key: backend.pop(key) for key in ("timeout client",) if key in backend}
    if "retries" in said:
        backend["retries"] = f"retries {config.retries}"
    if "http_reuse" in said and config.http_reuse is not None:
        backend["http-reuse"] = f"http-reuse {config.http_reuse}"
    if "redispatch" in said:
        every = config.redispatch_every
        number = f" {every}" if every > 0 else ""
        backend["option redispatch"] = f"{'' if every else 'no '}option redispatch{number}"
    process: dict[str, str] = {}
    if "nbthread" in said and config.nbthread is not None:
        process["nbthread"] = f"nbthread {config.nbthread}"
    return Overrides(_resolvers(config), tuple(_server(config)), backend, client, process)


def _said(part: object) -> Iterator[tuple[str, object]]:
    assert isinstance(part, BaseModel)  # noqa: S101 - for mypy
    for name in sorted(part.model_fields_set):
        yield name, dict(part)[name]


def _line(*words: object) -> str:
    return " ".join(time(word) if isinstance(word, Duration) else str(word) for word in words)


def _resolvers(config: Config) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in _said(config.resolvers):
        if name == "hold":
            found |= {f"hold {kind}": _line("hold", kind, each) for kind, each in _said(value)}
        else:
            words = name.replace("_", " ") if name.startswith("timeout") else name
            found[words] = _line(words, value)
    return found


def _server(config: Config) -> Iterator[str]:
    for name, value in _said(config.server):
        if name == "check":
            yield "check" if value else "no-check"
        elif name == "extra":
            yield str(value)
        elif value is not None:
            yield _line(name.replace("_", "-"), value)


# --- edits ---


def edits(scene: Scene) -> Iterator[Edit]:
    """Set all of it in the copies, but for sections that chaosd itself adds."""
    overrides = scene.overrides
    choice, document = scene.choice, scene.effective.document
    names = {str(s.values["resolvers"].value) for s in choice.moved if is_followed(s)}
    for section in document.sections:
        place, lines = section.header.place, section.statements
        if section.kind == "resolvers" and section.name in names:
            yield from _set(place, lines, overrides.resolvers)
        if place == choice.backend.place:
            yield from _set(place, lines, overrides.backend)
        if scene.probe_route.frontend is not None and place == scene.probe_route.frontend.place:
            yield from _set(place, lines, overrides.frontend)
    for section in [s for s in document.sections if s.kind == "global"][:1]:
        yield from _set(section.header.place, section.statements, overrides.process)
    for server in choice.moved if overrides.server else ():
        yield append_words(server.statement, " ".join(overrides.server), Reason.SET)


def _set(place: Place, lines: Sequence[Statement], said: Lines) -> Iterator[Edit]:
    for words, text in said.items():
        first = tuple(words.split())
        there = [line for line in lines if line.texts[: len(first)] == first]
        for line in there[:-1]:
            yield Drop(line.place, Reason.SET)
        if there:
            yield replace_line(there[-1], text, Reason.SET)
        else:
            yield Insert(place, Reason.SET, lines=(f"    {text}",))
