"""Where the file is used: that decides how DNS answers, and what a move looks like."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from chaosd.proxies.haproxy.cfg.effective import Effective


class Setting(StrEnum):
    """What looks after the names of the backends."""

    DOCKER = "docker"
    KUBERNETES = "kubernetes"
    CONSUL = "consul"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Guess:
    """A setting, and the word of the file that it is told by."""

    setting: Setting
    word: str | None = None  # None: nothing in the file tells it, or the user has said it


_BY_NAME = (
    (".svc.cluster.local", Setting.KUBERNETES),
    ("kube-dns", Setting.KUBERNETES),
    (".consul", Setting.CONSUL),
)
_BY_NAMESERVER = (
    ("127.0.0.11", Setting.DOCKER),
    ("kube-dns", Setting.KUBERNETES),
    ("svc.cluster.local", Setting.KUBERNETES),
    ("10.96.0.10", Setting.KUBERNETES),
    (":8600", Setting.CONSUL),
)


# Last: what people call sections that ask the nameservers of /etc/resolv.conf.
_BY_SECTION = (
    ("docker", Setting.DOCKER),
    ("swarm", Setting.DOCKER),
    ("kube", Setting.KUBERNETES),
    ("k8s", Setting.KUBERNETES),
    ("consul", Setting.CONSUL),
)


def guess(effective: Effective) -> Guess:
    """Tell the setting by the nameservers, by the servers' names, or by those of sections."""
    for text in _nameservers(effective):
        for part, setting in _BY_NAMESERVER:
            if part in text:
                return Guess(setting, text)
    for server in effective.servers:
        for part, setting in _BY_NAME:
            if part in server.address.text.lower():
                return Guess(setting, server.address.text)
        if server.address.text.startswith("tasks."):
            return Guess(Setting.DOCKER, server.address.text)
    names = [s.name for s in effective.resolvers.values() if not s.nameservers]
    for name in names:
        for part, setting in _BY_SECTION:
            if part in name.lower():
                return Guess(setting, f"resolvers {name}")
    return Guess(Setting.PLAIN)


def _nameservers(effective: Effective) -> Iterator[str]:
    for section in effective.resolvers.values():
        for nameserver in section.nameservers:
            yield nameserver.address.text.lower()
