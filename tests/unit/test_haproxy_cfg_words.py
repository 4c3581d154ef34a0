"""Words of a line: HAProxy's quotes, escapes and variables, and their places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosd.proxies.haproxy.cfg.dialect import Dialect
from chaosd.proxies.haproxy.cfg.lexer import Variable, expand_address, split
from chaosd.proxies.haproxy.cfg.units import read_ms

ENVIRONMENT = {
    name: Variable(text, frozenset({name}))
    for name, text in {"A": "one", "LIST": "x  y z", "EMPTY": "", "PAD": " p "}.items()
}


def words(line: str, version: str = "2.6.12") -> list[str]:
    found, fault = split(line, ENVIRONMENT, Dialect.of(version))
    assert fault is None
    return [word.text for word in found]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("server  a\tb:80 ", ["server", "a", "b:80"]),
        ("a # comment", ["a"]),
        ("a#comment", ["a"]),
        (r"a \# b", ["a", "#", "b"]),
        ('"a # b" c', ["a # b", "c"]),
        ("'a \"b' \"c 'd\"", ['a "b', "c 'd"]),
        ("a\"b c\"d'e f'", ["ab cde f"]),
        (r'"a\"b" \"', ['a"b', '"']),
        (r"'a\'", ["a\\"]),
        (r"a\ b \\ \n\t\r", ["a b", "\\", "\n\t\r"]),
        (r"\x41\x7e '\x41'", ["A~", "\\x41"]),
        (r"\d+ end\ ", ["\\d+", "end "]),
        # Only inside weak quotes.
        ('"$A" "${A}" $A ${A} \'$A\'', ["one", "one", "$A", "${A}", "$A"]),
        (r'"\$A" \$A', ["$A", "\\$A"]),
        ('"x${A}y" "$A.b"', ["xoney", "one.b"]),
        ('"${NONE-a b}" "${A-x}" "${NONE-}z"', ["a b", "one", "z"]),
        ('"${LIST[*]}" end', ["x", "y", "z", "end"]),
        ('"${LIST}"', ["x  y z"]),
        ('"v${LIST[*]}w"', ["vx", "y", "zw"]),
        # A carriage return ends a line; among blanks it is one.
        ("a\rb c", ["a"]),
        ("a \rb", ["a", "b"]),
    ],
)
def test_a_line_has_haproxys_words(line: str, expected: list[str]) -> None:
    assert words(line) == expected


@pytest.mark.parametrize(
    ("line", "what", "column"),
    [
        ('a "b', 'unmatched quote "', 3),
        ("a 'b", "unmatched quote '", 3),
        ('"${A', "unmatched brace {", 3),
        ('"${A-x"', "unmatched brace {", 3),
        ('"${1}"', "a variable's name", 4),
        ('"$"', "a variable's name", 3),
        (r"a \x4g", "\\x without two hexadecimal digits", 3),
        ('"${A[1]}"', "a list of words", 5),
        ('"${.NONE}"', "there is no variable .NONE", 4),
        (" ".join(["w"] * 65), "more than 64 words", 129),
    ],
)
def test_a_broken_line_is_a_fault_with_its_column(line: str, what: str, column: int) -> None:
    found, fault = split(line, ENVIRONMENT, Dialect((2, 6, 12)))
    assert found == ()
    assert fault is not None
    assert fault.what.startswith(what)
    assert fault.column == column


def test_a_word_knows_its_columns_and_its_variables() -> None:
    found, _ = split('server app "${A}:80" check # c', ENVIRONMENT, Dialect())
    assert [(word.start, word.end, word.raw) for word in found] == [
        (1, 7, "server"),
        (8, 11, "app"),
        (12, 21, '"${A}:80"'),
        (22, 27, "check"),
    ]
    assert [sorted(word.variables) for word in found] == [[], [], ["A"], []]


@pytest.mark.parametrize(
    ("version", "line", "expected"),
    [
        # An unset variable leaves an empty word, or joins two, or leaves an empty word again.
        ("2.8.25", '"$NONE" b', ["", "b"]),
        ("2.9.0", '"$NONE" b', ["b"]),
        ("3.2.9", 'a"$NONE" b', ["ab"]),
        ("3.4.0", '"$NONE" b', ["", "b"]),
        ("2.8.25", '"${NONE[*]}" b', ["", "b"]),
        ("3.4.0", '"${NONE[*]}" b', ["b"]),
        ("2.8.25", 'a "${PAD[*]}" b', ["a", "", "p", "", "b"]),
        ("3.4.0", 'a "${PAD[*]}" b', ["a", "p", "b"]),
        ("3.4.0", 'a "" b', ["a", "", "b"]),
    ],
)
def test_versions_differ_in_empty_words(version: str, line: str, expected: list[str]) -> None:
    assert words(line, version) == expected


@pytest.mark.parametrize(("version", "line"), [("2.2.9", '"${A-x}"'), ("2.2.9", '"${LIST[*]}"')])
def test_what_came_later_is_a_fault_before(version: str, line: str) -> None:
    _, fault = split(line, ENVIRONMENT, Dialect.of(version))
    assert fault is not None
    assert fault.what == "unmatched brace {"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("250", 250),
        ("1s", 1000),
        ("2m", 120_000),
        ("1h", 3_600_000),
        ("1d", 86_400_000),
        ("500us", 1),
        ("1001us", 2),
        ("0", 0),
        ("007s", 7000),
        ("2147483647", 2**31 - 1),
    ],
)
def test_a_time_is_whole_milliseconds_rounded_up(text: str, expected: int) -> None:
    assert read_ms(text) == expected


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5s", "1w", "25d", "9" * 400, "2147483648"])
def test_what_is_no_time_is_said(text: str) -> None:
    assert isinstance(read_ms(text), str)


@pytest.mark.parametrize(
    ("line", "expected", "unset"),
    [
        ("$A:${A}", "one:one", set()),
        ("'$A'", "one", set()),
        ("a$NONE-b", "a-b", {"NONE"}),
        ("${A", "one", set()),
        ("a.b:80", "a.b:80", set()),
    ],
)
def test_an_address_is_expanded_without_quotes(line: str, expected: str, unset: set[str]) -> None:
    (word,), _ = split(line, ENVIRONMENT, Dialect((2, 6)))
    found = expand_address(word, ENVIRONMENT)
    assert (found.text, found.unset) == (expected, unset)
    assert ("A" in found.variables) == ("A" in line)


@given(st.text(alphabet=" \t\vab.:-/é\x0c", max_size=200))
def test_a_line_of_plain_words_is_read_as_any_other(line: str) -> None:
    """The short way and the long one: a comment sends the same words by the long one."""
    assert split(line, {}, Dialect.of("3.2")) == split(f"{line} #", {}, Dialect.of("3.2"))
