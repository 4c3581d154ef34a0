"""Arms and cells: which sets of settings are under test, and in which topologies.

A plain run has one arm, called `main`. Several arms run beside each other, in blocks under one
schedule; `cells: N` are N replicas of each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from random import Random

from chaosd import plugins
from chaosd.analysis.recovery import DEFINITIONS, Settings
from chaosd.config.shape import Config
from chaosd.plugins.fault import Fault
from chaosd.plugins.probe import PLAIN_KNOCK, Knocks
from chaosd.plugins.proxy import Proxy, Rewires
from chaosd.plugins.runtime import (
    AppSpec,
    CanReloadProxy,
    CanRestartProxy,
    CellSpec,
    DnsSpec,
    Runtime,
)

RENEWING = {CanReloadProxy, CanRestartProxy}

OWN_APP = "http-server"  # it says in a header who it is


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One set of settings under test: what is compared."""

    name: str
    config: Config
    proxy: Proxy
    runtime_name: str

    @property
    def by_address(self) -> bool:
        """Whether the app's instances are told by their addresses."""
        app = self.config.app
        own = app.image == OWN_APP and not app.command
        return app.identity == "address" or (app.identity == "auto" and not own)

    def faults(self) -> list[Fault]:
        """Each fault of the config, built."""
        return [plugins.find("faults", config.type)(config) for config in self.config.faults]

    def companions(self, place: int) -> list[Fault]:
        """The faults that come with the one at this place."""
        companions = self.config.faults[place].companions
        return [plugins.find("faults", config.type)(config) for config in companions]

    def all_faults(self) -> list[Fault]:
        """Each of both."""
        companions = [self.companions(place) for place in range(len(self.config.faults))]
        return [*self.faults(), *chain.from_iterable(companions)]

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
            proxy=self.config.proxy.type,
            replicas=self.config.app.replicas,
            arm=self.name,
            definitions=DEFINITIONS,
        )


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One topology to be set up, of this arm."""

    name: str
    arm: Arm


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything a run needs to know before it starts. `why` says how the runtime was chosen."""

    config: Config
    seed: int
    run_id: str
    runtime: Runtime
    runtime_name: str
    why: str
    arms: tuple[Arm, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells, the arms taking turns: c1 is the first arm's."""
        arms = [arm for _ in range(self.config.cells) for arm in self.arms]
        return tuple(Cell(name=f"c{number}", arm=arm) for number, arm in enumerate(arms, start=1))

    @property
    def is_blocked(self) -> bool:
        """Whether all cells follow one schedule, so that arms can be compared block by block."""
        return len(self.arms) > 1

    def schedule_of(self, cell: str) -> tuple[str, list[str], int]:
        """Whose schedule is a cell's, who else follows it, and its place among all schedules."""
        names = [each.name for each in self.cells]
        place = names.index(cell)
        if not self.is_blocked:
            return cell, names, place
        replica = place // len(self.arms)
        return f"block {replica}", names[replica * len(self.arms) :][: len(self.arms)], 0

    def rng(self, *purpose: str) -> Random:
        """A generator of its own for each purpose, so that one's use doesn't shift another's."""
        return Random(f"{self.seed} {' '.join(purpose)}")  # noqa: S311

    def spec(self, cell: Cell, directory: Path) -> CellSpec:
        """What a runtime needs to set this cell up, in a directory of its own."""
        app, dns = cell.arm.config.app, cell.arm.config.dns
        proxy, probe = cell.arm.proxy, cell.arm.config.probes[0]
        stand_in = proxy.stand_in(app.port) if isinstance(proxy, Rewires) else None
        knock = probe.knock() if isinstance(probe, Knocks) else PLAIN_KNOCK
        return CellSpec(
            name=cell.name,
            cells=len(self.cells),
            run_id=self.run_id,
            directory=directory,
            seed=f"{self.seed} {cell.name}",
            proxy=proxy,
            knock=replace(knock, identified=stand_in is not None),
            beside=None if stand_in is None else stand_in.beside,
            renews_proxy=any(RENEWING & {*fault.needs} for fault in cell.arm.all_faults()),
            app=AppSpec(
                image=app.image,
                port=app.port,
                start_delay_s=app.start_delay.s,
                healthy_after_s=app.healthy_after.s,
                replicas=app.replicas,
                command=tuple(app.command),
                env={**(stand_in.env if stand_in is not None else {}), **app.env},
                remember_ips=app.remember_ips,
                ready_timeout_s=app.ready_timeout.s,
                by_address=cell.arm.by_address,
            ),
            dns=DnsSpec(
                name=dns.name,
                missing=dns.missing,
                publish=dns.publish,
                ttl_s=round(dns.ttl.s),
                delay_s=dns.delay.s,
                nameservers=dns.nameservers,
                cache=dns.cache,
                negative_ttl_s=None if dns.negative_ttl is None else round(dns.negative_ttl.s),
            ),
        )
