"""What every runtime on a Docker engine has: the engine itself, and what was left there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from chaosd.plugins.bases import KeyPath, RuntimeConfig
from chaosd.plugins.runtime import DnsSpec, Pace
from chaosd.runtimes.realtime import RealTime
from chaosd.units import Duration

if TYPE_CHECKING:
    from chaosd.runtimes.docker.endpoint import Endpoint
    from chaosd.runtimes.docker.presence import Presence

DNS_TTL_S = 600  # what Docker's DNS says, in every version


class EngineConfig(RuntimeConfig):
    """What the config of every runtime on an engine has."""

    engine_wait: Duration = Field(
        Duration.parse("2m"),
        description="an engine that goes away is waited for this long; 0s ends the run at once",
    )


class EngineRuntime(RealTime):
    """The part of a Runtime that does not depend on who has made the topology."""

    # Engine 20.10 on two cores; a busy one takes twice as long.
    pace: ClassVar[Pace] = Pace(0.3, 0.05, 0.5, 0.4)

    def __init__(self, config: EngineConfig, endpoint: Endpoint | None = None) -> None:
        """`endpoint` is the engine; None: the one that the environment names."""
        self._wait_s = config.engine_wait.s
        self._named = endpoint
        self._known: Presence | None = None

    @cached_property
    def endpoint(self) -> Endpoint:
        from chaosd.runtimes.docker.endpoint import from_environment

        return self._named or from_environment()

    def unavailable(self) -> str | None:
        return self.endpoint.unreachable()

    def expected(self) -> bool:
        return self.endpoint.expected()

    async def sweep(self) -> list[str]:
        from chaosd.runtimes.docker import objects

        return await super().sweep() + await self._swept(self._presence(), objects.sweep)

    async def _swept(self, presence: Presence, work: Callable[..., list[str]]) -> list[str]:
        """Let this remove what dead runs have left on an engine, and say each."""
        from chaosd.runtimes.docker.endpoint import translated
        from chaosd.runtimes.docker.presence import hangs, in_thread

        endpoint = presence.endpoint

        def removed() -> list[str]:
            with endpoint.client() as api:
                return translated(partial(work, api, self.clock()), endpoint.url)

        try:
            return await presence.answer(in_thread(removed))
        except asyncio.CancelledError:
            if await presence.is_silent([]):  # the user must hear that something is left
                raise hangs(endpoint) from None
            raise

    def _presence(self) -> Presence:
        """What is known of whether the engine answers: one for all cells of a run."""
        from chaosd.runtimes.docker.presence import Presence

        if self._known is None:
            self._known = Presence(self.endpoint, self.clock(), wait_s=self._wait_s)
        return self._known


def beyond_docker_dns(dns: DnsSpec, instead: str) -> Iterator[tuple[KeyPath, str]]:
    """What the config asks for that Docker's own DNS can't be told; `instead` is the remedy."""
    if dns.missing != "nxdomain":
        what = "Docker's DNS answers for a missing name as it likes"
        yield ("dns", "missing"), f"{what} ({instead})"
    if dns.nameservers > 1:
        yield ("dns", "nameservers"), f"Docker's DNS is one nameserver ({instead})"
    if dns.delay_s:
        yield ("dns", "delay"), f"Docker's DNS can't be delayed ({instead})"
    if dns.ttl_s != DNS_TTL_S:
        what = f"Docker's DNS always says {DNS_TTL_S // 60} minutes"
        yield ("dns", "ttl"), f"{what} ({instead})"


def published_when_started(dns: DnsSpec) -> Iterator[tuple[KeyPath, str]]:
    """The same of when a name is published, by Docker's DNS or by chaosd's."""
    if dns.publish != "start":
        what = "Docker publishes a name when its container is started"
        yield ("dns", "publish"), f"{what} (leave it at start)"
    remedy = "leave it out, or take runtime local"
    if dns.cache is not None:
        yield ("dns", "cache"), f"{dns.cache} is a program of this machine ({remedy})"
    if dns.negative_ttl_s is not None:
        what = "negative answers have no SOA record here"
        yield ("dns", "negative_ttl"), f"{what} ({remedy})"
