"""`chaosd sweep`: which settings are best, on which version, and what they cost."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from chaosd import shown
from chaosd.cli import own_files
from chaosd.cli.output import say
from chaosd.errors import ConfigError, Exit

if TYPE_CHECKING:
    from chaosd.config import yamlfile
    from chaosd.config.shape import Config
    from chaosd.sweep.answer import Answer
    from chaosd.sweep.arms import Arm
    from chaosd.sweep.design import Loaded
    from chaosd.sweep.machines.joining import On
    from chaosd.sweep.predict import Predictions
    from chaosd.sweep.rounds import Fault
    from chaosd.sweep.store import Store
    from chaosd.sweep.where import Where

HELP = "try many settings and versions, and recommend the best"
DIRECTORY = Path("sweeps")
SHOWN_MAX = 40  # arms of the front that are listed
MEASURED_MAX = 32  # arms: more are measured only with --all


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("design", type=Path, metavar="DESIGN", help="what to try, as YAML")
    own_files.add_files(parser, "the design's base")
    parser.add_argument(
        "--predict", action="store_true", help="only ask the model, about all arms, and stop"
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help=f"measure every arm, also where there are more than {MEASURED_MAX}",
    )
    parser.add_argument("--cycles", type=int, metavar="N", help="of each arm under each fault")
    parser.add_argument("--for", dest="time", metavar="TIME", help="of measuring, such as 20m")
    parser.add_argument("--seed", type=int, help="repeat the schedules of an earlier sweep")
    parser.add_argument(
        "--dir",
        type=Path,
        metavar="DIR",
        help=f"where the sweep is kept, and goes on (default: {DIRECTORY}/NAME, and for each "
        "--haproxy and --backend one of its own)",
    )
    parser.add_argument(
        "--on",
        metavar="WHERE",
        help="the machines to measure on: dask:// or tls://HOST:PORT, or local:N workers here",
    )
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")


def run(arguments: argparse.Namespace) -> int:
    from chaosd.sweep import arms, foresight, rounds
    from chaosd.sweep.machines import joining
    from chaosd.sweep.store import Store

    machines = None if arguments.on is None else joining.on(arguments.on)
    loaded = _loaded(arguments)
    design = loaded.design
    store = Store(arguments.dir or DIRECTORY / _called(design.name, arguments))
    seed = store.seed() if design.seed is None and not arguments.predict else design.seed
    seed = _fresh_seed() if seed is None else seed
    base = arms.Base(loaded)
    maker = arms.Maker(loaded, base, arms.Programs(loaded, needed=not arguments.predict))
    wanted = arms.combinations(loaded, base, seed)
    every, predictions = _predict(maker, wanted, base.config)
    faults = rounds.faults_of(loaded, base.config)
    labels = [fault.label for fault in faults]
    # What is said on the way; with --json the answer comes alone.
    tell = _say_beside if arguments.json else say
    tell(*foresight.lines(loaded, every, predictions, labels, most=SHOWN_MAX))
    if arguments.predict:
        return Exit.OK
    chosen: list[Arm] = list(every)
    if len(every) > MEASURED_MAX and not arguments.all:
        chosen = foresight.chosen(loaded, every, predictions, labels, most=MEASURED_MAX)
        tell(
            f"measured: {len(chosen)} of {len(every):,} arms: the baseline, the predicted front, "
            "its neighbours, and arms that the model does not reach (--all: every arm)"
        )
    store.prepare()
    _write(store, loaded, chosen, predictions, seed)
    return _measure(store, loaded, arguments, machines)


def _called(name: str, arguments: argparse.Namespace) -> str:
    """What the directory is called: one design may be for many files, each with its own answer."""
    if not arguments.haproxy:
        return name
    import hashlib

    which = [*(str(path.absolute()) for path in arguments.haproxy), arguments.backend or ""]
    digest = hashlib.sha256("\0".join(which).encode(errors="surrogateescape")).hexdigest()
    return f"{name}-{arguments.haproxy[0].stem or 'files'}-{digest[:6]}"


def _loaded(arguments: argparse.Namespace) -> Loaded:
    from chaosd.config import shape, yamlfile
    from chaosd.sweep import design

    overrides: dict[str, Any] = {}
    if arguments.cycles is not None:
        overrides["until.cycles"] = arguments.cycles
    if arguments.time is not None:
        overrides["until.time"] = arguments.time
    if arguments.seed is not None:
        overrides["seed"] = arguments.seed
    loaded = design.load(arguments.design, overrides)
    said, here = loaded.design, arguments.design.parent
    own = arguments.haproxy or _paths(said.haproxy, here)
    if arguments.haproxy and said.base is not None:
        loaded.refuse(f"{arguments.design}: has a `base`, so --haproxy has no place")
    if not own and said.base is None:
        loaded.refuse(f"{arguments.design}: name a `base`, or your own file by --haproxy")
    if any(not path.exists() for path in (*own, *([here / said.base] if said.base else ()))):
        loaded.refuse(*(f"{path}: there is no such file" for path in arguments.haproxy))
    if not own and said.base is not None:
        path = here / said.base
        try:
            shape.load(path)  # as it is, it must be right
        except ConfigError as error:
            loaded.refuse(*error.problems)
        document = shape.document(path)
    else:
        path, document = own[0], yamlfile.read(_own_text(loaded, own, arguments))
    loaded.stand_on(document, path, _against(loaded, document, arguments))
    return loaded


def _against(
    loaded: Loaded, base: yamlfile.Document, arguments: argparse.Namespace
) -> tuple[yamlfile.Document, Path] | None:
    """The baseline, if it is a config or a file of its own."""
    from chaosd.config import shape, yamlfile
    from chaosd.sweep.design import CONFIGS

    path = loaded.baseline_file
    if path is None or not path.exists():
        return None
    if path.suffix in CONFIGS:
        try:
            return shape.document(path), path
        except ConfigError as error:
            loaded.refuse(*error.problems)
    read = yamlfile.read(_own_text(loaded, [path], arguments))
    proxy = base.data.get("proxy")
    for key in ("version", "binary", "image") if isinstance(proxy, dict) else ():
        if key in proxy:
            read.data["proxy"][key] = proxy[key]
    return read, path


def _own_text(loaded: Loaded, own: Sequence[Path], arguments: argparse.Namespace) -> str:
    """The config that the user's own files stand for."""
    said, here = loaded.design, arguments.design.parent
    wishes = {
        "backend": arguments.backend or said.backend,
        "env": arguments.env or (said.env and here / said.env),
        "host": arguments.host or said.host,
        "path": arguments.path or said.path,
        "proxy_version": arguments.proxy_version,
    }
    return own_files.text(
        argparse.Namespace(**{**own_files.NONE, **wishes, "haproxy": own, "runtime": None})
    )


def _paths(said: Path | tuple[Path, ...] | None, here: Path) -> list[Path]:
    several = said if isinstance(said, tuple) else () if said is None else (said,)
    return [here / path for path in several]


def _fresh_seed() -> int:
    import secrets

    return secrets.randbits(32)


# --- what the model says ---


def _predict(maker: Any, wanted: Sequence[Any], config: Config) -> tuple[list[Arm], Predictions]:
    from chaosd.sweep import predict
    from chaosd.sweep.progress import Progress

    with Progress() as progress:
        return predict.predict(maker, wanted, config.runtime.type, progress.predicted)


def _say_beside(*texts: str) -> None:
    print(shown.text("\n".join(texts)), file=sys.stderr, flush=True)


# --- what is measured ---


def _write(
    store: Store, loaded: Loaded, chosen: Sequence[Arm], predictions: Predictions, seed: int
) -> None:
    from chaosd.sweep import foresight, rounds
    from chaosd.sweep.arms import Base
    from chaosd.sweep.store import Plan

    design = loaded.design
    keys = {arm.key for arm in chosen}
    config = Base(loaded).config
    store.write(
        Plan(
            name=design.name,
            seed=seed,
            design=loaded.said,
            faults={fault.label: fault.hash for fault in rounds.faults_of(loaded, config)},
            objectives=design.minimize,
            arms=tuple(chosen),
            lines={arm.key: foresight.pasted(loaded, arm) for arm in chosen},
            foretold={k: each for k, each in predictions.foretold.items() if k[0] in keys},
            unforetold={k: why for k, why in predictions.unforetold.items() if k in keys},
            precision=None if design.until.precision is None else float(design.until.precision),
        )
    )


def _measure(
    store: Store, loaded: Loaded, arguments: argparse.Namespace, machines: On | None
) -> int:
    from chaosd.sweep import arms, rounds
    from chaosd.sweep.measuring import Limits, Sweep

    until = loaded.design.until
    limits = Limits(
        cycles=until.cycles,
        time_s=None if until.time is None else until.time.s,
        precision=None if until.precision is None else float(until.precision),
    )
    faults = rounds.faults_of(loaded, arms.Base(loaded).config)
    stream = sys.stderr if arguments.json else sys.stdout
    with _where(store, loaded, faults[0], machines, stream) as where:
        found = Sweep(loaded, store, faults, limits, where, stream=stream).run()
    return publish(found, store, as_json=arguments.json)


@contextmanager
def _where(
    store: Store, loaded: Loaded, fault: Fault, machines: On | None, stream: TextIO
) -> Iterator[Where]:
    from chaosd.sweep.where import Here

    if machines is None:
        yield Here(store, stream)
        return
    from chaosd.sweep.machines import crew, joining

    def tell(what: str) -> None:
        print(shown.line(what), file=stream, flush=True)

    with joining.joined(machines) as joined:
        sample = crew.sample(loaded, store.read().arms, fault)
        workers = crew.Crew(joined, store, sample, tell)
        workers.admit()
        yield workers


def publish(found: Answer, store: Store, *, as_json: bool) -> int:
    """Write the answer beside the sweep, and say it. Returns the exit code."""
    import json as encoding

    from chaosd.history.writer import write_whole
    from chaosd.sweep import json, page, text

    store.answer(sum(each.fresh for each in found.results.seen))
    document = encoding.dumps(json.document(found), indent=1)
    write_whole(store.directory / "answer.json", document + "\n")
    write_whole(store.directory / "answer.html", page.html(found))
    if as_json:
        say(document)
    else:
        say("", *text.lines(found), f"page: {store.directory / 'answer.html'}")
    return Exit.UNKNOWN if found.recommendation is None else Exit.OK


def is_sweep(directory: Path) -> bool:
    """Whether this is the directory of a sweep."""
    from chaosd.sweep.store import Store

    return Store(directory).is_there()


def answer_again(directory: Path, *, as_json: bool) -> int:
    """The answer of a sweep from its files alone. Returns the exit code."""
    from chaosd.sweep.answer import answer
    from chaosd.sweep.measuring import results_of
    from chaosd.sweep.store import Store

    store = Store(directory)
    return publish(answer(results_of(store, store.read())), store, as_json=as_json)
