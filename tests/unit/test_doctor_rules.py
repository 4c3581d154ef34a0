"""Every rule of the doctor: its page, a file that it fires on, and one that it is silent on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chaosd.doctor import rule
from chaosd.doctor.examine import Diagnosis, Doctor
from chaosd.doctor.price import Model
from chaosd.doctor.reading import Files, Program, open_files

pytestmark = pytest.mark.usefixtures("few_trials")

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests/data/rules"
RULES = rule.installed()
IDS = [each.id for each in RULES]
MODEL = Model()  # what is alike in several files is asked for once
LINE_MAX = 120


def examined(files: Files, rules=RULES) -> Diagnosis:
    found = re.match(r"# version: (\S+)", files.sources[0].text)
    program = Program(found[1] if found else "3.2.26")
    return Doctor(program=program, setting=None, rules=rules, model=MODEL).examine(files)


def of(slug: str, name: str) -> Files:
    return open_files([DATA / slug / name], {})


@pytest.mark.parametrize("slug", IDS)
def test_it_fires(slug) -> None:
    found = examined(of(slug, "fires.cfg"))
    mine = [finding for finding in found.all if finding.rule == slug]
    assert mine
    for finding in mine:
        assert "{" not in finding.message
        lines = dict(enumerate(found.subject.sources[0].text.splitlines(), start=1))
        assert finding.spot.place.line in lines
        assert finding.spot.end <= len(lines[finding.spot.place.line]) + 1


@pytest.mark.parametrize("slug", IDS)
def test_it_is_silent(slug) -> None:
    assert slug not in [finding.rule for finding in examined(of(slug, "silent.cfg")).all]


@pytest.mark.parametrize("slug", IDS)
def test_what_it_mends_is_mended(slug) -> None:
    files = of(slug, "fires.cfg")
    found = [finding for finding in examined(files).all if finding.rule == slug]
    edits = [edit for f in found if f.remedy is not None for edit in f.remedy.edits]
    if not edits:
        pytest.skip("its remedy is in words")
    mended, _ = files.edited(edits)
    assert slug not in [finding.rule for finding in examined(mended).all]


@pytest.mark.parametrize("slug", IDS)
def test_its_page(slug) -> None:
    text = (ROOT / f"docs/rules/{slug}.md").read_text()
    assert text.startswith(f"# {slug}\n")
    for part in ("**Since**: ", "\nBefore:\n", "\nAfter:\n", "**The scenario that shows it**: "):
        assert part in text
    assert max(map(len, text.splitlines())) <= LINE_MAX


def test_ids_and_pages_are_those_of_the_entry_points() -> None:
    points = rule.plugins.available(rule.KIND)
    assert [each.id for each in RULES] == list(points)
    pages = {path.stem for path in (ROOT / "docs/rules").glob("*.md")}
    assert pages == {name for name, point in points.items() if point.value.startswith("chaosd.")}
    assert {path.name for path in DATA.iterdir()} >= pages
