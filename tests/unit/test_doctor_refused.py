"""What people write that HAProxy does not start with, and what the doctor says of it."""

from __future__ import annotations

import pytest

from chaosd.doctor import rule
from chaosd.doctor.finding import Finding
from chaosd.doctor.price import Model
from chaosd.doctor.reading import Program, open_files
from chaosd.doctor.subject import Subject
from chaosd.proxies.haproxy.cfg.wording import say_unknown

HEAD = """\
defaults
    mode http
    option redispatch 1
    timeout connect 5s
    timeout client 30s
    timeout server 30s
"""
DNS = "resolvers dns\n    nameserver a 192.0.2.1:53\n"


def subject_of(tmp_path, text: str, version: str = "2.6.12") -> Subject:
    (tmp_path / "haproxy.cfg").write_text(text)
    return open_files([tmp_path / "haproxy.cfg"], {}).subject(Program(version), None)[0]


def look(tmp_path, slug: str, text: str, version: str = "2.6.12") -> list[Finding]:
    return list(rule.find(slug).look(subject_of(tmp_path, text, version)))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nameserver [fd12::10]:53", "`nameserver` lacks its name or its address"),
        ("hold nx", "`hold` lacks its value"),
        ("resolve_retries", "`resolve_retries` lacks its value"),
        ("hold nx 5x", "`5x` which is no time"),
        ("server-template s 3 web:80 check", "a resolvers section has no `server-template`"),
    ],
)
def test_a_line_of_a_resolvers_section(tmp_path, line, said) -> None:
    (found,) = look(tmp_path, "refused", f"{DNS}    {line}\n{HEAD}")
    assert found.spot.place.line == 3
    assert said in found.message
    assert found.remedy is None  # none of these is best left out


@pytest.mark.parametrize("section", ["global", "defaults", "backend b"])
@pytest.mark.parametrize(
    "line", ["nameserver a 192.0.2.1:53", "hold valid 10s", "timeout retry 1s", "resolve_retries 3"]
)
def test_a_line_that_only_a_resolvers_section_has(tmp_path, section, line) -> None:
    (found,) = look(tmp_path, "refused", f"{section}\n    {line}\n{HEAD}")
    assert found.spot.place.line == 2
    assert "belongs in a resolvers section" in found.message


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("check inter 2x", "`2x` which is no time"),
        ("check slowstart 60d", "`60d` which is longer than HAProxy's timers"),
        ("check inter 2s1", None),  # HAProxy reads up to the unit
        ('check inter "${INTER}"', None),
        ("weight abc", None),  # HAProxy takes it for 0
    ],
)
def test_a_time_that_is_none(tmp_path, words, said) -> None:
    text = f"{DNS}{HEAD}backend b\n    server s web:80 {words} resolvers dns\n"
    found = look(tmp_path, "refused", text)
    assert [said in finding.message for finding in found] == ([] if said is None else [True])


def test_a_time_of_a_defaults_section_is_said_once(tmp_path) -> None:
    text = HEAD.replace("5s", "5 s") + "    timeout check soon\n"
    text += "backend a\n    server s web:80\nbackend b\n    server s web:80\n"
    (found,) = look(tmp_path, "refused", text)
    assert found.spot.place.line == 7


# --- a template without its number ---

TEMPLATE = f"{DNS}{HEAD}backend b\n    server-template s web:80 resolvers dns init-addr none\n"


def test_a_template_without_its_number(tmp_path) -> None:
    (found,) = look(tmp_path, "refused", TEMPLATE)
    assert "`web:80` is no number of servers" in found.message
    assert (found.spot.start, found.spot.end) == (23, 29)
    assert not look(tmp_path, "unused-resolvers", TEMPLATE)


def test_no_prediction_names_the_number_and_not_the_words_that_follow_from_it(tmp_path) -> None:
    (backend,) = Model().backends(subject_of(tmp_path, TEMPLATE)).values()
    assert "`web:80` is not a number of servers" in say_unknown(backend)
