"""A comment that ignores a rule, where there is nothing to ignore."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from chaosd.doctor.finding import Facts, Finding, Remedy, Severity
from chaosd.doctor.ignores import Ignore
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject


class UnusedIgnore(Rule):
    """Found by the comments that no finding needed: `of` is asked when all rules have looked."""

    id = "unused-ignore"
    severity = Severity.WARNING
    title = "an ignore comment that applies to nothing"
    sentence = "this comment ignores `{rule}`, and there is nothing of it here"

    def look(self, subject: Subject) -> Iterable[Finding]:
        return ()

    def of(self, ignore: Ignore, known: Sequence[str]) -> Finding:
        """What to say of a comment that no finding needed."""
        if not ignore.rule:
            said = "this comment names no rule (write: # chaosd: ignore RULE reason)"
            return self.finding(ignore.spot, sentence=said)
        facts: Facts = {"rule": ignore.rule}
        if ignore.rule in known:
            return self.finding(ignore.spot, facts, remedy=Remedy(advice="Take the comment out."))
        close = get_close_matches(ignore.rule, known, n=1)
        hint = f" (did you mean `{close[0]}`?)" if close else " (chaosd doctor --rules lists them)"
        return self.finding(ignore.spot, facts, sentence=f"there is no rule `{{rule}}`{hint}")
