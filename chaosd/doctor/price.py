"""What a finding costs: the model's difference between the file and the mended file."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from chaosd.doctor.finding import Change, Cost, Toll
from chaosd.doctor.subject import Subject
from chaosd.proxies.haproxy.cfg.backend import read_backends
from chaosd.proxies.haproxy.cfg.host import here
from chaosd.proxies.haproxy.model.backend import Backend, Outlook, Scenario, Unknown
from chaosd.proxies.haproxy.model.outlook import outlook, queries_per_s
from chaosd.proxies.haproxy.outlooks import without_names

Priced = Mapping[str, Backend | Unknown]  # by the backend's name
# How much weighs in the order of findings: a rare happening, a second in which the instance that
# has moved gets no requests, though others may answer them, and a second's requests that are late.
_RARE, _IDLE, _SLOW = 0.05, 0.1, 0.1
_IDLE_S_MAX = 3600.0
NEGLIGIBLE_S = 0.1
_NEGLIGIBLE_LATE_S = 0.5  # requests that are late, and answered well all the same
_NEGLIGIBLE_SLOWEST_S = 0.5  # one request that waits; others fail or not as before
_NEGLIGIBLE_QUERIES = 0.01  # a second
_NEGLIGIBLE_SHARE = 0.02  # of the trials, that never recover


class Model:
    """Outlooks, each made once: a remedy changes one backend, and many are alike."""

    def __init__(self) -> None:
        self._host = here()  # whose routes and nameservers count where the file leaves it open
        self._known: dict[tuple[int, str | None, Scenario], Outlook] = {}  # by id of the alike
        self._same: dict[Backend, Backend] = {}  # those that are alike, as one value
        self._bare: dict[int, tuple[Backend, Backend]] = {}  # by id: hashing one takes long

    def backends(self, subject: Subject) -> Priced:
        """What the model has of the backends that have servers."""
        found = read_backends(subject.effective, self._host)
        return {p.name: b for p, b in zip(subject.backends, found, strict=True)}

    def _alike(self, backend: Backend) -> Backend:
        """The one value, without names, of all backends that are alike to the model."""
        found = self._bare.get(id(backend))
        if found is None:
            bare = without_names(backend)
            found = backend, self._same.setdefault(bare, bare)
            self._bare[id(backend)] = found
        return found[1]

    def outlook(
        self, backend: Backend | Unknown, version: str | None, scenario: Scenario
    ) -> Outlook | Unknown:
        if isinstance(backend, Unknown):
            return backend
        bare = self._alike(backend)
        key = (id(bare), version, scenario)
        if key not in self._known:
            found = outlook(bare, version, scenario)
            if isinstance(found, Unknown):  # it names the backend and its line
                return outlook(backend, version, scenario)
            self._known[key] = found
        return self._known[key]

    def cost(
        self,
        version: str | None,
        *,
        now: Priced,
        fixed: Priced,
        usual: Sequence[Scenario],
        rare: Sequence[Scenario] = (),
        about: Collection[str] = (),
    ) -> Cost | None:
        """The price of what differs; None if the model has no answer for any of it.

        Of the backends it is `about`, all if it names none: one line may mend several findings.
        Every backend meets the usual scenarios some day, the rare ones only where a rule says so.
        """
        scenarios = (*usual, *rare)
        tolls: list[Toll] = []
        met: list[tuple[Backend, Backend]] = []
        for name, backend in now.items():
            if about and name not in about:
                continue
            mended = fixed.get(name, backend)
            if isinstance(backend, Unknown) or isinstance(mended, Unknown):
                continue
            is_same = self._alike(backend) is self._alike(mended)
            for number, scenario in enumerate(scenarios):
                before = self.outlook(backend, version, scenario)
                after = before if is_same else self.outlook(mended, version, scenario)
                if isinstance(before, Unknown) or isinstance(after, Unknown):
                    continue
                if number == 0:
                    met.append((backend, mended))
                if is_same:
                    break
                tolls.append(_toll(name, scenario, before, after, usual=scenario in usual))
        if not met:
            return None
        return Cost(
            tolls=_worst(tolls),
            queries_per_s=Change(
                now=queries_together_per_s([now for now, _ in met]),
                fixed=queries_together_per_s([fixed for _, fixed in met]),
            ),
            loss_s=sum(_loss(t) * (1.0 if t.usual else _RARE) for t in tolls),
        )


def queries_together_per_s(backends: Sequence[Backend]) -> float:
    """Of all of them together: backends that ask for one name in one way share the question."""
    servers = tuple(server for backend in backends for server in backend.servers)
    return queries_per_s(replace(backends[0], servers=servers))


def _toll(name: str, scenario: Scenario, now: Outlook, fixed: Outlook, *, usual: bool) -> Toll:
    return Toll(
        backend=name,
        scenario=scenario,
        usual=usual,
        recovery_s=Change(now=now.recovery_s.p95, fixed=fixed.recovery_s.p95),
        never=Change(now=now.recovery_s.never, fixed=fixed.recovery_s.never),
        failed_s=Change(now=now.failed_s.mean, fixed=fixed.failed_s.mean),
        misrouted_s=Change(now=now.misrouted_s.mean, fixed=fixed.misrouted_s.mean),
        slow_s=Change(now=now.masked_s.mean, fixed=fixed.masked_s.mean),
        slowest_s=Change(now=now.slowest_s, fixed=fixed.slowest_s),
    )


def _loss(toll: Toll) -> float:
    """Seconds' worth of requests that are lost, and would not be in the mended file.

    An instance that gets no requests is a loss, too, though a small one.
    """
    lost = toll.failed_s.saved + toll.misrouted_s.saved
    idle = max(-_IDLE_S_MAX, min(_IDLE_S_MAX, toll.recovery_s.saved))
    return lost + _IDLE * idle + _SLOW * toll.slow_s.saved


def _worst(tolls: Iterable[Toll]) -> tuple[Toll, ...]:
    """By scenario the toll of the backend that is hurt most."""
    found: dict[Scenario, Toll] = {}
    for toll in tolls:
        other = found.get(toll.scenario)
        if other is None or _weight(toll) > _weight(other):
            found[toll.scenario] = toll
    return tuple(found.values())


def _weight(toll: Toll) -> tuple[float, float, float]:
    return (_loss(toll), toll.recovery_s.saved, toll.slowest_s.saved)


def is_nothing(cost: Cost) -> bool:
    """Whether users would not notice, nor the nameserver, or would be worse off on balance."""
    if cost.queries_per_s.saved >= _NEGLIGIBLE_QUERIES:
        return False
    return cost.loss_s < -NEGLIGIBLE_S or not any(map(is_felt, cost.tolls))


def is_traded(cost: Cost) -> bool:
    """Whether the remedy is left out, though it saves requests where something else happens."""
    saves = any(
        toll.usual and toll.failed_s.saved + toll.misrouted_s.saved >= NEGLIGIBLE_S
        for toll in cost.tolls
    )
    return saves and is_nothing(cost)


def is_harm(toll: Toll) -> bool:
    """Whether users would lose requests by the remedy."""
    return toll.failed_s.saved + toll.misrouted_s.saved <= -NEGLIGIBLE_S


def is_felt(toll: Toll) -> bool:
    """Whether users would notice the remedy."""
    seconds = (toll.recovery_s, toll.failed_s, toll.misrouted_s)
    return (
        any(change.saved >= NEGLIGIBLE_S for change in seconds)
        or toll.slow_s.saved >= _NEGLIGIBLE_LATE_S
        or toll.never.saved >= _NEGLIGIBLE_SHARE
        or toll.slowest_s.saved >= _NEGLIGIBLE_SLOWEST_S
    )
