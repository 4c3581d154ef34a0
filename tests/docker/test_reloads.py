"""Another process of the proxy takes over in its container, with what the one before knew."""

from __future__ import annotations

import pytest
from stand import BASE

from chaosd.history.cycles import CycleOutcome
from chaosd.history.events import ServerChange, ServerChanged

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(180),
    pytest.mark.slow,
    pytest.mark.usefixtures("engine"),
]
PROXY = BASE["proxy"] | {"state_file": True}


def test_a_reload_in_the_middle_of_a_move(daemon, tmp_path) -> None:
    move = {"type": "recreate", "every": "12s", "with": [{"type": "reload", "at": "300ms"}]}
    ran = daemon(tmp_path / "a", "--cycles", "2", faults=[move], proxy=PROXY)
    assert ran.wait() == 0
    outcomes = [cycle.outcome for cycle in ran.cycles]
    assert set(outcomes) - {CycleOutcome.SKIPPED} == {CycleOutcome.RECOVERED}


@pytest.mark.parametrize("fault", ["reload", "proxy-restart"])
def test_the_state_file_says_where_the_server_is(daemon, tmp_path, fault) -> None:
    ran = daemon(
        tmp_path / "a", "--cycles", "2", faults=[{"type": fault, "every": "6s"}], proxy=PROXY
    )
    assert ran.wait() == 0
    assert not [cycle for cycle in ran.cycles if cycle.outcome is CycleOutcome.INVALID]
    # It need not look the name up before it has a server: without the file it says that it has.
    since_ns = min(cycle.t0_ns for cycle in ran.cycles)
    changes = (event for event in ran.events if isinstance(event.what, ServerChanged))
    addresses = [event for event in changes if event.what.change is ServerChange.ADDRESS]
    assert not [event for event in addresses if event.at_ns > since_ns]
    if fault == "reload":
        unaffected = (CycleOutcome.UNAFFECTED, CycleOutcome.SKIPPED)
        assert all(cycle.outcome in unaffected for cycle in ran.cycles)
