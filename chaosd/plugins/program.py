"""What proxies that are programs have alike: keys of their configs, and how they are run once."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from chaosd.errors import MachineError
from chaosd.history.values import Address
from chaosd.plugins.bases import ProxyConfig
from chaosd.system import commands
from chaosd.units import Duration

COMMAND_S_MAX = 20.0  # to say the version or to check a file; an ailing resolver makes it slow
MS_NS, SECOND_NS = 1_000_000, 1_000_000_000
_PORT_MAX = 65_535


def seconds(number: float) -> Duration:
    """A duration as a default, from seconds."""
    return Duration(round(number * SECOND_NS))


def whole(value: Duration, unit_ns: int, complaint: str) -> Duration:
    """For a program that counts in such units. Raises ValueError with this complaint."""
    if value % unit_ns:
        raise ValueError(complaint)
    return value


def address(text: str) -> Address:
    """Read `host:port` of an entry. Raises ValueError in words for the user."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) <= _PORT_MAX:
        raise ValueError("not an address (write it like 127.0.0.1:8080)")
    if ":" in host:
        raise ValueError("an IPv6 address; the entry is an IPv4 one (write it like 127.0.0.1:8080)")
    return Address(host, int(port))


class ProgramConfig(ProxyConfig):
    """What the config of every proxy has whose program chaosd starts."""

    version: Annotated[str, Field(pattern=r"^\d+\.\d+(\.\d+)?$")] | None = Field(
        None, description="in quotes: which image is taken, and what a local binary has to be"
    )
    image: str | None = Field(
        None, min_length=1, description="an image of your own, where images are used"
    )
    listen: str | None = Field(
        None, description="host:port of the entry; the runtime chooses if not set"
    )

    @field_validator("image")
    @classmethod
    def _one_of_the_two(cls, image: str | None, info: ValidationInfo) -> str | None:
        if image is not None and info.data.get("version") is not None:
            raise ValueError("set together with `version` (leave one of the two out)")
        return image

    @field_validator("listen")
    @classmethod
    def _host_and_port(cls, value: str | None) -> str | None:
        if value is not None:
            address(value)
        return value

    @property
    def entry(self) -> Address | None:
        """Where the config wants the entry; the runtime chooses if None."""
        return address(self.listen) if self.listen else None


def run_once(
    program: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    remedy: str,
    called: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a proxy's program on this machine until it ends, and keep what it says.

    Raises MachineError if it can't be started, with the remedy, or takes more than COMMAND_S_MAX.
    It is `called` so before the user.
    """
    name = called or program
    try:
        return commands.ended([program, *arguments], limit_s=COMMAND_S_MAX, environment=environment)
    except subprocess.TimeoutExpired:
        what = f"{name} {arguments[0]}: no answer within {COMMAND_S_MAX:.0f} s"
        raise MachineError(what) from None
    except OSError as error:
        raise MachineError(f"{name}: {error.strerror} ({remedy})") from None
