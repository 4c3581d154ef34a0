"""Every probe plugin passes the conformance suite: one table."""

from __future__ import annotations

import pytest

from chaosd import plugins
from chaosd.probes.http import HttpProbe
from chaosd.testing.probe import check_probe

TABLE = [{"type": "http"}, {"type": "httpx"}]


@pytest.mark.parametrize("part", TABLE, ids=lambda part: part["type"])
def test_it_conforms(part) -> None:
    check_probe(part)


def test_every_probe_is_in_the_table() -> None:
    ours = {n for n, p in plugins.available("probes").items() if p.value.startswith("chaosd.")}
    assert {part["type"] for part in TABLE} == ours


def test_the_suite_finds_a_second_attempt(monkeypatch) -> None:
    fire = HttpProbe.fire

    def twice(self, shot, target) -> None:
        fire(self, shot, target)
        fire(self, shot, target)

    monkeypatch.setattr(HttpProbe, "fire", twice)
    with pytest.raises(AssertionError, match=r"connections|times"):
        check_probe({"type": "http"})
