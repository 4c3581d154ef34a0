"""The shapes of haproxy.cfg that are tried: the text, the world around it, and what happens there.

Timers are short, so that a cycle takes some seconds, and have no common periods.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from chaosd.plugins.timeline import Failure
from chaosd.proxies.haproxy.model.backend import Happening, Scenario

APP, OTHER = "app.internal", "other.internal"
SERVICE = "_http._tcp.app.internal"
NEW_ONLY = ("3.4",)  # `dns-accept-family auto`

CONFIG = """\
global
    nbthread 1
    stats socket {{api}} mode 600 level admin
defaults
    mode http
    timeout connect 400ms
    timeout client 10s
    timeout server 10s
    retries 1
{defaults}\
resolvers r
    nameserver one {{ns}}
{resolvers}\
frontend entry
    bind {{entry}}
    default_backend app
backend app
    balance roundrobin
{backend}\
"""
TIMERS = {
    "timeout resolve": "437ms",
    "timeout retry": "293ms",
    "resolve_retries": "2",
}
CHECK = "check inter 311ms fall 3 rise 2"
FOLLOWS = "resolvers r resolve-prefer ipv4 init-addr none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A haproxy.cfg, what it runs in, and what happens; the backend is `app`."""

    name: str
    config: str  # with words in braces: {entry}, {api}, {ns}, {ns2}, {old}
    scenario: Scenario
    horizon_s: float  # after T0
    names: tuple[tuple[str, int], ...] = ((APP, 1),)  # each with so many instances
    app: str = APP  # the name that moves
    ready: int = 1  # so many servers are up at first
    turns: int = 1  # of so many requests one goes to the instance that moves
    nameservers: int = 1  # the last ones are dead, if the scenario says so
    check_port: bool = False  # instances listen on another port, too
    lines: tuple[str, ...] | None = None  # of HAProxy; None: all
    ipv6_route: bool | None = None  # whether the host has one; None: it does not matter


def config(
    *servers: str,
    options: tuple[str, ...] = (),
    defaults: tuple[str, ...] = (),
    nameservers: tuple[str, ...] = (),
    **timers: str,
) -> str:
    """A haproxy.cfg. A timer such as `hold_nx` is a line `hold nx` of the resolvers."""
    words = {key.replace("_", " ", 1): value for key, value in timers.items()}
    lines = [f"{key} {value}" for key, value in (TIMERS | words).items()]
    return CONFIG.format(
        defaults=_block(defaults),
        resolvers=_block((*nameservers, *lines)),
        backend=_block((*options, *servers)),
    )


def _block(lines: tuple[str, ...]) -> str:
    return "".join(f"    {line}\n" for line in lines)


def server(name: str = "s", host: str = APP, words: str = f"{CHECK} {FOLLOWS}") -> str:
    return f"server {name} {host}:8080 {words}"


def template(slots: int = 4, host: str = APP, words: str = f"{CHECK} {FOLLOWS}") -> str:
    return f"server-template s {slots} {host}:8080 {words}"


def move(gap_s: float = 1.0, missing: Failure | None = Failure.NXDOMAIN) -> Scenario:
    return Scenario(
        happening=Happening.MOVE,
        published_s=gap_s,
        listening_s=gap_s,
        healthy_s=gap_s,
        missing=missing,
    )


def lost(gap_s: float = 1.0, missing: Failure | None = Failure.NXDOMAIN) -> Scenario:
    return replace(move(gap_s, missing), happening=Happening.NODE_LOST)


def taken(gap_s: float = 1.0, missing: Failure | None = Failure.NXDOMAIN) -> Scenario:
    """Another application answers at the old address."""
    return replace(move(gap_s, missing), happening=Happening.TAKEN)


trouble = partial(Scenario, happening=Happening.DNS_TROUBLE)

_ASKED = replace(move(), additional=False)
_GROWS = replace(move(), happening=Happening.GROWS)
_SHRINKS = replace(move(0.0), happening=Happening.SHRINKS)
_THREE = ((APP, 3),)
_TWO_NAMES = ((APP, 1), (OTHER, 1))
_UNCHECKED = template(words=FOLLOWS)


def _several() -> list[Shape]:
    """Names with several addresses."""
    replaced = partial(Shape, scenario=move(), names=_THREE, ready=3, turns=3, horizon_s=5.0)
    service = partial(replaced, app=SERVICE, names=((SERVICE, 3),))
    srv = f"server-template s 4 {SERVICE} {CHECK} {FOLLOWS}"
    late = replace(move(), published_s=2.0, listening_s=2.0, healthy_s=2.0)
    return [
        replaced(name="template, replace one of three", config=config(template())),
        replaced(name="template, no check, replace one of three", config=config(_UNCHECKED)),
        replaced(
            name="template, hold obsolete 3s",
            config=config(template(), hold_obsolete="3s"),
            turns=4,
            horizon_s=7.0,
        ),
        replaced(
            name="template, no check, hold obsolete 3s",
            config=config(_UNCHECKED, hold_obsolete="3s"),
            turns=4,
            horizon_s=7.0,
        ),
        replaced(
            name="template, redispatch", config=config(template(), options=("option redispatch",))
        ),
        replaced(
            name="template, node lost", config=config(template()), scenario=lost(), horizon_s=6.0
        ),
        replaced(name="template without a spare slot", config=config(template(3))),
        replaced(name="template, scale up", config=config(template()), scenario=_GROWS, turns=4),
        replaced(name="template, scale down", config=config(template()), scenario=_SHRINKS),
        service(name="SRV", config=config(srv)),
        service(name="SRV, no additional records", config=config(srv), scenario=_ASKED),
        service(
            name="SRV, one instance, NXDOMAIN for 2s",
            config=config(srv, hold_nx="1s"),
            names=((SERVICE, 1),),
            ready=1,
            turns=1,
            scenario=late,
            horizon_s=6.0,
        ),
    ]


def _single() -> list[Shape]:
    """One server of one name, or several of them."""
    one = partial(Shape, scenario=move(), horizon_s=5.0)
    two = partial(one, names=_TWO_NAMES, ready=2)
    both = (server("s1"), server("s2"))
    dup = f"{CHECK} {FOLLOWS} resolve-opts allow-dup-ip"
    app, other = server("s1"), server("s2", OTHER)
    return [
        one(name="single", config=config(server())),
        one(name="single, no gap", config=config(server()), scenario=move(0.0), horizon_s=4.0),
        one(name="single, node lost", config=config(server()), scenario=lost(), horizon_s=6.0),
        one(
            name="single, defaults of family",
            config=config(server(words=f"{CHECK} resolvers r init-addr none")),
        ),
        one(
            name="checks ask DNS",
            config=config(
                server(words=f"check inter 223ms fall 3 rise 2 {FOLLOWS}"),
                timeout_resolve="3s",
                hold_valid="0s",
            ),
            scenario=move(0.5, missing=None),
            horizon_s=6.0,
        ),
        one(
            name="checks ask DNS, hold valid 2s",
            config=config(
                server(words=f"check inter 223ms fall 3 rise 2 {FOLLOWS}"),
                timeout_resolve="5s",
                hold_valid="2s",
            ),
            horizon_s=9.0,
        ),
        one(name="two servers of one name", config=config(*both)),
        one(
            name="two servers of one name, allow-dup-ip",
            config=config(server("s1", words=dup), server("s2", words=dup)),
            ready=2,
        ),
        two(name="primary and backup", config=config(app, f"{other} backup"), horizon_s=6.0),
        two(name="two names", config=config(app, other), turns=2),
        two(
            name="two names, redispatch", config=config(app, other, options=("option redispatch",))
        ),
    ]


def _single_special() -> list[Shape]:
    """One server, and one setting that decides."""
    one = partial(Shape, scenario=move(), horizon_s=5.0)
    quick = {"hold_nx": "2s", "hold_obsolete": "6s"}
    return [
        one(
            name="check on another port",
            config=config(server(words=f"check port 8081 inter 311ms {FOLLOWS}")),
            check_port=True,
        ),
        one(
            name="httpchk, listens before it is healthy",
            config=config(server(), options=("option httpchk GET /",), hold_nx="500ms"),
            scenario=replace(move(), published_s=1.5, listening_s=1.5, healthy_s=3.0),
            horizon_s=7.0,
        ),
        one(
            name="by libc at start",
            config=config(f"server s {APP}:8080 {CHECK} init-addr {{old}}"),
            horizon_s=3.0,
        ),
        one(
            name="default-server resets resolve-prefer",
            config=config(
                server(words=f"{CHECK} init-addr none"),
                defaults=("default-server resolvers r resolve-prefer ipv4",),
                options=("default-server inter 311ms",),
            ),
        ),
        one(
            name="hold obsolete 1s",
            config=config(server(), hold_obsolete="1s"),
            scenario=move(0.0),
            horizon_s=5.0,
        ),
        one(
            name="NXDOMAIN beyond hold nx",
            config=config(server(), hold_nx="2s"),
            scenario=move(3.5),
            horizon_s=7.0,
        ),
        one(
            name="long hold obsolete, away for 1s",
            config=config(server(), **quick),
            horizon_s=10.0,
        ),
        one(
            name="long hold obsolete, away for 5s",
            config=config(server(), **quick),
            scenario=move(5.0),
            horizon_s=10.0,
        ),
    ]


def _troubled() -> list[Shape]:
    """Nothing moves, but DNS has trouble; and nameservers that are dead from the start."""
    calm = partial(Shape, horizon_s=6.0)
    holds = {"hold_timeout": "1s", "hold_other": "1s", "hold_nx": "1s"}
    second = ("nameserver two {ns2}",)
    silence = trouble(published_s=3.0, missing=Failure.SILENCE)
    unsaid = f"{CHECK} resolvers r init-addr none"
    return [
        calm(name="silence 3s", config=config(server(), **holds), scenario=silence),
        calm(
            name="SERVFAIL 2s, no holds",
            config=config(server(), hold_other="0s"),
            scenario=trouble(published_s=2.0, missing=Failure.SERVFAIL),
        ),
        calm(name="silence 3s, hold 30s", config=config(server()), scenario=silence),
        calm(
            name="silence 3s, template",
            config=config(template(), **holds),
            scenario=silence,
            names=_THREE,
            ready=3,
        ),
        calm(
            name="silence 3s of one of two nameservers",
            config=config(server(), nameservers=second, **holds),
            scenario=replace(silence, nameservers=1),
            nameservers=2,
        ),
        calm(
            name="NXDOMAIN 3s of one of two nameservers",
            config=config(server(), nameservers=second, **holds),
            scenario=trouble(published_s=3.0, missing=Failure.NXDOMAIN, nameservers=1),
            nameservers=2,
        ),
        calm(
            name="AAAA dropped 3s",
            config=config(server(words=unsaid), **holds),
            scenario=replace(silence, family="AAAA"),
        ),
        calm(
            name="two nameservers, one dead",
            config=config(server(), nameservers=second),
            scenario=replace(move(), dead=1),
            horizon_s=5.0,
            nameservers=2,
        ),
        calm(
            name="two nameservers, one dead, defaults of family",
            config=config(server(words=unsaid), nameservers=second),
            scenario=replace(move(), dead=1),
            horizon_s=5.0,
            nameservers=2,
        ),
        *(
            calm(
                name=f"dns-accept-family auto, {'an' if route else 'no'} IPv6 route",
                config=config(server(words=unsaid)),
                scenario=move(),
                horizon_s=5.0,
                lines=NEW_ONLY,
                ipv6_route=route,
            )
            for route in (False, True)
        ),
    ]


def _taken() -> list[Shape]:
    """The old address is another application's from T0 on: what it answers is misrouted."""
    one = partial(Shape, scenario=taken(), horizon_s=5.0)
    pool = partial(one, names=_THREE, ready=3, turns=3)
    kept = {"hold_nx": "2s", "hold_obsolete": "6s"}
    return [
        one(name="imposter, single", config=config(server())),
        one(name="imposter, no gap", config=config(server()), scenario=taken(0.0)),
        one(
            name="imposter, hold obsolete 3s",
            config=config(server(), hold_obsolete="3s"),
            horizon_s=7.0,
        ),
        one(
            name="imposter, away for 5s beyond hold nx",
            config=config(server(), **kept),
            scenario=taken(5.0),
            horizon_s=10.0,
        ),
        one(name="imposter, no check", config=config(server(words=FOLLOWS))),
        one(
            name="imposter, primary and backup",
            config=config(server("s1"), f"{server('s2', OTHER)} backup"),
            names=_TWO_NAMES,
            ready=2,
        ),
        pool(name="imposter, template, one of three", config=config(template())),
        pool(
            name="imposter, template, hold obsolete 3s",
            config=config(template(), hold_obsolete="3s"),
            turns=4,
            horizon_s=7.0,
        ),
        pool(
            name="imposter, SRV",
            config=config(f"server-template s 4 {SERVICE} {CHECK} {FOLLOWS}"),
            app=SERVICE,
            names=((SERVICE, 3),),
        ),
    ]


def _chosen() -> list[Shape]:
    """Shapes whose requests go to a server by how many it holds, or at random."""
    pool = partial(Shape, scenario=move(), names=_THREE, ready=3, turns=3, horizon_s=6.0)
    two = partial(Shape, scenario=move(), names=_TWO_NAMES, ready=2, turns=2, horizon_s=6.0)
    both = (server("s1"), server("s2", OTHER))
    slow = ("timeout connect 2s", "retries 2")
    kept = {"hold_obsolete": "3s"}
    return [
        pool(
            name="template, node lost, seldom checked",
            config=config(template(words=f"check inter 1s fall 3 rise 2 {FOLLOWS}"), defaults=slow),
            scenario=lost(7.0, missing=None),
            horizon_s=12.0,
        ),
        *(
            shape
            for name in ("leastconn", "random")
            for options in [(f"balance {name}",)]
            for shape in (
                pool(name=f"{name}, template", config=config(template(), options=options)),
                pool(
                    name=f"{name}, template, no check, hold obsolete 3s",
                    config=config(_UNCHECKED, options=options, **kept),
                    turns=4,
                    horizon_s=7.0,
                ),
                pool(
                    name=f"{name}, template, node lost",
                    config=config(template(), options=options, defaults=slow),
                    scenario=lost(2.0, missing=None),
                    horizon_s=10.0,
                ),
                two(name=f"{name}, two names", config=config(*both, options=options)),
            )
        ),
    ]


def _loaded() -> list[Shape]:
    """Shapes in which it counts how many requests a server holds, or has failed."""
    pool = partial(Shape, scenario=move(), names=_THREE, ready=3, turns=3, horizon_s=6.0)
    seldom = "check inter 2s fall 3 rise 2 "
    return [
        Shape(
            name="observe layer4",
            config=config(server(words=f"{seldom} observe layer4 {FOLLOWS}")),
            scenario=move(),
            horizon_s=8.0,
        ),
        pool(
            name="observe layer4, mark-down, template",
            config=config(
                template(
                    words=f"{seldom} observe layer4 error-limit 4 on-error mark-down {FOLLOWS}"
                )
            ),
            horizon_s=8.0,
        ),
        pool(
            name="observe layer7, fastinter, node lost",
            config=config(
                template(
                    words=f"{seldom} fastinter 150ms observe layer7 on-error fastinter {FOLLOWS}"
                )
            ),
            scenario=lost(4.0, missing=None),
            horizon_s=8.0,
        ),
        pool(
            name="slowstart 2s, template",
            config=config(template(words=f"{CHECK} slowstart 2s {FOLLOWS}"), hold_nx="1s"),
            horizon_s=8.0,
        ),
        Shape(
            name="maxconn 5, single, node lost",
            config=config(server(words=f"{CHECK} maxconn 5 {FOLLOWS}")),
            scenario=lost(),
            horizon_s=7.0,
        ),
        pool(
            name="maxconn 5, template",
            config=config(template(words=f"{CHECK} maxconn 5 {FOLLOWS}")),
        ),
    ]


SHAPES = (
    *_single(),
    *_single_special(),
    *_several(),
    *_troubled(),
    *_taken(),
    *_chosen(),
    *_loaded(),
)
