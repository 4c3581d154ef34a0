"""The sentences for what is found in a user's file."""

from __future__ import annotations

from chaosd.proxies.haproxy.cfg.findings import Finding, Kind

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
    Kind.NOT_MODELLED: "no prediction with {detail}",
    Kind.NOT_PREDICTED: "no prediction: {detail}",
}


def say(finding: Finding) -> str:
    """One line for the user: `file:line: what (remedy)`."""
    said = finding.said if len(finding.said) <= SAID_MAX else f"{finding.said[: SAID_MAX - 2]} …"
    what = _SENTENCES[finding.kind].format(detail=finding.detail, said=said)
    return f"{finding.place}: {what}"
