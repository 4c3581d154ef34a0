"""The proxy's questions to chaosd's DNS, as readings: those whose answer is a new one."""

from __future__ import annotations

from chaosd.dns.server import Query
from chaosd.history.events import Inbox, NameAnswered, StrangersAsked
from chaosd.plugins.recording import Recorder
from chaosd.runtimes.senders import Strangers
from chaosd.runtimes.unread import Unread


class DnsAnswers:
    """Stores an answer that differs from the last one to the same question."""

    def __init__(self, recorder: Recorder, name: str, nameservers: int = 1) -> None:
        self._recorder = recorder
        self._name, self._nameservers = name, nameservers
        self._unread = Unread(recorder, Inbox.DNS)
        self._last: dict[tuple[int, str], tuple[str, tuple[str, ...]]] = {}  # by who and what
        self._strangers = Strangers(self.strangers)

    def strangers(self, count: int, sender: str) -> None:
        """So many questions were not the proxy's, the latest from there."""
        self._recorder.record(StrangersAsked(count=count, sender=sender))

    def close(self) -> None:
        """Store what is still to be said. May be called twice."""
        self._strangers.close()

    def record(self, query: Query) -> None:
        """A question was answered, or dropped."""
        if query.stranger:
            self._strangers.one(query.stranger)
            return
        self._unread.was(query.unread_ns, query.at_ns, query.dropped)
        answer = (query.rcode, tuple(query.ips))
        asked = (query.nameserver, query.qtype)
        if query.name == self._name and self._last.get(asked) != answer:
            self._last[asked] = answer
            said = NameAnswered(
                qtype=query.qtype,
                rcode=query.rcode,
                ips=tuple(query.ips),
                took_ns=query.took_ns,
                nameserver=query.nameserver + 1 if self._nameservers > 1 else None,
            )
            self._recorder.record(said, at_ns=query.at_ns)
