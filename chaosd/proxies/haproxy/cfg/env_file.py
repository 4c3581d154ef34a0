"""A file of the user's variables."""

from __future__ import annotations

from pathlib import Path

from chaosd.system.files import MB, read_utf8

_BYTES_MAX = MB


class EnvironmentFileError(Exception):
    """The file of variables can't be read: one line, `file:line: what`."""


def read_environment(path: Path) -> dict[str, str]:
    """Read a file of NAME=VALUE lines, as `docker run --env-file` does.

    Raises EnvironmentFileError.
    """
    try:
        text = read_utf8(path, _BYTES_MAX)
    except OSError as error:
        raise EnvironmentFileError(f"{path}: can't be read: {error.strerror}") from None
    except ValueError:
        raise EnvironmentFileError(f"{path}: can't be read: not UTF-8") from None
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip().removeprefix("export ")
        if not stripped or stripped.startswith("#"):
            continue
        name, equals, value = stripped.partition("=")
        if not equals or not name.replace("_", "a").isalnum():
            raise EnvironmentFileError(
                f"{path}:{number}: not a variable (write it like NAME=value)"
            )
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
        found[name.strip()] = value[1:-1] if quoted else value
    return found
