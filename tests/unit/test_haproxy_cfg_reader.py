"""Files into sections: conditions, the environment, several files, what can't be read."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from chaosd.proxies.haproxy.cfg import own_file
from chaosd.proxies.haproxy.cfg.backend import read_backends
from chaosd.proxies.haproxy.cfg.condition import BuildFacts, ConditionError, decide
from chaosd.proxies.haproxy.cfg.dialect import Dialect
from chaosd.proxies.haproxy.cfg.files import BYTES_MAX
from chaosd.proxies.haproxy.cfg.reader import read_files
from chaosd.proxies.haproxy.cfg.source import Document, Trouble
from chaosd.proxies.haproxy.cfg.wording import say, say_unknown
from chaosd.proxies.haproxy.model.backend import Backend, Unknown

ENVIRONMENT = {"A": "one", "STAGE": "test"}


def build(version: str = "2.6.12", features: str | None = None) -> BuildFacts:
    known = None if features is None else frozenset(features.split())
    return BuildFacts(Dialect.of(version), known)


def read(tmp_path: Path, text: str, version: str = "2.6.12", **more: str) -> Document:
    (tmp_path / "h.cfg").write_text(text, newline="")
    return read_files([tmp_path / "h.cfg"], environment=ENVIRONMENT | more, build=build(version))


def lines(document: Document) -> list[str]:
    return [" ".join(line.texts) for _, line in document.statements()]


def complaints(document: Document) -> list[str]:
    return [f"{p.place.line}:{p.column}: {p.trouble.value}: {p.what}" for p in document.problems]


# --- conditions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False),
        ("1", True),
        ("0x0", False),
        ("010", True),
        ("!0", True),
        ("!!1", True),
        ("defined(A)", True),
        ("defined(NONE)", False),
        ("streq(a,a)", True),
        ("strneq(a,b) && streq(b,b)", True),
        ("streq('a,b',a)", False),
        ("streq(\"a,b\",'a,b')", True),
        ("0 || 1 && 0", False),
        ("1 || 0 && 0", True),
        ("(1 || 0) && 0", False),
        ("! ( 0 || 0 )", True),
        ("version_atleast(2.6)", True),
        ("version_atleast(2.6.13)", False),
        ("version_before(2.6.13-dev1)", True),
        ("version_before(2.6.12-dev1)", False),
        ("version_atleast(none)", True),  # as HAProxy does
        ("feature(LUA)", None),
        ("feature(LUA) && 0", False),
        ("feature(LUA) || 1", True),
        ("!feature(LUA)", None),
        ("openssl_version_atleast(1.1.1)", None),
    ],
)
def test_a_condition_holds_or_not_or_is_not_known(text: str, expected: bool | None) -> None:
    assert decide(text, ENVIRONMENT, build()) is expected


def test_features_of_a_build_at_hand_are_known() -> None:
    assert decide("feature(LUA)", {}, build(features="LUA QUIC")) is True
    assert decide("feature(LU)", {}, build(features="LUA QUIC")) is False


def test_a_version_without_its_release_is_not_compared_with_a_release() -> None:
    assert decide("version_atleast(2.6)", {}, build("2.6")) is True
    assert decide("version_atleast(2.6.5)", {}, build("2.6")) is None
    assert decide("version_atleast(2.7.5)", {}, build("2.6")) is False


@pytest.mark.parametrize(
    ("text", "version", "what"),
    [
        ("nothing(A)", "2.6", "unknown predicate `nothing`"),
        ("enabled(EPOLL)", "2.6", "unknown predicate `enabled`"),
        ("streq(a)", "2.6", "streq takes 2 arguments, not 1"),
        ("streq(a,b", "2.6", "a bracket ( is not closed"),
        ("(1", "2.6", "a bracket ( is not closed"),
        ("1 &&", "2.6", "the condition ends where"),
        ("1 1", "2.6", "unexpected '1'"),
        ("1 && 1", "2.4.3", "&& needs HAProxy 2.5"),
        ("(" * 300 + "1", "2.6", "too many brackets"),
    ],
)
def test_what_is_no_condition_is_said(text: str, version: str, what: str) -> None:
    with pytest.raises(ConditionError) as caught:
        decide(text, {}, build(version))
    assert str(caught.value).startswith(what)


BRANCHES = """\
global
.if streq("$STAGE",prod)
    a
    .if 1
    b
    .endif
.elif defined(A)
    c
    .if 0
    d
    .else
    e
    .endif
.elif 1
    f
.else
    g
.endif
    h
"""


def test_the_branch_that_holds_is_read(tmp_path: Path) -> None:
    assert lines(read(tmp_path, BRANCHES)) == ["c", "e", "h"]
    assert lines(read(tmp_path, BRANCHES, STAGE="prod")) == ["a", "b", "h"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (".else\n", "1:0: refused: .else without .if"),
        (".if 1\n.else\n.elif 1\n.endif\n", "3:0: refused: .elif after .else"),
        (".if 1\n.else\n.else\n.endif\n", "3:0: refused: .else after .else"),
        (".if 1\n.endif x\n", "2:0: refused: .endif takes no argument"),
        (".if 1\n", "1:0: refused: an .if has no .endif (add .endif)"),
        (".if nothing(1)\n.endif\n", "1:0: refused: unknown predicate `nothing`"),
        (".alert 'no way'\n", "1:0: refused: the file stops HAProxy here: no way"),
        (".warning a b\n", "1:0: refused: `.warning` takes one text (put it in quotes)"),
        (".include x\n", "1:0: refused: unknown directive `.include`"),
        ("global\n .if feature(LUA)\n .endif\n", "2:0: undecided: whether `feature(LUA)` holds"),
    ],
)
def test_a_wrong_directive_is_a_problem(tmp_path: Path, text: str, what: str) -> None:
    (complaint,) = complaints(read(tmp_path, text))
    assert complaint.startswith(what)


def test_after_a_stop_nothing_more_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.cfg").write_text("global\n a\n.alert stop\n b\n")
    (tmp_path / "b.cfg").write_text("global\n c\n")
    document = read_files([tmp_path / "a.cfg", tmp_path / "b.cfg"], build=build())
    assert lines(document) == ["a"]


def test_an_unknown_version_refuses_nothing_that_another_takes(tmp_path: Path) -> None:
    path = tmp_path / "h.cfg"
    path.write_text('crt-store x\nprogram y\nglobal\n a "" b\n.if enabled(EPOLL)\n.endif\n')
    build = BuildFacts(Dialect.of(None))
    assert [p.trouble.value for p in read_files([path], build=build).problems] == ["undecided"]
    path.write_text("global\n.if version_atleast(2.6)\n.endif\n")
    assert [p.trouble.value for p in read_files([path], build=build).problems] == ["undecided"]


def test_notes_are_kept(tmp_path: Path) -> None:
    document = read(tmp_path, '.notice "${.FILE}:${.LINE}"\n.if 0\n.diag x\n.endif\n.warning w\n')
    assert [(n.level, n.text) for n in document.notes] == [
        ("notice", f"{tmp_path}/h.cfg:1"),
        ("warning", "w"),
    ]


# --- the environment ------------------------------------------------------------------------------


def test_the_file_may_change_the_environment(tmp_path: Path) -> None:
    text = (
        "global\n setenv A two\n presetenv A three\n presetenv B four\n unsetenv STAGE\n"
        ' x "$A" "$B" "${STAGE-none}"\n resetenv B\n y "${A-gone}" "$B"\n'
    )
    document = read(tmp_path, text)
    assert lines(document)[4::2] == ["x two four none", "y gone four"]
    assert not document.problems


def test_setenv_counts_in_global_only(tmp_path: Path) -> None:
    document = read(tmp_path, 'backend b\n setenv A two\n x "$A"\n')
    assert lines(document)[-1] == "x one"


def test_what_comes_from_a_supplied_variable_is_known_to(tmp_path: Path) -> None:
    (tmp_path / "h.cfg").write_text('global\n setenv T "${APP}"\nbackend b\n server s "$T"\n')
    document = read_files([tmp_path / "h.cfg"], supplied=["APP"], build=build())
    word = document.sections[-1].statements[0].words[2]
    assert word.text == "${APP}"
    assert "APP" in word.variables


def test_a_variable_without_a_value_is_said_and_the_line_is_kept(tmp_path: Path) -> None:
    for version in ("2.6", "3.4"):
        document = read(tmp_path, 'global\n x "$NONE"\n', version)
        assert complaints(document) == ['2:4: unset: `"$NONE"` has no value here']
        assert len(document.sections[0].statements) == 1


# --- sections and files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "version", "what"),
    [
        ("x 1\nglobal\n", "2.6", "1:0: refused: `x` stands in no section"),
        ("global\n no x\n", "2.6", "2:0: refused: `no` does not go with `x`"),
        ("global\n a\n b", "2.6", "3:0: no newline: the last line has no newline"),
        ('global\n a "" b\n', "3.4", "2:4: refused: word 2 is empty"),
        ('global\n a "b\n', "2.6", "2:4: refused: unmatched quote"),
    ],
)
def test_what_haproxy_refuses_is_a_problem(
    tmp_path: Path, text: str, version: str, what: str
) -> None:
    (complaint,) = complaints(read(tmp_path, text, version))
    assert complaint.startswith(what)


def test_what_one_version_refuses_another_takes(tmp_path: Path) -> None:
    assert not read(tmp_path, 'global\n a "" b\n', "2.8.25").problems
    assert not read(tmp_path, "global\n b", "2.2.9").problems
    assert not read(tmp_path, "crt-store x\n", "3.0.0").problems
    assert read(tmp_path, "crt-store x\n", "2.8.25").problems


def test_sections_have_their_names_and_parents(tmp_path: Path) -> None:
    text = "defaults\ndefaults a\ndefaults b from a\ndefaults from b\nbackend c from a\nbackend d\n"
    document = read(tmp_path, text)
    assert [(s.name, s.parent) for s in document.sections] == [
        *(("", None), ("a", None), ("b", "a"), ("", "b"), ("c", "a"), ("d", None))
    ]


def test_a_negated_line_is_one(tmp_path: Path) -> None:
    (line,) = read(tmp_path, "backend b\n no option redispatch\n").sections[0].statements
    assert (line.modifier, line.texts) == ("no", ("option", "redispatch"))
    assert not line.says("option")


def test_a_directory_is_read_as_haproxy_does(tmp_path: Path) -> None:
    for name in ("b.cfg", "A.cfg", ".c.cfg", "d.cfg.cfg", "e.conf", "a.cfg"):
        (tmp_path / name).write_text(f"global\n {name}\n")
    (tmp_path / "f.cfg").mkdir()
    (tmp_path / "f.cfg" / "g.cfg").write_text("global\n g\n")
    document = read_files([tmp_path], build=build())
    assert lines(document) == ["A.cfg", "a.cfg", "b.cfg"]
    assert [path.name for path in document.files] == ["A.cfg", "a.cfg", "b.cfg"]
    several = [tmp_path / "b.cfg", tmp_path / "A.cfg"]
    assert lines(read_files(several, build=build())) == ["b.cfg", "A.cfg"]


def test_each_file_begins_without_a_section(tmp_path: Path) -> None:
    (tmp_path / "a.cfg").write_text("global\n a\n")
    (tmp_path / "b.cfg").write_text(" b\n")
    assert complaints(read_files([tmp_path], build=build())) == [
        "1:0: refused: `b` stands in no section"
    ]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"global\n\0", "can't be read: not text (give"),
        (b"global\n\xe9\n", "can't be read: not text: line 2 is not UTF-8 (give"),
        (b"#" * (BYTES_MAX + 1), "can't be read: it has more than 2 MB (give"),
        (b"global\n bind {{ port }}\n", "a template: `{{ port }}` (give the file that is made of"),
        (b"global\n {% for x in y %}\n", "a template: `{% for` (give"),
        (b"<%= x %>\n", "a template: `<%` (give"),
    ],
)
def test_what_is_no_haproxy_cfg_is_one_line(tmp_path: Path, data: bytes, what: str) -> None:
    (tmp_path / "h.cfg").write_bytes(data)
    (problem,) = read_files([tmp_path / "h.cfg"], build=build()).problems
    assert problem.trouble is Trouble.UNREADABLE
    assert problem.what.startswith(what)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    document = read_files([tmp_path / "no.cfg", tmp_path / "empty"], build=build())
    assert [problem.what for problem in document.problems] == [
        "can't be read: No such file or directory (give the path of your haproxy.cfg)",
        "this directory has no *.cfg (give the path of your haproxy.cfg)",
    ]


def test_a_log_format_and_a_comment_are_no_template(tmp_path: Path) -> None:
    text = 'global\n # {{ x }}\ndefaults\n log-format "%{+Q}o {%ci} %[src]"\n'
    assert not read(tmp_path, text).problems


# --- nothing raises -------------------------------------------------------------------------------

PIECES = (
    *("global", "defaults", "backend b", "listen l", "resolvers r", "frontend f", "from", "server"),
    *("default-server", "server-template", "s", "3", '"${CHAOSD_APP}"', "check", "resolvers r"),
    *("inter", "1s", "hold", "timeout", "resolve", "connect", "option", "redispatch", "no", '"'),
    *("'", "\\", "\\x", "$", '"${', "}", ".if", ".elif", ".else", ".endif", "(", ")", "&&", "!"),
    *("streq(a,b)", "setenv", "resetenv", "#", "é", "\r", "[", "]", "nameserver", "-1", "", "{%"),
)


def test_whatever_a_file_says_nothing_raises(tmp_path: Path) -> None:
    rng, path = random.Random(7), tmp_path / "h.cfg"
    read = 0
    for _ in range(150):
        rows = [" ".join(rng.choices(PIECES, k=rng.randint(0, 6))) for _ in range(12)]
        rows += ["backend z", "server s app:80 " + " ".join(rng.choices(PIECES, k=2))]
        path.write_text("\n".join(rows), newline="")
        version = rng.choice(("2.2", "2.6.12", "2.9.1", "3.2", None))
        effective = own_file.read_own(path, version=version, environment={})
        findings = own_file.problems(effective, path, by_address=True)
        findings += own_file.advice(effective, path)
        own_file.timers_s(effective)
        for backend in read_backends(effective):
            read += isinstance(backend, Backend)
            if isinstance(backend, Unknown):
                assert say_unknown(backend).startswith(str(path))
        for finding in findings:
            assert say(finding).startswith(str(path))
            assert "\n" not in say(finding)
    assert read
