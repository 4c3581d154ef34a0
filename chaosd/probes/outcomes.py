"""What an operating system error means for a probe: the one table that all probes share."""

from __future__ import annotations

import errno

from chaosd.history.values import Outcome

_OUTCOMES = {
    errno.ECONNREFUSED: Outcome.REFUSED,
    errno.ETIMEDOUT: Outcome.TIMEOUT,
    # No route, no host, or a packet filter that rejects.
    errno.EHOSTUNREACH: Outcome.UNREACHABLE,
    errno.ENETUNREACH: Outcome.UNREACHABLE,
    errno.EHOSTDOWN: Outcome.UNREACHABLE,
    errno.ENETDOWN: Outcome.UNREACHABLE,
    errno.EACCES: Outcome.UNREACHABLE,
    errno.EPERM: Outcome.UNREACHABLE,
    # This machine has run out of something: it says nothing about the target.
    errno.EMFILE: Outcome.DROPPED,
    errno.ENFILE: Outcome.DROPPED,
    errno.ENOBUFS: Outcome.DROPPED,
    errno.ENOMEM: Outcome.DROPPED,
    errno.EADDRNOTAVAIL: Outcome.DROPPED,
    errno.EADDRINUSE: Outcome.DROPPED,
    errno.EAGAIN: Outcome.DROPPED,
}


def of_error(error: OSError) -> Outcome:
    """The outcome of an attempt that ended with this error; RESET unless the table knows better."""
    return _OUTCOMES.get(error.errno or 0, Outcome.RESET)
