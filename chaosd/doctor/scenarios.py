"""What backends are asked about: the usual three happenings, and those that rules add."""

from __future__ import annotations

from collections.abc import Mapping

from chaosd.doctor.setting import Setting
from chaosd.plugins.timeline import Failure
from chaosd.proxies.haproxy.model.backend import Happening, Scenario

TROUBLE_S = 10.0  # of DNS

# A container is recreated: its name is missing while it is away. A pod's record is replaced as
# soon as the new one is ready. Elsewhere the old address is answered until the new one is.
_MISSING: Mapping[Setting, Failure | None] = {
    Setting.DOCKER: Failure.NXDOMAIN,
    Setting.KUBERNETES: Failure.NXDOMAIN,
    Setting.CONSUL: Failure.NXDOMAIN,
    Setting.PLAIN: None,
}
_AWAY_S = 1.0  # from the old instance's end to the new one's address in DNS
_NODE_AWAY_S = 5.0


def usual(setting: Setting) -> tuple[Scenario, ...]:
    """A move, a lost node, and ten seconds without an answer from DNS."""
    missing = _MISSING[setting]
    return (
        Scenario(
            happening=Happening.MOVE,
            published_s=_AWAY_S,
            listening_s=_AWAY_S,
            healthy_s=_AWAY_S,
            missing=missing,
        ),
        Scenario(
            happening=Happening.NODE_LOST,
            published_s=_NODE_AWAY_S,
            listening_s=_NODE_AWAY_S,
            healthy_s=_NODE_AWAY_S,
            missing=missing,
        ),
        Scenario(happening=Happening.DNS_TROUBLE, published_s=TROUBLE_S, missing=Failure.SILENCE),
    )


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


def late_healthy(seconds: float = 6.0) -> Scenario:
    """The new instance accepts connections at once, and answers well only some seconds later."""
    return Scenario(
        happening=Happening.MOVE,
        published_s=_AWAY_S,
        listening_s=_AWAY_S,
        healthy_s=_AWAY_S + seconds,
    )
