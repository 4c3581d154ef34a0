"""What a rule is. The file of one in `rules/` is all of it; `rules/hold_obsolete.py` is a model."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from chaosd import plugins
from chaosd.doctor.finding import Confidence, Fact, Finding, Remedy, Severity, Spot
from chaosd.doctor.subject import Subject
from chaosd.errors import MachineError
from chaosd.proxies.haproxy.cfg.effective import Origin
from chaosd.proxies.haproxy.cfg.source import Place
from chaosd.proxies.haproxy.model.backend import Scenario

KIND = "rules"  # of plugins


class Rule(ABC):
    """Looks at a file's effective settings and says what hurts.

    The entry point's name is its `id`; its page is `docs/rules/<id>.md`.
    """

    id: ClassVar[str]
    severity: ClassVar[Severity]
    confidence: ClassVar[Confidence] = Confidence.HIGH
    title: ClassVar[str]  # what it is about, in a few words
    sentence: ClassVar[str]  # with the names of facts in brackets, as `str.format` has it

    @abstractmethod
    def look(self, subject: Subject) -> Iterable[Finding]:
        """Find it."""

    def finding(
        self,
        spot: Spot,
        facts: Mapping[str, Fact] | None = None,
        *,
        origin: Origin = Origin.OWN,
        backends: Sequence[str] = (),
        also: Sequence[Place] = (),
        remedy: Remedy | None = None,
        scenarios: Sequence[Scenario] = (),
        beyond: bool = False,
        severity: Severity | None = None,
        confidence: Confidence | None = None,
        sentence: str | None = None,
    ) -> Finding:
        """One finding of this rule, its sentence made of the facts."""
        facts = facts or {}
        return Finding(
            rule=self.id,
            severity=severity or self.severity,
            confidence=confidence or self.confidence,
            spot=spot,
            message=(sentence or self.sentence).format(**facts),
            facts=facts,
            origin=origin,
            backends=tuple(dict.fromkeys(backends)),
            also=tuple(dict.fromkeys(place for place in also if place != spot.place)),
            remedy=remedy,
            scenarios=tuple(scenarios),
            beyond=beyond,
        )

    def page(self) -> str:
        """What `--explain` prints: its page, or the docstring of a rule from elsewhere."""
        from chaosd.system.files import MB, read_utf8
        from chaosd.system.shipped import shipped

        try:
            return read_utf8(shipped(f"docs/rules/{self.id}.md"), MB)
        except (MachineError, OSError):
            return f"# {self.id}\n\n{inspect.getdoc(type(self)) or self.title}\n"


def installed() -> list[Rule]:
    """Every rule, chaosd's and those of other packages, by name."""
    return [find(name) for name in plugins.available(KIND)]


def find(name: str) -> Rule:
    """The rule of this name. Raises LookupError in words for the user."""
    rule: Rule = plugins.find(KIND, name)()
    return rule
