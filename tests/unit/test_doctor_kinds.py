"""Whole kinds of files that rules met in the wild: what they say of each, without a price."""

from __future__ import annotations

import pytest

from chaosd.doctor import price, rule
from chaosd.doctor.finding import Confidence, Finding, Severity
from chaosd.doctor.price import Model
from chaosd.doctor.reading import Program, open_files

HEAD = """\
defaults
    mode http
    option redispatch 1
    timeout connect 5s
    timeout client 30s
    timeout server 30s
"""
DNS = "resolvers dns\n    nameserver a 192.0.2.1:53\n"


def look(tmp_path, slug: str, text: str, version: str = "2.6.12") -> list[Finding]:
    (tmp_path / "haproxy.cfg").write_text(text)
    subject, _ = open_files([tmp_path / "haproxy.cfg"], {}).subject(Program(version), None)
    return list(rule.find(slug).look(subject))


# --- variables without a value ---

BY_VARIABLE = (
    f"{DNS}{HEAD}backend b\n"
    '    server one "${ONE}:80" check resolvers dns\n'
    '    server two "${TWO}:80" check resolvers dns\n'
)


def test_two_variables_without_a_value_are_not_one_name(tmp_path) -> None:
    assert look(tmp_path, "duplicate-address", BY_VARIABLE) == []
    (found,) = look(tmp_path, "duplicate-address", BY_VARIABLE.replace("TWO", "ONE"))
    assert "the same name `${ONE}`" in found.message
    (found,) = look(tmp_path, "resolve-prefer", BY_VARIABLE)
    assert found.facts["names"] == "2 names"


def test_what_a_variable_holds_may_be_a_name(tmp_path) -> None:
    (found,) = look(tmp_path, "never-resolved", BY_VARIABLE.replace(" resolvers dns", ""))
    assert "If `${ONE}` is a name" in found.message
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.LOW)
    assert not found.remedy.safe


# --- names ---


@pytest.mark.parametrize(
    ("name", "severity", "confidence"),
    [
        ("web", Severity.ERROR, Confidence.MEDIUM),
        ("db-0.db.shop.svc.cluster.local", Severity.ERROR, Confidence.MEDIUM),
        ("db.shop.svc.cluster.local", Severity.WARNING, Confidence.LOW),  # may be a ClusterIP
    ],
)
def test_who_is_never_looked_up_again(tmp_path, name, severity, confidence) -> None:
    (found,) = look(
        tmp_path, "never-resolved", f"{HEAD}backend b\n    server s {name}:80 check init-addr none"
    )
    assert (found.severity, found.confidence) == (severity, confidence)
    assert "leaves its server in maintenance for ever" in found.message


@pytest.mark.parametrize(
    ("name", "severity"),
    [
        ("tasks.web", Severity.WARNING),
        ("web-headless.shop.svc.cluster.local", Severity.WARNING),
        ("web.service.consul", Severity.INFO),
        ("web.service.dc1.consul.", Severity.INFO),
        ("primary.db.service.consul", None),  # a tag: often one instance
        ("web.shop.svc.cluster.local", None),
    ],
)
def test_a_name_that_lists_many(tmp_path, name, severity) -> None:
    text = f"{DNS}{HEAD}backend b\n    server s {name}:80 check resolvers dns"
    assert [f.severity for f in look(tmp_path, "one-address", text)] == (
        [] if severity is None else [severity]
    )


def test_a_server_that_others_name_keeps_its_name(tmp_path) -> None:
    text = f"{DNS}{HEAD}backend b\n    server s tasks.web:80 check resolvers dns\n"
    assert look(tmp_path, "one-address", text)[0].remedy.safe
    for more in ("    use-server s if TRUE\n", "backend c\n    server t 192.0.2.2:80 track b/s\n"):
        assert not look(tmp_path, "one-address", text + more)[0].remedy.safe


@pytest.mark.parametrize(
    ("nameserver", "name", "mended"),
    [
        ("kube-dns.kube-system.svc.cluster.local", "web.shop.svc.cluster.local", True),
        ("consul-dns.default.svc.cluster.local", "web.service.consul", False),
        ("kube-dns.kube-system.svc.cluster.local", "web.service.consul", False),
        ("ns1.example.org", "web", False),
    ],
)
def test_another_nameserver_is_no_remedy_where_it_does_not_know_the_names(
    tmp_path, nameserver, name, mended
) -> None:
    text = f"resolvers dns\n    nameserver a {nameserver}:53\n{HEAD}backend b\n"
    text += f"    server s {name}:80 resolvers dns\n"
    (found,) = look(tmp_path, "nameserver-by-name", text)
    assert bool(found.remedy.edits) is mended


# --- what HAProxy refuses ---


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nameserver b 192.0.2.2", "`192.0.2.2` has no port"),
        ("nameserver a 192.0.2.2:53", "another nameserver `a`"),
        ("nameserver b udp@192.0.2.2:53", None),
        ("nameserver b ${NAMESERVER}", None),
    ],
)
def test_a_nameserver_that_haproxy_refuses(tmp_path, line, said) -> None:
    found = look(tmp_path, "refused", f"{DNS}    {line}\n{HEAD}")
    assert [said in finding.message for finding in found] == ([] if said is None else [True])
    assert [finding.spot.place.line for finding in found] == ([] if said is None else [3])


def test_an_old_version_has_no_init_addr(tmp_path) -> None:
    text = f"{DNS}{HEAD}backend b\n    server s web:80 check resolvers dns"
    (found,) = look(tmp_path, "missing-at-start", text, "1.6.2")
    assert not found.remedy.edits
    (found,) = look(tmp_path, "known-bug", text, "1.6.2")
    assert "only when a check of its server starts" in found.message


def test_a_part_without_servers_has_the_bugs_of_its_resolvers(tmp_path) -> None:
    (found, *_) = look(tmp_path, "known-bug", DNS, "2.6.2")
    assert "does not start if a nameserver can't be reached" in found.message
    assert found.spot.place.line == 1
    assert look(tmp_path, "known-bug", f"{DNS}{HEAD}backend b\n    server s 192.0.2.2:80") == []


# --- times ---


@pytest.mark.parametrize(
    ("holds", "said"),
    [
        ("hold timeout 0s\n    hold other 0s", "2 to 3 s"),
        ("hold timeout 8s", "6 to 7 s"),  # two resolutions of 4 s, the last second of it silent
        ("hold refused 8s", "8 to 9 s"),  # three of 3 s
        ("hold timeout 8s\n    hold refused 8s", "6 to 7 s"),  # what is sooner
    ],
)
def test_how_long_dns_trouble_must_last(tmp_path, holds, said) -> None:
    text = f"{DNS}    {holds}\n{HEAD}backend b\n    server s web:80 resolvers dns"
    (found,) = look(tmp_path, "short-hold", text)
    assert f": {said} of DNS trouble" in found.message
    assert len(found.scenarios) == holds.count("hold")


def test_no_attempt_to_connect_outlasts_the_kernels(tmp_path) -> None:
    text = f"{HEAD}backend b\n    timeout connect 1000s\n    server s 192.0.2.2:80"
    (found,) = look(tmp_path, "long-connect", text)
    assert "waits up to 8.47 min, as the kernel gives an attempt up" in found.message


@pytest.mark.parametrize("timeout", ["timeout server 0", "timeout connect 5s"])
def test_a_session_without_an_end(tmp_path, timeout) -> None:
    text = f"{DNS}listen b\n    mode tcp\n    {timeout}\n    server s web:80 resolvers dns"
    (found,) = look(tmp_path, "long-sessions", text)
    assert found.message.startswith("no `timeout server` (b): ")
    assert "or for ever" in found.message
    assert not found.remedy.edits  # what never is DOWN is never marked so
    (found,) = look(tmp_path, "long-sessions", f"{text} check")
    assert found.remedy.edits[0].text.endswith("on-marked-down shutdown-sessions")


# --- checks, cookies ---


def test_an_agent_beside_a_check_is_no_check_elsewhere(tmp_path) -> None:
    line = "server s web:80 resolvers dns agent-check agent-port 9"
    (alone,) = look(tmp_path, "check-elsewhere", f"{DNS}{HEAD}backend b\n    {line}")
    assert "go to an agent" in alone.message
    (beside,) = look(tmp_path, "check-elsewhere", f"{DNS}{HEAD}backend b\n    {line} check")
    assert "beside the checks" in beside.message


@pytest.mark.parametrize(
    ("cookie", "to"),
    [
        ("insert indirect", "the slot"),
        ("insert indirect dynamic", "the address"),
        ("prefix", "the slot"),
    ],
)
def test_what_a_cookie_binds_users_to(tmp_path, cookie, to) -> None:
    text = f"{DNS}{HEAD}backend b\n    cookie S {cookie}\n"
    text += "    server-template s 3 web:80 check resolvers dns"
    (found,) = look(tmp_path, "persistence", text)
    assert f"binds users to {to}" in found.message


# --- prices ---

MANY = (
    f"{DNS}    hold obsolete 10s\n{HEAD}frontend f\n    bind :80\n    default_backend b1\n"
    + "".join(
        f"backend b{number}\n    server s{number} web{number}:80 check resolvers dns\n"
        for number in (1, 2, 3)
    )
)


def test_a_price_is_that_of_the_whole_file(tmp_path) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text(MANY)
    files, program, model = open_files([path], {}), Program("2.6.12"), Model()
    subject, _ = files.subject(program, None)
    (finding,) = rule.find("resolve-prefer").look(subject)
    part = files.about(subject, ["b2"], finding.remedy.edits[1:2])
    assert [line.strip() != "" for line in part.sources[0].text.split("\n")].count(True) == 11
    whole, blank = (
        model.backends(each.edited(finding.remedy.edits[1:2])[0].subject(program, None)[0])
        for each in (files, part)
    )
    assert list(blank) == ["b2"]
    assert blank["b2"] == whole["b2"]


def test_questions_for_one_name_count_once(tmp_path) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text(MANY.replace("web2", "web1"))
    subject, _ = open_files([path], {}).subject(Program("2.6.12"), None)
    backends = [*Model().backends(subject).values()]
    assert price.queries_together_per_s(backends[:1]) == pytest.approx(2, rel=0.01)
    assert price.queries_together_per_s(backends) == pytest.approx(4, rel=0.01)


# --- lines that HAProxy does not take ---


@pytest.mark.parametrize(
    ("line", "since", "instead"),
    [
        ("option forceclose", "2.5", "option httpclose"),
        ("option http-tunnel", "2.5", "# option http-tunnel"),
        ("contimeout 5s", "2.1", "timeout connect 5s"),
        ("redispatch", "2.1", "option redispatch"),
        ("reqadd X-A:\\ b", "2.1", None),
        ("option httpchk GET / HTTP/1.1\\r\\nHost:\\ app", "2.7", None),
    ],
)
def test_a_word_that_a_newer_version_refuses(tmp_path, line, since, instead) -> None:
    text = f"{DNS}{HEAD}    {line}\nbackend b\n    server s app:80 check resolvers dns\n"
    major, minor = map(int, since.split("."))
    assert not look(tmp_path, "refused", text, f"{major}.{minor - 1}.0")
    (found,) = look(tmp_path, "refused", text, f"{since}.0")
    assert found.spot.place.line == 9
    assert f"since {since} (" in found.message
    assert mended(tmp_path, found, 9) == (None if instead is None else f"    {instead}")


@pytest.mark.parametrize("line", ["timeout connect 1s", "hold never 1s", "retries 3"])
def test_a_word_that_a_resolvers_section_does_not_have(tmp_path, line) -> None:
    text = f"{DNS}    {line}\n{HEAD}backend b\n    server s app:80 check resolvers dns\n"
    (found,) = look(tmp_path, "refused", text)
    assert f"`{' '.join(line.split()[:-1])}`" in found.message
    assert mended(tmp_path, found, 3) == f"    # {line}"
    for known in ("timeout retry 1s", "hold nx 1s", "accepted_payload_size 512"):
        assert not look(tmp_path, "refused", text.replace(line, known))


def test_a_last_line_without_a_newline_is_mended(tmp_path) -> None:
    text = f"{DNS}{HEAD}backend b\n    server s app:80 check resolvers dns"
    (found,) = look(tmp_path, "refused", text)
    mended, _ = open_files([tmp_path / "haproxy.cfg"], {}).edited(found.remedy.edits)
    assert mended.sources[0].text == f"{text}\n"
    assert not look(tmp_path, "refused", text, "2.2.9")


def mended(tmp_path, finding: Finding, line: int) -> str | None:
    """What its remedy makes of a line."""
    if finding.remedy is None:
        return None
    files, _ = open_files([tmp_path / "haproxy.cfg"], {}).edited(finding.remedy.edits)
    return files.sources[0].text.split("\n")[line - 1]


# --- backends without a `defaults` ---


@pytest.mark.parametrize("slug", ["no-redispatch", "no-timeout-connect"])
def test_what_several_backends_lack_is_said_once(tmp_path, slug) -> None:
    part = "backend {name}\n    server s app:80 check resolvers dns\n"
    text = DNS + "".join(part.format(name=name) for name in ("one", "two", "three"))
    (found,) = look(tmp_path, slug, text)
    assert found.backends == ("one", "two", "three")
    assert [edit.place.line for edit in found.remedy.edits] == [3, 5, 7]
    assert [place.line for place in found.also] == [5, 7]
    with_defaults = f"{text}defaults\n{part.format(name='four')}{part.format(name='five')}"
    _, second = look(tmp_path, slug, with_defaults)
    assert [edit.place.line for edit in second.remedy.edits] == [9]
    assert second.backends == ("four", "five")


# --- templates in a swarm ---


@pytest.mark.parametrize(
    ("name", "nameserver", "is_told"),
    [
        ("web", "127.0.0.11:53", True),
        ("tasks.web", "127.0.0.11:53", False),
        ("web.example.com", "127.0.0.11:53", False),
        ("web", "192.0.2.1:53", False),
    ],
)
def test_a_service_may_be_one_address(tmp_path, name, nameserver, is_told) -> None:
    text = f"{DNS}{HEAD}backend b\n    server-template w 3 {name}:80 check resolvers dns\n"
    (found,) = look(tmp_path, "spare-slots", text.replace("192.0.2.1:53", nameserver))
    assert ("`tasks.web` lists the tasks" in found.message) is is_told
