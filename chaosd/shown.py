"""What people are shown: no secrets, no control characters, one line where one line is meant.

Labels, paths, file names, log lines, headers and names in DNS are chosen by others. Whatever is
printed or written for people goes through here. See docs/security.md.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

MASK = "(not shown)"
KNOWN_MAX = 1000  # secrets of a run
KNOWN_LENGTH_MIN = 6  # a shorter one, such as `admin`, would hide half of every sentence
OPAQUE_LENGTH_MIN = 16

# --- characters ----------------------------------------------------------------------------------

_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, marks of direction, surrogates, line ends
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def one_line(text: str) -> str:
    """The text as one line that says what it seems to say; hidden characters by their numbers."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def printable(text: str) -> str:
    """The same for a text of several lines: those stay, and so do tabs."""
    return text.translate({ord(char): _escaped(char) for char in {*text} - {"\n", "\t"}})


def _escaped(char: str) -> str:
    if char.isprintable() or unicodedata.category(char) not in _HIDDEN:
        return char
    number = ord(char)
    if char in _SHORT:
        return _SHORT[char]
    if number <= 0xFF:  # noqa: PLR2004
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"  # noqa: PLR2004


# --- secrets -------------------------------------------------------------------------------------

# Patterns are texts here, compiled when they are first used: every command imports this.
_TELLING_NAME = (
    r"(?i)pass(?:w|wd|word|phrase|code)?(?![a-z])|pwd|secret|token|credential|auth(?![a-z])|"
    r"authori[sz]ation|api[-_]?key|(?:access|private|signing|encryption|secret)[-_]?key|"
    r"(?:^|[-_])key$|cookie|session[-_]?id|dsn(?![a-z])|salt(?![a-z])|(?:^|[-_])pin$"
)
# `scheme://user:password@host`: the user may be shown.
_USER_INFO = r"(?<=://)([^\s/?#@:\"']*):([^\s/?#@\"']+)(?=@)"
_PARAMETER = r"(?<=[?&;])([\w.-]+)=(?!\(not shown\))([^\s&;#\"']+)"
_known: set[str] = set()
_pattern: re.Pattern[str] | None = None


def is_secret_name(name: str) -> bool:
    """Whether a value of this name should not be shown: a variable's, a key's, a header's."""
    return re.search(_TELLING_NAME, name) is not None


def know(secrets: Iterable[str]) -> None:
    """Never show these from now on, wherever they turn up: in an error, in a program's output."""
    global _pattern  # noqa: PLW0603 - an error's line is printed where no run is known
    for secret in secrets:
        for line in secret.splitlines() or [secret]:
            if len(line) >= KNOWN_LENGTH_MIN and len(_known) < KNOWN_MAX:
                _known.add(line)
    if _known:  # the longest first: one may be a part of another
        words = "|".join(map(re.escape, sorted(_known, key=len, reverse=True)))
        _pattern = re.compile(rf"(?<!\w)(?:{words})(?!\w)")


def forget() -> None:
    """The next run has secrets of its own."""
    global _pattern  # noqa: PLW0603
    _known.clear()
    _pattern = None


def masked(text: str) -> str:
    """The text without the secrets that are known, nor a password in a URL."""
    if "://" in text:
        text = re.sub(_USER_INFO, rf"\1:{MASK}", text)
        text = re.sub(_PARAMETER, _parameter, text)
    return text if _pattern is None else _pattern.sub(MASK, text)


def _parameter(found: re.Match[str]) -> str:
    return f"{found[1]}={MASK}" if is_secret_name(found[1]) else found[0]


def line(said: str) -> str:
    """What others chose, as one line for people."""
    return one_line(masked(said))


def text(said: str) -> str:
    """What others chose, as lines for people."""
    return printable(masked(said))


def json_text(said: str) -> str:
    """JSON for people, whose hidden characters are escaped as JSON has it."""
    import json  # as below: who only says a line does not wait for it

    hidden = {char for char in {*said} - {"\n"} if unicodedata.category(char) in _HIDDEN}
    return said.translate({ord(char): json.dumps(char)[1:-1] for char in hidden})


# --- a config ------------------------------------------------------------------------------------

# All values of an environment are the user's own affair. An arm's paths have dots.
_OF_ENVIRONMENT = r"(?:^|\.)env(?:$|\.)"
_OPTION = r"--?([A-Za-z][\w-]*)$"
_ASSIGNED = r"(?s)((?:--?)?[A-Za-z_][\w-]*)=(.+)"


def mask_tree(data: Any, path: str = "") -> Any:
    """A config's tree without secrets: values of variables, and of names that look like secrets."""
    if isinstance(data, Mapping):
        return {key: mask_tree(value, f"{path}.{key}") for key, value in data.items()}
    if isinstance(data, list | tuple):
        names = ["", *(_option(each) for each in data)]
        return [
            mask_tree(each, f"{path}.{name}" if name else path)
            for name, each in zip(names, data, strict=False)
        ]
    if not isinstance(data, str) or not data:
        return data
    if _is_hidden(path):
        return MASK
    assigned = re.fullmatch(_ASSIGNED, data)
    if assigned and is_secret_name(assigned[1]):
        return f"{assigned[1]}={MASK}"
    return masked(data)


def secrets_of(data: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """What `mask_tree` hides of a tree: each path and its value, in the tree's order."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from secrets_of(value, f"{path}.{key}")
    elif isinstance(data, list | tuple):
        names = ["", *(_option(each) for each in data)]
        for name, each in zip(names, data, strict=False):
            yield from secrets_of(each, f"{path}.{name}" if name else path)
    elif isinstance(data, str) and data and data != MASK:
        assigned = re.fullmatch(_ASSIGNED, data)
        if _is_hidden(path):
            yield path, data
        elif assigned and is_secret_name(assigned[1]) and assigned[2] != MASK:
            yield f"{path}.{assigned[1]}", assigned[2]
        else:
            yield from ((path, found[2]) for found in re.finditer(_USER_INFO, data))
            for found in re.finditer(_PARAMETER, data):
                if is_secret_name(found[1]):
                    yield f"{path}.{found[1]}", found[2]


def assignment(path: str, value: str) -> str:
    """`path=value` as somebody has typed it, for people."""
    return f"{path}={MASK if value and _is_hidden(f'.{path}') else masked(value)}"


def _is_hidden(path: str) -> bool:
    return bool(re.search(_OF_ENVIRONMENT, path)) or is_secret_name(path.rpartition(".")[2])


def _option(word: Any) -> str:
    """The name of an option whose value is the next word of a command."""
    found = re.match(_OPTION, word) if isinstance(word, str) else None
    return found[1] if found else ""


def is_telling(path: str, value: str) -> bool:
    """Whether a value would be recognised as a secret by itself, wherever it turns up.

    `production` as a variable's value is not shown with the variable, and may stand elsewhere.
    """
    if is_secret_name(path.rpartition(".")[2]) or "://" in value:
        return True
    kinds = (str.isdigit, str.isupper, str.islower)
    opaque = all(any(map(kind, value)) for kind in kinds)
    return len(value) >= OPAQUE_LENGTH_MIN and opaque and not re.search(r"[\s/.]", value)


def fingerprint(secrets: Iterable[tuple[str, str]]) -> str | None:
    """Says whether two runs had the same secrets, and nothing else; None if there are none.

    It is made so slow that guessing a password by it takes its time.
    """
    import hashlib

    pairs = sorted(secrets)
    if not pairs:
        return None
    salt = "\0".join(path for path, _ in pairs).encode(errors="surrogateescape")
    said = "\0".join(value for _, value in pairs).encode(errors="surrogateescape")
    key = hashlib.scrypt(said, salt=hashlib.sha256(salt).digest(), n=2**14, r=8, p=1, dklen=8)
    return key.hex()
