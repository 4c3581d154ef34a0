"""What a config leaves open and the user's own files say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chaosd.config import shape
from chaosd.plan.fitting import fitted_to_files
from chaosd.proxies.haproxy import HAProxy
from chaosd.proxies.haproxy.config import Config as HAProxyConfig

FILE = """\
defaults
 mode http
resolvers r
 nameserver d 192.0.2.1:53
frontend f
 bind :80 {bind}
 default_backend b
backend b
 server s app.example:80 resolvers r {server}
"""


@pytest.mark.parametrize(
    ("bind", "server", "kind", "per_s"),
    [
        ("", "", "http", 100),
        ("accept-proxy", "send-proxy", "http", 100),
        ("ssl crt x.pem", "", "httpx", 50),
        ("", "ssl verify none", "http", 50),
    ],
)
def test_fewer_probes_are_sent_where_each_is_a_handshake(
    tmp_path: Path, bind: str, server: str, kind: str, per_s: int
) -> None:
    file = tmp_path / "haproxy.cfg"
    file.write_text(FILE.format(bind=bind, server=server))
    proxy = {"type": "haproxy", "config": [str(file)], "binary": str(tmp_path / "none")}
    text = {"name": "x", "runtime": "local", "proxy": proxy, "until": {"cycles": 1}}
    config = shape.of_text(json.dumps(text), file, [])
    own = HAProxyConfig.model_validate(proxy)
    (probe,) = fitted_to_files(config, HAProxy(own)).probes
    assert (probe.type, str(probe.rate)) == (kind, f"{per_s}/s")
