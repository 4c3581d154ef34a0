"""Configs that tests begin with."""

from __future__ import annotations

from collections.abc import Callable

from chaosd.config.shape import Config

# As in the README, with a part of every kind of plugin.
VALID = """\
name: demo
runtime: {type: local}
app: {image: http-server, replicas: 2, env: {GREETING: "on"}}
proxy:
  type: haproxy
  resolvers: {timeout_resolve: 1s, hold: {valid: 10s, obsolete: 0s}}
faults:
  - type: recreate
    every: {min: 4s, max: 9s}
    old_ip: imposter
  - {type: noop, cron: "*/5 * * * mon-fri"}
probes:
  - {type: http, rate: 100/s, timeout: 2s}
  - {type: httpx, name: slow, rate: 6/m}
measure: {stable_for: 2s}
metrics: {listen: "[::1]:0"}
until: {cycles: 50}
"""


Load = Callable[..., Config]
Fail = Callable[..., list[str]]
