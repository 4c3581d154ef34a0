"""A config's meaning: plugins found and built, abilities checked, nothing touched yet."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from random import Random
from typing import Any, NamedTuple

from chaosd import plugins
from chaosd.analysis.precision import cycles_wanted
from chaosd.analysis.slo import cycles_needed
from chaosd.config.shape import Config
from chaosd.errors import ConfigError, MachineError, RefusedError
from chaosd.history.cycles import CycleKind
from chaosd.history.values import Address
from chaosd.plan import combinations, limits, privacy
from chaosd.plan.arms import OWN_APP, Arm, Cell, Plan
from chaosd.plan.fitting import fitted
from chaosd.plan.foretelling import foretold
from chaosd.plugins.bases import Between, KeyPath
from chaosd.plugins.fault import LeavesAddress, NeedsNameservers
from chaosd.plugins.proxy import (
    Advises,
    Checks,
    Foresees,
    HasVersions,
    HidesSecrets,
    Launch,
    Launches,
    Proxy,
    Rewires,
    TakesOwnFile,
)
from chaosd.plugins.runtime import Runtime, TouchesOthers
from chaosd.runtimes import AUTO
from chaosd.system import scratch
from chaosd.system.clock import VirtualClock
from chaosd.system.files import MB, open_regular, read_bytes

# Says a problem at its place in the user's file: (("faults", 0, "old_ip"), what) → one line.
Complain = Callable[[KeyPath, str], str]


def build(config: Config, complain: Complain) -> Plan:
    """Find and build every plugin.

    Raises ConfigError for what can't go together, and MachineError if the machine can't do it.
    """
    proxies = [proxy_of(arm) for arm in config.arm_configs.values()]
    name, runtime, why = _runtime(config, proxies)
    for proxy in proxies:
        if isinstance(proxy, Launches) and (host := runtime.proxy_host(proxy)) is not None:
            proxy.move_to(host)
    if isinstance(runtime, TouchesOthers):
        proxies = [runtime.meet(proxy) for proxy in proxies]
    arms = tuple(
        Arm(name=label, config=fitted(arm, proxy, runtime), proxy=proxy, runtime_name=name)
        for (label, arm), proxy in zip(config.arm_configs.items(), proxies, strict=True)
    )
    config = fitted(config, proxies[0], runtime)
    seed = config.seed if config.seed is not None else secrets.randbits(32)
    # Two real runs with one seed may go on at the same time, and must know each other's apart.
    simulated = isinstance(runtime.clock(), VirtualClock)
    plan = Plan(
        config=config,
        seed=seed,
        run_id=_run_id(Random(f"run {seed}") if simulated else secrets.SystemRandom()),  # noqa: S311
        runtime=runtime,
        runtime_name=name,
        why=why,
        arms=arms,
    )
    privacy.keep(plan)
    problems: dict[str, None] = {}  # said once, though each arm may have them
    for cell in plan.cells[: len(arms)]:
        problems |= dict.fromkeys(_problems(plan, cell, complain))
    if problems:
        raise ConfigError(*problems)
    return plan


class Outlook(NamedTuple):
    """What is known of the user's own file before it is chosen what of it moves."""

    lines: tuple[str, ...]
    movable: tuple[str, ...]  # of these one has to be chosen for a run; empty if it is clear


def outlook(config: Config) -> Outlook:
    """What a move and DNS trouble will do to the users of all of the user's own file."""
    proxy = proxy_of(config)
    if not isinstance(proxy, Foresees):
        return Outlook((), ())
    return Outlook(tuple(proxy.outlook()), tuple(proxy.movable()))


def proxy_of(config: Config) -> Proxy:
    """The proxy that a config is about."""
    proxy: Proxy = plugins.find("proxies", config.proxy.type)(config.proxy)
    return proxy


def _problems(plan: Plan, cell: Cell, complain: Complain) -> list[str]:
    """What an arm asks for that can't go together, or that the machine can't do."""
    arm, proxy = cell.arm, cell.arm.proxy
    impossible = (
        _impossible(plan, arm)
        + _ambiguous_answers(plan, arm)
        + _objectives_of_controls(arm)
        + list(combinations.problems(arm, plan.runtime, plan.runtime_name))
        + plan.runtime.problems(plan.spec(cell, Path()))
    )
    problems = [complain(*problem) for problem in impossible]
    if isinstance(proxy, TakesOwnFile) and (own_file := proxy.own_file) is not None:
        if own_file.exists():
            problems += proxy.problems(by_address=arm.by_address)
        else:
            what = f"there is no file {own_file}"
            problems.append(complain(("proxy", "config"), what))
    return problems


def _ambiguous_answers(plan: Plan, arm: Arm) -> list[tuple[KeyPath, str]]:
    """Where an address alone does not say who has answered."""
    config = arm.config
    found: list[tuple[KeyPath, str]] = []
    if not arm.by_address or not plan.runtime.makes_topology:
        return []
    remedy = "let the app say its CHAOSD_IDENTITY in the header X-Chaosd-Instance"
    for place, (fault, built) in enumerate(zip(config.faults, arm.faults(), strict=True)):
        if isinstance(fault, LeavesAddress) and fault.old_ip == "imposter":
            what = "an imposter at the old address can't be told from the app without its header"
            found.append(
                (("faults", place, "old_ip"), f"{what} ({remedy}, and set app.identity: header)")
            )
        if built.kind is CycleKind.RESTART:
            what = "an app that comes back at its address looks the same as before without its"
            found.append(
                (("faults", place), f"{what} header ({remedy}, and set app.identity: header)")
            )
    return found


def _objectives_of_controls(arm: Arm) -> list[tuple[KeyPath, str]]:
    """Objectives of faults that make no failovers."""
    what = "is a control fault; objectives apply to failovers only"
    pairs = zip(arm.config.faults, arm.faults(), strict=True)
    controls = {fault.label for fault, built in pairs if built.kind.is_control}
    return [
        (("slo", "faults", label), f"`{label}` {what} (leave it out)")
        for label in arm.config.slo.faults
        if label in controls
    ]


def _run_id(rng: Random) -> str:
    alphabet = "abcdefghjkmnpqrstuvwxyz23456789"
    return "".join(rng.choice(alphabet) for _ in range(6))


def _runtime(config: Config, proxies: Sequence[Proxy]) -> tuple[str, Runtime, str]:
    wanted, image = config.runtime, config.app.image

    def missing(runtime: Runtime) -> str | None:
        lacks = (runtime.lacks(proxy, image) for proxy in proxies)
        return runtime.unavailable() or next(filter(None, lacks), None)

    if wanted.type != "auto":
        runtime: Runtime = plugins.find("runtimes", wanted.type)(wanted)
        if (reason := missing(runtime)) is not None:
            raise MachineError(f"runtime {wanted.type}: {reason}")
        return wanted.type, runtime, "as configured"
    reasons: list[str] = []
    for name in AUTO:
        kind: Any = plugins.find("runtimes", name)
        runtime = kind(kind.Config(type=name))
        reason = missing(runtime)
        ours = image == OWN_APP  # then the command can only be a program of this machine
        if reason is None and config.app.command and ours and not runtime.runs_programs:
            reason = "app.command is a program of this machine (in a container: app.image)"
        if reason is None:
            return name, runtime, "auto: " + ("; ".join(reasons) or "the first that works here")
        reasons.append(f"{name}: {reason}")
    raise MachineError(f"no runtime works on this machine ({'; '.join(reasons)})")


def _impossible(plan: Plan, arm: Arm) -> list[tuple[KeyPath, str]]:
    """What an arm asks of the runtime that it can't do, each with its place."""
    config, proxy = arm.config, arm.proxy
    name, runtime = plan.runtime_name, plan.runtime
    problems: list[tuple[KeyPath, str]] = []
    if runtime.makes_topology and runtime.has_proxy_program and not isinstance(proxy, Launches):
        what = f"chaosd can't start an `{config.proxy.type}` proxy"
        problems.append((("proxy", "type"), f"{what} (it is for `runtime: external`)"))
    cells = len(plan.cells)
    if cells > 1 and isinstance(proxy, Launches) and proxy.listen is not None:
        what = f"each of the {cells} cells needs a listening address of its own"
        problems.append((("proxy", "listen"), f"{what} (leave it out, or have one cell)"))
    abilities, manners = runtime.abilities(), runtime.old_ip()
    for place, (fault, built) in enumerate(zip(config.faults, arm.faults(), strict=True)):
        if missing := [need.__name__ for need in built.needs if need not in abilities]:
            what = f"the {name} runtime can't do a {fault.type}: it lacks {', '.join(missing)}"
            able = ", ".join(_able(built.needs))
            problems.append((("faults", place), f"{what} (these can: {able})"))
            continue  # what else it can't do of it does not matter then
        if isinstance(fault, LeavesAddress) and fault.old_ip not in manners:
            what = f"the {name} runtime can't make an old IP `{fault.old_ip}`"
            problems.append((("faults", place, "old_ip"), f"{what} (it can: {', '.join(manners)})"))
        if isinstance(fault, NeedsNameservers) and fault.nameservers_min > config.dns.nameservers:
            what = f"`{fault.label}` is about one of {fault.nameservers_min} nameservers"
            problems.append((("faults", place), f"{what} (set dns.nameservers to that)"))
    return problems


def _able(needs: Sequence[type]) -> Iterator[str]:
    """The runtimes that have these abilities."""
    for name in plugins.available("runtimes"):
        kind: Any = plugins.find("runtimes", name)
        if set(needs) <= set(kind(kind.Config(type=name)).abilities()):
            yield name


@dataclass(frozen=True, kw_only=True)
class Copied:
    """What becomes of the user's own files, where a copy of them is run: a line each."""

    choices: tuple[str, ...]
    difference: tuple[str, ...]  # a unified diff
    not_carried: tuple[str, ...]  # and what that changes in the answer


def _copied(proxy: Proxy) -> Copied | None:
    if not isinstance(proxy, Rewires) or not (difference := proxy.difference()):
        return None
    return Copied(
        choices=tuple(proxy.choices()),
        difference=tuple(difference),
        not_carried=tuple(proxy.not_carried()),
    )


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What can be known before anything runs."""

    arm: Arm
    binary_sha256: str | None = None  # of the proxy's program, where that is this machine's
    proxy_version: str | None  # None where it is not a program of this machine
    rendered: str  # the proxy's config, with stand-ins for the addresses that a run chooses
    advice: tuple[str, ...]
    notes: tuple[str, ...]
    copied: Copied | None = None  # where copies of the user's own files are run


def rehearse(plan: Plan) -> list[Rehearsal]:
    """For each arm: render the proxy's config, let the proxy check it, and predict.

    Raises ConfigError if the proxy refuses the config and MachineError if there is no proxy.
    """
    return [_rehearse(plan, cell) for cell in plan.cells[: len(plan.arms)]]


def _rehearse(plan: Plan, cell: Cell) -> Rehearsal:
    arm = cell.arm
    config, proxy = arm.config, arm.proxy
    asked = plan.runtime.has_proxy_program
    # First: the prediction is for this version.
    version = proxy.version() if asked and isinstance(proxy, Launches) else None
    predicted = [
        f"{fault.label}: {foretold(fault, built, config, proxy, plan.runtime.pace)}"
        for fault, built in zip(config.faults, arm.faults(), strict=True)
    ]
    if not plan.runtime.makes_topology:  # nothing is made, so nothing is rendered
        return Rehearsal(
            arm=arm,
            proxy_version=version or "as found",
            rendered="# not made here",
            advice=_advice(proxy),
            notes=(*_said(config, version), *predicted),
        )
    rendered, checksum = "# no configuration: this proxy is not started", None
    if isinstance(proxy, Launches):
        with scratch.directory() as directory:
            launch = _launch(plan, cell, proxy, directory)
            checksum = _checksum(launch.argv[0]) if plan.runtime.has_proxy_program else None
            rendered = launch.files[proxy.config_name].decode("utf-8", "replace")
            if isinstance(proxy, HidesSecrets):
                rendered = proxy.shown(rendered)
            complaint = None
            if plan.runtime.has_proxy_program and isinstance(proxy, Checks):
                complaint = proxy.check(launch)
            if complaint is not None:
                file = launch.directory / proxy.config_name
                others = proxy.taken_by(launch) if isinstance(proxy, HasVersions) else []
                raise RefusedError(
                    *(_refused(each, file, rendered) for each in complaint.splitlines()),
                    taken_by=others[-1] if others else None,
                )
    return Rehearsal(
        arm=arm,
        binary_sha256=checksum,
        proxy_version=version,
        rendered=rendered,
        advice=_advice(proxy),
        notes=(*_said(config, version), *predicted),
        copied=_copied(proxy),
    )


def _advice(proxy: Proxy) -> tuple[str, ...]:
    found = proxy.advice() if isinstance(proxy, Advises) else []
    return tuple(f"advice: {each}" for each in found)


def _said(config: Config, version: str | None) -> Sequence[str]:
    return [] if version is None else [f"proxy: {config.proxy.type} {version}"]


def _launch(plan: Plan, cell: Cell, proxy: Launches, directory: Path) -> Launch:
    """Say how the proxy would be started, with stand-ins for the addresses; write its files."""
    host = plan.runtime.proxy_host(cell.arm.proxy)
    launch = proxy.launch(
        plan.spec(cell, directory).wiring(
            listen=Address("127.64.0.1", 8080),
            dns=Address("127.64.0.2", 5353),
            log=Address("127.64.0.2", 5140),
            api=PurePath("/tmp/chaosd-check.sock"),  # noqa: S108 - a check binds nothing
            directory=directory if host is None else host.directory,
            scratch=directory if host is None else host.scratch,
            app_at=Address("127.64.0.10", cell.arm.config.app.port),
            beside="127.64.0.9",
        )
    )
    if host is None:
        launch.write()
    return launch


def _checksum(program: str) -> str | None:
    """Of the program's file; None if it is not this machine's.

    What stands there may be a script that starts an installed build: then that says its own.
    """
    found = shutil.which(program)
    if found is None:
        return None
    try:
        build = json.loads(read_bytes(Path(found).with_name("build.json"), MB))
        return str(build["binary_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not one of chaosd's builds
    try:
        with open_regular(Path(found)) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _refused(complaint: str, file: PurePath, rendered: str) -> str:
    """What the proxy says of the file that was rendered: that is gone, so its line is quoted."""
    quoted = ""
    if found := re.match(rf"{re.escape(str(file))}:(\d+): ", complaint):
        line = rendered.splitlines()[int(found[1]) - 1].strip()
        complaint, quoted = complaint[found.end() :], f" (in the line `{line}` that it comes to)"
    return f"the proxy refuses its config: {complaint}{quoted}"


def outline(plan: Plan) -> str:
    """What is going to happen, in a sentence."""
    config = plan.config
    faults = ", ".join(
        f"{fault.label} {f'by cron {fault.cron}' if fault.cron else f'every {_every(fault.every)}'}"
        for fault in config.faults
    )
    cells = f" in each of {len(plan.cells)} cells" if len(plan.cells) > 1 else ""
    if len(plan.arms) > 1:
        cells += f" ({len(plan.arms)} arms: {', '.join(arm.name for arm in plan.arms)})"
    ends = []
    if config.until.cycles is not None:
        ends.append(f"for {config.until.cycles} cycle{'s' if config.until.cycles > 1 else ''}")
    if config.until.time is not None:
        ends.append(f"for {config.until.time}")
    if config.until.precision is not None:
        ends.append(f"until p95 is known to ± {config.until.precision}")
    until = " or ".join(ends) or "until it is stopped"
    return f"{faults}{cells}, {until}; Ctrl-C ends it and writes the report"


def deeds(plan: Plan) -> Sequence[str]:
    """What will be done to what is not chaosd's, a line each."""
    return plan.runtime.deeds() if isinstance(plan.runtime, TouchesOthers) else []


def describe(plan: Plan) -> Sequence[str]:
    """The plan in a few lines, for `chaosd check`."""
    config = plan.config
    lines = [f"runtime: {plan.runtime_name} ({plan.why})", *deeds(plan), outline(plan)]
    for place, probe in enumerate(config.probes):
        role = ", measures recovery" if place == 0 else ""
        lines.append(f"probe {probe.label}: {probe.rate}, timeout {probe.timeout}{role}")
    if config.direct is not None and plan.runtime.asks_directly():
        lines.append(f"direct probe to the app itself: {config.direct.rate}, during cycles only")
    lines += [
        f"{fault.label}:{combinations.told(fault)}; all are undone, the last one first"
        for fault in config.faults
        if fault.companions
    ]
    if config.metrics is not None:
        lines.append(f"metrics: http://{config.metrics.listen}/metrics")
    return [*lines, *limits.warnings(plan), *_too_few(config)]


def _too_few(config: Config) -> Iterator[str]:
    """What this run can't come to know, however well it goes."""
    if config.until.cycles is None:
        return
    cycles = config.until.cycles * config.cells
    made = f"this run makes {cycles}" + (" of all faults" if len(config.faults) > 1 else "")
    for name, goal in config.slo.objectives().items():
        if cycles < (needed := max(round(goal["min_cycles"]), cycles_needed(name, goal["target"]))):
            where = f"faults.{name.replace(': ', '.')}" if "fault" in goal else name
            yield f"slo.{where} takes {needed} cycles, {made}: it will be unknown"
    needed = cycles_wanted(config.slo.objectives())[None]
    if config.until.precision is not None and cycles < needed:
        yield f"until.precision takes {needed} failovers, {made}: it will not be reached"


def _every(every: Any) -> str:
    return f"{every.min} to {every.max}" if isinstance(every, Between) else str(every)
