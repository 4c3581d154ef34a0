"""The text of haproxy.cfg, for HAProxy 2.2 and later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from chaosd.history.values import Address
from chaosd.plugins.proxy import Wiring
from chaosd.proxies.haproxy.config import MS, Config
from chaosd.units import Duration

RESOLVERS, NAMESERVER, BACKEND, SERVER = "chaosd", "dns", "app", "app"


def text(config: Config, wiring: Wiring) -> str:
    """Render chaosd's own haproxy.cfg with concrete addresses, fit to be run by hand."""
    sections = (
        _global(config, wiring),
        _defaults(config),
        _resolvers(config, wiring),
        ["frontend entry", f"    bind {wiring.listen}", f"    default_backend {BACKEND}"],
        _backend(config, wiring),
    )
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def environment(wiring: Wiring) -> dict[str, str]:
    """Say the same addresses as the variables that a user's own haproxy.cfg refers to."""
    more = {f"CHAOSD_DNS_{n}": str(dns) for n, dns in enumerate(wiring.more_dns, start=2)}
    return more | {
        "CHAOSD_LISTEN": str(wiring.listen),
        "CHAOSD_DNS": str(wiring.dns),
        "CHAOSD_APP": f"{wiring.app_name}:{wiring.app_port}",
        "CHAOSD_LOG": _log(wiring),
        "CHAOSD_API": _api(wiring),
    }


def _log(wiring: Wiring) -> str:
    return "stdout" if wiring.log is None else str(wiring.log)


def _api(wiring: Wiring) -> str:
    return f"ipv4@{wiring.api}" if isinstance(wiring.api, Address) else str(wiring.api)


def time(duration: Duration) -> str:
    """Write a duration as HAProxy reads it: whole numbers only."""
    milliseconds = duration // MS
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def _global(config: Config, wiring: Wiring) -> list[str]:
    lines = [
        "# Written by chaosd.",
        "global",
        "    # Only what happens to servers; a line per request would drown it.",
        f"    log {_log(wiring)} local0 notice",
        f"    stats socket {_api(wiring)} mode 600 level user",
    ]
    if config.nbthread is not None:
        lines.append(f"    nbthread {config.nbthread}")
    if config.state_file:
        lines.append(f"    server-state-file {state_file(wiring)}")
    return lines


def state_file(wiring: Wiring) -> PurePath:
    """Where what is known of servers is kept over a reload."""
    return wiring.directory / "servers.state"


def _defaults(config: Config) -> list[str]:
    timeouts = config.timeouts
    lines = [
        "defaults",
        "    mode http",
        "    log global",
        f"    timeout connect {time(timeouts.connect)}",
        f"    timeout client {time(timeouts.client)}",
        f"    timeout server {time(timeouts.server)}",
    ]
    if timeouts.check is not None:
        lines.append(f"    timeout check {time(timeouts.check)}")
    lines.append(f"    retries {config.retries}")
    if config.redispatch_every:
        every = "" if config.redispatch is True else f" {config.redispatch_every}"
        lines.append(f"    option redispatch{every}")
    if config.state_file:
        lines.append("    load-server-state-from-file global")
    if config.http_reuse is not None:
        lines.append(f"    http-reuse {config.http_reuse}")
    return lines


def _resolvers(config: Config, wiring: Wiring) -> list[str]:
    resolvers, hold = config.resolvers, config.resolvers.hold
    lines = [
        f"resolvers {RESOLVERS}",
        *_nameservers(wiring),
        f"    timeout resolve {time(resolvers.timeout_resolve)}",
        f"    timeout retry {time(resolvers.timeout_retry)}",
        f"    resolve_retries {resolvers.resolve_retries}",
    ]
    if resolvers.accepted_payload_size is not None:
        lines.append(f"    accepted_payload_size {resolvers.accepted_payload_size}")
    holds = ("valid", "obsolete", "nx", "refused", "timeout", "other")
    return lines + [f"    hold {name} {time(getattr(hold, name))}" for name in holds]


def _nameservers(wiring: Wiring) -> Iterator[str]:
    for number, address in enumerate(wiring.nameservers, start=1):
        yield f"    nameserver {NAMESERVER}{number if number > 1 else ''} {address}"


def _backend(config: Config, wiring: Wiring) -> list[str]:
    lines = [f"backend {BACKEND}"]
    if config.http_check is not None:
        host = f"{wiring.app_name}:{wiring.app_port}"
        lines += [
            "    option httpchk",
            f"    http-check send meth GET uri {config.http_check} ver HTTP/1.1 hdr Host {host}",
        ]
    if wiring.by_address:
        lines += [
            "    # The app does not say who it is: its address does, as this connection had it.",
            "    http-response set-header X-Chaosd-Instance @%si",
        ]
    target = f"{wiring.app_name}:{wiring.app_port}"
    slots = wiring.replicas + config.spare_slots
    if slots > 1:
        head = f"    server-template {SERVER} {slots} {target}"
    else:
        head = f"    server {SERVER} {target}"
    return [*lines, " ".join((head, *_server(config)))]


def _server(config: Config) -> list[str]:
    server = config.server
    words = [
        f"resolvers {RESOLVERS}",
        f"resolve-prefer {server.resolve_prefer}",
        f"init-addr {server.init_addr}",
    ]
    if server.check:
        words += [f"check inter {time(server.inter)}"]
        words += [f"fastinter {time(server.fastinter)}"] if server.fastinter else []
        words += [f"downinter {time(server.downinter)}"] if server.downinter else []
        words += [f"fall {server.fall} rise {server.rise}"]
    words += [f"init-state {server.init_state}"] if server.init_state else []
    words += [f"on-marked-down {server.on_marked_down}"] if server.on_marked_down else []
    return words + ([server.extra] if server.extra else [])
