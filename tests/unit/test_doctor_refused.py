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
        ("timeout", "`timeout` lacks its value"),
        ("resolve_retries", "`resolve_retries` lacks its value"),
        ("hold nx 5x", "`5x`, which is no time"),
        ("server-template s 3 web:80 check", "a resolvers section has no `server-template`"),
    ],
)
def test_a_line_of_a_resolvers_section(tmp_path, line, said) -> None:
    (found,) = look(tmp_path, "refused", f"{DNS}    {line}\n{HEAD}")
    assert found.spot.place.line == 3
    assert said in found.message
    assert found.remedy is None  # none of these is best left out


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("hold obsolte 10s", "hold obsolete 10s"),
        ("timeout reslove 1s", "timeout resolve 1s"),
        ("resolve-retries 3", "resolve_retries 3"),
        ("nameservers a 192.0.2.2:53", "nameserver a 192.0.2.2:53"),
        ("timeout connect 1s", None),
        ("hold ever 1s", None),
    ],
)
def test_a_misspelt_word_of_a_resolvers_section_is_written_anew(tmp_path, line, right) -> None:
    (found,) = look(tmp_path, "refused", f"{DNS}    {line}\n{HEAD}")
    assert ("did you mean" in found.message) == (right is not None)
    (edit,) = found.remedy.edits
    assert getattr(edit, "text", "").strip() == (right or "")  # else it becomes a comment


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
        ("check inter 2x", "`2x`, which is no time"),
        ("check slowstart 60d", "`60d`, which is longer than HAProxy's timers"),
        ("check inter ${INTER}", "(variables count between double quotes)"),
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


# --- lines that nobody begins so ---


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("server s web:80 resolvers dns \\", "no line goes on after a `\\`"),
        ("resolver dns", "a backend section has no `resolver`"),
        ("resolve-prefer ipv4", "`resolve-prefer` stands on a server's line"),
        ("check inter 2s", "`check` stands on a server's line"),
    ],
)
def test_a_line_that_is_none(tmp_path, line, said) -> None:
    (found,) = look(tmp_path, "refused", f"{DNS}{HEAD}backend b\n    {line}\n")
    assert said in found.message


def test_what_is_no_line_of_the_process(tmp_path) -> None:
    (found,) = look(tmp_path, "refused", f"global\n    dns-resolver dns\n{HEAD}")
    assert "a global section has no `dns-resolver`" in found.message


# --- words of a newer version ---


@pytest.mark.parametrize(
    ("section", "line", "since"),
    [
        ("global", "dns-accept-family ipv4", "3.2"),
        ("backend b", "server s web:80 check init-state fully-down", "3.1"),
        ("defaults", "default-server init-state up", "3.1"),
        ("backend b", "server-template s 3 web:80 hash-key addr", "3.0"),
        ("backend b", "server s web:80 idle-ping 5s", "3.2"),
    ],
)
def test_a_word_that_an_older_version_does_not_have(tmp_path, section, line, since) -> None:
    before = "3.0.11" if since > "3.0" else "2.8.3"
    (found,) = look(tmp_path, "refused", f"{section}\n    {line}\n", before)
    assert f"is new in {since}" in found.message
    assert not look(tmp_path, "refused", f"{section}\n    {line}\n", f"{since}.0")


# --- resolvers sections ---


def test_a_server_by_address_needs_its_section_too(tmp_path) -> None:
    text = f"{HEAD}backend b\n    server s 10.0.0.1:80 check resolvers gone\n"
    (found,) = look(tmp_path, "missing-resolvers", text)
    assert "server `s` needs `resolvers gone`" in found.message
    several = f"{text}    server t web:80 resolvers gone\n"
    (found,) = look(tmp_path, "missing-resolvers", several)
    assert "servers `s` and `t` need `resolvers gone`" in found.message


def test_a_section_without_a_nameserver_finds_nothing(tmp_path) -> None:
    empty = (
        f"resolvers dns\n    hold valid 10s\n{HEAD}backend b\n    server s web:80 resolvers dns\n"
    )
    (found,) = look(tmp_path, "missing-resolvers", empty)
    assert "resolvers `dns` has no nameserver: it never finds server `s`" in found.message
    mended, _ = open_files([tmp_path / "haproxy.cfg"], {}).edited(found.remedy.edits)
    assert mended.sources[0].text.split("\n")[1] == "    parse-resolv-conf"
    assert not look(tmp_path, "missing-resolvers", mended.sources[0].text)


# --- a check needs a port ---


@pytest.mark.parametrize(
    ("address", "is_mended"),
    [
        *(("web", False), ("web:+10", False), ("web:0", False)),
        *(("web:80", True), ("_http._tcp.web", True), ('"${WEB}"', False)),
        ("web port 80", True),
    ],
)
def test_where_there_is_no_port_no_check_is_added(tmp_path, address, is_mended) -> None:
    text = f"{DNS}{HEAD}backend b\n    server s {address} resolvers dns\n"
    (found,) = look(tmp_path, "no-check", text)
    assert bool(found.remedy.edits) is is_mended
    assert ("check port NUMBER" in found.remedy.advice) is not is_mended


def test_a_server_that_is_disabled_needs_no_check(tmp_path) -> None:
    text = f"{DNS}{HEAD}backend b\n    server s web:80 resolvers dns"
    assert look(tmp_path, "no-check", f"{text}\n")
    assert not look(tmp_path, "no-check", f"{text} disabled\n")


# --- what is asked instead ---


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("server s web check port 80", "a dead port that requests go to is not seen"),
        ("server s _http._tcp.web check port 80", "a dead port of the SRV record is not seen"),
        ("server s web:80 track o/x", "go to server `o/x` (`track`): a dead port 80"),
    ],
)
def test_what_a_check_elsewhere_does_not_see(tmp_path, line, said) -> None:
    text = f"{DNS}{HEAD}backend o\n    server x 10.0.0.1:80 check port 81\n"
    (found,) = look(tmp_path, "check-elsewhere", f"{text}backend b\n    {line} resolvers dns\n")
    assert said in found.message


def test_what_a_program_finds_out_has_an_advice_of_its_own(tmp_path) -> None:
    text = f"{DNS}{HEAD}backend b\n    option external-check\n"
    (found,) = look(tmp_path, "check-elsewhere", f"{text}    server s web:80 check resolvers dns\n")
    assert "the port" not in found.remedy.advice


# --- numbers, and names that are in /etc/hosts ---


def test_the_host_of_a_container_is_not_found_by_dns(tmp_path) -> None:
    text = f"{HEAD}backend b\n    server s {{}}:80 check\n"
    assert look(tmp_path, "never-resolved", text.format("web"))
    for name in ("host.docker.internal", "host.containers.internal"):
        assert not look(tmp_path, "never-resolved", text.format(name))


def test_a_nameserver_on_the_same_machine_does_not_move(tmp_path) -> None:
    text = f"{DNS}{HEAD}backend b\n    server s web:80 resolvers dns\n"
    assert look(tmp_path, "nameserver-by-name", text.replace("192.0.2.1", "dns.example"))
    assert not look(tmp_path, "nameserver-by-name", text.replace("192.0.2.1", "localhost"))


def test_how_often_is_not_said_where_it_is_not_known(tmp_path) -> None:
    dns = f'{DNS}    timeout resolve "${{POLL}}"\n'
    text = f"{dns}{HEAD}backend b\n    server s web:80 check resolvers dns\n"
    (found,) = look(tmp_path, "resolve-prefer", text)
    assert "(1 name). Where" in found.message
    (found,) = look(tmp_path, "resolve-prefer", text.replace('"${POLL}"', "1s"))
    assert "(1 name, 2 a second instead of 1). Where" in found.message


@pytest.mark.parametrize(("fall", "said"), [(1, "1 check has"), (2, "2 checks have")])
def test_one_check_and_several(tmp_path, fall, said) -> None:
    text = (
        f"{DNS}    hold obsolete 9s\n{HEAD}backend b\n    server-template s 3 web:80 resolvers dns "
    )
    (found,) = look(tmp_path, "template-share", f"{text}check fall {fall}\n")
    assert f"or until {said} failed" in found.message


def test_one_and_several_peers(tmp_path) -> None:
    text = "peers p\n    peer one one.example:1\n"
    (found,) = look(tmp_path, "start-only-name", text)
    assert found.message.startswith("peer `one.example` is a name that is looked up")
    (found,) = look(tmp_path, "start-only-name", f"{text}    peer two two.example:1\n")
    assert found.message.startswith("peers `one.example` and `two.example` are names that are")


def test_what_belongs_to_a_keyword_is_none(tmp_path) -> None:
    text = f"{HEAD}backend b\n    server s web:80 hash-key addr backup\n"
    assert not look(tmp_path, "start-only-name", text)
    text = f"{HEAD}backend b\n    server addr web:80 cookie init-state check\n"
    assert not look(tmp_path, "refused", text, "3.0.11")
    assert not look(tmp_path, "start-only-name", text)
    text = f"{HEAD}backend b\n    server s web:80 hash-key id check addr other.example\n"
    (found,) = look(tmp_path, "start-only-name", text)
    assert "check host `other.example` is a name" in found.message
