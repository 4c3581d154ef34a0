"""The rules over the files: what is found, what it costs, and what is left when it is mended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from chaosd.doctor import ignores, scenarios
from chaosd.doctor.finding import Finding, Severity
from chaosd.doctor.price import Model, Priced, is_nothing
from chaosd.doctor.reading import Files, Program
from chaosd.doctor.rule import Rule
from chaosd.doctor.rules.unused_ignore import UnusedIgnore
from chaosd.doctor.setting import Guess, Setting
from chaosd.doctor.subject import Subject
from chaosd.proxies.haproxy.cfg.address import slots
from chaosd.proxies.haproxy.cfg.source import Place
from chaosd.proxies.haproxy.model.backend import Backend, Happening, Limit, Outlook, Unknown
from chaosd.proxies.haproxy.model.outlook import instances_of, moves_at_first
from chaosd.proxies.haproxy.rewire.edits import Edit

_ROUNDS_MAX = 3  # of mending: a remedy may show something else

Outlooks = Mapping[Happening, Outlook | Unknown]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A backend, what happenings do to its users, and what they would do in the mended file."""

    name: str
    place: Place
    servers: int  # template slots counted
    instances: int  # behind the name that moves, in the prediction
    is_fixed: bool  # all of its servers have addresses in the file
    now: Outlooks
    fixed: Outlooks
    limits: tuple[Limit, ...] = ()  # what the numbers leave out of the file


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All that there is to say of the files, for one version of HAProxy."""

    subject: Subject
    program: Program
    guess: Guess
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]  # by their price, the dearest first
    idle: tuple[Finding, ...]  # what costs nothing: shown with --all
    mended: Files  # with the edits of all findings that are shown
    later: tuple[Finding, ...] = ()  # what costs something only once these are mended; mended, too
    left: tuple[Finding, ...] = ()  # found in the mended files

    @property
    def all(self) -> tuple[Finding, ...]:
        return (*self.findings, *self.idle)


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Examines files for one version of HAProxy."""

    program: Program
    setting: Setting | None  # None: guessed from the files
    rules: Sequence[Rule]
    model: Model

    def examine(self, files: Files) -> Diagnosis:
        """Read, look, price, mend, and look again."""
        subject, guess = files.subject(self.program, self.setting)
        found = self._findings(files, subject)
        shown = [finding for finding in found if is_shown(finding)]
        mended, fixed, left, later = files, subject, shown, list[Finding]()
        for number in range(_ROUNDS_MAX):
            if not (edits := edits_of(left)):
                break
            later += [f for f in left if number and edits_of([f])]
            mended, _ = mended.edited(edits)
            fixed, _ = mended.subject(self.program, guess.setting)
            left = [f for f in self._findings(mended, fixed) if is_shown(f)]
        return Diagnosis(
            subject=subject,
            program=self.program,
            guess=guess,
            rows=tuple(self._rows(subject, fixed)),
            findings=tuple(shown),
            idle=tuple(finding for finding in found if not is_shown(finding)),
            mended=mended,
            later=tuple(later),
            left=tuple(left),
        )

    def _findings(self, files: Files, subject: Subject) -> list[Finding]:
        """What the rules find and no comment ignores, with prices, the dearest first."""
        found = [finding for rule in self.rules for finding in rule.look(subject)]
        kept, unused = ignores.apply(found, ignores.read(subject))
        about, known = UnusedIgnore(), [rule.id for rule in self.rules]
        kept += [about.of(ignore, known) for ignore in unused]
        now = self.model.backends(subject)
        return sorted((self._priced(files, subject, f, now) for f in kept), key=_order)

    def _priced(self, files: Files, subject: Subject, finding: Finding, now: Priced) -> Finding:
        if finding.beyond or finding.remedy is None or not finding.remedy.edits:
            return finding
        part = files.about(subject, finding.backends, finding.remedy.edits)
        mended, _ = part.edited(finding.remedy.edits)
        after, _ = mended.subject(self.program, subject.setting)
        cost = self.model.cost(
            self.program.version,
            now=now,
            fixed=self.model.backends(after),
            usual=scenarios.usual(subject.setting),
            rare=finding.scenarios,
            about=finding.backends,
        )
        return replace(finding, cost=cost)

    def _rows(self, subject: Subject, fixed: Subject) -> Iterator[Row]:
        now, after = self.model.backends(subject), self.model.backends(fixed)
        unknown = Unknown(why="")
        for proxy in subject.backends:
            yield Row(
                name=proxy.name,
                place=proxy.place,
                servers=sum(max(1, slots(server)) for server in proxy.servers),
                instances=_instances(now.get(proxy.name, unknown)),
                is_fixed=not any(subject.target(server).is_name for server in proxy.servers),
                now=self._outlooks(subject, now.get(proxy.name, unknown)),
                fixed=self._outlooks(subject, after.get(proxy.name, unknown)),
                limits=_limits(now.get(proxy.name, unknown)),
            )

    def _outlooks(self, subject: Subject, backend: Backend | Unknown) -> Outlooks:
        return {
            scenario.happening: self.model.outlook(backend, self.program.version, scenario)
            for scenario in scenarios.usual(subject.setting)
        }


def _instances(backend: Backend | Unknown) -> int:
    line = None if isinstance(backend, Unknown) else moves_at_first(backend)
    if line is None or isinstance(backend, Unknown):
        return 1
    return instances_of(backend, line.name)


def _limits(backend: Backend | Unknown) -> tuple[Limit, ...]:
    return () if isinstance(backend, Unknown) else backend.limits


def same_rows(old: Diagnosis, new: Diagnosis) -> list[tuple[Row, Row]]:
    """Those of one name: `.if version_atleast(…)` may give each version backends of its own."""
    after = {row.name: row for row in new.rows}
    return [(row, after[row.name]) for row in old.rows if row.name in after]


def edits_of(findings: Iterable[Finding]) -> tuple[Edit, ...]:
    """What `--fix` does: the edits of all remedies that are safe."""
    remedies = (finding.remedy for finding in findings)
    found = [edit for r in remedies if r is not None and r.safe for edit in r.edits]
    return tuple(dict.fromkeys(found))


def is_shown(finding: Finding) -> bool:
    """Whether it is said without being asked for: what costs nothing is not."""
    if finding.severity is Severity.ERROR:
        return True
    if finding.cost is None:
        return finding.severity is Severity.WARNING
    return not is_nothing(finding.cost)


def is_failed(diagnoses: Iterable[Diagnosis], at: Severity) -> bool:
    """Whether something of this severity, or worse, is shown."""
    found = (finding for diagnosis in diagnoses for finding in diagnosis.findings)
    return any(finding.severity.gravity >= at.gravity for finding in found)


def _order(finding: Finding) -> tuple[float, ...]:
    """The dearest first; errors without a price before all, other findings without one after."""
    cost, gravity, line = finding.cost, finding.severity.gravity, finding.spot.place.line
    if cost is None:
        return (0.0 if finding.severity is Severity.ERROR else 2.0, -gravity, line)
    recovery = sum(min(toll.recovery_s.saved, 1e6) for toll in cost.tolls)
    return (1.0, -round(cost.loss_s, 1), -recovery, -cost.queries_per_s.saved, -gravity, line)
