"""The sentences for what is found in a user's file."""

from __future__ import annotations

from collections.abc import Iterable

from chaosd.proxies.haproxy.cfg.backend import Unread
from chaosd.proxies.haproxy.cfg.findings import Finding, Kind
from chaosd.proxies.haproxy.cfg.limits import Change
from chaosd.proxies.haproxy.model.backend import Beyond, Limit, Unknown
from chaosd.proxies.haproxy.model.outlook import SERVERS_MAX
from chaosd.proxies.haproxy.model.users import PATIENT

SAID_MAX = 80  # characters of a line of the user's
IDENTITY_HEADER = "X-Chaosd-Instance"

_SENTENCES = {
    Kind.NOT_READ: "{detail}",
    Kind.NO_LISTENER: (
        'nothing binds to "${{CHAOSD_LISTEN}}", so probes can\'t get in '
        '(add: bind "${{CHAOSD_LISTEN}}" to a frontend)'
    ),
    Kind.NO_SERVER: (
        'no server is at "${{CHAOSD_APP}}", so the app can\'t be reached '
        '(add: server app "${{CHAOSD_APP}}" check resolvers … to a backend)'
    ),
    Kind.NO_NAMESERVER: (
        'no nameserver is at "${{CHAOSD_DNS}}", so moves can\'t be seen '
        '(add: nameserver dns "${{CHAOSD_DNS}}" to a resolvers section)'
    ),
    Kind.NO_IDENTITY: (
        "nothing says which address an answer comes from, and the app does not say who it is "
        f"(add: http-response set-header {IDENTITY_HEADER} @%si to the backend, "
        "or let the app say it and set app.identity: header)"
    ),
    Kind.NEVER_RESOLVED: (
        "this server is looked up once and never again (add: resolvers {detail} to the line)"
    ),
    Kind.OTHER_RESOLVERS: "resolvers {detail}",
    Kind.DESCRIPTORS: (
        "`{said}` takes two descriptors for each connection, of which HAProxy may have {detail} "
        "here: it would not start (lower it, or raise `ulimit -Hn`)"
    ),
    Kind.OPENS: (
        "`{said}` would be opened for real, beside what listens there already "
        '(take the line out, or let it say "${{{detail}}}")'
    ),
    Kind.PEERS: "`{said}` would join these peers for real (take the line out)",
    Kind.ASKS: (
        "`{said}` would ask a nameserver that is not chaosd's "
        '(take the line out, or let it be: nameserver dns "${{{detail}}}")'
    ),
    Kind.RUNS: (
        "`{said}` would run {detail} as this user "
        "(if you trust it: proxy.allow_programs: true, or --allow-programs)"
    ),
    Kind.COMMANDED: (
        "`{said}` would let every user of the engine's machine command this HAProxy "
        "(chaosd only reads: say level user)"
    ),
    Kind.NO_LOG: (
        'nothing logs to "${{CHAOSD_LOG}}", so when the proxy saw the move, and when its server '
        "came and went, is known by its stats socket at best, to some 30 ms "
        '(add: log "${{CHAOSD_LOG}}" local0 notice to global, and log global to defaults)'
    ),
    Kind.UNUSED_LOG: (
        "this log is used by no backend, so nothing of its servers is heard "
        "(add: log global to defaults)"
    ),
    Kind.NO_API: (
        'no stats socket is at "${{CHAOSD_API}}", so the resolver counters stay unknown '
        '(add: stats socket "${{CHAOSD_API}}" mode 600 level user to global)'
    ),
}

# What is not in the prediction, and what the answer may be wrong in.
_CHANGES = {
    Change.WHO: "which server a request goes to is not modelled: shares may differ",
    Change.BROUGHT: (
        "requests that bring it keep to the server that it stands for, also while that one does "
        "not answer: more of them fail, or fewer. Those without it are as predicted"
    ),
    Change.CROWD: (
        f"other rates than {PATIENT.rate:.0f} requests a second, with which more or fewer fail"
    ),
    Change.QUEUE: "left out of the prediction: where requests have to wait, more or fewer may fail",
    Change.AGENT: "what the agent says is not known: it may take the server out or back",
    Change.PROGRAM_CHECKS: (
        "what the program finds out is not known: when the server is DOWN and UP is not predicted"
    ),
    Change.CHECK_ADDRESS: "checks go to another address: taken as if it failed with the server",
    Change.CHECK_TIMES: "checks come sooner or later by this share",
    Change.DRAINED: "a check that is answered 404 takes the server out softly: not modelled",
    Change.ROLE: (
        "the check seems to let one instance of several pass: predicted as if all of them passed, "
        "but while that one moves all requests may fail"
    ),
    Change.RETRIED: "more requests are tried again than predicted: fewer may fail",
    Change.REDISPATCH: "taken as `option redispatch`: the last retry only",
    Change.REUSED: (
        "a retry may take a connection that another request has opened, and get to the new address "
        "by it: fewer fail. Where a node is lost, requests on open connections wait for "
        "`timeout server`: more fail"
    ),
    Change.PROGRAM: "what the program does to requests is not known",
    Change.DESTINATION: "a rule chooses the address: requests may not go to these servers",
    Change.FALLBACK: "this rule may send requests to another backend: fewer may fail",
    Change.PREFERRED_NET: "which of several addresses is taken is not modelled",
    Change.DNS_BY_TCP: "DNS over TCP: DNS trouble may take longer than predicted",
    Change.SOCKS: "the SOCKS proxy says how long an address that is gone is tried",
    Change.PROCESSES: "each process asks DNS and checks by itself: that many times the queries",
    Change.DISABLED: "the server stays out until somebody enables it",
    Change.NO_RESOLVERS: (
        "none of the files has this section: HAProxy's defaults are taken (give that file, too)"
    ),
    Change.UNSET: "no value here: HAProxy's default is taken (--env FILE gives the value)",
    Change.UNDECIDED: "taken as if it did not hold",
}
_UNREAD = {
    Unread.REFUSED: "{what}",
    Unread.UNKNOWN_WORD: "`{what}` is not a keyword that chaosd knows: the line is not read",
    Unread.NO_SLOTS: "`{what}` is not a number of servers (write it like 3 or 1-3)",
    Unread.NO_REQUESTS: "`{what}` serves no requests",
}
_BEYOND = {
    Beyond.NO_SERVER: "it has no server",
    Beyond.NO_NAMESERVER: "its resolvers section has no nameserver, so no address is ever found",
    Beyond.OLD_VERSION: "before HAProxy 2.1 the resolver worked differently",
    Beyond.TOO_MANY: f"it has more than {SERVERS_MAX} servers",
}


def say_limit(limit: Limit) -> str:
    """One line: `file:line: the words: what the answer may be wrong in`."""
    return f"{limit.file}:{limit.line}: `{limit.what}`: {_CHANGES[Change(limit.changes)]}"


def say_fixed(limits: Iterable[Limit]) -> str:
    """Why there is no prediction where no server has a name."""
    for limit in limits:
        if limit.changes == Change.DESTINATION:
            return f"no prediction: {say_limit(limit)}"
    return "addresses in the file: nothing moves by DNS"


def say_bound(limits: Iterable[Limit]) -> list[str]:
    """A line for each rule that may keep all probes, which are one client, away from what moves."""
    return [
        f"{limit.file}:{limit.line}: `{limit.what}`: probes are one client. If it keeps them to a "
        "server that does not move, no request fails, and the cycle ends without a recovery"
        for limit in limits
        if limit.changes == Change.WHO
    ]


def say_unknown(unknown: Unknown) -> str:
    """One line: why there is no prediction, `file:line: …` where a line is to blame."""
    where = "" if unknown.file is None else f"{unknown.file}:{unknown.line or 0}: "
    if unknown.why in {*Beyond}:
        return f"{where}{_BEYOND[Beyond(unknown.why)]}"
    return f"{where}{_UNREAD[Unread(unknown.why)].format(what=unknown.what)}"


def say(finding: Finding) -> str:
    """One line for the user: `file:line: what (remedy)`."""
    said = finding.said if len(finding.said) <= SAID_MAX else f"{finding.said[: SAID_MAX - 2]} …"
    what = _SENTENCES[finding.kind].format(detail=finding.detail, said=said)
    return f"{finding.place}: {what}"
