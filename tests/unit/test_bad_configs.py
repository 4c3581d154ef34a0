"""Every mistake in tests/data/bad-configs is said with exactly the words at the top of its file."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoints
from pathlib import Path

import pytest

from chaosd import plugins
from chaosd.config import shape
from chaosd.errors import ConfigError, Exit

CORPUS = sorted((Path(__file__).parent.parent / "data" / "bad-configs").glob("*.yaml"))
MARK = "# expect: "


@pytest.fixture(scope="module", autouse=True)
def built_in_plugins_only() -> Iterator[None]:
    """Messages list what is installed; other people's plugins may be, where the tests run."""

    installed = plugins.entry_points

    @cache  # to look up whose each is reads a file for it
    def ours(group: str) -> EntryPoints:
        found = installed(group)
        return EntryPoints(point for point in found if point.dist and point.dist.name == "chaosd")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugins, "entry_points", ours)
        yield


def test_the_corpus_is_there() -> None:
    assert len(CORPUS) >= 45


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_mistakes_are_said_exactly(path: Path) -> None:
    lines = path.read_bytes().decode(errors="replace").splitlines()
    expected = [f"{path}:{line.removeprefix(MARK)}" for line in lines if line.startswith(MARK)]
    assert expected
    with pytest.raises(ConfigError) as caught:
        shape.load(path)
    assert list(caught.value.problems) == expected
    assert caught.value.exit_code == Exit.USAGE
