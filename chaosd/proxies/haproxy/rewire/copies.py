"""A copy of the user's files in which chaosd's own addresses stand where the user's stood.

Every changed line has a reason, and nothing else changes. Which lines are rewritten, and by what,
is `table.py`; what can't be carried over is in `Rewired.lost`, with its line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chaosd.proxies.haproxy.cfg.files import SourceText
from chaosd.proxies.haproxy.cfg.source import Place, Trouble
from chaosd.proxies.haproxy.rewire import (
    absent_sections,
    certificate,
    checks,
    edits,
    overrides,
    process,
    table,
)
from chaosd.proxies.haproxy.rewire.carried import CarriedFiles
from chaosd.proxies.haproxy.rewire.edits import Copy, Drop, Edit, Insert
from chaosd.proxies.haproxy.rewire.reasons import Lost, Reason
from chaosd.proxies.haproxy.rewire.scene import CERTIFICATE, Scene

OWN_FRONTEND = "chaosd-entry"


@dataclass(frozen=True)
class Rewired:
    """The copies, the files that are made beside them, and what they don't have."""

    copies: tuple[Copy, ...]
    made: dict[str, bytes]  # by their paths in the directory of the copies
    lost: tuple[Lost, ...]
    carried: CarriedFiles  # of the user's
    app_env: dict[str, str]  # what the stand-in app has to know to answer the checks

    def user_place(self, copy: int, line: int) -> Place:
        """Where this line of a copy stands in the user's file."""
        return Place(self.copies[copy].path, self.copies[copy].user_line(line))


def rewire(scene: Scene, sources: Sequence[SourceText]) -> Rewired:
    """Make the copies. The scene must be of these files."""
    found: list[Edit] = [*overrides.edits(scene)]
    for section in scene.effective.document.sections:
        if (reason := process.SECTIONS.get(section.kind)) is not None:
            scene.lose(section.header.place, reason, section.name)
            lines = (section.header, *section.statements)
            found += [Drop(line.place, reason) for line in lines]
            continue
        for line in section.statements:
            for rule in table.rules(section, line):
                found += rule(scene, section, line)
    found += _added(scene, sources)
    copies = tuple(
        edits.apply(source.path, source.text, [e for e in found if e.place.file == source.path])
        for source in sources
    )
    made = scene.made | scene.carried.files
    if CERTIFICATE in made:
        made[CERTIFICATE] = certificate.make(scene.names())
    lost = tuple(dict.fromkeys(scene.lost))
    return Rewired(copies, made, lost, scene.carried, checks.environment(scene))


def _added(scene: Scene, sources: Sequence[SourceText]) -> list[Edit]:
    top = Place(sources[0].path, 0)
    last = sources[-1]
    end = Place(last.path, last.text.count("\n") + (not last.text.endswith("\n")))
    found = [*process.additions(scene, top), *absent_sections.sections(scene, end)]
    for problem in scene.effective.problems:
        if problem.trouble is Trouble.NO_NEWLINE:
            found.append(Insert(problem.place, Reason.NEWLINE, lines=()))
            scene.lose(problem.place, Reason.NEWLINE)
    route, backend = scene.probe_route, scene.choice.backend
    source = route.request.source
    comes_from = [] if source is None else [f"    tcp-request connection set-src str({source})"]
    if comes_from and route.frontend is not None:
        found.append(Insert(route.frontend.place, Reason.SOURCE_LET_IN, lines=tuple(comes_from)))
    if route.frontend is backend and route.bind is None:
        line = f"    bind {scene.ours.entry}"
        found.append(Insert(backend.place, Reason.ENTRY, lines=(line,)))
    elif route.frontend is None:
        mode = backend.values["mode"].value
        lines = (
            "",
            f"frontend {OWN_FRONTEND}",
            f"    mode {mode}",
            f"    {scene.overrides.frontend.get('timeout client', 'timeout client 60s')}",
            f"    bind {scene.ours.entry}",
            *comes_from,
            f"    default_backend {backend.name}",
        )
        found.append(Insert(end, Reason.OWN_ENTRY, lines=lines))
        for rule in route.left_out:
            found.append(Drop(rule.place, Reason.SHUT))
            scene.lose(rule.place, Reason.SHUT, " ".join(rule.texts[:3]))
        if route.why is not None and route.why not in route.left_out:
            scene.lose(route.why.place, Reason.OWN_ENTRY, " ".join(route.why.texts[:3]))
    return found
