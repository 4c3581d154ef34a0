"""What backends are asked about: the usual three happenings, and those that rules add."""

from __future__ import annotations

from dataclasses import replace

from chaosd.doctor.setting import Setting
from chaosd.plugins.timeline import Failure
from chaosd.proxies.haproxy.model.backend import Happening, Scenario
from chaosd.proxies.haproxy.model.outlook import DNS_TROUBLE, MOVE, NODE_LOST

TROUBLE_S = DNS_TROUBLE.published_s


def usual(setting: Setting) -> tuple[Scenario, ...]:
    """A move, a lost node, and ten seconds without an answer from DNS.

    Where nothing looks after the names, the old address is answered until the new one is.
    """
    move = replace(MOVE, missing=None) if setting is Setting.PLAIN else MOVE
    return move, NODE_LOST, DNS_TROUBLE


def aaaa_dropped() -> Scenario:
    """A firewall or a nameserver drops questions for AAAA, and answers those for A."""
    return Scenario(
        happening=Happening.DNS_TROUBLE,
        published_s=60.0,
        missing=Failure.SILENCE,
        family="AAAA",
    )


def short_trouble(seconds: float = 3.0, missing: Failure = Failure.SILENCE) -> Scenario:
    """DNS fails for a moment."""
    return Scenario(happening=Happening.DNS_TROUBLE, published_s=seconds, missing=missing)


def slow_starter() -> Scenario:
    """A name is away longer than `hold nx`, and its new instance answers well only after 6 s."""
    return Scenario(
        happening=Happening.MOVE,
        published_s=40.0,
        listening_s=40.0,
        healthy_s=46.0,
        missing=Failure.NXDOMAIN,
    )


def away(seconds: float = 5.0) -> Scenario:
    """A name is missing for some seconds while its instance is replaced."""
    return Scenario(
        happening=Happening.MOVE,
        published_s=seconds,
        listening_s=seconds,
        healthy_s=seconds,
        missing=Failure.NXDOMAIN,
    )
