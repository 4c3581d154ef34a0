"""`chaosd doctor --prove`: runs what was predicted, and puts the measured numbers beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chaosd.cli.output import say

if TYPE_CHECKING:
    from chaosd.doctor.examine import Diagnosis
    from chaosd.doctor.proof import Evidence, Experiment, Pair, Round
    from chaosd.doctor.reading import Files
    from chaosd.plan.arms import Plan


def prove(files: Files, diagnoses: Sequence[Diagnosis], *, cycles: int, env: Path | None) -> None:
    """Run all experiments that there are. Raises what `chaosd run` raises."""
    from chaosd.doctor import proof
    from chaosd.doctor.formats import evidence

    with on_disk(files) as now, on_disk(diagnoses[-1].mended) as fixed:
        if len(diagnoses) > 1:
            experiments = proof.of_versions(diagnoses, now)
        else:
            program = diagnoses[0].program
            version = None if program.from_machine else program.version
            experiments = proof.of_remedies(diagnoses[0], version, now, fixed)
        if not experiments:
            say("nothing to prove: nothing that the model prices differs")
        found: list[Evidence] = []
        try:
            for experiment in experiments:
                pairs, stopped = measure(experiment, cycles=cycles, env=env)
                found += proof.evidence(experiment, pairs)
                if stopped:
                    break
        finally:  # what was measured is said even if a later one can't be run
            say("", *evidence.lines(found))


@contextmanager
def on_disk(files: Files) -> Iterator[list[Path]]:
    """These texts as files of ours, while they are needed."""
    from chaosd.system import scratch

    with scratch.directory() as place:
        paths = []
        for number, source in enumerate(files.sources, start=1):
            directory = place / str(number)  # several may have one name
            directory.mkdir()
            paths.append(directory / source.path.name.strip("<>"))
            paths[-1].write_text(source.text, encoding="utf-8")
        yield paths


def measure(experiment: Experiment, *, cycles: int, env: Path | None) -> tuple[list[Pair], bool]:
    """As many pairs as are asked for, and whether somebody has stopped it before."""
    from chaosd.doctor import proof
    from chaosd.doctor.formats import evidence

    pairs: list[Pair] = []
    rounds: list[tuple[Round, int]] = []
    while (begun := proof.next_round(cycles, rounds)) is not None:
        say("", evidence.plan_line(experiment, begun, asked=cycles, have=len(pairs)))
        more, stopped = _run(experiment, begun, env=env)
        pairs += more
        if stopped:
            return pairs, True
        rounds.append((begun, len(more)))
    return pairs, False


def _run(experiment: Experiment, begun: Round, *, env: Path | None) -> tuple[list[Pair], bool]:
    """The pairs of one run, and whether somebody has stopped it."""
    from chaosd import plan, report
    from chaosd.config import shape
    from chaosd.doctor import proof
    from chaosd.engine import session
    from chaosd.history.endings import EndKind, ending_of

    file = experiment.sides[0].paths[0].with_name("prove.json")  # beside a copy of ours

    def planned_with(probe: Mapping[str, Any] | None) -> Plan:
        text = experiment.config(begun, env=env, probe=probe)
        file.write_text(text, encoding="utf-8")
        return plan.build(shape.load(file), partial(shape.at_line, file, []))

    # What is asked for is derived from the files; how often, and with how much patience, is ours.
    probe = planned_with(None).config.probes[0]
    planned = planned_with(probe.model_dump(mode="json", exclude_unset=True) | {"type": probe.type})
    session.run(planned, plan.rehearse(planned), file)
    (directory,) = planned.config.runs.directory.glob(f"*-{planned.run_id}")
    analysed = report.analyse(directory)
    ending = ending_of(analysed.report.manifest)
    stopped = ending is not None and ending.kind is EndKind.STOPPED
    return proof.pairs_of(experiment, analysed.cycles), stopped
