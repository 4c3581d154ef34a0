"""A haproxy.cfg and an image of the user's, and every HAProxy version that there is an image of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stand import left_of, why_not

from chaosd.history.cycles import CycleOutcome
from chaosd.runtimes.docker import images, objects

pytestmark = [pytest.mark.docker, pytest.mark.timeout(150)]

ROOT = Path(__file__).parents[2]
HEADERLESS = ROOT / "tests/data/headerless.py"
BY_ADDRESS = "    http-response set-header X-Chaosd-Instance @%si\n"
OLDEST = min(images.HAPROXY_VERSIONS, key=float)
FAULTS = [{"type": "recreate", "every": "4s"}]


@pytest.fixture
def own_image(engine):
    """An image of somebody else's: no header, no words about listening, another user."""
    tag = "chaosd-test-headerless:1"
    made = engine.create_container(images.app_tag(), user="0:0")["Id"]
    try:
        engine.put_archive(made, "/", objects.tar({"srv/app.py": HEADERLESS.read_bytes()}))
        change = ['CMD ["python3","-I","/srv/app.py"]', "USER 1000:1000"]
        engine.commit(made, *tag.split(":"), changes=change)
    finally:
        engine.remove_container(made, force=True)
    yield tag
    engine.remove_image(tag, force=True)


def recovered(run, at_least: int) -> list:
    cycles = [cycle for cycle in run.cycles if cycle.outcome != CycleOutcome.SKIPPED]
    assert {cycle.outcome for cycle in cycles} == {CycleOutcome.RECOVERED}, run.out
    assert len(cycles) >= at_least
    return cycles


@pytest.mark.slow  # test_own_file.py has a file of its own each time
def test_an_own_haproxy_cfg_and_an_own_image_without_a_header(
    engine, own_image, daemon, tmp_path
) -> None:
    if (reason := why_not(OLDEST)) is not None:
        pytest.skip(reason)
    tmp_path.joinpath("d").mkdir()
    text = (ROOT / "haproxy/haproxy.cfg").read_text() + BY_ADDRESS
    (tmp_path / "d/my.cfg").write_text(text)
    run = daemon(
        tmp_path / "d",
        *("--cycles", "2"),
        app={"image": own_image, "identity": "address", "port": 8000},
        proxy={"type": "haproxy", "config": "./my.cfg", "version": OLDEST},
        faults=FAULTS,
    )
    assert run.wait(120) == 0, run.err
    for cycle in recovered(run, 2):
        assert cycle.misrouted == 0
        assert cycle.failed + cycle.masked > 0
        assert cycle.new_ip != cycle.old_ip
    assert left_of(engine, run.run_id) == []


@pytest.mark.slow
@pytest.mark.parametrize("version", images.HAPROXY_VERSIONS)
def test_every_version_recovers(engine, daemon, tmp_path, version) -> None:
    if (reason := why_not(version)) is not None:
        pytest.skip(reason)
    resolvers = {"timeout_resolve": "200ms", "timeout_retry": "200ms"}
    proxy = {"type": "haproxy", "version": version, "resolvers": resolvers}
    run = daemon(tmp_path, "--cycles", "2", proxy=proxy)
    assert run.wait() == 0, run.err
    recovered(run, 2)
    manifest = json.loads((run.directory / "run.json").read_text())
    assert manifest["proxy_version"].startswith(f"{version}.")
    assert left_of(engine, run.run_id) == []
