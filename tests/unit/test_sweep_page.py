"""The page of a sweep: whole, self-contained, escaped; what its pictures show."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import pytest
import sweeps
from test_html import parsed

from chaosd.report.document import Link, line, to_html, to_markdown
from chaosd.report.document import Paragraph as Words
from chaosd.sweep import page, racing, text, words
from chaosd.sweep.answer import Answer, answer


@cache
def made() -> Answer:
    found, truths, rng = sweeps.lab(blocks=25, off=1.4)
    stops = racing.look(found, 0.1)
    found = replace(found, stopped={k: words.stopped(s, found) for k, s in stops.items()})
    chosen = answer(found).recommendation
    assert chosen is not None
    return answer(sweeps.with_fresh(found, [chosen.arm.key, "k00"], truths, rng, 6))


def said(html: str) -> str:
    return " ".join("".join(parsed(html).words).split())


def test_it_is_whole_and_links_to_its_reports_alone() -> None:
    html = page.html(made())
    found = parsed(html)
    assert found.scripts == 0
    assert set(found.elsewhere) == {f"runs/{s.arm.name}/report.html" for s in made().standings}
    for elsewhere in ("://", "url(", "@import"):
        assert elsewhere not in html
    assert "default-src 'none'" in html


def test_it_says_what_the_text_says() -> None:
    found = said(page.html(made()))
    for each in (
        *words.recommendation(made()),
        *words.effects(made()),
        *map(words.interaction, made().interactions),
        *map(words.oddity, made().oddities),
        *text.stopped(made()),
    ):
        assert " ".join(each.split()) in found
    assert made().results.stopped
    assert made().oddities


def test_the_front_has_boxes_over_the_predicted_one() -> None:
    html = page.html(made())
    assert html.count('class="box front"') >= len(made().front)
    assert 'class="line predicted"' in html
    assert 'class="dot recommended"' in html
    assert 'class="dot baseline"' in html
    assert 'class="whisker open"' in html  # 25 cycles have no upper bound of a p95
    for x, y in re.findall(r'<rect class="box[^"]*" x="([\d.-]+)" y="([\d.-]+)"', html):
        assert 0 <= float(x) <= 960
        assert 0 <= float(y) <= 340


def test_a_prediction_has_no_boxes_and_says_that_it_is_one() -> None:
    html = page.html(answer(replace(made().results, seen=(), stopped={})))
    assert 'class="box' not in html
    assert "Predicted, not measured" in said(html)
    assert "Predicted front" in said(html)


def test_what_users_write_is_text() -> None:
    evil = '<script>alert("x")</script>'
    some = made().results
    arms = tuple(replace(arm, name=evil) for arm in some.arms)
    found = page.html(answer(replace(some, arms=arms, name=evil)))
    assert parsed(found).scripts == 0
    assert evil in said(found)


def test_nothing_known_is_a_page_too() -> None:
    nothing = replace(made().results, seen=(), foretold={}, stopped={})
    assert "No recommendation" in said(page.html(answer(nothing)))


def test_a_link_leads_to_a_file_below_and_nowhere_else() -> None:
    blocks = [Words(line(Link("a [report]", "runs/x-1/report.html")))]
    assert to_html(blocks) == '<p><a href="runs/x-1/report.html">a [report]</a></p>'
    assert to_markdown(blocks) == "[a [report]](runs/x-1/report.html)\n"
    for bad in (
        "https://x.example/",
        "javascript:alert(1)",
        "//x/y",
        "/etc/passwd",
        "a/../../b",
        "",
    ):
        with pytest.raises(ValueError, match="not a path below"):
            Link("x", bad)
