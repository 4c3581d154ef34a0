"""What differs between versions of HAProxy in how they read a file.

Each line is read in HAProxy's source at the named version (`src/tools.c`, `src/cfgparse.c`,
`src/cfgcond.c`, `src/server.c`), and those that a build at hand shows are measured, too.
"""

from __future__ import annotations

from dataclasses import dataclass

Version = tuple[int, ...]

# The newest line that this reader knows. It is taken where no version is given.
NEWEST: Version = (3, 4)
_SECTIONS = frozenset(
    {
        *("global", "defaults", "frontend", "backend", "listen", "resolvers", "peers", "userlist"),
        *("mailers", "namespace_list", "cache", "fcgi-app", "http-errors", "program", "ring"),
    }
)
_LATER_SECTIONS = {
    "log-forward": (2, 3),
    "crt-store": (3, 0),
    "traces": (3, 1),
    "log-profile": (3, 1),
    "acme": (3, 2),
    "healthcheck": (3, 4),
}
_PREDICATES = ("defined", "feature", "streq", "strneq", "version_atleast", "version_before")
_LATER_PREDICATES = {
    "openssl_version_atleast": (2, 5),
    "openssl_version_before": (2, 5),
    "ssllib_name_startswith": (2, 5),
    "strstr": (2, 8),
    "enabled": (2, 8),
    "awslc_api_atleast": (3, 3),
    "awslc_api_before": (3, 3),
    "fips_mode": (3, 5),
}
# "server: Don't reset resolver options on a new default-server line", by its first release in
# each line. Measured: 2.6.12 has the fault and 2.8.25 has not.
_DEFAULT_SERVER_FIXED: dict[Version, Version] = {
    (2, 4): (2, 4, 27),
    (2, 6): (2, 6, 18),
    (2, 8): (2, 8, 10),
    (2, 9): (2, 9, 8),
}


def parse_version(text: str) -> Version:
    """Read "2.6.12" or "3.3-dev5"."""
    return tuple(int(part) for part in text.partition("-")[0].split("."))


@dataclass(frozen=True)
class Dialect:
    """How one version reads a file."""

    version: Version = NEWEST
    is_assumed: bool = False  # which version it is, is not known: nothing is refused for it

    @classmethod
    def of(cls, text: str | None) -> Dialect:
        """Read "2.6.12" or "3.3-dev5"; the newest line is assumed if there is no text."""
        return cls(NEWEST, is_assumed=True) if text is None else cls(parse_version(text))

    @property
    def sections(self) -> frozenset[str]:
        """The words that begin a section."""
        later = {n for n, since in _LATER_SECTIONS.items() if self._may_be(since)}
        gone = {"program"} if self.version >= (3, 3) and not self.is_assumed else set()
        return (_SECTIONS | later) - gone

    @property
    def predicates(self) -> frozenset[str]:
        """What may stand in a condition."""
        later = {n for n, since in _LATER_PREDICATES.items() if self._may_be(since)}
        return frozenset(later.union(_PREDICATES))

    def _may_be(self, since: Version) -> bool:
        return self.is_assumed or self.version >= since

    @property
    def has_conditions(self) -> bool:
        """`.if`, `.notice` and their like."""
        return self.version >= (2, 4)

    @property
    def has_operators(self) -> bool:
        """`&&`, `||`, `!` and brackets in conditions."""
        return self.version >= (2, 5)

    @property
    def has_word_lists(self) -> bool:
        """`"${NAME[*]}"`, and pseudo-variables such as `.LINE`."""
        return self.version >= (2, 4)

    @property
    def has_variable_defaults(self) -> bool:
        """`${NAME-default}`."""
        return self.version >= (2, 5)

    @property
    def joins_after_unset(self) -> bool:
        """`"${UNSET}" next` is one word, `next`: the closing quote and the blanks are skipped."""
        return (2, 9) <= self.version < (3, 3)

    @property
    def drops_empty_lists(self) -> bool:
        """`"${NAME[*]}"` is no word at all if it is empty, and blanks around it make none."""
        return self.version >= (3, 3)

    @property
    def refuses_empty_words(self) -> bool:
        """An empty word is an error. Before, it silently ended the line's arguments."""
        return self.version >= (3, 3) and not self.is_assumed

    @property
    def needs_last_newline(self) -> bool:
        return self.version >= (2, 3)

    @property
    def default_server_resets(self) -> bool:
        """A `default-server` line resets `resolve-prefer` and `allow-dup-ip` of those before it."""
        fixed = _DEFAULT_SERVER_FIXED.get(self.version[:2], (3, 0))
        return self.version < fixed

    @property
    def starts_without_address(self) -> bool:
        """A server with `resolvers` may start unresolved though no `init-addr` says `none`.

        Read in 2.4 and later; 2.2.0 lacks it, and 2.2.9 was seen to have it.
        """
        return self.version >= (2, 4) or (2, 2, 9) <= self.version < (2, 3)

    @property
    def has_default_resolvers(self) -> bool:
        """HAProxy makes a `resolvers default` of /etc/resolv.conf if there is none. Seen in 2.6."""
        return self.version >= (2, 6)

    @property
    def accepted_families(self) -> frozenset[str] | None:
        """`dns-accept-family` where nothing is said; None where it is not known: both, always."""
        if self.version < (3, 2):
            return None
        return frozenset({"auto"} if self.version >= (3, 3) else {"ipv4", "ipv6"})
