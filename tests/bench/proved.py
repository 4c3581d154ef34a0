"""Whether `chaosd doctor --prove` measures what the doctor predicts, and the fix helps as promised.

    python tests/bench/proved.py [--version 3.2] [--only node_lost …] [--cycles 20] FILE …

Each FILE is a configuration of its own; several that belong together are joined by a comma. For
each kind of trouble that a finding is about the file and the mended file run side by side on real
HAProxy. Predicted and measured means are said for both, with the difference of the pairs, which is
what the fix promises: they agree if the prediction is in the 95 % interval, or no farther from it
than `MARGIN_S` and `MARGIN` of it. The exit code is 1 if one does not, or if there are fewer pairs
than were asked for.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from chaosd.analysis.statistics import Estimate
from chaosd.cli import proving
from chaosd.doctor import proof, reading, rule
from chaosd.doctor.examine import Doctor
from chaosd.doctor.formats import evidence
from chaosd.doctor.price import Model
from chaosd.doctor.setting import Setting
from chaosd.history.cycles import Cycle
from chaosd.proxies.haproxy.model.backend import Happening, Outlook

MARGIN_S, MARGIN = 0.25, 0.1  # a second's part, and of what is predicted
Number = tuple[str, Callable[[Outlook], float], Callable[[Cycle], float]]


def numbers(experiment: proof.Experiment) -> tuple[Number, ...]:
    """What is compared: a prediction's mean, and the same of a cycle."""
    return (
        ("recovery", lambda o: o.recovery_s.mean, lambda c: c.recovery_s or 0.0),
        (
            "lost",
            lambda o: o.failed_s.mean + o.misrouted_s.mean,
            lambda c: (c.failed + c.misrouted) / experiment.rate_per_s,
        ),
    )


def agrees(predicted: float, found: Estimate) -> bool:
    low = found.value if found.low is None else found.low
    high = found.value if found.high is None else found.high
    if low is None or high is None:
        return False
    margin = max(MARGIN_S, MARGIN * abs(predicted))
    return low - margin <= predicted <= high + margin


def said(found: Estimate) -> str:
    if found.value is None:
        return "nothing"
    if found.low is None or found.high is None:
        return f"{found.value:.2f}"
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def judged(experiment: proof.Experiment, pairs: Sequence[proof.Pair]) -> int:
    """Says what was predicted and measured; how many numbers do not agree."""
    wrong = 0
    one, other = (side.outlook for side in experiment.sides)
    for name, of_outlook, of_cycle in numbers(experiment):
        found = [(of_cycle(pair.first), of_cycle(pair.second)) for pair in pairs]
        saved = proof.mean_of([now - fixed for now, fixed in found])
        rows = (
            ("now", of_outlook(one), proof.mean_of([now for now, _ in found])),
            ("fixed", of_outlook(other), proof.mean_of([fixed for _, fixed in found])),
            ("saved", of_outlook(one) - of_outlook(other), saved),
        )
        for what, predicted, measured in rows:
            good = agrees(predicted, measured)
            wrong += not good
            print(
                f"  {name} {what}: predicted {predicted:.2f} s, measured {said(measured)} s, "
                f"n {len(pairs)}: {'agrees' if good else 'DIFFERS'}",
                flush=True,
            )
    return wrong


def prove(paths: Sequence[Path], options: argparse.Namespace) -> int:
    """All experiments of one configuration; how many numbers do not agree."""
    files = reading.open_files(paths, {**os.environ, **reading.environment(options.env)})
    setting = None if options.setting is None else Setting(options.setting)
    program = reading.program(options.version)
    doctor = Doctor(program=program, setting=setting, rules=rule.installed(), model=Model())
    diagnosis = doctor.examine(files)
    wrong = 0
    with proving.on_disk(files) as now, proving.on_disk(diagnosis.mended) as fixed:
        for experiment in proof.of_remedies(diagnosis, options.version, now, fixed):
            if options.only and experiment.scenario.happening.value not in options.only:
                continue
            pairs, stopped = proving.measure(experiment, cycles=options.cycles, env=options.env)
            print(f"{paths[0].name}, {options.version or 'this HAProxy'}:", flush=True)
            print(*evidence.lines(proof.evidence(experiment, pairs)), sep="\n", flush=True)
            wrong += judged(experiment, pairs) + (len(pairs) < options.cycles)
            if stopped:
                break
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", metavar="FILE[,FILE]")
    parser.add_argument("--version", help="of HAProxy; default: the one of this machine")
    parser.add_argument("--in", dest="setting", choices=[each.value for each in Setting])
    parser.add_argument("--env", type=Path, help="NAME=value lines that the files need")
    parser.add_argument("--only", nargs="+", choices=[each.value for each in Happening])
    parser.add_argument("--cycles", type=int, default=20, help="pairs of each experiment")
    options = parser.parse_args()
    wrong = sum(prove([*map(Path, each.split(","))], options) for each in options.files)
    print("all agree" if not wrong else f"{wrong} do not agree")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
