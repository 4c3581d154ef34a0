"""The house rules, as a test: one pass over all files, all findings at once."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path, PurePath

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "chaosd"
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 500

# Who may import whom: a room may import those it names here, and its own files.
LAYERS = {
    "errors": set(),
    "units": set(),
    "shown": set(),
    "system": {"errors", "shown"},
    "history": {"errors", "system", "shown"},
    "config": {"errors", "units", "plugins", "history", "system", "shown"},
    "plugins": {"dns", "errors", "units", "history", "system"},
    "analysis": {"errors", "history", "plugins", "system"},
    "dns": {"errors", "history", "system"},
    "faults": {"dns", "errors", "units", "history", "plugins", "shown", "system"},
    "probes": {"errors", "units", "history", "plugins", "system"},
}
# Nobody but these imports these: they put the parts together.
TOP = {
    "cli": {"__main__"},
    "calibration": {"cli"},
    "engine": {"cli", "calibration", "sweep", "testing", "live"},
    "plan": {"engine", "cli", "testing", "calibration", "sweep"},
}
# Only these may ask the operating system for the time, sleep, or draw unseeded randomness.
TIME = {"system/clock.py"}
BANNED = {
    "time.time": "use Clock.unix_ns",
    "time.time_ns": "use Clock.unix_ns",
    "time.monotonic": "use Clock.now_ns",
    "time.monotonic_ns": "use Clock.now_ns",
    "time.sleep": "use Clock.sleep_until",
    "asyncio.sleep": "use clock.sleep",
    "datetime.now": "use clock.utc",
    "random.random": "take a random.Random",
    "random.uniform": "take a random.Random",
    "os.kill": "signal a process that you hold, not a number",
}
# Commands that are about one plugin, as their names say.
OF_ONE_PLUGIN = {
    "cli/demo.py",
    "cli/doctor.py",
    "cli/haproxy.py",
    "cli/images.py",
    "cli/own_files.py",
}
OPEN_BYTES = {"os.open", "tarfile.open"}
# The prober's process is a program of its own, with the real clock inside.
OWN_PROGRAMS = {
    *("probes/worker.py", "probes/http.py", "probes/httpx.py", "probes/host.py"),
    "calibration/backend.py",  # neither is the backend whose outages are known
}


@cache
def modules() -> list[tuple[Path, ast.Module]]:
    return [(path, ast.parse(path.read_text())) for path in sorted(PACKAGE.rglob("*.py"))]


@cache
def nodes(tree: ast.Module) -> list[ast.AST]:
    return list(ast.walk(tree))


@cache
def called(call: ast.Call) -> str:
    """What is called, as it is written."""
    return ast.unparse(call.func)


def imported(tree: ast.Module) -> Iterator[str]:
    for node in nodes(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("chaosd"):
            module = node.module or ""
            if module == "chaosd":
                yield from (alias.name for alias in node.names)
            else:
                yield module.removeprefix("chaosd.")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("chaosd."):
                    yield alias.name.removeprefix("chaosd.")


def test_imports_point_one_way() -> None:
    wrong = []
    for path, tree in modules():
        name = path.relative_to(PACKAGE).with_suffix("").as_posix()
        own = name.split("/")[0]
        for target in imported(tree):
            room = target.split(".")[0]
            if own in LAYERS and room not in LAYERS[own] | {own, "__version__"}:
                wrong.append(f"{name} imports {target}")
            if room in TOP and own not in TOP[room] | {room}:
                wrong.append(f"{name} imports {target}")
            if target.startswith("runtimes.local") and not name.startswith("runtimes/local"):
                wrong.append(f"{name} imports {target}")  # a runtime needs no other
            if name.startswith("analysis") and room in {"live", "runtimes", "probes", "report"}:
                wrong.append(f"{name} (pure) imports {target}")
    assert not wrong


def circles(found: Iterable[tuple[Path, ast.Module]], depth: int = 1) -> list[str]:
    """Imports that lead from a room through others back to it: folders down to this depth.

    A folder and those in it are one another's: what they share is in the outer one.
    """
    found = [(path.relative_to(PACKAGE).with_suffix(""), tree) for path, tree in found]
    folders = {folder for path, _ in found for folder in path.parents}

    def room_of(module: PurePath) -> PurePath:
        room = module if module in folders or len(module.parts) == 1 else module.parent
        return PurePath(*room.parts[:depth])

    imports: dict[PurePath, dict[PurePath, str]] = {}  # room → the rooms it imports, and where
    for path, tree in found:
        own = room_of(path)
        for target in imported(tree):
            room = room_of(PurePath(*target.split(".")))
            if own not in (room, *room.parents) and room not in (
                PurePath("__version__"),
                *own.parents,
            ):
                imports.setdefault(own, {})[room] = f"{path}.py"

    def reached(room: PurePath) -> set[PurePath]:
        found, ahead = set(), [room]
        while ahead:
            new = imports.get(ahead.pop(), {}).keys() - found
            found |= new
            ahead += new
        return found

    return [
        f"{where}: {room} imports {other}, which comes back to {room}"
        for room, others in imports.items()
        for other, where in others.items()
        if room in reached(other)
    ]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_no_folder_imports_in_a_circle(depth) -> None:
    assert not circles(modules(), depth)


# Causes, doubts and remarks are compared by their kind, and by nothing that is said of them.
BY_PROSE = re.compile(
    r"valid_reason|of poor quality|\breasons?\.(startswith|endswith|find|index)\(|"
    r"[\"'] (not )?in [\w.]*reasons?\b|[\w.]*reason\b (==|!=) [\"']|\bmatch\([^)]*reason"
)
# Stored for people, and read from old directories.
BY_PROSE_MAY = ("history/codec.py", "history/format_0.py")
# Rooms whose results are values. What a failure says to its user in an error is no result.
WITHOUT_WORDS = ("analysis/", "history/")
WORDS_MAX = 3  # a name, a unit or a format may have some
WORDS_MAY = {
    "history/format_0.py": "the words of old directories",
    "analysis/reorder.py": "an assertion's",
}


def by_prose(text: str) -> list[int]:
    """Lines that decide something by a sentence."""
    lines = enumerate(text.splitlines(), start=1)
    return [number for number, line in lines if BY_PROSE.search(line)]


def sentences(tree: ast.Module) -> list[int]:
    """Lines with words for people, but for docstrings and errors."""
    aside = set()
    for node in nodes(tree):
        error = isinstance(node, ast.Raise | ast.Assert)
        error |= isinstance(node, ast.Call) and called(node).endswith("Error")
        if error or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            aside |= {id(part) for part in ast.walk(node)}
    return [
        node.lineno
        for node in nodes(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in aside
        and len(re.findall(r"[A-Za-z]{2,}", node.value)) >= WORDS_MAX
        and " " in node.value.strip()
    ]


def test_reasons_are_values_and_only_report_has_words() -> None:
    wrong = []
    for path, tree in modules():
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith(BY_PROSE_MAY):
            wrong += [f"{name}:{line}: goes by prose" for line in by_prose(path.read_text())]
        if name.startswith(WITHOUT_WORDS) and name not in WORDS_MAY:
            wrong += [f"{name}:{line}: has words (report/ has them)" for line in sentences(tree)]
    assert not wrong


def guesses(tree: ast.Module) -> list[ast.Call]:
    """Looks for a name in something, to see what it can do."""
    return [
        node
        for node in nodes(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and (
            node.func.id == "hasattr"
            or (
                node.func.id == "getattr"
                and (len(node.args) > 2 or isinstance(node.args[1], ast.Constant))
            )
        )
    ]


def test_nobody_guesses_what_a_plugin_has() -> None:
    """What a plugin can do is a typed protocol, and not a name that is looked for in it.

    To walk through the fields of a value of ours by their names is something else.
    """
    wrong = [
        f"{path.relative_to(PACKAGE)}:{call.lineno}: {ast.unparse(call)}"
        for path, tree in modules()
        for call in guesses(tree)
    ]
    assert not wrong


def test_only_the_clock_asks_for_the_time() -> None:
    wrong = []
    for path, tree in modules():
        name = path.relative_to(PACKAGE).as_posix()
        if name in TIME | OWN_PROGRAMS:
            continue
        for node in nodes(tree):
            if isinstance(node, ast.Call) and (what := called(node)) in BANNED:
                wrong.append(f"{name}:{node.lineno}: {what} is banned, {BANNED[what]}")
    assert not wrong


def test_text_is_utf8_whatever_the_locale() -> None:
    """A file that is written where the locale is POSIX is read where it is not, and reverse."""
    wrong = []
    for path, tree in modules():
        name = path.relative_to(PACKAGE).as_posix()
        for node in nodes(tree):
            if not isinstance(node, ast.Call) or "encoding" in {k.arg for k in node.keywords}:
                continue
            what = called(node).rpartition(".")[2]
            binary = any(isinstance(a, ast.Constant) and "b" in str(a.value) for a in node.args)
            opens = what == "open" and not binary and called(node) not in OPEN_BYTES
            starts = what in {"run", "Popen"} and "text" in {k.arg for k in node.keywords}
            reads = what in {"read_text", "write_text"}
            if opens or starts or reads:
                wrong.append(f"{name}:{node.lineno}: {what} without an encoding")
    assert not wrong


def test_functions_fit_a_screen_and_files_are_one_room() -> None:
    wrong = []
    for path in (
        *PACKAGE.rglob("*.py"),
        *ROOT.glob("tests/**/*.py"),
        *ROOT.glob("http-server/*.py"),
    ):
        if (lines := len(path.read_text().splitlines())) > FILE_LINES_MAX:
            wrong.append(f"{path.relative_to(ROOT)}: {lines} lines")
    for path, tree in modules():
        name = path.relative_to(PACKAGE).as_posix()
        for node in nodes(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    wrong.append(f"{name}:{node.lineno}: {node.name} has {lines} lines")
    assert not wrong


def test_every_plugin_file_has_its_entry_point() -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    declared = {point.split(":")[0] for group in points.values() for point in group.values()}
    # What carries the probes, or what faults have in common, and is none itself.
    helpers = {f"chaosd.probes.{name}" for name in ("host", "worker", "wire", "outcomes", "pace")}
    helpers |= {
        f"chaosd.runtimes.{name}"
        for name in (
            "dns_answers",
            "readiness",
            "realtime",
            "roster",
            "senders",
            "surroundings",
            "syslog",
        )
    } | {"chaosd.runtimes.unread", "chaosd.faults.impairing", "chaosd.faults.turnover"}
    for kind in ("runtimes", "proxies", "faults", "probes"):
        for path in sorted((PACKAGE / kind).iterdir()):
            if path.stem.startswith("__"):
                continue
            module = f"chaosd.{kind}.{path.stem}"
            assert module in declared | helpers, f"{module} has no line in pyproject.toml"


def test_nothing_concrete_is_named_outside_its_own_file() -> None:
    """Concrete plugins are named in pyproject.toml and in YAML, not in the code around them."""
    for name in (
        "engine/run.py",
        "engine/cell.py",
        "plan/__init__.py",
        "config/shape.py",
        *sorted(f"cli/{path.name}" for path in (PACKAGE / "cli").glob("*.py")),
    ):
        if name in OF_ONE_PLUGIN:
            continue
        path = PACKAGE / name
        for target in imported(ast.parse(path.read_text())):
            assert not re.match(r"(runtimes|proxies|faults|probes)\.", target), f"{name}: {target}"


# What only HAProxy says: its files, its syntax, its log, its Runtime API, its masks.
HAPROXY_ONLY = re.compile(
    r"haproxy\.cfg|haproxy\.log|ipv[46]@|unix@|sockpair@|stats socket|default-server|\bSRV_|srv_\w|"
    r"(op|admin)_state|0x(01|02|04|08|10|20)\b|show (servers|resolvers|stat|info)|"
    r"changed its IP|IP changed|enters maintenance|going DOWN|is DOWN|is UP\b|DOWN/READY|UP/READY|"
    r"administratively|check duration|Layer[47]|No IP for server|DNS \w+ status"
)
# Where it may be said, and where a single mention is: help, and how old run directories are read.
HAPROXY_ROOMS = ("proxies/haproxy/", "doctor/")
HAPROXY_MENTIONS = {
    "report/settings.py": 1,
    "cli/__init__.py": 1,
    "cli/doctor.py": 3,
    "sweep/values.py": 1,
}


def haproxys_own(text: str) -> list[int]:
    """Lines with what only HAProxy says."""
    lines = enumerate(text.splitlines(), start=1)
    return [number for number, line in lines if HAPROXY_ONLY.search(line)]


def test_haproxys_own_words_are_in_its_own_room() -> None:
    wrong = []
    for path, _ in modules():
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith(HAPROXY_ROOMS):
            found = haproxys_own(path.read_text())[HAPROXY_MENTIONS.get(name, 0) :]
            wrong += [f"{name}:{line}" for line in found]
    assert not wrong


# Who reads otherwise than by system/files.py: of the kernel, of the package, of its own making.
READERS = {
    *("system/files.py", "system/processes.py", "cli/init.py", "report/html/shell.py"),
    *("system/machine.py", "system/usage.py"),  # of /proc, and of what the kernel has
    *("runtimes/docker/images.py", "runtimes/docker/sidecar.py", "runtimes/docker/objects.py"),
    *("runtimes/docker/endpoint.py", "runtimes/docker/network.py", "runtimes/docker/members.py"),
    *(
        "runtimes/local/loopback.py",
        "runtimes/senders.py",
        "proxies/haproxy/builds/install.py",
        "testing/proxy.py",
    ),
}


def test_files_of_others_are_opened_in_one_place() -> None:
    """A FIFO hangs, a device has no end: system/files.py reads neither, and nothing too large."""
    reads = re.compile(
        r"(?<!files)\.read_(bytes|text)\(|\.open\(\"rb\"|\.open\(encoding=|np\.fromfile"
    )
    wrong = [
        f"{name}:{number}"
        for path, _ in modules()
        if (name := path.relative_to(PACKAGE).as_posix()) not in READERS
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if reads.search(line)
    ]
    assert not wrong


def test_links_and_paths_in_documents_exist() -> None:
    wrong = []
    for document in [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text()):
            if "://" not in target and not (document.parent / target).exists():
                wrong.append(f"{document.name}: {target}")
    guide = (ROOT / "docs/whats-here.md").read_text()
    for place in re.findall(r"`([\w./-]+\.py|[\w-]+/)`", guide):
        if not any(
            (base / place).exists()
            for base in (ROOT, PACKAGE, PACKAGE / "runtimes", PACKAGE / "report", ROOT / "tests")
        ):
            wrong.append(f"whats-here.md: {place}")
    for path, _ in modules():
        room = path.relative_to(PACKAGE).as_posix()
        if f"`{room.split('/')[0]}/`" in guide or path.stem.startswith("__"):
            continue
        if f"`{room}`" not in guide:
            wrong.append(f"whats-here.md does not tell of {room}")
    assert not wrong


def test_nothing_is_left_to_do_in_the_code() -> None:
    marks = re.compile(r"\b(TOD[O]|FIXM[E]|XX[X])\b")
    wrong = [
        str(path.relative_to(ROOT))
        for pattern in ("chaosd/**/*.py", "http-server/*.py", "tests/**/*.py", "Makefile")
        for path in ROOT.glob(pattern)
        if marks.search(path.read_text())
    ]
    assert not wrong
