"""The sentences for what the rewiring changes, and for what that does to the answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chaosd.proxies.haproxy.cfg.source import Place
from chaosd.proxies.haproxy.rewire.choose import Choice
from chaosd.proxies.haproxy.rewire.probe_route import ProbeRoute
from chaosd.proxies.haproxy.rewire.reasons import Lost, Reason
from chaosd.shown import one_line

# Why a line differs: a few words, beside it in the difference.
_WHY = {
    Reason.ENTRY: "the probe comes in here",
    Reason.OWN_ENTRY: "a frontend of chaosd's own leads to the backend",
    Reason.NO_PROXY_LINE: "the probe sends no PROXY line",
    Reason.SHUT: "no request that chaosd can make is sure to get past it",
    Reason.SOURCE_LET_IN: "a rule lets in who comes from there, so the probe does",
    Reason.UNBOUND: "no address of yours is bound: a private socket instead",
    Reason.FOLLOWED: "it points at a bind of these files and follows it",
    Reason.NAMESERVER: "chaosd's DNS answers your names",
    Reason.RESOLV_CONF: "chaosd's DNS instead of this machine's nameservers",
    Reason.MISSING_RESOLVERS: "the section is in none of the files",
    Reason.MISSING_USERS: "the section is in none of the files",
    Reason.MISSING_FCGI: "the section is in none of the files",
    Reason.MISSING_BACKEND: "the section is in none of the files",
    Reason.APP_PORT: "the name stays yours; chaosd's app listens on this port",
    Reason.APP_ADDRESS: "a name without resolvers is looked up once, at start",
    Reason.NO_LIBC: "libc would ask this machine's DNS for your name at start",
    Reason.BESIDE_PORT: "this server stands still at chaosd's second app",
    Reason.BESIDE_ADDRESS: "this server stands still at chaosd's second app",
    Reason.OTHER_BACKEND: "not the backend that moves: nothing is asked there",
    Reason.SOURCE: "this machine does not have that address or interface",
    Reason.DISPATCH: "no address of yours is connected to",
    Reason.OTHER_TLS: "the app's certificate is made by chaosd, for P-256",
    Reason.MADE_AUTHORITY: "the app's certificate is made by chaosd, which vouches for it",
    Reason.PLAIN_PROTOCOL: "chaosd's app and probe speak HTTP/1.1",
    Reason.NO_SOCKS: "there is no SOCKS proxy",
    Reason.REDIR: "clients would be sent away",
    Reason.CHECK_PORT: "chaosd's app answers checks on this port",
    Reason.CHECK_ADDRESS: "checks go to the server's own address",
    Reason.CHECK_PROTOCOL: "chaosd's app does not speak this protocol",
    Reason.CHECK_RULE: "chaosd's app can't give this answer",
    Reason.EXTERNAL_CHECK: "programs of the file are not run",
    Reason.AGENT: "there is no agent",
    Reason.TRACK: "the tracked server is not checked here",
    Reason.PROCESS: "chaosd runs HAProxy in the foreground, as this user",
    Reason.DESCRIPTORS: "more than this machine allows",
    Reason.API: "chaosd asks here for the servers' states",
    Reason.STATE_FILE: "HAProxy starts afresh",
    Reason.PEERS: "no other HAProxy is spoken to",
    Reason.RING: "nothing is sent to your log servers",
    Reason.MAILERS: "no mail is sent",
    Reason.LOG_FORWARD: "no logs of others are taken in",
    Reason.ACME: "no certificate is asked for",
    Reason.PROGRAM: "programs of the file are not run",
    Reason.LUA: "programs of the file are not run",
    Reason.SPOE: "no SPOE agent is spoken to",
    Reason.LOG: "chaosd reads the log, and only what happens to servers",
    Reason.NEWLINE: "HAProxy 2.3 and later want a newline there",
    Reason.CARRIED: "the file is put into the container",
    Reason.MADE_CERTIFICATE: "the certificate can't be read here: chaosd made one",
    Reason.EMPTY_FILE: "the file can't be read here: an empty one stands for it",
    Reason.MISSING_FILE: "the file can't be read here",
    Reason.SET: "your config sets this",
    Reason.IDENTITY: "answers say which address they come from",
    Reason.MENDED: "what chaosd doctor proposes",
}
# What is lost: what it was, and what that changes in the answer.
_LOST = {
    Reason.OWN_ENTRY: (
        "no request that chaosd can make gets past `{detail}` to the backend, so it comes in by a "
        "frontend of its own: what your frontends do is not in the answer "
        "(say what to ask for: --host, --path)"
    ),
    Reason.SHUT: (
        "`{detail}` is left out: no request that chaosd can make is sure to get past it. What it "
        "does to requests is not in the answer"
    ),
    Reason.NO_PROXY_LINE: (
        "`accept-proxy` is left out: chaosd's probe sends no PROXY line where it speaks TLS, which "
        "changes nothing for the backend"
    ),
    Reason.MISSING_RESOLVERS: (
        "resolvers `{detail}` is in none of the files, so HAProxy's defaults hold for its timers "
        "(give that file, too)"
    ),
    Reason.MISSING_USERS: (
        "userlist `{detail}` is in none of the files: nobody can log in (give that file, too)"
    ),
    Reason.MISSING_FCGI: (
        "fcgi-app `{detail}` is in none of the files: an empty one stands for it"
    ),
    Reason.MISSING_BACKEND: (
        "backend `{detail}` is in none of the files: it answers 503 (give that file, too)"
    ),
    Reason.APP_ADDRESS: (
        "`{detail}` has no resolvers: it is looked up once, at start, and never again. "
        "When it moves, requests go to the old address until a reload"
    ),
    Reason.BESIDE_ADDRESS: (
        "server `{detail}` has nobody to answer on this runtime: it counts as refused"
    ),
    Reason.SOURCE: "connections come from this machine's own address",
    Reason.DISPATCH: "`dispatch` is left out: its requests are answered 503",
    Reason.OTHER_TLS: (
        "`{detail}`: TLS to the server goes by this machine's defaults, which changes how long a "
        "handshake takes, and not when the new address is found"
    ),
    Reason.PLAIN_PROTOCOL: (
        "`{detail}`: HTTP/1.1 instead, so many requests on one connection are not measured"
    ),
    Reason.NO_SOCKS: (
        "`{detail}`: connections go straight to the app; how long the SOCKS proxy keeps trying an "
        "address that is gone is not in the answer"
    ),
    Reason.REDIR: "`{detail}`: requests are answered by the app, not by a redirect",
    Reason.CHECK_ADDRESS: (
        "`{detail}`: checks go to the server itself, so they notice its end, as yours may not"
    ),
    Reason.CHECK_PROTOCOL: (
        "`option {detail}`: checks only connect, so an app that listens but is not well counts "
        "as UP"
    ),
    Reason.CHECK_RULE: "`{detail}`: the check does not look at this, so it succeeds without it",
    Reason.EXTERNAL_CHECK: (
        "external checks are off: servers are checked by connecting to them, so what your program "
        "finds out, and how long it takes, is not in the answer (--allow-programs)"
    ),
    Reason.AGENT: "`{detail}`: no agent tells a weight or a state",
    Reason.TRACK: "`{detail}`: the server is checked by itself or not at all",
    Reason.DESCRIPTORS: (
        "`{detail}` needs more descriptors than this machine allows; it is less here, "
        "which changes nothing at the probe's rate"
    ),
    Reason.STATE_FILE: (
        "no server state is loaded: what a reload would restore is not in the answer"
    ),
    Reason.PEERS: "peer `{detail}` is not spoken to: stick tables begin empty",
    Reason.RING: "ring `{detail}` sends nothing",
    Reason.MAILERS: "no mail about servers is sent",
    Reason.LOG_FORWARD: "log-forward `{detail}` is left out",
    Reason.ACME: "acme `{detail}` is left out",
    Reason.PROGRAM: "program `{detail}` is not started",
    Reason.LUA: (
        "`{detail}` is left out, for Lua is off: what it does to requests and answers is not in "
        "the answer (--allow-programs, if the script is there)"
    ),
    Reason.SPOE: "SPOE is left out: what its agent decides, and its delay, is not in the answer",
    Reason.NEWLINE: (
        "the last line has no newline, and HAProxy 2.3 and later do not start with such a file: "
        "the copy has one (end your file with one)"
    ),
    Reason.MADE_CERTIFICATE: "`{detail}` can't be read here: chaosd made a certificate for it",
    Reason.EMPTY_FILE: (
        "`{detail}` can't be read here: an empty file or a plain page stands for it"
    ),
    Reason.MISSING_FILE: "`{detail}` can't be read here: the line is left out",
}


def why(reason: Reason) -> str:
    """A few words, beside a changed line."""
    return _WHY[reason]


def lost(found: Lost) -> str:
    """One line for the user: `file:line: what is not carried over, and what that changes`."""
    return f"{found.place}: {_LOST[found.reason].format(detail=one_line(found.detail))}"


def nothing_moves() -> str:
    """No backend of the files can be moved."""
    return "no backend has a server with a name: nothing in it can move by DNS"


def not_chosen(what: str, names: Sequence[str]) -> str:
    """One line: why no backend was chosen, and what there is to choose from."""
    if not names:
        return what
    return (
        f"{what} (say which one: --backend NAME, or proxy.backend; there are: {', '.join(names)})"
    )


def foreign(place: Place) -> str:
    """A line that no rule has rewritten, though it names an address that is not chaosd's."""
    return (
        f"{place}: chaosd does not know how to rewire this line, and would open, ask or run "
        "something of yours by it (take it out of a copy of the file, and please report it)"
    )


def unset(name: str, place: Place, value: str) -> str:
    """A variable that has no value here."""
    return (
        f"{place}: {name} has no value here, so it is `{value}` in the copy (--env FILE gives it)"
    )


def choices(choice: Choice, route: ProbeRoute) -> Iterator[str]:
    """What moves, what stands beside it, and how the probe gets there."""
    backend = choice.backend
    moved = ", ".join(server.name for server in choice.moved)
    first = choice.moved[0]
    how = f"by resolvers {first.values['resolvers'].value}" if choice.resolves else "only at start"
    where = f"{backend.kind} {backend.name} ({backend.place})"
    yield f"moves: {where}: {moved} at {first.address.text}, found {how}"
    if choice.beside:
        yield f"do not move: {', '.join(server.name for server in choice.beside)}"
    request = f"{'https' if route.tls else 'http'}, Host {route.request.host}, {route.request.path}"
    if route.request.source is not None:
        request += f", as if from {route.request.source}"
    if route.frontend is None:
        yield f"probes go to: a frontend of chaosd's own ({request})"
        return
    line = "without a bind" if route.bind is None else f"`{' '.join(route.bind.texts)}`"
    extra = ", a PROXY line first" if route.accept_proxy and not route.tls else ""
    yield f"probes go to: {route.frontend.kind} {route.frontend.name}, {line} ({request}{extra})"
