"""What of a file's meaning depends on the machine that HAProxy runs on."""

from __future__ import annotations

from typing import NamedTuple

from chaosd.system import machine


class Host(NamedTuple):
    """A machine as HAProxy sees it when it resolves names."""

    nameservers: int  # of /etc/resolv.conf, for `parse-resolv-conf`
    has_ipv6: bool  # a route to the IPv6 internet, for `dns-accept-family auto` of 3.3 and later


def here() -> Host:
    """This machine, as it is now. HAProxy looks at the routes anew every 30 s."""
    return Host(machine.nameservers(), machine.has_ipv6_route())


# A container of chaosd's own networks: Docker's nameserver and no IPv6.
CONTAINER = Host(nameservers=1, has_ipv6=False)
