"""Why a line of the copy differs from the user's, and what is lost by it: values, no words.

`wording.py` makes sentences of them.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from chaosd.proxies.haproxy.cfg.source import Place


class Reason(Enum):
    """Why a line is changed, left out or added."""

    # The frontend that probes ask.
    ENTRY = "entry"  # the bind that probes ask
    OWN_ENTRY = "own entry"  # a frontend of chaosd's own
    NO_PROXY_LINE = "no PROXY line"  # the probe that speaks TLS sends none
    SHUT = "shut"  # a rule of the backend that lets no request of the probe in
    SOURCE_LET_IN = "source let in"  # the probe seems to come from where a rule lets it in
    UNBOUND = "unbound"  # any other bind
    FOLLOWED = "followed"  # a server at a bind of the same files
    # Names and addresses.
    NAMESERVER = "nameserver"
    RESOLV_CONF = "resolv.conf"
    MISSING_RESOLVERS = "missing resolvers"  # the section is in none of the files
    MISSING_USERS = "missing users"
    MISSING_FCGI = "missing fcgi-app"
    MISSING_BACKEND = "missing backend"
    APP_PORT = "app port"
    APP_ADDRESS = "app address"  # a name without `resolvers`: looked up once, at start
    NO_LIBC = "no libc"  # init-addr would ask this machine's DNS
    BESIDE_PORT = "beside port"  # another server of the backend, by its own name
    BESIDE_ADDRESS = "beside address"  # another server of the backend, by an address
    OTHER_BACKEND = "other backend"
    SOURCE = "source"  # an address or an interface of the user's to connect from
    DISPATCH = "dispatch"
    # What the stand-in app does not speak.
    OTHER_TLS = "other TLS"  # versions, ciphers
    MADE_AUTHORITY = "made authority"  # who is believed to be the app
    PLAIN_PROTOCOL = "plain protocol"  # HTTP/2, FastCGI
    NO_SOCKS = "no socks"
    REDIR = "redir"
    # Checks.
    CHECK_PORT = "check port"
    CHECK_ADDRESS = "check address"
    CHECK_PROTOCOL = "check protocol"  # MySQL, LDAP, …
    CHECK_RULE = "check rule"  # an answer that the stand-in app can't give
    EXTERNAL_CHECK = "external check"
    AGENT = "agent"
    TRACK = "track"
    # The process.
    PROCESS = "process"  # who it runs as, and where
    DESCRIPTORS = "descriptors"  # more connections than this machine allows
    API = "api"
    STATE_FILE = "state file"
    PEERS = "peers"
    RING = "ring"
    MAILERS = "mailers"
    LOG_FORWARD = "log-forward"
    ACME = "acme"
    PROGRAM = "program"
    LUA = "lua"
    SPOE = "spoe"
    # Logs.
    LOG = "log"
    # Files.
    NEWLINE = "newline"  # at the end of the last line
    CARRIED = "carried"  # put where HAProxy runs
    MADE_CERTIFICATE = "made certificate"
    EMPTY_FILE = "empty file"
    MISSING_FILE = "missing file"
    # The YAML.
    SET = "set"
    # Who answered.
    IDENTITY = "identity"
    # Not chaosd's wiring but a remedy, which the doctor proposes.
    MENDED = "mended"


class Lost(NamedTuple):
    """Something of the user's files that the copy does not have, and where."""

    place: Place
    reason: Reason
    detail: str = ""
