"""The difference between the user's file and its copy, as a unified diff with reasons."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from chaosd.proxies.haproxy.rewire.edits import Change, Copy
from chaosd.proxies.haproxy.rewire.wording import why

Mask = Callable[[str], str]


def unified(copy: Copy, mask: Mask) -> Iterator[str]:
    """One hunk for each changed place, the reasons behind its numbers; nothing if it is equal.

    `patch --unidiff-zero` takes it. `mask` hides passwords.
    """
    if not copy.changes:
        return
    yield f"--- {copy.path}"
    yield f"+++ {copy.path} (chaosd's copy)"
    shift = 0
    for change in copy.changes:
        yield _heading(change, shift)
        yield from (f"-{mask(line)}" for line in change.before)
        yield from (f"+{mask(line)}" for line in change.after)
        shift += len(change.after) - len(change.before)


def _heading(change: Change, shift: int) -> str:
    reasons = dict.fromkeys(why(edit.reason) for edit in change.reasons)
    old = f"{change.line}" if change.before else f"{change.line},0"
    first = change.line + shift + (0 if change.before else 1)
    count = len(change.after)
    new = f"{first}" if count == 1 else f"{first},{count}"
    return f"@@ -{old} +{new} @@ {'; '.join(reasons)}"
