"""Each kind of line that real files have, and what stands in the copy instead."""

from __future__ import annotations

import json
import re
import ssl

import pytest
import rewiring
from rewiring import WIRING, made, make

from chaosd.proxies.haproxy.cfg.env_file import read_environment
from chaosd.proxies.haproxy.rewire import certificate, diff, table, wording
from chaosd.proxies.haproxy.rewire.checks import dialogue
from chaosd.proxies.haproxy.rewire.reasons import Lost, Reason

GONE = "# "  # what a line that is left out begins with
SOCKET = r"abns@chaosd-[0-9a-f]{12}-\d"
OTHER = "backend other\n    "


@pytest.mark.parametrize(
    ("part", "line", "expected"),
    [
        # The entry and the other binds.
        ("frontend", "bind *:443 ssl crt /no/such.pem", rf"bind {SOCKET} ssl crt /run/made/.*pem"),
        ("frontend", "bind :::81 v4v6 tfo name x", rf"bind {SOCKET} name x"),
        ("frontend", "bind :82 interface eth0 accept-proxy", rf"bind {SOCKET} accept-proxy"),
        ("frontend", "bind :83 ssl crt /x verify none ca-file /y", rf"bind {SOCKET} ssl crt .*"),
        ("frontend", "bind quic4@:443 ssl crt /x", GONE),
        # Names.
        ("resolvers", "nameserver two 10.0.0.54:53", r"nameserver two 127\.64\.0\.2:5300"),
        ("resolvers", "nameserver t tcp@8.8.8.8:53", r"nameserver t tcp@127\.64\.0\.2:5300"),
        ("resolvers", "nameserver n dns.example:53", r"nameserver n 127\.64\.0\.2:5300"),
        ("resolvers", "parse-resolv-conf", GONE),
        # The process.
        ("global_", "user haproxy", GONE),
        ("global_", "chroot /var/lib/haproxy", GONE),
        ("global_", "daemon", GONE),
        ("global_", "master-worker", GONE),
        ("global_", "stats socket ipv4@0.0.0.0:9999 level admin", GONE),
        ("global_", "log /dev/log local1 notice", GONE),
        ("global_", "lua-load /etc/x.lua", GONE),
        ("global_", "external-check", GONE),
        ("global_", "maxconn 2000000000", r"maxconn \d+"),
        ("global_", "nbthread 4", None),
        ("global_", "tune.bufsize 32768", None),
        ("defaults", "log stdout format raw local0", GONE),
        ("defaults", "source 10.1.1.1", GONE),
        ("defaults", "load-server-state-from-file global", GONE),
        ("defaults", "option httplog", None),
        ("frontend", "email-alert to x@example.org", GONE),
        # The app's server.
        ("backend", "server t app.example:443 resolvers r init-addr none ssl verify none npn x",
         "server t app.example:8080 resolvers r init-addr none ssl verify none"),
        ("backend", "server t app.example:80 resolvers r",
         "server t app.example:8080 resolvers r init-addr none"),
        ("backend", "server t app.example:80 resolvers r init-addr last,libc,none",
         "server t app.example:8080 resolvers r init-addr last,none"),
        ("backend", "server t app.example:80 resolvers r init-addr none hash-key addr backup",
         "server t app.example:8080 resolvers r init-addr none hash-key addr backup"),
        ("backend", "server t app.example:80 resolvers r init-addr none check port 9000",
         "server t app.example:8080 resolvers r init-addr none check port 8081"),
        ("backend", "server t app.example:80 resolvers r init-addr none check port 80",
         "server t app.example:8080 resolvers r init-addr none check port 8080"),
        ("backend", "server t app.example:80 resolvers r init-addr none send-proxy-v2 proto h2",
         "server t app.example:8080 resolvers r init-addr none send-proxy-v2"),
        ("backend", "server t app.example:80 resolvers r init-addr none agent-check agent-port 9",
         "server t app.example:8080 resolvers r init-addr none"),
        ("backend", "server t app.example:80 resolvers r init-addr none socks4 10.0.0.1:1080",
         "server t app.example:8080 resolvers r init-addr none"),
        # Those beside it.
        ("backend", "server t other.example:80 resolvers r init-addr none backup",
         "server t other.example:8080 resolvers r init-addr none backup"),
        ("backend", "server t 10.0.0.7:80 check", "server t 127.64.0.11:8080 check"),
        ("backend", "server t other.example:80 weight 5", "server t 127.64.0.11:8080 weight 5"),
        # Other backends.
        ("more", f"{OTHER}server t 10.0.0.9:80 check", "server t 127.64.0.1:1 check no-check"),
        ("more", f"{OTHER}server t x.example:80 ssl ca-file /x", "server t 127.64.0.1:1"),
        ("more", f"{OTHER}server t 127.0.0.1:80 send-proxy", "server t 127.64.0.1:8080 send-proxy"),
        # Checks.
        ("backend", "option external-check", GONE),
        ("backend", "option mysql-check user x", GONE),
        ("backend", "http-check expect status 200-399", None),
        ("backend", "http-check expect status 401", GONE),
        ("backend", "http-check expect string pong", None),
        ("backend", "http-check connect port 99 ssl proto h2", "http-check connect port 8081 ssl"),
        # Files that are not there, and programs.
        ("defaults", "errorfile 503 /no/503.http", r"errorfile 503 /run/made/0-503\.http"),
        ("frontend", "http-request deny if { src -f /no/list }",
         r"http-request deny if { src -f /run/made/0-list }"),
        ("frontend", "http-request set-header x %[path,map_beg(/no/m.map,d)]",
         r"http-request set-header x %\[path,map_beg\(/run/made/0-m\.map,d\)\]"),
        ("frontend", "http-response lua.cors", GONE),
        ("frontend", "filter spoe engine e config /x", GONE),
    ],
)  # fmt: skip
def test_a_line_becomes_another(part, line, expected):
    found = made(**{part: line})
    before = line.rsplit("\n", 1)[-1].strip()
    after = found.changed.get(before)
    if expected is None:
        assert after is None
    elif expected is GONE:
        assert after == f"# {before}"
    else:
        assert after == expected or re.fullmatch(expected, after or ""), after
    assert not found.files.foreign(found.rewired, WIRING)


def test_what_chaosd_needs_stands_where_the_users_stood():
    found = made()
    assert found.changed == {
        "stats socket /var/run/haproxy.sock": "stats socket /run/api.sock mode 600 level user",
        "log 127.0.0.1 local0": "log 127.64.0.2:5140 local0 notice",
        "nameserver dns 10.0.0.53:53": "nameserver dns 127.64.0.2:5300",
        "bind *:80": "bind 127.64.0.1:8080",
        "server s app.example:80 resolvers r init-addr none":
            "server s app.example:8080 resolvers r init-addr none",
    }  # fmt: skip
    assert not found.added
    assert not found.lost


def test_what_is_not_changed_keeps_its_bytes():
    text = (
        b"global\r\n\tnbthread 2 # \xc3\xa9\r\n"
        b"resolvers r\n  nameserver d  1.1.1.1:53   # ours\n"
        b"listen  l\n  bind :80\n  mode tcp\n\n\n"
        b"  server s 'app'.example:1 resolvers r init-addr none"
    )
    found = make(text, version="2.2.9")
    copied = found.text.encode().splitlines(keepends=True)
    assert copied[0] == b"global\r\n"
    assert b"\tnbthread 2 # \xc3\xa9\r\n" in copied
    assert b"  nameserver d  127.64.0.2:5300   # ours\n" in copied
    assert b"listen  l\n" in copied
    assert b"  server s app.example:8080 resolvers r init-addr none" in copied[-1]


def test_the_difference_makes_the_copy_of_the_file():
    found = made(
        global_="user x",
        frontend="bind :81",
        backend="no log",
        more="frontend g\n    bind :82\n    default_backend missing\n",
    )
    copy, source = found.rewired.copies[0], found.files.sources[0]
    lines, shift = source.text.split("\n"), 0
    hunks = re.split(r"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@ (.+)$",
                     "\n".join(diff.unified(copy, str)), flags=re.MULTILINE)  # fmt: skip
    assert len(hunks) > 6
    for old, count, new, _, why, body in zip(*(hunks[n::6] for n in range(1, 7)), strict=True):
        assert why
        gone = [line[1:] for line in body.split("\n") if line.startswith("-")]
        come = [line[1:] for line in body.split("\n") if line.startswith("+")]
        at = int(old) + shift - (0 if count == "0" else 1)
        assert lines[at : at + len(gone)] == gone
        assert int(new) == at + 1
        lines[at : at + len(gone)] = come
        shift += len(come) - len(gone)
    assert "\n".join(lines) == copy.text


@pytest.mark.parametrize(("version", "said"), [("2.2.9", 0), ("2.6.12", 1)])
def test_a_file_without_a_newline_at_its_end_gets_one(version, said):
    text = (
        "global\n log stdout format raw local0\nlisten l\n bind :80\n mode tcp\n"
        " server s app.example:1 resolvers r\nresolvers r\n nameserver d 1.1.1.1:53"
    )
    found = make(text, version=version)
    assert found.text.endswith("nameserver d 127.64.0.2:5300\n")
    lost = [each for each in found.rewired.lost if each.reason is Reason.NEWLINE]
    assert [each.place.line for each in lost] == [8] * said


def test_a_line_of_the_copy_is_traced_to_the_users_line():
    found = make("resolvers r\n nameserver d 1.1.1.1:53\nlisten l\n bind :80\n mode http\n"
                 " server s app.example:1 resolvers r\n")  # fmt: skip
    lines = found.text.splitlines()
    at = next(number for number, line in enumerate(lines, 1) if "server s" in line)
    assert at > 6  # a global section stands before it, and a log line in it
    assert found.rewired.user_place(0, at).line == 6
    assert found.rewired.user_place(0, 1).line == 0


# --- what is added ---


def test_a_file_without_global_log_and_api_gets_them():
    found = make("defaults\n mode http\nresolvers r\n nameserver d 1.1.1.1:53\n"
                 "frontend f\n bind :80\n default_backend b\n"
                 "backend b\n server s app.example:1 resolvers r init-addr none\n")  # fmt: skip
    assert found.added[:3] == [
        "global",
        "log 127.64.0.2:5140 local0 notice",
        "stats socket /run/api.sock mode 600 level user",
    ]
    assert found.text.partition("\nbackend b\n")[2].startswith("    log global\n")


def test_a_backend_that_no_frontend_leads_to_gets_one():
    found = make("resolvers r\n nameserver d 1.1.1.1:53\nbackend b\n mode http\n"
                 " server s app.example:1 resolvers r init-addr none")  # fmt: skip
    assert found.added[-5:] == [
        "frontend chaosd-entry",
        "mode http",
        "timeout client 60s",
        "bind 127.64.0.1:8080",
        "default_backend b",
    ]
    assert found.text.endswith("\n")


def test_sections_that_are_in_no_file_have_stand_ins():
    found = make(
        "frontend f\n bind :80\n http-request auth unless { http_auth(them) }\n"
        " use_backend away if { path /x }\n default_backend b\n"
        "backend b\n server s app.example:1 resolvers gone init-addr none\n"
    )
    assert "resolvers gone" in found.added
    assert "nameserver chaosd 127.64.0.2:5300" in found.added
    assert "userlist them" in found.added
    assert "backend away" in found.added
    assert {"MISSING_RESOLVERS", "MISSING_USERS", "MISSING_BACKEND"} <= {*found.lost}


def test_what_is_inherited_is_taken_back_or_taken_out():
    line = "default-server ssl verify required send-proxy ca-file /x ciphers Y check port 7"
    found = made(defaults=line, more="backend o\n    server t 127.0.0.1:80\n")
    pem_file = "/run/made/certificate.pem"  # by which the app is believed
    assert found.changed[line] == (
        f"default-server ssl verify required send-proxy ca-file {pem_file} check port 7"
    )
    own = found.changed["server s app.example:80 resolvers r init-addr none"]
    assert own.endswith("init-addr none port 8081")
    assert found.rewired.app_env["CHAOSD_PROXIED"] == "yes"
    pem = found.rewired.made["made/certificate.pem"].decode()
    assert found.rewired.app_env["CHAOSD_CERTIFICATE"] == pem
    # It points at a bind of the same file, which does speak TLS and takes the PROXY line.
    assert found.changed["server t 127.0.0.1:80"] == (
        "server t 127.64.0.1:8080 ssl verify none no-check"
    )


def test_a_name_without_resolvers_is_the_address_of_the_start():
    found = make("listen l\n bind :80\n server s app.example:80 check\n")
    assert found.changed["server s app.example:80 check"] == "server s 127.64.0.10:8080 check"
    assert "APP_ADDRESS" in found.lost


def test_a_service_name_keeps_its_line():
    line = "server-template t 3 _http._tcp.app.example resolvers r init-addr none check"
    found = make(f"resolvers r\n nameserver d 1.1.1.1:53\nlisten l\n bind :80\n {line}\n")
    assert line not in found.changed
    assert found.files.choice.instances == 3


def test_answers_say_their_address_if_the_app_does_not():
    found = made(wiring={"by_address": True})
    assert "http-response set-header X-Chaosd-Instance @%si" in found.added


def test_sections_that_speak_to_others_are_left_out_or_silent():
    more = (
        "peers p\n    bind :1024\n    peer elsewhere 10.0.0.3:1024\n    table t type ip size 1k\n"
        "mailers m\n    mailer one 10.0.0.4:25\n"
        "log-forward lf\n    dgram-bind 127.0.0.1:514\n    log 10.0.0.5:514 local0\n"
        "ring q\n    size 4096\n    server s 10.0.0.6:514\n"
        "program x\n    command /bin/true\n"
    )
    found = made(more=more)
    for line in more.splitlines():
        kept = line.startswith(("peers", "ring", "    table", "    size"))
        assert kept or line.strip() in found.changed
    assert not re.search(r"^[^#]*10\.0\.0\.", found.text, re.MULTILINE)
    assert {"PEERS", "MAILERS", "LOG_FORWARD", "RING", "PROGRAM"} <= {*found.lost}


# --- the second look ---


@pytest.mark.parametrize("line", ["lua-load /x.lua", "ssl-passphrase-cmd /bin/x"])
def test_a_program_that_is_left_in_is_found_too(monkeypatch, line):
    found = made(global_=line)
    assert found.changed[line] == f"# {line}"
    assert not found.files.foreign(found.rewired, WIRING)
    monkeypatch.setattr(table, "TABLE", [e for e in table.TABLE if "lua-load" not in e.keywords])
    found = made(global_=line)
    assert found.files.foreign(found.rewired, WIRING)
    found = made(global_=line, wish={"programs": True})
    assert line not in found.changed
    assert not found.files.foreign(found.rewired, WIRING)


@pytest.mark.parametrize("keyword", ["bind", "nameserver", "server", "log", "stats", "peer"])
def test_a_rule_that_is_forgotten_is_found_in_the_copy(monkeypatch, keyword):
    more = "peers p\n    peer elsewhere 10.0.0.3:1024\nbackend o\n    server x 10.0.0.9:80\n"
    kept = tuple(entry for entry in table.TABLE if keyword not in entry.keywords)
    assert len(kept) < len(table.TABLE)
    monkeypatch.setattr(table, "TABLE", kept)
    found = made(more=more)
    lines = found.text.splitlines()
    foreign = found.files.foreign(found.rewired, WIRING)
    assert keyword in {lines[place.line - 1].split()[0] for place in foreign}


def test_every_reason_has_its_words():
    for reason in Reason:
        assert wording.why(reason)
    found = made(
        server="ssl ciphers X socks4 1.1.1.1:1 proto h2 send-proxy addr 1.1.1.1 track x/y redir / "
        "source 1.1.1.1",
        global_="ulimit-n 99\n    lua-load x",
    )
    assert len(found.rewired.lost) > 8
    for lost in found.rewired.lost:
        assert wording.lost(lost).startswith(f"{lost.place}: ")
    assert "resolvers `x`" in wording.lost(Lost(found.files.choice.backend.place,
                                                Reason.MISSING_RESOLVERS, "x"))  # fmt: skip
    sent = Lost(found.files.choice.backend.place, Reason.CHECK_RULE, "send QUIT\r\n")
    assert "`send QUIT\\r\\n`" in wording.lost(sent)


# --- checks, certificates, variables ---


def test_a_dialogue_is_played_as_the_check_expects_it():
    found = made(
        backend="option tcp-check\n    tcp-check connect\n    tcp-check send PING\\r\\n\n"
        "    tcp-check expect string +PONG\n    tcp-check send info\\ replication\\r\\n\n"
        "    tcp-check expect string role:master\n    tcp-check expect rstring ^loading:0"
    )
    assert not found.lost
    assert json.loads(found.rewired.app_env["CHAOSD_SCRIPT"]) == {
        "PING\r\n": "+PONG\r\n",
        "info replication\r\n": "role:master\r\nloading:0\r\n",
    }


@pytest.mark.parametrize(
    "rules",
    ["expect string 220", "send x\n    tcp-check expect rstring ^(a|b)", "send-lf %[date]"],
)
def test_a_dialogue_that_cannot_be_played_is_left_out_whole(rules):
    found = made(backend=f"option tcp-check\n    tcp-check {rules}")
    lines = [line for line in found.text.splitlines() if line.split()[:1] == ["tcp-check"]]
    assert not lines
    assert "CHECK_RULE" in found.lost
    assert dialogue([]) == {}


def test_a_made_certificate_is_believed_for_its_names(tmp_path):
    pem = tmp_path / "c.pem"
    pem.write_bytes(certificate.make(("app.example", "other.example")))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    client = ssl.create_default_context(cafile=str(pem))

    def shake(name: str) -> None:
        one, two = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends = [client.wrap_bio(one, two, server_hostname=name), server.wrap_bio(two, one, True)]
        for _ in range(6):
            for end in ends:
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue

    shake("other.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake("else.example")


def test_variables_without_a_value_are_named_and_stood_for():
    text = (
        "resolvers r\n nameserver d 1.1.1.1:53\nlisten l\n bind *:$PORT\n"
        ' acl x hdr(host) "${WHO}"\n server s $APP:$APP_PORT resolvers r\n'
    )
    files = rewiring.own_files(text, extra={"APP": "app.example"})
    assert {name: place.line for name, place in files.unset.items()} == {
        "PORT": 4,
        "WHO": 5,
        "APP_PORT": 6,
    }
    assert files.choice.name == "app.example"
    assert files.environment == {"APP": "app.example"} | {
        "PORT": "chaosd-port",
        "WHO": "chaosd-who",
        "APP_PORT": "chaosd-app-port",
    }


def test_no_two_variables_without_a_value_have_one_name():
    long = "A" * 70
    names = [
        "DB_HOST_2",
        "DB_HOST",
        "db_host",
        "DB__HOST",
        "_DB_HOST",
        long,
        f"{long}B",
        "__",
        "___",
    ]
    lines = "".join(f" server s{n} ${{{name}}}:80\n" for n, name in enumerate(names))
    values = rewiring.own_files(f"listen l\n bind :80\n{lines}").stand_ins
    assert values.keys() == set(names)
    assert len({*values.values()}) == len(names)
    for value in values.values():
        assert re.fullmatch(r"chaosd(-[a-z0-9]+)*", value)
        assert len(value) <= 63


def test_two_variables_without_a_value_are_two_names():
    text = (
        "resolvers r\n nameserver d 1.1.1.1:53\nlisten l\n bind :80\n"
        " server one $DB_1:5432 resolvers r\n server two $DB_2:5432 resolvers r\n"
    )
    files = rewiring.own_files(text)
    assert [server.address.text for server in files.choice.moved] == ["chaosd-db-1:5432"]
    assert [server.address.text for server in files.choice.beside] == ["chaosd-db-2:5432"]


def test_a_file_of_variables(tmp_path):
    path = tmp_path / "env"
    path.write_text("# ours\nA=1\nexport B='two words'\n\nC=\n")
    assert read_environment(path) == {"A": "1", "B": "two words", "C": ""}
    path.write_text("A=1\nwhat?\n")
    with pytest.raises(Exception, match=rf"{path}:2: not a variable \(write it like NAME=value\)"):
        read_environment(path)
