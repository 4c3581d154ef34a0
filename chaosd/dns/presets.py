"""DNS faults by name: each is one line here, with what it is and what it is modelled on.

`{type: dns, preset: NAME}` runs one for a while. What HAProxy does about each is in
docs/dns-faults.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaosd.dns.rules import Does, Rule, does

_PAYLOAD = 512  # what HAProxy announces unless told otherwise
_NOBODY = "192.0.2.1"  # of a network for documents: no host has it


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Rules with a name."""

    about: str
    rules: tuple[Rule, ...]
    like: str = ""  # what really happens so


def _all(about: str, *actions: Does, like: str = "") -> Preset:
    return Preset(about=about, rules=(Rule(does=actions),), like=like)


def _aaaa(about: str, *actions: Does, like: str = "") -> Preset:
    return Preset(about=about, rules=(Rule(qtype="AAAA", does=actions),), like=like)


def _tcp(about: str, *actions: Does, like: str = "") -> Preset:
    return Preset(about=about, rules=(Rule(transport="tcp", does=actions),), like=like)


def _some(about: str, *actions: Does, every: int = 1, share: float = 1.0, like: str = "") -> Preset:
    return Preset(about=about, rules=(Rule(every=every, share=share, does=actions),), like=like)


def _one(about: str, *actions: Does, like: str = "") -> Preset:
    """The first of several nameservers; the others are as usual."""
    return Preset(about=about, rules=(Rule(nameserver=0, does=actions),), like=like)


_SILENCE: dict[str, Preset] = {
    "silence": _all("no answer", does("silence"), like="a nameserver that is down"),
    "closed": _all(
        "nobody listens at the nameserver's port",
        does("closed"),
        like="a nameserver whose program is restarted",
    ),
    "silent-aaaa": _aaaa(
        "no answer for AAAA, A as usual", does("silence"), like="a firewall that knows only A"
    ),
    "lossy": _some("each third answer is lost", does("silence"), every=3, like="a full link"),
    "lossy-by-chance": _some("a quarter of all answers is lost", does("silence"), share=0.25),
    "slow": _all("answers come 300 ms later", does("lateness", seconds=0.3)),
    "jitter": _all("answers come up to 500 ms later", does("lateness", jitter=0.5)),
    "heavy-tail": _all(
        "most answers come soon, a few very late",
        does("lateness", tail=0.1),
        like="an overloaded recursive resolver",
    ),
    "later-than-retry": _all(
        "answers come after 1.5 s, when the question has been asked again",
        does("lateness", seconds=1.5),
    ),
}

_CODES: dict[str, Preset] = {
    "nxdomain": _all("the name does not exist", does("code", rcode="NXDOMAIN")),
    "nxdomain-soa": _all(
        "the name does not exist, and caches keep that for 30 s",
        does("code", rcode="NXDOMAIN", soa=30),
        like="CoreDNS and other authoritative servers",
    ),
    "servfail": _all("the nameserver fails", does("code", rcode="SERVFAIL")),
    "refused": _all("the nameserver refuses to answer", does("code", rcode="REFUSED")),
    "formerr": _all(
        "the nameserver does not understand the question",
        does("code", rcode="FORMERR"),
        like="an old nameserver without EDNS",
    ),
    "notimp": _all("the nameserver does not answer such questions", does("code", rcode="NOTIMP")),
    "badvers": _all("the nameserver wants another EDNS", does("code", rcode="BADVERS")),
    "empty": _all("the name has no such record", does("code", rcode="NOERROR")),
    "servfail-aaaa": _aaaa("AAAA fails, A as usual", does("code", rcode="SERVFAIL")),
    "nxdomain-aaaa": _aaaa(
        "AAAA says that the name does not exist, A as usual",
        does("code", rcode="NXDOMAIN"),
        like="load balancers that answer for one family (RFC 4074)",
    ),
}

_CONTENT: dict[str, Preset] = {
    "stale": _all(
        "the addresses of before the last change",
        does("addresses", before=True),
        like="a cache that serves stale answers",
    ),
    "flap": _all(
        "the old and the new addresses in turn",
        does("addresses", before=True, flap=2),
        like="two nameservers behind one address that disagree",
    ),
    "subset": _all(
        "one of the addresses, another one each time",
        does("records", keep=1),
        like="Route 53's multivalue answers, Consul's a_record_limit",
    ),
    "rotation": _all("another order each time", does("records", rotate=True), like="BIND, Consul"),
    "many": _all(
        "thirty more addresses, which no host has: beyond 512 bytes",
        does("records", filler=30),
        like="a headless service with many pods",
    ),
    "duplicates": _all("each address twice", does("records", copies=2)),
    "unspecified": _all("0.0.0.0 and ::", does("addresses", only=("0.0.0.0", "::"))),  # noqa: S104
    "nobody": _all("an address that no host has", does("addresses", only=(_NOBODY,))),
    "one-more-nobody": _all(
        "an address that no host has, beside the usual ones", does("addresses", also=(_NOBODY,))
    ),
    "aaaa-without-route": _aaaa(
        "an IPv6 address to which there is no route",
        does("addresses", only=("2001:db8::1",)),
        like="dual stack in DNS, IPv4 alone on the host",
    ),
    "dual-stack-flap": _aaaa(
        "an IPv6 address in each second answer",
        does("addresses", also=("2001:db8::1",), flap=2),
        like="a service whose AAAA record comes and goes",
    ),
    "alias": _all("by an alias", does("alias")),
    "alias-chain": _all("by three aliases", does("alias", links=3), like="a CDN"),
    "alias-reversed": _all("the address stands before its alias", does("alias", form="reversed")),
    "alias-dangling": _all(
        "an alias without an address",
        does("alias", form="dangling"),
        like="a target that was deleted",
    ),
    "alias-loop": _all("aliases in a circle", does("alias", form="loop", links=2)),
    "alias-long": _all("by twelve aliases", does("alias", links=12)),
    "alias-case": _all("by an alias in mixed case", does("alias", case=True)),
    "stray": _all("a TXT record before the addresses", does("records", stray=True)),
    "capitals": _all("the owner in capitals", does("records", case=True)),
    "ttl-0": _all("TTL 0", does("records", ttl=0)),
    "ttl-huge": _all("a TTL of 68 years", does("records", ttl=2**31 - 1)),
    "ttl-shrinking": _all(
        "a TTL that counts down from 30", does("records", ttl=30, shrinking=True)
    ),
}

_SERVICES: dict[str, Preset] = {
    "srv-weights": _all("SRV records have weight 200", does("services", weight=200)),
    "srv-port": _all("SRV records have port 9", does("services", port=9)),
    "srv-one-gone": _all("the first SRV record is missing", does("services", drop=1)),
    "srv-all-gone": _all("there is no SRV record", does("services", drop=100)),
    "srv-bare": _all(
        "SRV records without the addresses of their targets", does("services", bare=True)
    ),
    "srv-nowhere": _all(
        "one more SRV record, whose target has no address", does("services", nowhere=True)
    ),
    "srv-duplicates": _all("each SRV record twice", does("services", copies=2)),
}

_FRAMING: dict[str, Preset] = {
    "truncated": _all("TC is set, no record is there", does("truncation")),
    "truncated-with-records": _all("TC is set, records are there", does("truncation", kept=True)),
    "oversize": _all(
        "an answer of twice the size that HAProxy takes", does("bytes", at_least=2 * _PAYLOAD)
    ),
    "cut": _all("the second half is missing", does("bytes", cut=0.5)),
    "trailing-bytes": _all("thirty bytes after the message", does("bytes", trailing=30)),
    "noise": _all("random bytes after the header", does("bytes", noise=True)),
    "name-loop": _all("a name that points to itself", does("bytes", name="loop")),
    "name-forward": _all("a name that points forward", does("bytes", name="forward")),
    "long-label": _all("a label of 80 bytes", does("bytes", name="long-label")),
    "too-many-records-said": _all("it says to hold three records more", does("header", answers=3)),
    "no-question": _all("it says to hold no question", does("header", questions=-1)),
    "two-questions": _all("the question stands there twice", does("header", question_twice=True)),
    "a-query": _all("it says to be a question", does("header", is_query=True)),
    "wrong-id": _all("an id that nobody asked with", does("header", identity=1)),
}

_SENDING: dict[str, Preset] = {
    "twice": _all("each answer twice", does("repeat")),
    "twice-apart": _all("each answer again after 400 ms", does("repeat", apart=0.4)),
    "reordered": _all("each second answer comes 400 ms later", does("repeat", times=1, held=0.4)),
    "other-port": _all("answers come from another port", does("sender")),
    "other-address": _all("answers come from another address", does("sender", way="other-address")),
    "spoofed": _all(
        "a wrong address from another port, 50 ms before the true answer",
        does("sender", races=0.05, lie=_NOBODY),
        like="a spoofer: HAProxy 3.2.5 to 3.2.17 take it",
    ),
    "tcp-reset": _tcp("TCP: a reset after the question", does("stream", manner="reset")),
    "tcp-close": _tcp("TCP: the end after the question", does("stream", manner="close")),
    "tcp-silent": _tcp("TCP: nothing after the question", does("stream", manner="silent")),
    "tcp-cut": _tcp("TCP: half of the answer, then the end", does("stream", manner="cut")),
    "tcp-split": _tcp("TCP: the length first, the rest later", does("stream", manner="split")),
    "tcp-dribble": _tcp("TCP: a byte at a time", does("stream", manner="dribble")),
}

_ONE_OF_SEVERAL: dict[str, Preset] = {
    "one-silent": _one(
        "one of several nameservers says nothing",
        does("silence"),
        like="a nameserver whose host is gone: packets to it vanish",
    ),
    "one-closed": _one(
        "nobody listens at one of several nameservers",
        does("closed"),
        like="a nameserver whose program is gone",
    ),
    "one-slow": _one(
        "one of several nameservers answers 300 ms later", does("lateness", seconds=0.3)
    ),
    "one-nxdomain": _one(
        "one of several nameservers says that the name does not exist",
        does("code", rcode="NXDOMAIN"),
        like="a public resolver beside the internal one",
    ),
    "one-servfail": _one("one of several nameservers fails", does("code", rcode="SERVFAIL")),
    "one-refused": _one(
        "one of several nameservers refuses to answer",
        does("code", rcode="REFUSED"),
        like="a nameserver that does not serve this client",
    ),
    "one-empty": _one("one of several nameservers knows no address", does("code", rcode="NOERROR")),
    "one-stale": _one(
        "one of several nameservers has the addresses of before the last change",
        does("addresses", before=True),
        like="a secondary that is not transferred any more",
    ),
    "one-lies": _one(
        "one of several nameservers says an address that no host has",
        does("addresses", only=(_NOBODY,)),
    ),
}

_LIKE: dict[str, Preset] = {
    "coredns-restart": _all(
        "silence",
        does("silence"),
        like="the only CoreDNS pod is restarted: it is gone before its successor is ready",
    ),
    "route53-throttle": _some(
        "three of four answers are lost",
        does("silence"),
        share=0.75,
        like="the VPC resolver's limit of 1,024 packets a second and interface",
    ),
    "docker-slow-dns": _all(
        "answers come 0.2 s to 2 s later",
        does("lateness", seconds=0.2, jitter=1.8),
        like="Docker's embedded DNS on a busy engine",
    ),
    "consul-rotation": _all(
        "three addresses at most, in another order each time",
        does("records", keep=3),
        like="Consul's DNS with a_record_limit = 3",
    ),
}

PRESETS: dict[str, Preset] = {
    **_SILENCE,
    **_CODES,
    **_CONTENT,
    **_SERVICES,
    **_FRAMING,
    **_SENDING,
    **_ONE_OF_SEVERAL,
    **_LIKE,
}
