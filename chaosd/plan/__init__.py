"""A config's meaning: plugins found and built, abilities checked, nothing touched yet."""

from __future__ import annotations

import re
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from chaosd import plugins
from chaosd.analysis.precision import cycles_wanted
from chaosd.analysis.recovery import Settings
from chaosd.analysis.slo import cycles_needed
from chaosd.config.shape import Config
from chaosd.errors import ConfigError, MachineError
from chaosd.history.events import Address
from chaosd.plan.foretelling import foretold
from chaosd.plugins.bases import Between, KeyPath
from chaosd.plugins.fault import Fault
from chaosd.plugins.proxy import Proxy
from chaosd.plugins.runtime import AppSpec, CellSpec, DnsSpec, Runtime
from chaosd.system.clock import VirtualClock

# Where a machine offers both, the one that is closest to what people run comes first.
AUTO = ("docker", "local")
OWN_APP = "http-server"  # it says in a header who it is


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything a run needs to know before it starts. `why` says how the runtime was chosen."""

    config: Config
    seed: int
    run_id: str
    runtime: Runtime
    runtime_name: str
    why: str
    proxy: Proxy
    proxy_name: str

    @property
    def cell_names(self) -> tuple[str, ...]:
        return tuple(f"c{number}" for number in range(1, self.config.cells + 1))

    @property
    def by_address(self) -> bool:
        """Whether the app's instances are told by their addresses."""
        app = self.config.app
        own = app.image == OWN_APP and not app.command
        return app.identity == "address" or (app.identity == "auto" and not own)

    def rng(self, *purpose: str) -> Random:
        """A generator of its own for each purpose, so that one's use doesn't shift another's."""
        return Random(f"{self.seed} {' '.join(purpose)}")  # noqa: S311

    def faults(self) -> list[Fault]:
        """One set of faults: they carry the state of their cell."""
        return [plugins.find("faults", config.type)(config) for config in self.config.faults]

    def cell(self, name: str, directory: Path) -> CellSpec:
        app, dns = self.config.app, self.config.dns
        return CellSpec(
            name=name,
            cells=self.config.cells,
            run_id=self.run_id,
            directory=directory,
            seed=f"{self.seed} {name}",
            proxy=self.proxy,
            app=AppSpec(
                image=app.image,
                port=app.port,
                start_delay_s=app.start_delay.s,
                replicas=app.replicas,
                command=tuple(app.command),
                env=dict(app.env),
                remember_ips=app.remember_ips,
                ready_timeout_s=app.ready_timeout.s,
                by_address=self.by_address,
            ),
            dns=DnsSpec(
                name=dns.name,
                missing=dns.missing,
                publish=dns.publish,
                ttl_s=round(dns.ttl.s),
                delay_s=dns.delay.s,
            ),
        )

    def settings(self) -> Settings:
        """What the analysis needs of the config."""
        measure, probe = self.config.measure, self.config.probes[0]
        return Settings(
            stable_for_ns=int(measure.stable_for),
            recovery_limit_ns=int(measure.recovery_limit),
            slow_after_ns=int(measure.slow_after),
            interval_ns=probe.rate.interval_ns,
            timeout_ns=int(probe.timeout),
            runtime=self.runtime_name,
            proxy=self.proxy_name,
            replicas=self.config.app.replicas,
        )


# Says a problem at its place in the user's file: (("faults", 0, "old_ip"), what) → one line.
Complain = Callable[[KeyPath, str], str]


def build(config: Config, complain: Complain) -> Plan:
    """Find and build every plugin.

    Raises ConfigError for what can't go together, and MachineError if the machine can't do it.
    """
    proxy: Proxy = plugins.find("proxies", config.proxy.type)(config.proxy)
    name, runtime, why = _runtime(config, proxy)
    if (host := runtime.proxy_host(proxy)) is not None:
        proxy.move_to(host)
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
        proxy=proxy,
        proxy_name=config.proxy.type,
    )
    impossible = (
        _impossible(config, name, runtime)
        + _untold(plan)
        + _unjudged(plan)
        + runtime.problems(plan.cell("c1", Path()))
    )
    problems = [complain(*problem) for problem in impossible]
    own_file = getattr(config.proxy, "config", None)
    if own_file is not None and not own_file.is_file():
        what = f"there is no file {own_file} (the path of your own, relative to this one)"
        problems.append(complain(("proxy", "config"), what))
    else:
        problems += proxy.problems(by_address=plan.by_address)
    if problems:
        raise ConfigError(*problems)
    return plan


def _untold(plan: Plan) -> list[tuple[KeyPath, str]]:
    """Where an address alone does not say who has answered."""
    config = plan.config
    found: list[tuple[KeyPath, str]] = []
    if not plan.by_address or plan.runtime_name == "external":
        return []
    remedy = "let the app say its CHAOSD_IDENTITY in the header X-Chaosd-Instance"
    for place, (fault, built) in enumerate(zip(config.faults, plan.faults(), strict=True)):
        if getattr(fault, "old_ip", None) == "imposter":
            what = "an imposter at the old address can't be told from the app without its header"
            found.append(
                (("faults", place, "old_ip"), f"{what} ({remedy}, and set app.identity: header)")
            )
        if built.control and built.needs:
            what = "an app that comes back at its address looks the same as before without its"
            found.append(
                (("faults", place), f"{what} header ({remedy}, and set app.identity: header)")
            )
    return found


def _unjudged(plan: Plan) -> list[tuple[KeyPath, str]]:
    """Objectives of faults that make no failovers."""
    what = "is a control and makes no failovers, of which alone an objective can be"
    pairs = zip(plan.config.faults, plan.faults(), strict=True)
    controls = {fault.label for fault, built in pairs if built.control}
    return [
        (("slo", "faults", label), f"`{label}` {what} (leave it out)")
        for label in plan.config.slo.faults
        if label in controls
    ]


def _run_id(rng: Random) -> str:
    alphabet = "abcdefghjkmnpqrstuvwxyz23456789"
    return "".join(rng.choice(alphabet) for _ in range(6))


def _runtime(config: Config, proxy: Proxy) -> tuple[str, Runtime, str]:
    wanted, image = config.runtime, config.app.image
    if wanted.type != "auto":
        runtime: Runtime = plugins.find("runtimes", wanted.type)(wanted)
        if (reason := runtime.unavailable() or runtime.lacks(proxy, image)) is not None:
            raise MachineError(f"runtime {wanted.type}: {reason}")
        return wanted.type, runtime, "as configured"
    reasons: list[str] = []
    for name in AUTO:
        kind: Any = plugins.find("runtimes", name)
        runtime = kind(kind.Config(type=name))
        reason = runtime.unavailable() or runtime.lacks(proxy, image)
        if reason is None and name == "docker" and config.app.command and image == OWN_APP:
            reason = "app.command is a program of this machine (in a container: app.image)"
        if reason is None:
            return name, runtime, "auto: " + ("; ".join(reasons) or "the first that works here")
        reasons.append(f"{name}: {reason}")
    raise MachineError(f"no runtime works on this machine ({'; '.join(reasons)})")


def _impossible(config: Config, name: str, runtime: Runtime) -> list[tuple[KeyPath, str]]:
    """What the config asks of the runtime that it can't do, each with its place."""
    problems: list[tuple[KeyPath, str]] = []
    if config.cells > 1 and getattr(config.proxy, "listen", None):
        what = f"each of the {config.cells} cells needs a door of its own"
        problems.append((("proxy", "listen"), f"{what} (leave it out, or cells: 1)"))
    abilities, manners = runtime.abilities(), runtime.old_ip()
    for place, fault in enumerate(config.faults):
        needs = getattr(plugins.find("faults", fault.type), "needs", ())
        if missing := [need.__name__ for need in needs if need not in abilities]:
            what = f"the {name} runtime can't do a {fault.type}: it lacks {', '.join(missing)}"
            problems.append((("faults", place), f"{what} (these can: {', '.join(_able(needs))})"))
            continue  # what else it can't do of it does not matter then
        manner = getattr(fault, "old_ip", None)
        if manner is not None and manner not in manners:
            what = f"the {name} runtime can't make an old IP `{manner}`"
            problems.append((("faults", place, "old_ip"), f"{what} (it can: {', '.join(manners)})"))
    return problems


def _able(needs: Sequence[type]) -> Iterator[str]:
    """The runtimes that have these abilities."""
    for name in plugins.available("runtimes"):
        kind: Any = plugins.find("runtimes", name)
        if set(needs) <= set(kind(kind.Config(type=name)).abilities()):
            yield name


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What can be known before anything runs."""

    proxy_version: str | None  # None where it is not a program of this machine
    rendered: str  # the proxy's config, with stand-ins for the addresses that a run chooses
    advice: tuple[str, ...]
    notes: tuple[str, ...]


def rehearse(plan: Plan) -> Rehearsal:
    """Render the proxy's config, let the proxy check it, and predict.

    Raises ConfigError if the proxy refuses the config and MachineError if there is no proxy.
    """
    config, proxy = plan.config, plan.proxy
    predicted = [
        f"{fault.label}: {foretold(fault, built, config, proxy, plan.runtime.pace)}"
        for fault, built in zip(config.faults, plan.faults(), strict=True)
    ]
    if hasattr(plan.runtime, "default_proxy"):  # nothing is made, so nothing is rendered
        return Rehearsal(
            proxy_version="as found", rendered="# not made here", advice=(), notes=(*predicted,)
        )
    wiring = plan.cell("c1", Path()).wiring(
        listen=Address("127.64.0.1", 8080),
        dns=Address("127.64.0.2", 5353),
        log="127.64.0.2:5140",
        api="/tmp/chaosd-check.sock",  # noqa: S108 - only named: `haproxy -c` binds nothing
    )
    rendered = proxy.render(wiring)
    notes, version = [], None
    if plan.runtime.has_proxy_program:
        version = proxy.version()
        notes.append(f"proxy: {plan.proxy_name} {version}")
        with tempfile.TemporaryDirectory(prefix="chaosd-check-") as directory:
            file = Path(directory) / "haproxy.cfg"
            file.write_text(rendered, encoding="utf-8")
            complaint = proxy.check(file, proxy.environment(wiring))
        if complaint is not None:
            raise ConfigError(_refused(complaint, file, rendered))
    return Rehearsal(
        proxy_version=version,
        rendered=rendered,
        advice=tuple(f"advice: {advice}" for advice in proxy.advice()),
        notes=(*notes, *predicted),
    )


def _refused(complaint: str, file: Path, rendered: str) -> str:
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
    cells = f" in each of {config.cells} cells" if config.cells > 1 else ""
    ends = []
    if config.until.cycles is not None:
        ends.append(f"for {config.until.cycles} cycle{'s' if config.until.cycles > 1 else ''}")
    if config.until.time is not None:
        ends.append(f"for {config.until.time}")
    if config.until.precision is not None:
        ends.append(f"until p95 is known to ± {config.until.precision}")
    until = " or ".join(ends) or "until it is stopped"
    return f"{faults}{cells}, {until}; Ctrl-C ends it and writes the report"


def describe(plan: Plan) -> Sequence[str]:
    """The plan in a few lines, for `chaosd check`."""
    config = plan.config
    lines = [f"runtime: {plan.runtime_name} ({plan.why})", outline(plan)]
    for place, probe in enumerate(config.probes):
        role = ", measures recovery" if place == 0 else ""
        lines.append(f"probe {probe.label}: {probe.rate}, timeout {probe.timeout}{role}")
    if config.direct is not None and getattr(config.runtime, "direct", True):
        lines.append(f"direct probe to the app itself: {config.direct.rate}, during cycles only")
    if config.metrics is not None:
        lines.append(f"metrics: http://{config.metrics.listen}/metrics")
    return [*lines, *_too_few(config)]


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
