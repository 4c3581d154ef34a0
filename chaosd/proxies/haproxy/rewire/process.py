"""What the process itself does: who it runs as, what it opens, where it logs."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.proxies.haproxy.cfg.source import Place, Section, Statement
from chaosd.proxies.haproxy.rewire.edits import Drop, Edit, Insert, replace_line, replace_word
from chaosd.proxies.haproxy.rewire.reasons import Reason
from chaosd.proxies.haproxy.rewire.scene import Scene

# Descriptors of HAProxy beside those of its connections, of which each has two.
_DESCRIPTORS_BESIDE = 1000

# Keywords of `global` whose lines are left out.
GLOBAL = {
    **dict.fromkeys(("user", "group", "uid", "gid", "chroot", "daemon", "pidfile"), Reason.PROCESS),
    **dict.fromkeys(("master-worker", "mworker-max-reloads", "nbproc"), Reason.PROCESS),
    **dict.fromkeys(
        ("unix-bind", "setcap", "set-dumpable", "grace", "zero-warning"), Reason.PROCESS
    ),
    **dict.fromkeys(("ulimit-n", "fd-hard-limit"), Reason.DESCRIPTORS),
    **dict.fromkeys(("server-state-file", "server-state-base"), Reason.STATE_FILE),
    **dict.fromkeys(("shm-stats-file", "stats-file"), Reason.STATE_FILE),
    **dict.fromkeys(("ocsp-update.mode", "ssl-provider"), Reason.PROCESS),
}
# … unless programs may run.
PROGRAMS = {
    **dict.fromkeys(("external-check", "insecure-fork-wanted"), Reason.EXTERNAL_CHECK),
    **dict.fromkeys(("lua-load", "lua-load-per-thread", "lua-prepend-path"), Reason.LUA),
    **dict.fromkeys(
        ("ssl-passphrase-cmd", "module-path", "module-load", "ssl-engine"), Reason.PROGRAM
    ),
}
# Sections that are left out as a whole: they open or ask something beside the proxies.
SECTIONS = {
    "program": Reason.PROGRAM,
    "mailers": Reason.MAILERS,
    "log-forward": Reason.LOG_FORWARD,
    "acme": Reason.ACME,
}


def leave_out(scene: Scene, section: Section, line: Statement) -> Iterator[Edit]:
    """A line of `global` that is about where and as whom HAProxy runs."""
    reason = GLOBAL.get(line.keyword) or PROGRAMS[line.keyword]
    if line.keyword in PROGRAMS and scene.programs:
        if line.keyword == "lua-load" and line.words[1:]:
            there = scene.find(line.texts[1])
            yield from scene.renamed(line, line.words[1], there or line.texts[1])
        return
    if reason is not Reason.PROCESS:
        scene.lose(line.place, reason, " ".join(line.texts[:2]))
    yield Drop(line.place, reason)


def maxconn(scene: Scene, section: Section, line: Statement) -> Iterator[Edit]:
    """More connections than this machine allows descriptors: HAProxy would not start."""
    limit = scene.ours.descriptors
    if limit is None or not line.words[1:] or not line.texts[1].isdecimal():
        return
    most = max(100, (limit - _DESCRIPTORS_BESIDE) // 2)
    if int(line.texts[1]) > most:
        scene.lose(line.place, Reason.DESCRIPTORS, line.texts[1])
        yield replace_word(line, line.words[1], str(most), Reason.DESCRIPTORS)


def stats(scene: Scene, section: Section, line: Statement) -> Iterator[Edit]:
    """The Runtime API: one socket, where chaosd asks."""
    if line.says("stats", "socket"):
        if section.kind == "global" and line == _sockets(scene)[0]:
            yield replace_line(line, _api(scene), Reason.API)
        else:
            yield Drop(line.place, Reason.API)
    elif line.says("stats", "bind-process"):
        yield Drop(line.place, Reason.PROCESS)


def _sockets(scene: Scene) -> list[Statement]:
    lines = scene.effective.document.statements("global")
    return [line for _, line in lines if line.says("stats", "socket")]


def _api(scene: Scene) -> str:
    return f"stats socket {scene.ours.api} mode 600 level user"


# --- logs ---


def log(scene: Scene, section: Section, line: Statement) -> Iterator[Edit]:
    """A log target: chaosd's own, once, in `global`; elsewhere `log global`."""
    if line.modifier or line.says("log", "global"):
        return
    others = [s for s in section.statements if s.keyword == "log" and not s.modifier]
    if section.kind == "global":
        is_first = line == _log_lines(scene)[0]
        text = _log(scene)
    else:
        is_first = line == others[0] and not any(s.says("log", "global") for s in others)
        text = "log global"
    yield replace_line(line, text, Reason.LOG) if is_first else Drop(line.place, Reason.LOG)


def log_target(scene: Scene, section: Section, line: Statement) -> Iterator[Edit]:
    """Where a ring sends what it holds."""
    scene.lose(line.place, Reason.RING, section.name)
    yield Drop(line.place, Reason.RING)


def _log_lines(scene: Scene) -> list[Statement]:
    lines = scene.effective.document.statements("global")
    return [s for _, s in lines if s.says("log") and not s.says("log", "global")]


def _log(scene: Scene) -> str:
    return f"log {scene.ours.log} local0 notice"


# --- what chaosd adds ---


def additions(scene: Scene, top: Place) -> Iterator[Edit]:
    """The log and the Runtime API, where the files have none; and the backend's own log line."""
    lines: list[tuple[str, Reason]] = []
    if not _log_lines(scene):
        lines.append((_log(scene), Reason.LOG))
    if not _sockets(scene):
        lines.append((_api(scene), Reason.API))
    sections = [s for s in scene.effective.document.sections if s.kind == "global"]
    if sections:
        for text, reason in lines:
            yield Insert(sections[0].header.place, reason, lines=(f"    {text}",))
    else:
        lines += [(text, Reason.SET) for text in scene.overrides.process.values()]
        texts = ("global", *(f"    {text}" for text, _ in lines), "")
        yield Insert(top, Reason.LOG, lines=texts)
    yield from _backend_log(scene)


def _backend_log(scene: Scene) -> Iterator[Edit]:
    """A backend says what happens to its servers only to its own log."""
    backend = scene.choice.backend
    logs = [s for s in (*backend.inherited, *backend.statements) if s.keyword == "log"]
    refused = [s for s in logs if s.modifier == "no"]
    if not logs or (refused and refused[-1] == logs[-1]):
        yield Insert(backend.place, Reason.LOG, lines=("    log global",))
    if scene.ours.by_address:
        text = "    http-response set-header X-Chaosd-Instance @%si"
        yield Insert(backend.place, Reason.IDENTITY, lines=(text,))
