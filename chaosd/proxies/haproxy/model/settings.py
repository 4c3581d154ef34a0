"""What HAProxy's algorithm goes by: a plain value, from YAML or from a haproxy.cfg.

It is made from chaosd's own YAML by `config.settings_of`, and from a haproxy.cfg by its reader. The
model reads nothing else, so that both are predicted alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Hold(StrEnum):
    """Why a resolution ended without a valid answer: which `hold` counts then."""

    NX = "nx"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """How long the last good answer is believed: the `hold` lines of a `resolvers` section."""

    valid_ns: int
    obsolete_ns: int
    nx_ns: int
    refused_ns: int
    timeout_ns: int
    other_ns: int

    def after_ns(self, hold: Hold) -> int:
        """How long after the last valid answer this end of a resolution is maintenance."""
        return {
            Hold.NX: self.nx_ns,
            Hold.REFUSED: self.refused_ns,
            Hold.TIMEOUT: self.timeout_ns,
            Hold.OTHER: self.other_ns,
        }[hold]


InitState = Literal["fully-up", "up", "down", "fully-down"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The effective settings of a server, its resolvers and its backend; times in nanoseconds.

    Nothing has a default: what is not written in a file has HAProxy's own, which the reader
    of the file knows.
    """

    # The `resolvers` section.
    timeout_resolve_ns: int  # pause between two resolutions
    timeout_retry_ns: int  # pause before an unanswered query is repeated
    resolve_retries: int  # queries per resolution, the first included
    holds: Holds
    # The server.
    prefers: Literal["A", "AAAA"]  # `resolve-prefer`: the record type that is asked for first
    check: bool
    inter_ns: int
    fastinter_ns: int  # `inter` where it is not set
    downinter_ns: int  # `inter` where it is not set
    fall: int
    rise: int
    init_state: InitState | None  # HAProxy 3.1 and later; None where it is not set
    # The backend.
    http_check: bool  # a check asks for an answer; else it only connects
    timeout_connect_ns: int
    timeout_server_ns: int
    timeout_check_ns: int | None
    retries: int
    redispatch_every: int  # 0 never, -1 on the last retry, N on every Nth
    # Words of the server line that the model does not know: it does not reach them.
    unknown_words: str = ""
