"""What goes to a worker and comes back, as plain data: both sides read it here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaosd.errors import ChaosdError, ConfigError, Exit, MachineError
from chaosd.sweep.arms import Program


@dataclass(frozen=True, kw_only=True)
class Task:
    """A round to be made, or to be looked at: whether it could be."""

    data: Mapping[str, Any]  # its config
    called: str  # the base's path: relative ones in the config belong to its directory
    programs: Mapping[str, Program]  # by arm: what its proxy has to be
    files: Mapping[str, str]  # the user's own, by their paths here: their SHA-256
    said: Mapping[str, Mapping[str, Any]]  # by arm: what its proxy's part says of them (`Parcel`)
    isolated: bool  # give it a network namespace of its own

    def tree(self) -> dict[str, Any]:
        programs = {name: (each.version, each.sha256) for name, each in self.programs.items()}
        return {
            "data": self.data,
            "called": self.called,
            "programs": programs,
            "files": self.files,
            "said": self.said,
            "isolated": self.isolated,
        }

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> Task:
        return cls(
            data=tree["data"],
            called=tree["called"],
            programs={
                name: Program(version=version, sha256=sha256)
                for name, (version, sha256) in tree["programs"].items()
            },
            files=tree["files"],
            said=tree["said"],
            isolated=tree["isolated"],
        )

    @property
    def path(self) -> Path:
        return Path(self.called)


@dataclass(frozen=True, kw_only=True)
class Greeting:
    """What a worker says of its machine."""

    chaosd: str  # its version
    name: str  # of the worker; empty if nobody gave it one
    host: str
    boot: str  # tells machines apart, whatever they are called
    cores: float
    memory_bytes: int
    disk_bytes: int  # that are free where rounds are made


def problem(error: ChaosdError) -> dict[str, Any]:
    """An error as it goes over the network."""
    return {"problems": list(error.problems), "exit": int(error.exit_code)}


def raised(tree: Mapping[str, Any]) -> ChaosdError:
    """The error that a worker had."""
    problems = [str(each) for each in tree["problems"]]
    kinds = {Exit.USAGE: ConfigError, Exit.SETUP: MachineError}
    return kinds.get(tree["exit"], ChaosdError)(*problems)
