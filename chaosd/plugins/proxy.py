"""The contract of a proxy: what is tested."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from subprocess import CompletedProcess
from typing import Any, ClassVar, Protocol

from chaosd.history.events import Address, Prediction
from chaosd.plugins.bases import ProxyConfig
from chaosd.plugins.timeline import Timeline, Unreached


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """The addresses that a proxy's config is rendered with; a runtime has chosen them."""

    listen: Address
    dns: Address
    app_name: str
    app_port: int
    replicas: int
    log: str  # where the proxy logs to: a UDP syslog receiver, or "stdout"
    api: str  # the Runtime API, as the proxy binds it: a UNIX socket's path, or `ipv4@…`
    by_address: bool = False  # let answers carry the address that they come from, as `@IP`


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyHost:
    """Where the proxy's program runs, if it is not a program of this machine.

    `run(arguments, environment, files)` runs it once, with these files in `directory`, and returns
    when it has ended. Raises MachineError.
    """

    directory: PurePosixPath
    run: Callable[[Sequence[str], Mapping[str, str], Mapping[str, bytes]], CompletedProcess[str]]


class Proxy(Protocol):
    """What is tested: its config rendered, its log and API read, its algorithm predicted."""

    Config: ClassVar[type[ProxyConfig]]

    def __init__(self, config: Any) -> None: ...

    @property
    def image(self) -> str | None:
        """The image that the config asks for, where images are used; None: the usual one."""

    @property
    def wanted_version(self) -> str | None:
        """The version that the config asks for, as "3.0"; None: any."""

    def move_to(self, host: ProxyHost) -> None:
        """From now on its program is there."""

    def files(self) -> dict[str, bytes]:
        """What has to lie beside its config file, by relative path. Raises MachineError."""

    @property
    def listen(self) -> Address | None:
        """Where the config wants the door; the runtime chooses if None."""

    def version(self) -> str:
        """The version of the binary at hand, as "2.6.12". MachineError if there is none."""

    def problems(self, *, by_address: bool = False) -> list[str]:
        """What is wrong with the user's own config file, as `file:line: what (the remedy)`.

        With `by_address` its answers have to carry the address that they come from.
        """

    def advice(self) -> list[str]:
        """What would be known if that file were a little different; nothing of it stops a run."""

    def settings(self) -> dict[str, Any]:
        """What the user's own config file says, in the words of the YAML, where it is understood.

        Empty if there is none: then the YAML says it all.
        """

    def render(self, wiring: Wiring) -> str:
        """The text of the proxy's config file."""

    def environment(self, wiring: Wiring) -> dict[str, str]:
        """The addresses as environment variables, for the user's own config file."""

    def command(self, config_file: PurePath) -> list[str]:
        """How to run it in the foreground."""

    def check(self, config_file: Path, environment: dict[str, str]) -> str | None:
        """Let the proxy check its own config; its complaint in one line, or None."""

    def read_log(self, line: str) -> tuple[str, dict[str, Any]] | None:
        """What a log line says, as ("address_changed", {"old": …, "new": …}), ("up", …), …."""

    async def read_api(self, api: str) -> dict[str, Any]:
        """One look at the Runtime API: {"servers": [...], "resolvers": {nameserver: {counter: n}}}.

        Raises OSError when it doesn't answer.
        """

    def timers_s(self) -> tuple[float, ...]:
        """The periods that fault times must not lock to."""

    def predict(self, timeline: Timeline) -> Prediction | Unreached:
        """The recovery that its algorithm gives, or why its model does not reach this."""
