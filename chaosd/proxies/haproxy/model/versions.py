"""What HAProxy's algorithm does differently in which version."""

from __future__ import annotations

from functools import lru_cache

Version = tuple[int, ...]

OLDEST: Version = (2, 1)  # before, `hold valid` was the poll period: another algorithm
# A check that fails to connect asks the nameserver again at once (commit 68a61b632, #1906).
CHECKS_ASK_AGAIN: Version = (2, 6, 7)
# Entering maintenance forgets the address (2.4) and what the last answers held (2.5).
FORGETS_ADDRESS: Version = (2, 4)
FORGETS_ANSWERS: Version = (2, 5)
# From here on the servers of a resolution share its records. Before, those of a backend whose host
# name is the same looked at each other's addresses, whatever section they ask.
SHARES_RECORDS: Version = (2, 5)
# Before, the age of a record is a difference of whole seconds (docs/findings.md; seen in 2.2.9).
COUNTS_MILLISECONDS: Version = (2, 5)
# A target of an SRV record whose address the answer does not hold is asked for at once. From here
# on that has to wait until a name of the same section is asked for again (docs/findings.md; 2.6.12
# is the last that was seen to ask at once, 2.8.25 the first that waits).
WAITS_FOR_TARGETS: Version = (2, 7)
# Before (and before 2.3.6), servers of SRV records that came with their addresses stay as they are
# when the name is gone (commit b4badf720, #50).
FORGETS_SERVICES: Version = (2, 2, 10)
HAS_INIT_STATE: Version = (3, 1)
# `random` has other shares of its ring from here on (seen in 3.0.11), until before 3.2.26.
HASHES_IDS: Version = (3, 0)
# `leastconn` takes any of several that hold as few. Before, the one that was used longest ago.
TIES_AT_RANDOM: Version = (3, 2)


@lru_cache(maxsize=64)
def parse_version(text: str | None) -> Version:
    """Read "2.6.12" or "3.3-dev5" for comparing. No version is newer than all."""
    if text is None:
        return (99,)
    return tuple(int(part) for part in text.partition("-")[0].split("."))
