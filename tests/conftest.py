from __future__ import annotations

import pytest

from chaosd.proxies.haproxy import builds

NEEDS = (
    "haproxy",
    "docker",
    "prometheus",
    "chromium",
)  # markers of what a test needs on the machine


# Here time is real, and a machine that runs other tests beside them may take it away for a while:
# what fails gets two more tries, and the summary says so.
REAL_TIME = ("tests/local/", "tests/docker/", "tests/deploy/")
TRIES_MORE = 2


def pytest_collection_modifyitems(items) -> None:
    """Those first that mostly wait, side by side; those that keep a core busy afterwards."""
    for item in items:
        if item.nodeid.startswith(REAL_TIME):
            item.add_marker(pytest.mark.flaky(reruns=TRIES_MORE, reruns_delay=2))
    items.sort(key=lambda item: not item.nodeid.startswith(REAL_TIME))


@pytest.fixture
def haproxy() -> str:
    """The path of a real HAProxy, or a skip that says why."""
    path = builds.at_hand()
    if path is None:
        pytest.skip("no haproxy on this machine (chaosd haproxy install)")
    return path


def pytest_terminal_summary(terminalreporter) -> None:
    """Say how many tests of each kind ran, and how many could not: a green log must not hide it."""
    counts: dict[str, dict[str, int]] = {}
    outcomes = {"passed": "passed", "failed": "failed", "skipped": "skipped", "rerun": "run again"}
    for key, outcome in outcomes.items():
        for report in terminalreporter.stats.get(key, []):
            if outcome == "passed" and report.when != "call":
                continue
            folder = report.nodeid.split("/")[1] if report.nodeid.count("/") > 1 else "house rules"
            kinds = {folder} | {m for m in NEEDS if m in report.keywords}
            for kind in kinds:
                counts.setdefault(kind, {}).setdefault(outcome, 0)
                counts[kind][outcome] += 1
    terminalreporter.section("what ran")
    for kind, outcomes in sorted(counts.items()):
        said = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
        needs = " (needs it on this machine)" if kind in NEEDS else ""
        terminalreporter.write_line(f"{kind}{needs}: {said}")
