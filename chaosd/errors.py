"""The three families of failure (the config's, the machine's, ours) and their exit codes."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Every way a command can end."""

    OK = 0
    FAIL = 1  # the verdict is fail
    USAGE = 2  # the config's or the command line's fault
    SETUP = 3  # the machine's fault: engine, binary, port, disk
    UNKNOWN = 4  # the verdict is unknown
    BUG = 70  # ours


class ChaosdError(Exception):
    """A failure that ends in one line per problem and an exit code, never in a traceback."""

    exit_code = Exit.BUG

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ConfigError(ChaosdError):
    """The user's text is wrong; a problem reads `file:line: path: what (what would be right)`."""

    exit_code = Exit.USAGE


class RefusedError(ConfigError):
    """The proxy's program refuses its configuration. `taken_by`: a version here that takes it."""

    def __init__(self, *problems: str, taken_by: str | None) -> None:
        super().__init__(*problems)
        self.taken_by = taken_by


class MachineError(ChaosdError):
    """The machine can't do it: a binary is missing, a port is taken, the disk is full."""

    exit_code = Exit.SETUP


class AwayError(MachineError):
    """What a run lives on does not answer and was waited for: nothing can be undone there now."""


class NotUndoneError(MachineError):
    """What a fault did can't be undone. `first` is what had gone wrong before, if anything had."""

    def __init__(self, problem: str, first: BaseException | None = None) -> None:
        super().__init__(problem)
        self.first = first


def output_error(error: OSError) -> MachineError:
    """Standard output can't be written: a log's disk may be full."""
    return MachineError(f"standard output: can't be written: {error.strerror or error}")
