from __future__ import annotations

import functools
import gc
import json
import time
from collections import Counter
from pathlib import Path

import budget
import machine
import pytest
from hypothesis import settings

from chaosd.doctor import price
from chaosd.proxies.haproxy import builds, outlooks
from chaosd.proxies.haproxy.model import outlook

NEEDS = (
    "haproxy",
    "docker",
    "prometheus",
    "chromium",
)  # markers of what a test needs on the machine

# Here time is real: such a test is marked `real`. A machine that runs other tests beside it may
# take time away for a while, so what fails gets two more tries, and the summary names it.
REAL_TIME = ("tests/local/", "tests/docker/", "tests/deploy/")
REAL = ("real", "haproxy", "docker", "prometheus")
TRIES_MORE = 2

LATE = "the machine was late"
# What `make test-long` runs. Hypothesis marks its tests itself.
LONGER = ("slow", "sized", "hypothesis")

BEGAN_S = pytest.StashKey[float]()  # the first of the calls whose tally this is
LEFT = pytest.StashKey[int]()  # tests that are for `make test-long`

settings.register_profile("long", max_examples=500)
settings.register_profile("quick", max_examples=8)


def pytest_addoption(parser) -> None:
    parser.addoption(
        "--long", action="store_true", help="only what takes longer than every time, in full size"
    )
    parser.addoption(
        "--tally",
        type=Path,
        metavar="FILE",
        help="count what earlier calls with this file ran as if this one had run it",
    )


def pytest_configure(config) -> None:
    gc.disable()  # all that is collected stays: to look through it again and again takes a third
    config.stash[BEGAN_S] = time.monotonic()
    config.stash[LEFT] = 0
    budget.LONG = config.getoption("long")
    settings.load_profile("long" if budget.LONG else "quick")


def pytest_itemcollected(item) -> None:
    if item.nodeid.startswith(REAL_TIME) or any(map(item.get_closest_marker, REAL)):
        item.add_marker("real")
        item.add_marker(pytest.mark.flaky(reruns=TRIES_MORE, reruns_delay=2))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)  # hypothesis has to mark its own first
def pytest_collection_modifyitems(config, items) -> None:
    if config.getoption("long"):
        left = [item for item in items if not any(map(item.get_closest_marker, LONGER))]
    else:
        left = [item for item in items if item.get_closest_marker("slow")]
    if left:
        config.hook.pytest_deselected(items=left)
        config.stash[LEFT] = len(left)
        gone = set(left)
        items[:] = [item for item in items if item not in gone]
    items.sort(key=lambda item: item.get_closest_marker("early") is None)


# Of these files all tests look at what one fixture has run, or one look has read: one worker takes
# them all.
TOGETHER = (
    "tests/local/test_dns_presets.py",
    "tests/local/test_letting_out.py",
    "tests/local/test_rewired.py",
    "tests/contract/test_third_party.py",
    "tests/sim/test_arms.py",
    "tests/sim/test_arms_report.py",
    "tests/sim/test_damaged.py",
    "tests/sim/test_sweep.py",
    "tests/sim/test_verdict.py",
    "tests/unit/test_compare_files.py",
    "tests/test_docs.py",
    "tests/test_tidy.py",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `--dist loadgroup` a group is a file of these; every other test is by itself.

    xdist's own groups go by a marker, which it writes where this pytest does not read it.
    """
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if file in TOGETHER else nodeid

    return Scheduling(config, log)


@pytest.fixture
def few_trials(monkeypatch) -> None:
    """Outlooks of a tenth of the trials, for tests that are not about their spread."""
    few = functools.partial(outlook.outlook, trials=24)
    for room in (outlooks, price):
        monkeypatch.setattr(room, "outlook", few)


@pytest.fixture
def haproxy() -> str:
    """The path of a real HAProxy, or a skip that says why."""
    path = builds.at_hand()
    if path is None:
        pytest.skip("no haproxy on this machine (chaosd haproxy install)")
    return path


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """What was forgiven goes with the report, from a worker to where the summary is written."""
    report = yield
    if machine.LATE:
        late = [(LATE, what) for what in machine.LATE]
        report.user_properties = [*report.user_properties, *late]  # this report's, not the test's
        machine.LATE.clear()
    return report


# --- the closing summary: a green log must hide nothing ---


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error) -> None:
    """What a worker left out is left out by all of them: each collects everything."""
    node.config.stash[LEFT] = getattr(node, "workeroutput", {}).get("left", 0)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session) -> None:
    """Add what earlier calls ran, and leave all of it to the next one."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["left"] = config.stash[LEFT]
        return
    if (file := config.option.tally) is None:
        return
    stats, hook = config.pluginmanager.get_plugin("terminalreporter").stats, config.hook
    earlier = file.read_text().splitlines() if file.exists() else []
    lines: list[tuple[str, object]] = [
        ("began_s", config.stash[BEGAN_S]),
        ("left", config.stash[LEFT]),
    ]
    for outcome, reports in stats.items():
        for report in reports:
            if isinstance(report, pytest.TestReport | pytest.CollectReport):
                data = hook.pytest_report_to_serializable(config=config, report=report)
                data.pop("node", None)  # the worker, of which nothing can be written
                lines.append((outcome, data))
    with file.open("ab", buffering=0) as out:  # at once: another call may end in this moment
        out.write("".join(f"{json.dumps(line)}\n" for line in lines).encode())
    for outcome, data in map(json.loads, earlier):
        if outcome == "began_s":
            config.stash[BEGAN_S] = min(config.stash[BEGAN_S], data)
        elif outcome == "left":
            config.stash[LEFT] += data
        else:
            report = hook.pytest_report_from_serializable(config=config, data=data)
            if isinstance(report.longrepr, list):
                report.longrepr = tuple(report.longrepr)  # JSON made a list of it
            stats.setdefault(outcome, []).append(report)
    if earlier and session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK
    worst = {"failed", "error"} & {outcome for outcome, reports in stats.items() if reports}
    if worst and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config) -> None:
    """How many tests of each kind ran, how many could not, what was tried again or forgiven."""
    stats, write = terminalreporter.stats, terminalreporter.write_line
    terminalreporter.section("what ran")
    for kind, outcomes in sorted(_counts(stats).items()):
        said = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
        needs = " (needs it on this machine)" if kind in NEEDS else ""
        write(f"{kind}{needs}: {said}")
    again = [f"  {report.nodeid}: {_reason(report)}" for report in stats.get("rerun", [])]
    late = [
        f"  {report.nodeid}: {what}"
        for reports in stats.values()
        for report in reports
        for name, what in getattr(report, "user_properties", ())
        if name == LATE
    ]
    for what, lines in (("tried again", again), (f"passed although {LATE}", late)):
        write(f"{what}: {len(lines) or 'none'}")
        for line in lines:
            write(line)
    left, took_s = config.stash[LEFT], time.monotonic() - config.stash[BEGAN_S]
    if not config.getoption("long"):
        write(f"left to make test-long: {left}")
    write(f"time: {took_s:.0f} s")


def _counts(stats) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {}
    outcomes = {"passed": "passed", "failed": "failed", "error": "errors", "skipped": "skipped"}
    for key, outcome in (outcomes | {"rerun": "tried again"}).items():
        for report in stats.get(key, []):
            if not isinstance(report, pytest.TestReport):
                continue
            if outcome == "passed" and report.when != "call":
                continue
            folder = report.nodeid.split("/")[1] if report.nodeid.count("/") > 1 else "house rules"
            for kind in {folder} | {m for m in NEEDS if m in report.keywords}:
                counts.setdefault(kind, Counter())[outcome] += 1
    return counts


def _reason(report) -> str:
    """The first line of why it failed."""
    crash = getattr(report.longrepr, "reprcrash", None)
    said = crash.message if crash is not None else str(report.longrepr)
    return (said.splitlines() or ["no reason"])[0][:200]
