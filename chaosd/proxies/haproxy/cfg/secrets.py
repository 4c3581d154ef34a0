"""Secrets in a haproxy.cfg: which words are some, and the text without them, for people.

Every line is looked at, also those of conditions that do not hold here and those in comments.
Lines and their numbers stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from chaosd import shown
from chaosd.proxies.haproxy.cfg import lexer
from chaosd.proxies.haproxy.cfg.dialect import Dialect
from chaosd.proxies.haproxy.cfg.lexer import Variable
from chaosd.proxies.haproxy.cfg.source import Word

_DIALECT = Dialect.of(None)
_COMMENTS_MAX = 3  # of a comment within a comment
# The word before a secret.
_BEFORE = frozenset(
    {"password", "insecure-password", "agent-send", "dynamic-cookie-key", "cluster-secret"}
)
_TCP_CHECK = re.compile(r"\b(?:AUTH|PASS|LOGIN|USER|HELLO)\b", re.IGNORECASE)
_HEADER = re.compile(r"(?<![A-Za-z0-9-])([A-Za-z0-9-]+):\s*(.+?)(?=\r|\n|\\r|\\n|$)")
_KEYED = re.compile(r"\b(?:jwt_verify|hmac|aes_\w+|secure_memcmp|digest_key)\(")
_SETS = re.compile(
    r"(?:set|add|replace|reset|del)-(?:header|var|value|env|path|query|uri)(?:-fmt)?"
)
_CONDITION = frozenset({"if", "unless"})
_ENVIRONMENT = frozenset({"setenv", "presetenv"})


def without_secrets(text: str) -> str:
    """The file for people."""
    return "\n".join(_line(line) for line in text.split("\n"))


def secrets_of(text: str) -> Iterator[tuple[str, str]]:
    """What is left out of that: a name and the word, in the file's order."""
    for line in text.split("\n"):
        for number, (words, _) in enumerate(_parts(line)):
            for word in _secret(words):
                name = f"haproxy.cfg.{words[0].text}{number or ''}"
                yield name, word.text
                if ":" in word.text:  # a user's name and the password
                    yield name, word.text.partition(":")[2]


def _line(line: str) -> str:
    for words, offset in _parts(line):
        for word in reversed(list(_secret(words))):  # from the end: columns before it stay
            start, end = offset + word.start - 1, offset + word.end - 1
            line = line[:start] + shown.MASK + line[end:]
    return shown.masked(line)


def _parts(line: str) -> list[tuple[tuple[Word, ...], int]]:
    """The words of a line, and of what it has commented out; each with its column, the last first.

    What can't be read has no words, and HAProxy takes no such file.
    """
    found: list[tuple[tuple[Word, ...], int]] = []
    offset = 0
    for _ in range(_COMMENTS_MAX):
        rest = line[offset:]
        words = _split(rest)
        if words is None:
            found.append((_roughly(rest), offset))
            break
        found.append((words, offset))
        last = words[-1].end - 1 if words else 0
        comment = rest.find("#", last)
        if comment < 0:
            break
        offset += comment + 1
    return found[::-1]


def _split(line: str) -> tuple[Word, ...] | None:
    names = set(re.findall(r"\$\{?(\.?\w+)", line))
    # Variables stay as they are written: what they say is not in the file.
    variables = {name: Variable(f"${{{name}}}", frozenset()) for name in names}
    words, fault = lexer.split(line, variables, _DIALECT)
    return None if fault is not None else words


def _roughly(line: str) -> tuple[Word, ...]:
    """The words of a line that HAProxy would not take, or of a sentence with an apostrophe."""
    return tuple(
        Word(found[0], found.start() + 1, found.end() + 1, found[0])
        for found in re.finditer(r"\S+", line)
    )


_ADDRESS = 2  # where `server NAME ADDRESS` has it: `auth:8080` is no header


def _secret(words: tuple[Word, ...]) -> Iterator[Word]:
    texts = [word.text for word in words]
    lowered = [text.lower() for text in texts]
    condition = next((n for n, text in enumerate(texts) if n and text in _CONDITION), len(texts))
    for number, word in enumerate(words):
        if number == condition or (lowered[0] == "server" and number == _ADDRESS):
            continue
        before = lowered[number - 1] if number else ""
        if (
            number
            and (
                before in _BEFORE
                or lowered[:number] == ["stats", "auth"]
                or _is_value(lowered, number, condition)
                or _is_said(lowered, word)
            )
            and not _refers(word)
        ):
            yield word


def _is_value(lowered: list[str], number: int, condition: int) -> bool:
    """Whether a word is the value of a header, a variable or a name that looks like a secret."""
    if lowered[0] in _ENVIRONMENT or lowered[:1] == ["set-var"]:
        return number > 1 and shown.is_secret_name(lowered[1])
    if lowered[0] == "acl" or number > condition:
        start = condition if number > condition else 1
        at = next(
            (n for n in range(start, number) if "(" in lowered[n] and _names_secret(lowered[n])), 0
        )
        return 0 < at < number and not lowered[number].startswith(("-", "{", "}", "!"))
    for at in range(1, min(number, condition)):
        if lowered[at] == "hdr" and at + 1 < number and shown.is_secret_name(lowered[at + 1]):
            return number == at + 2
        kind = _SETS.match(lowered[at])
        if kind is None:
            continue
        name = lowered[at + 1] if "(" not in lowered[at] and at + 1 < number else lowered[at]
        return at + (2 if "(" not in lowered[at] else 1) <= number and shown.is_secret_name(name)
    return False


def _names_secret(text: str) -> bool:
    """Whether a sample such as `req.hdr(authorization)` is of something secret."""
    return shown.is_secret_name(text.partition("(")[2].partition(")")[0].partition(",")[0])


def _is_said(lowered: list[str], word: Word) -> bool:
    """Whether a word has a secret in itself: a header of a check, a key of a converter."""
    if lowered[:1] == ["tcp-check"] and len(lowered) > 1 and lowered[1].startswith("send"):
        is_binary = lowered[1].startswith("send-binary") and word.text.lower() != lowered[1]
        return is_binary or _TCP_CHECK.search(word.text) is not None
    if _KEYED.search(word.text) and ("'" in word.text or '"' in word.text or "," in word.text):
        return True
    return ":" in word.text and any(
        shown.is_secret_name(found[1]) for found in _HEADER.finditer(word.text)
    )


def _refers(word: Word) -> bool:
    """Whether it is a variable of the environment, whose value is not in the file."""
    return re.fullmatch(r'"?\$\{?\w+\}?"?', word.raw) is not None
