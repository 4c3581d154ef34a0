"""Which backend moves, and where the probe comes in."""

from __future__ import annotations

import pytest
import rewiring

from chaosd.proxies.haproxy.cfg.address import target
from chaosd.proxies.haproxy.rewire.choose import NotChosenError

RESOLVERS = "resolvers r\n nameserver d 1.1.1.1:53\ndefaults\n mode http\n"
ONE = RESOLVERS + "{front}backend b\n {back}\n server s app.example:80 resolvers r\n"


def choice(text, **wish):
    return rewiring.own_files(RESOLVERS + text, **wish).choice


def route(front, back="", **wish):
    return rewiring.own_files(ONE.format(front=front, back=back), **wish).probe_route


def way(front, back="", **wish):
    """What the probe asks for at which bind, or None: at a frontend of chaosd's own."""
    found = route(front, back, **wish)
    if found.frontend is None:
        return None
    return found.bind.texts[1], found.request.host, found.request.path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("app.example:80", ("", "app.example", "80", True)),
        ("ipv4@app:80", ("ipv4@", "app", "80", True)),
        ("10.0.0.1:80", ("", "10.0.0.1", "80", False)),
        ("[2001:db8::1]:80", ("", "[2001:db8::1]", "80", False)),
        (":::80", ("", "::", "80", False)),
        ("*:80", ("", "*", "80", False)),
        ("app", ("", "app", "", True)),
        ("/run/x.sock", ("", "/run/x.sock", "", False)),
        ("unix@x", ("unix@", "x", "", False)),
    ],
)
def test_an_address_is_taken_apart(text, expected):
    found = target(text)
    assert (found.family, found.host, found.port, found.is_name) == expected


def test_the_only_backend_that_is_found_by_dns_moves():
    found = choice(
        "backend a\n server s there.example:80\nbackend b\n server x 10.0.0.1:80\n"
        " server s app.example:80 resolvers r\n server t Other.example:80 resolvers r backup\n"
        " server u APP.example:81 resolvers r\n"
    )
    assert (found.backend.name, found.name) == ("b", "app.example")
    assert [server.name for server in found.moved] == ["s", "u"]
    assert [server.name for server in found.beside] == ["x", "t"]
    assert found.names_beside == ("other.example",)


def test_a_backup_moves_only_if_there_is_nothing_else():
    found = choice(
        "backend b\n server x one.example:80 resolvers r backup\n"
        " server s two.example:80 resolvers r\n"
    )
    assert found.name == "two.example"


def test_of_several_backends_one_has_to_be_named():
    text = (
        "backend a\n server s one.example:80 resolvers r\n"
        "listen b\n server s two.example:80 resolvers r\nbackend c\n server s 10.0.0.1:80\n"
    )
    with pytest.raises(NotChosenError) as error:
        choice(text)
    assert error.value.names == ("a", "b")
    assert choice(text, backend="b").name == "two.example"
    for wrong in ("c", "nobody"):
        with pytest.raises(NotChosenError):
            choice(text, backend=wrong)


def test_without_any_name_nothing_can_move():
    with pytest.raises(NotChosenError, match="no backend has a server with a name"):
        choice("backend c\n server s 10.0.0.1:80\n")


def test_a_template_stands_for_several_instances():
    def instances(count):
        line = f"server-template t {count} app.example:80 resolvers r"
        return choice(f"backend b\n {line}\n").instances

    assert [instances(count) for count in ("1", "2", "10", "1-8", "x")] == [1, 2, 3, 3, 1]


# --- where the probe comes in ---


def test_the_plainest_bind_is_taken():
    front = (
        "frontend f\n bind :1 ssl crt x\n bind :2 accept-proxy\n default_backend b\n"
        "frontend g\n bind :3\n default_backend b\n"
    )
    assert way(front) == (":3", "app.example", "/")
    found = route("frontend f\n bind :1 ssl crt x\n bind :2 accept-proxy\n default_backend b\n")
    assert (found.bind.texts[1], found.accept_proxy, found.tls) == (":2", True, False)
    assert route("frontend f\n bind :1 ssl crt x\n default_backend b\n").tls


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("use_backend b if { hdr(host) -i shop.example }", ("shop.example", "/")),
        ("acl h hdr_beg(host) -i api.\n use_backend b if h", ("api.chaosd.example", "/")),
        ("acl h hdr(host) -m end .example.org\n use_backend b if h", ("chaosd.example.org", "/")),
        ("use_backend b if { path_beg /orders }", ("app.example", "/orders/")),
        ("acl h req.hdr(Host) -i x.y\n acl p path /a /b\n use_backend b if h p", ("x.y", "/a")),
        ("use_backend c if { path / }\n default_backend b\n use_backend b if { path_end .js }",
         ("app.example", "/.js")),
        ("use_backend c if { hdr(x-api) -m found } or { path /x }\n default_backend b",
         ("app.example", "/")),
        ("http-request deny unless { path_beg /in }\n default_backend b", ("app.example", "/in/")),
        ("monitor-uri /\n default_backend b\n acl p path /else", ("app.example", "/else")),
        ("use_backend b unless { hdr(host) app.example }\n acl h hdr(host) b.example",
         ("b.example", "/")),
        ("use_backend c if { method OPTIONS }\n default_backend b", ("app.example", "/")),
        ("use_backend b if { path_beg,url_dec -i -m beg /In }", ("app.example", "/In/")),
        ("use_backend b if { path,lower,url_dec -m beg /in }", ("app.example", "/in/")),
        ("use_backend c if { path /api/ }\n use_backend b if { path_beg /api }",
         ("app.example", "/api")),
        ("http-request deny if { hdr_cnt(user-agent) eq 0 }\n default_backend b",
         ("app.example", "/")),
        ("http-request deny unless { hdr_cnt(host) 1 2 }\n default_backend b",
         ("app.example", "/")),
        ("use_backend b if { hdr_cnt(x-api) gt 0 }", None),
        # What is not understood is never guessed.
        ("http-request deny if { hdr_cnt(host) ne 1 }\n default_backend b", None),
        ("use_backend b if { src -f /list }", None),
        ("use_backend b if { src gate.example }", None),
        ("use_backend c if { lua.what }\n default_backend b", None),
        ("use_backend %[hdr(host),map(/x,b)]\n default_backend b", None),
        ("use_backend b if { hdr(host) -f /list }", None),
        ("http-request auth\n default_backend b", None),
        ("http-request redirect scheme https unless { ssl_fc }\n default_backend b", None),
    ],
)  # fmt: skip
def test_what_to_ask_for_is_derived_from_the_rules(rules, expected):
    found = way(f"frontend f\n bind :1\n {rules}\nbackend c\n")
    assert found == (None if expected is None else (":1", *expected))


def test_a_redirect_to_https_leads_to_the_tls_bind():
    front = (
        "frontend f\n bind :1\n bind :2 ssl crt x\n redirect scheme https if !{ ssl_fc }\n"
        " default_backend b\n"
    )
    assert way(front) == (":2", "app.example", "/")


def test_the_rule_in_the_way_is_named_and_the_user_can_say_what_to_ask():
    front = "frontend f\n bind :1\n use_backend b if { hdr(host) -m reg ^v[0-9]+[.] }\n"
    found = route(front)
    assert found.is_own
    assert found.why.texts[:2] == ("use_backend", "b")
    assert way(front, host="v2.example") == (":1", "v2.example", "/")
    assert route(front, host="elsewhere").is_own


def test_what_the_backend_itself_refuses_counts_too():
    front = "frontend f\n bind :1\n default_backend b\n"
    assert way(front, back="http-request deny if { path / }\n acl p path /x") == (
        *(":1", "app.example", "/x"),
    )
    assert way(front, back="http-request deny if { lua.what }") is None
    found = way(front, back="http-request deny if !{ path_beg /x }", path="/x/1")
    assert found == (":1", "app.example", "/x/1")


def test_what_the_backend_itself_refuses_counts_without_a_frontend_too():
    found = route("", back="http-request deny unless { path_beg /in }")
    assert found.is_own
    assert found.request.path == "/in/"


def test_what_lets_nobody_in_is_left_out_of_the_backend():
    rules = (
        "redirect scheme https if !{ ssl_fc }",
        "http-request auth unless { http_auth(u) }",
        "http-request deny if { path_beg /admin }",
        "tcp-request content reject if { src_conn_rate(b) gt 9 }",
    )
    front = "userlist u\nfrontend f\n bind :1\n default_backend b\n"
    copy = rewiring.make(ONE.format(front=front, back="\n ".join(rules)))
    lines = [line.strip() for line in copy.text.splitlines()]
    gone = [line for line in lines if line.startswith("# ")]
    assert gone == [f"# {rules[place]}" for place in (0, 1, 3)]
    assert "default_backend b" in copy.added


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        ("use_backend b if { src 10.0.0.0/8 }", "10.0.0.1"),
        ("http-request deny unless { src 192.0.2.7 }\n default_backend b", "192.0.2.7"),
        ("acl in src 2001:db8::/32\n http-request deny if !in\n default_backend b", "2001:db8::1"),
        ("acl in src 10.0.0.1\n default_backend b", None),
    ],
)
def test_the_probe_comes_from_where_it_is_let_in(rule, source):
    found = route(f"frontend f\n bind :1\n {rule}\n")
    assert (found.frontend.name, found.request.source) == ("f", source)
    # A PROXY line says where it comes from, and is not forged.
    assert route(f"frontend f\n bind :1 accept-proxy\n {rule}\n").is_own is (source is not None)
    copy = rewiring.make(ONE.format(front=f"frontend f\n bind :1\n {rule}\n", back=""))
    said = [line for line in copy.added if "set-src" in line]
    assert said == ([] if source is None else [f"tcp-request connection set-src str({source})"])


def test_a_rule_of_the_backend_about_sources_is_met_without_a_frontend_too():
    rule = "http-request deny unless { src 192.0.2.7 }"
    added = rewiring.make(ONE.format(front="", back=rule)).added
    assert "tcp-request connection set-src str(192.0.2.7)" in added[-4:]


def test_the_rule_behind_a_redirect_is_named():
    front = (
        "frontend f\n bind :1\n bind :2 ssl crt x\n redirect scheme https if !{ ssl_fc }\n"
        " http-request deny if { sc_http_req_rate(0) gt 9 }\n default_backend b\n"
    )
    assert route(front).why.texts[:2] == ("http-request", "deny")


def test_a_listen_section_without_a_bind_is_its_own_door():
    found = rewiring.make("resolvers r\n nameserver d 1.1.1.1:53\nlisten l\n mode http\n"
                          " server s app.example:80 resolvers r\n")  # fmt: skip
    assert "bind 127.64.0.1:8080" in found.added
    assert not any("frontend" in line for line in found.added)
