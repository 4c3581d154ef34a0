"""What the YAML says of HAProxy. Defaults are HAProxy's own unless a comment says why not."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from chaosd.plugins.bases import Part
from chaosd.plugins.program import MS_NS, ProgramConfig, seconds, whole
from chaosd.proxies.haproxy.cfg.files import BYTES_MAX
from chaosd.proxies.haproxy.model.settings import Holds, Settings
from chaosd.system.files import read_bytes
from chaosd.units import Duration

MS = MS_NS
_TIMER_MS_MAX = 2**31 - 1  # HAProxy's timers are 32-bit milliseconds


def _whole_ms(value: Duration) -> Duration:
    whole(value, MS, "HAProxy counts whole milliseconds (write it like 250ms)")
    if value // MS > _TIMER_MS_MAX:
        raise ValueError("HAProxy's timers end at 24 days")
    return value


def _at_least_1ms(value: Duration) -> Duration:
    if value < MS:
        raise ValueError("must be at least 1ms")
    return value


def _one_line(value: str) -> str:
    if any(c in value for c in "\r\n\0"):
        raise ValueError("must be a single line")
    return value.strip()


Hold = Annotated[Duration, AfterValidator(_whole_ms)]
Timer = Annotated[Duration, AfterValidator(_whole_ms), AfterValidator(_at_least_1ms)]


class HoldConfig(Part):
    """How long the last good answer is believed when the nameserver says something else."""

    valid: Hold = Field(
        seconds(10), description="a failed check asks again at once if the last answer is older"
    )
    obsolete: Hold = Field(
        seconds(0), description="how long an address lives on that is no longer in the answer"
    )
    nx: Hold = Field(seconds(30), description="NXDOMAIN")
    refused: Hold = Field(seconds(30), description="REFUSED")
    timeout: Hold = Field(seconds(30), description="no answer")
    other: Hold = Field(seconds(30), description="SERVFAIL, an empty answer, a truncated one")


class ResolversConfig(Part):
    """The `resolvers` section."""

    timeout_resolve: Timer = Field(
        seconds(1), description="pause between two resolutions: the poll period of a healthy name"
    )
    timeout_retry: Timer = Field(
        seconds(1), description="pause before an unanswered query is repeated"
    )
    resolve_retries: int = Field(3, ge=1, description="queries per resolution, the first included")
    accepted_payload_size: int | None = Field(None, ge=512, le=65535)
    hold: HoldConfig = HoldConfig()


class ServerConfig(Part):
    """The `server` line: checks and addresses."""

    check: bool = True
    inter: Timer = seconds(2)
    fastinter: Timer | None = Field(None, description="between UP and DOWN; `inter` if not set")
    downinter: Timer | None = Field(None, description="while DOWN; `inter` if not set")
    fall: int = Field(3, ge=1)
    rise: int = Field(2, ge=1)
    # HAProxy's own default is ipv6: each poll of a name without AAAA then costs two queries, and
    # one that loses AAAA queries silently never gets to A.
    resolve_prefer: Literal["ipv4", "ipv6"] = "ipv4"
    # Not libc: the machine's own resolver does not know the app's name, and would be asked first.
    init_addr: str = Field("last,none", description="comma-separated: last, libc, none, an address")
    init_state: Literal["fully-up", "up", "down", "fully-down"] | None = Field(
        None, description="state on leaving maintenance (HAProxy 3.1 and later)"
    )
    on_marked_down: Literal["shutdown-sessions"] | None = None
    extra: Annotated[str, AfterValidator(_one_line)] = Field(
        "", description="more of the server line, as it is; there is no prediction then"
    )

    @field_validator("init_addr")
    @classmethod
    def _methods(cls, value: str) -> str:
        for method in value.split(","):
            if method not in ("last", "libc", "none"):
                try:
                    ip_address(method)
                except ValueError:
                    raise ValueError(
                        f"unknown method `{method}` (known: last, libc, none, or an IP address)"
                    ) from None
        return value

    @property
    def fast_ns(self) -> int:
        return self.fastinter or self.inter

    @property
    def down_ns(self) -> int:
        return self.downinter or self.inter


class TimeoutsConfig(Part):
    """The backend's timeouts."""

    connect: Timer = Field(seconds(1), description="per attempt")
    client: Timer = seconds(5)
    server: Timer = seconds(5)
    check: Timer | None = Field(
        seconds(1),
        description="of a check's answer; without it a check may take `inter` as a whole",
    )


# What chaosd supplies to a file that has its addresses by variables.
SUPPLIED = (b"CHAOSD_LISTEN", b"CHAOSD_DNS", b"CHAOSD_APP")
WISHES = ("backend", "env", "host", "path")  # keys that only a rewired file has
# What the user's own haproxy.cfg says itself.
OF_THE_FILE = (
    *("resolvers", "server", "timeouts", "retries", "redispatch"),
    *("http_reuse", "http_check", "nbthread"),
)


def _by_variables(said: Mapping[str, Any]) -> Path | None:
    own = said.get("config")
    if not isinstance(own, Path) or any(said.get(wish) is not None for wish in WISHES):
        return None
    try:
        text = read_bytes(own, BYTES_MAX)
    except OSError:  # it is said where the file is needed; a directory has no variables
        return None if own.is_dir() else own
    return own if any(name in text for name in SUPPLIED) else None


class Config(ProgramConfig):
    """HAProxy, with settings of chaosd's own config file or with the user's haproxy.cfg."""

    type: Literal["haproxy"]
    binary: str = Field(
        "haproxy", min_length=1, description="the program, where it is one of this machine"
    )
    config: Path | tuple[Path, ...] | None = Field(
        None,
        description="your own haproxy.cfg, a list of files or a directory, relative to this file. "
        "A copy with chaosd's addresses in it is run, unless it has them by variables "
        "(see haproxy/haproxy.cfg)",
    )
    backend: str | None = Field(
        None, min_length=1, description="of your own file: the backend that moves"
    )
    env: Path | None = Field(
        None, description="of your own file: NAME=value lines, the variables that it needs"
    )
    root: Path | None = Field(
        None,
        description="of your own file: absolute paths in it are those below this directory, as in "
        "a copy of another machine's files",
    )
    host: Annotated[str, Field(pattern=r"^[!-~]+$")] | None = Field(
        None, description="of your own file: the host to ask for, where its rules look at it"
    )
    path: Annotated[str, Field(pattern=r"^/[!-~]*$")] | None = Field(
        None, description="of your own file: the path to ask for, where its rules look at it"
    )
    allow_programs: bool = Field(
        default=False,
        description="let your own haproxy.cfg run programs (external-check, program, lua-load): "
        "with the rights of the user who runs chaosd, and lua-load already in `chaosd check`",
    )
    resolvers: ResolversConfig = ResolversConfig()
    server: ServerConfig = ServerConfig()
    timeouts: TimeoutsConfig = TimeoutsConfig()
    retries: int = Field(3, ge=0)
    redispatch: bool | Annotated[int, Field(ge=-1)] = Field(
        False,
        description="look the address up again: true: on the last retry; N: on every Nth retry",
    )
    http_reuse: Literal["never", "safe", "aggressive", "always"] | None = None
    http_check: Annotated[str, Field(pattern=r"^/[!-~]*$")] | None = Field(
        None, description="the path of an HTTP check; a check only connects if not set"
    )
    nbthread: int | None = Field(None, ge=1)
    spare_slots: int = Field(
        0, ge=0, le=100, description="so many more slots than instances has the server-template"
    )
    state_file: bool = Field(
        False,
        description="what is known of servers is kept in a file when it is reloaded or restarted "
        "(server-state-file, load-server-state-from-file)",
    )

    @field_validator("version", mode="before")
    @classmethod
    def _as_text(cls, version: Any) -> Any:
        # YAML takes 3.0 for a number; no version of HAProxy ends in a nought that would be lost.
        return str(version) if isinstance(version, float) else version

    @field_validator("config", "env", "root")
    @classmethod
    def _beside_the_yaml(
        cls, value: Path | tuple[Path, ...] | None, info: ValidationInfo
    ) -> Path | tuple[Path, ...] | None:
        base = (info.context or {}).get("base")
        if value is None or base is None:
            return value
        if isinstance(value, tuple):
            if not value:
                raise ValueError("an empty list (name at least one file)")
            return tuple(Path(base) / path for path in value)
        return Path(base) / value

    @field_validator("backend", "env", "root", "host", "path")
    @classmethod
    def _of_an_own_file(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and info.data.get("config") is None:
            raise ValueError("is for a file of your own (set `config`, too)")
        return value

    @property
    def files(self) -> tuple[Path, ...]:
        """The user's own files and directories, as HAProxy's `-f` would take them."""
        if self.config is None or isinstance(self.config, tuple):
            return self.config or ()
        return (self.config,)

    @property
    def by_variables(self) -> Path | None:
        """The user's own file, where it has chaosd's addresses in it by variables already."""
        return _by_variables(dict(self))

    @field_validator("spare_slots", "state_file")
    @classmethod
    def _of_no_own_file(cls, value: int, info: ValidationInfo) -> int:
        if value and info.data.get("config") is not None:
            raise ValueError("can't be set beside your own file (leave it out)")
        return value

    @field_validator(*OF_THE_FILE)
    @classmethod
    def _not_beside_an_own_file(cls, value: Any, info: ValidationInfo) -> Any:
        # A default may be spelled out, as in the effective config of a run.
        default = cls.model_fields[str(info.field_name)].default
        if info.data.get("config") is None or value == default:
            return value
        if _by_variables(info.data) is not None:
            raise ValueError("set in two places (with `config`, your own file says it)")
        if info.field_name == "http_check":
            raise ValueError("can't be set over your own file's (change it there)")
        return value  # it is set in the copy

    @model_serializer(mode="wrap")
    def _what_counts(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Beside an own file the defaults of what that file says would be untrue."""
        written: dict[str, Any] = write(self)
        if self.config is None:
            return written
        found = {key: value for key, value in written.items() if key not in OF_THE_FILE}
        if self.by_variables is not None:
            return found
        for key in self.model_fields_set.intersection(OF_THE_FILE):
            part = dict(self)[key]
            is_part = isinstance(part, Part)
            found[key] = (
                part.model_dump(mode="json", exclude_unset=True) if is_part else written[key]
            )
        return found

    @property
    def redispatch_every(self) -> int:
        """On which retries the address is looked up again: 0 never, -1 the last, N every Nth."""
        return -1 if self.redispatch is True else int(self.redispatch)


def settings_of(config: Config) -> Settings:
    """What the model needs of chaosd's own YAML."""
    resolvers, server, timeouts = config.resolvers, config.server, config.timeouts
    hold = resolvers.hold
    return Settings(
        timeout_resolve_ns=int(resolvers.timeout_resolve),
        timeout_retry_ns=int(resolvers.timeout_retry),
        resolve_retries=resolvers.resolve_retries,
        holds=Holds(
            valid_ns=int(hold.valid),
            obsolete_ns=int(hold.obsolete),
            nx_ns=int(hold.nx),
            refused_ns=int(hold.refused),
            timeout_ns=int(hold.timeout),
            other_ns=int(hold.other),
        ),
        prefers="A" if server.resolve_prefer == "ipv4" else "AAAA",
        check=server.check,
        inter_ns=int(server.inter),
        fastinter_ns=int(server.fast_ns),
        downinter_ns=int(server.down_ns),
        fall=server.fall,
        rise=server.rise,
        init_state=server.init_state,
        http_check=config.http_check is not None,
        timeout_connect_ns=int(timeouts.connect),
        timeout_server_ns=int(timeouts.server),
        timeout_check_ns=None if timeouts.check is None else int(timeouts.check),
        retries=config.retries,
        redispatch_every=config.redispatch_every,
        unknown_words=server.extra,
    )


def surprises(settings: Settings) -> list[str]:
    """Advice where the settings do what one would not think: docs/findings.md, 1 to 3."""
    resolve, retry = Duration(settings.timeout_resolve_ns), Duration(settings.timeout_retry_ns)
    obsolete, found = Duration(settings.holds.obsolete_ns), []
    if retry > resolve:
        found.append(
            f"timeout retry {retry} is longer than timeout resolve {resolve}: a name that is "
            "missing for a moment is asked for again only after the former (make it as short)"
        )
    if obsolete:
        found.append(
            f"hold obsolete {obsolete}: a server keeps an address that is no longer "
            "in the answers for so long, A records included (0s, unless answers are partial)"
        )
    if settings.retries and not settings.redispatch_every:
        found.append(
            f"retries {settings.retries} without redispatch: a request that was sent to the old "
            "address is tried there again, whatever DNS says by then (option redispatch 1)"
        )
    return found + locked(settings)


def locked(settings: Settings) -> list[str]:
    """Advice where checks and polls keep their phase, and it matters: docs/findings.md, 6.

    It matters where checks can take the server DOWN while the proxy still has the old address.
    """
    checks, polls = Duration(settings.inter_ns), Duration(settings.timeout_resolve_ns)
    inter, resolve = sorted((settings.inter_ns, settings.timeout_resolve_ns))
    down_ns = (settings.fall - 1) * settings.fastinter_ns
    old_ns = settings.timeout_resolve_ns + settings.holds.obsolete_ns
    if not settings.check or not inter or resolve % inter or down_ns >= old_ns:
        return []
    what = f"checks each {checks} and polls each {polls} keep their phase for minutes"
    why = "so the recoveries of one cell resemble each other more than their intervals know"
    return [f"{what}, {why} (set `cells: 5`, or periods that don't divide each other)"]
