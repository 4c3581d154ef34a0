"""The rules over the files: what is found, what it costs, and what is left when it is mended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from chaosd.doctor import ignores, scenarios
from chaosd.doctor.finding import Finding, Severity
from chaosd.doctor.price import Model, Priced, is_nothing
from chaosd.doctor.reading import Files, Program
from chaosd.doctor.rule import Rule
from chaosd.doctor.rules.unused_ignore import UnusedIgnore
from chaosd.doctor.setting import Guess, Setting
from chaosd.doctor.subject import Subject
from chaosd.proxies.haproxy.cfg.source import Place
from chaosd.proxies.haproxy.model.backend import Backend, Happening, Outlook, Unknown
from chaosd.proxies.haproxy.rewire.choose import is_followed, slots
from chaosd.proxies.haproxy.rewire.edits import Edit

_ROUNDS_MAX = 3  # of mending: a remedy may show something else

Outlooks = Mapping[Happening, Outlook | Unknown]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A backend, what happenings do to its users, and what they would do in the mended file."""

    name: str
    place: Place
    servers: int  # template slots counted
    follows: bool  # by `resolvers`, at least one of its servers
    now: Outlooks
    fixed: Outlooks


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All that there is to say of the files, for one version of HAProxy."""

    subject: Subject
    program: Program
    guess: Guess
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]  # by their price, the dearest first
    idle: tuple[Finding, ...]  # what costs nothing: shown with --all
    fixes: tuple[Edit, ...]  # of the first round, for the files as they are
    mended: Files
    left: tuple[Finding, ...] = ()  # found in the mended files

    @property
    def all(self) -> tuple[Finding, ...]:
        return (*self.findings, *self.idle)


def examine(
    files: Files,
    program: Program,
    setting: Setting | None,
    rules: Sequence[Rule],
    model: Model,
) -> Diagnosis:
    """Read, look, price, mend, and look again."""
    subject, guess = files.subject(program, setting)
    found = _priced(files, subject, program, look(subject, rules), model)
    shown = [finding for finding in found if is_shown(finding)]
    fixes = edits_of(shown)
    mended, _ = files.edited(fixes)
    left: list[Finding] = []
    for _ in range(_ROUNDS_MAX):
        after, _ = mended.subject(program, guess.setting)
        found_again = _priced(mended, after, program, look(after, rules), model)
        left = [finding for finding in found_again if is_shown(finding)]
        if not (again := edits_of(left)):
            break
        mended, _ = mended.edited(again)
    fixed, _ = mended.subject(program, guess.setting)
    return Diagnosis(
        subject=subject,
        program=program,
        guess=guess,
        rows=tuple(_rows(subject, fixed, program, model)),
        findings=tuple(shown),
        idle=tuple(finding for finding in found if not is_shown(finding)),
        fixes=fixes,
        mended=mended,
        left=tuple(left),
    )


def look(subject: Subject, rules: Iterable[Rule]) -> list[Finding]:
    """What the rules find and no comment ignores."""
    rules = list(rules)
    found = [finding for rule in rules for finding in rule.look(subject)]
    kept, unused = ignores.apply(found, ignores.read(subject))
    if unused:
        about = UnusedIgnore()
        known = [rule.id for rule in rules]
        kept += [about.of(ignore, known) for ignore in unused]
    return kept


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


def _priced(
    files: Files, subject: Subject, program: Program, found: Iterable[Finding], model: Model
) -> list[Finding]:
    now = model.backends(subject)
    priced = [_with_price(files, subject, program, finding, now, model) for finding in found]
    return sorted(priced, key=_order)


def _with_price(
    files: Files,
    subject: Subject,
    program: Program,
    finding: Finding,
    now: Priced,
    model: Model,
) -> Finding:
    if finding.beyond or finding.remedy is None or not finding.remedy.edits:
        return finding
    mended, _ = files.edited(finding.remedy.edits)
    after, _ = mended.subject(program, subject.setting)
    asked = (*scenarios.usual(subject.setting), *finding.scenarios)
    cost = model.cost(program.version, now, model.backends(after), asked)
    return replace(finding, cost=cost)


def _order(finding: Finding) -> tuple[float, ...]:
    """The dearest first; errors without a price before all, other findings without one after."""
    cost, gravity, line = finding.cost, finding.severity.gravity, finding.spot.place.line
    if cost is None:
        return (0.0 if finding.severity is Severity.ERROR else 2.0, -gravity, line)
    recovery = sum(min(toll.recovery_s.saved, 1e6) for toll in cost.tolls)
    return (1.0, -round(cost.loss_s, 1), -recovery, -cost.queries_per_s.saved, -gravity, line)


def _rows(subject: Subject, fixed: Subject, program: Program, model: Model) -> Iterable[Row]:
    now, after = model.backends(subject), model.backends(fixed)
    for proxy in subject.backends:
        unknown = Unknown(why="")
        yield Row(
            name=proxy.name,
            place=proxy.place,
            servers=sum(max(1, slots(server)) for server in proxy.servers),
            follows=any(is_followed(server) for server in proxy.servers),
            now=_outlooks(now.get(proxy.name, unknown), subject, program, model),
            fixed=_outlooks(after.get(proxy.name, unknown), subject, program, model),
        )


def _outlooks(
    backend: Backend | Unknown, subject: Subject, program: Program, model: Model
) -> dict[Happening, Outlook | Unknown]:
    return {
        scenario.happening: model.outlook(backend, program.version, scenario)
        for scenario in scenarios.usual(subject.setting)
    }
