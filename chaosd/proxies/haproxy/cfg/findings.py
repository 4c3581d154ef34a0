"""What can be found about a user's file, as values. `wording.py` makes sentences of them."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from chaosd.proxies.haproxy.cfg.source import Place


class Kind(Enum):
    """What is found."""

    # Nothing can be measured with the file as it is.
    NOT_READ = "not read"
    NO_LISTENER = "no listener"
    NO_SERVER = "no server"
    NO_NAMESERVER = "no nameserver"
    NO_IDENTITY = "no identity"
    NEVER_RESOLVED = "never resolved"
    DESCRIPTORS = "descriptors"
    OTHER_RESOLVERS = "other resolvers"
    # It would open or run something on this machine.
    OPENS = "opens"
    PEERS = "peers"
    ASKS = "asks"
    RUNS = "runs"
    COMMANDED = "commanded"
    # Something stays unknown, and the run goes on.
    NO_LOG = "no log"
    UNUSED_LOG = "unused log"
    NO_API = "no api"


class Finding(NamedTuple):
    """One thing that is found, and where."""

    place: Place
    kind: Kind
    detail: str = ""
    said: str = ""  # the line itself
