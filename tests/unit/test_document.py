"""Documents: as Markdown and as HTML, what a text contains stays text."""

from __future__ import annotations

from html.parser import HTMLParser

import budget
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from chaosd.report.document import (
    Block,
    Bullets,
    Code,
    CodeSpan,
    Emphasis,
    Heading,
    Paragraph,
    Strong,
    Table,
    Text,
    bullets,
    line,
    number_columns,
    paragraph,
    table,
    to_html,
    to_markdown,
    word_columns,
)

EVIL = "<script>&amp;|**_x_**`[a](b)[c]: d~~\\"
BLOCKS = [
    Heading("Title", level=1),
    paragraph("some ", Strong("strong"), " and ", Emphasis("other"), " words, ", CodeSpan("code")),
    bullets(["one", line("two: ", Strong("2"))]),
    table([*word_columns("name"), *number_columns("n", "mean")], [["a", 1, "2 s"], ["b", 22, ""]]),
    Code("key: value\n"),
]


def test_markdown_reads_well_as_it_is() -> None:
    assert to_markdown(BLOCKS) == (
        "# Title\n"
        "\n"
        "some **strong** and *other* words, `code`\n"
        "\n"
        "* one\n"
        "* two: **2**\n"
        "\n"
        "| name | n | mean |\n"
        "| --- | ---: | ---: |\n"
        "| a | 1 | 2 s |\n"
        "| b | 22 |  |\n"
        "\n"
        "```\nkey: value\n```\n"
    )


def test_html() -> None:
    assert to_html(BLOCKS) == (
        "<h1>Title</h1>"
        "<p>some <b>strong</b> and <em>other</em> words, <code>code</code></p>"
        "<ul><li>one</li><li>two: <b>2</b></li></ul>"
        '<table><tr><th>name</th><th class="n">n</th><th class="n">mean</th></tr>'
        '<tr><td>a</td><td class="n">1</td><td class="n">2 s</td></tr>'
        '<tr><td>b</td><td class="n">22</td><td class="n"></td></tr></table>'
        "<pre>key: value\n</pre>"
    )


@pytest.mark.parametrize(
    ("said", "escaped"),
    [
        ("recovery_p95 ≤ 2s: 1.08 s [0.64–?] (n 5)", "recovery_p95 ≤ 2s: 1.08 s [0.64–?] (n 5)"),
        ("p < 0.01 & more", "p &lt; 0.01 &amp; more"),
        ("<b>&lt;", "&lt;b>&amp;lt;"),
        ("*a* `b` _c_ \\d ~~e~~", "\\*a\\* \\`b\\` \\_c\\_ \\\\d \\~\\~e\\~\\~"),
        ("[a](b) [c][d]", "[a\\](b) [c\\][d]"),
        ("two\nlines", "two lines"),
        ("# no heading", "\\# no heading"),
        ("> no quote", "\\> no quote"),
        ("- no list", "\\- no list"),
        ("1. no list", "1\\. no list"),
        ("5 failovers", "5 failovers"),
        ("    no code", "no code"),
    ],
)
def test_what_means_something_in_markdown_is_escaped(said, escaped) -> None:
    assert to_markdown([paragraph(said)]) == f"{escaped}\n"
    assert to_markdown([bullets([said])]) == f"* {escaped}\n"


def test_a_file_does_not_end_its_fence() -> None:
    assert to_markdown([Code("a\n```\nb\n````")]) == "`````\na\n```\nb\n````\n`````\n"


def test_a_bar_ends_no_cell() -> None:
    found = to_markdown([table(word_columns("a|b"), [["c|d"], [CodeSpan("e|f")]])])
    assert found == "| a\\|b |\n| --- |\n| c\\|d |\n| `e\\|f` |\n"


def test_a_row_has_a_cell_for_each_column() -> None:
    with pytest.raises(ValueError, match="a row of 1 cells in a table of 2 columns"):
        table(word_columns("a", "b"), [["c"]])


# --- both are read by others as what they were ---------------------------------------------------

# Whatever a user may type, with what means something more often than chance would have it.
WORDS = st.text(
    st.one_of(st.sampled_from("<>&|*_`[]()\\~#+-=.:!1 ab\n"), st.characters(exclude_categories="C"))
).filter(lambda said: said.strip())
TRIMMED = WORDS.map(lambda said: f"x{said}x")  # what is emphasised has no blanks at its ends
LINES = st.lists(
    st.one_of(WORDS.map(Text), st.just(Strong("strong")), st.just(Emphasis("em"))), min_size=1
).map(lambda parts: tuple(part for text in parts for part in (text, Text(" "))))
DOCUMENTS = st.lists(
    st.one_of(
        st.builds(Heading, WORDS, st.integers(1, 3)),
        LINES.map(Paragraph),
        st.lists(LINES, min_size=1, max_size=3).map(lambda items: Bullets(tuple(items))),
        st.lists(st.tuples(LINES, TRIMMED.map(lambda s: (CodeSpan(s),))), max_size=3).map(
            lambda rows: Table(tuple(word_columns("some", "columns")), tuple(rows))
        ),
        st.lists(st.text("`~ab\n")).map(lambda parts: Code("x".join(["x", *parts, "x"]))),
    ),
    min_size=1,
    max_size=4,
)


class Outline(HTMLParser):
    """A page's words by the element that they are in; blanks are one."""

    KEPT = frozenset({"h1", "h2", "h3", "p", "li", "th", "td", "pre"})
    INSIDE = frozenset({"code", "em", "b", "strong"})
    AROUND = frozenset({"ul", "table", "thead", "tbody", "tr"})

    def __init__(self, page: str):
        super().__init__()
        self.found: list[list[str]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        assert tag in self.KEPT | self.INSIDE | self.AROUND
        if tag in self.KEPT:
            self.found.append([tag, ""])

    def handle_data(self, data):
        if self.found:
            self.found[-1][1] += data

    def outline(self):
        return [(tag, "".join(words.split())) for tag, words in self.found]


@settings(derandomize=True, max_examples=budget.of(30, 400), deadline=None)
@given(DOCUMENTS)
def test_others_read_the_same_in_both(blocks: list[Block]) -> None:
    markdown = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    # Two lists that follow each other would be one.
    blocks = [each for block in blocks for each in (block, paragraph("between"))]
    from_markdown = Outline(markdown.render(to_markdown(blocks)))
    assert from_markdown.outline() == Outline(to_html(blocks)).outline()


@pytest.mark.parametrize(
    "block",
    [
        Heading(EVIL),
        paragraph(EVIL, Strong(EVIL), Emphasis(EVIL), CodeSpan(EVIL)),
        bullets([EVIL]),
        table(word_columns(EVIL), [[EVIL]]),
        Code(EVIL),
    ],
)
def test_no_element_comes_of_a_text(block) -> None:
    assert "script" not in [tag for tag, _ in Outline(to_html([block])).found]
    assert "<script>" not in to_html([block])
    inline = [*Outline(MarkdownIt("commonmark").render(to_markdown([block]))).outline()]
    assert "<script>" in "".join(said for _, said in inline)
