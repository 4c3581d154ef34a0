"""The values that flow from the world to the report: who asked, who answered, and when.

No behaviour lives here and nothing of ours is imported. Instants are integer nanoseconds on the
run's monotonic clock unless the name says `unix`; durations that users read are seconds.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Address(NamedTuple):
    """Where something listens."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Outcome(IntEnum):
    """How one probe request ended: a closed list, so that it can be a label and a byte on disk.

    Whether an OK answer was *misrouted* is not the probe's to know: see `kinds` in analysis.
    """

    OK = 0  # a whole answer with a status below 400
    HTTP_ERROR = 1  # a whole answer with a status of 400 or more, the proxy's own 503 included
    REFUSED = 2  # nobody listens
    RESET = 3  # closed or reset before the answer was whole
    TIMEOUT = 4  # no whole answer within the probe's timeout, counted from the scheduled time
    UNREACHABLE = 5  # no route or no host
    GARBLED = 6  # an answer that is not the protocol's
    TLS = 7  # the handshake or the certificate
    DROPPED = (
        8  # never sent: too late, too many in flight, no descriptor. Our fault, not the target's
    )


class Sample(NamedTuple):
    """One probe request, whether or not it was answered."""

    stream: int
    scheduled_ns: int
    sent_ns: int
    done_ns: int
    outcome: int
    status: int  # the protocol's status code, 0 where there is none
    who: str  # the identity that answered, "" where none was told


class StreamSpec(NamedTuple):
    """One row of samples: which probe asks for which cell. `stream` is unique in a run."""

    stream: int
    cell: str
    probe: str  # the probe's name in the config
    via: str  # "proxy", or "direct" for the control probe that asks the app itself
    interval_ns: int
    idle_every: int = 1  # between cycles one of so many slots is used


class Instance(NamedTuple):
    """One incarnation of the app: an identity and an IP."""

    identity: str
    address: Address


RETIRED = "!retired"  # behind the identity of who answers although its name is another's by now
ANYBODY = "*"  # the identity of an app that can't be told from others: all good answers are its own


def rounded_ns(duration_ns: int) -> int:
    """To the whole microsecond: what is stored of a sample's durations, and so what they count."""
    return (duration_ns + 500) // 1000 * 1000
