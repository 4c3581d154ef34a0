"""YAML text in, plain data and the line of every key out; and plain data to YAML text.

Scalars are read as YAML 1.2 does (`on` and `1:30` are text, there are no dates). Whatever makes a
file mean something else than it seems to say is refused: tags, merge keys, a key given twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import yaml

from chaosd import shown
from chaosd.plugins.bases import KeyPath

# A config of hundreds of faults is far below these; what is above them is a mistake or an attack.
SIZE_MAX = 1 << 20  # bytes
_VALUES_MAX = 10_000  # aliases count with all that they stand for
_DEPTH_MAX = 50
_NUMBER_CHARS_MAX = 30
# A path as `--set` takes it: faults[0].every or faults.0.every.
_TARGET = re.compile(r"[\w-]+(\.[\w-]+|\[[0-9]{1,6}\])*", re.ASCII)

_PLAIN: Final = "plain"  # the tag of a scalar without quotes; every tag that is written is refused
_TEXT, _LIST, _MAPPING = "text", "list", "mapping"
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT = re.compile(r"[-+]?[0-9]+")
_INT_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_CONTROL = re.compile(
    r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufdff\ufe00-\ufffd\U00010000-\U0010ffff]"
)

# What the YAML library says, what that means, and whether the mistake is where it began reading.
_MEANINGS = (
    ("mapping values are not allowed", "a `: ` that can't be here (quote it or indent it)", False),
    ("found character '\\t'", "a tab (indent with spaces)", False),
    ("cannot start any token", "a character that can't begin a value (quote it)", False),
    ("could not find expected ':'", "a key without its `:`", True),
    ("end of stream", "a quote that is never closed", True),
    ("found another document", "a second document (a config is one; remove the `---`)", False),
    ("expected ',' or ']'", "a `[` that is never closed, or a missing comma", True),
    ("expected ',' or '}'", "a `{` that is never closed, or a missing comma", True),
    ("expected <block end>", "the indentation doesn't fit what is above it", False),
    ("found undefined alias", "an alias (`*`) without its anchor (if it is text, quote it)", False),
)


class Problem(NamedTuple):
    """What is wrong, and where: a line, or words for a place that is none."""

    place: int | str
    path: KeyPath
    what: str


class Unreadable(Exception):  # noqa: N818 - it carries a Problem
    """The text can't be understood beyond this problem."""

    def __init__(self, line: int, what: str, path: KeyPath = ()) -> None:
        super().__init__(what)
        self.problem = Problem(line, path, what)


@dataclass
class Document:
    """What a text says: its data, the line of every key and list item, and what is wrong."""

    data: Any = None
    lines: dict[KeyPath, int | str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: KeyPath) -> int | str:
        """Where a path is; for what the text doesn't have, where it would belong."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


class BoundedLoader(yaml.SafeLoader):
    """Composes no more nodes than a config has, and none deeper. Raises Unreadable."""

    values = 0
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.values += 1
        self.depth += 1
        if self.values > _VALUES_MAX or self.depth > _DEPTH_MAX:
            what = _too_deep() if self.depth > _DEPTH_MAX else _too_many()
            raise Unreadable(self.line + 1, what)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Loader(BoundedLoader):
    """Has tags of our own, that nobody can write."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode:
            return _PLAIN if implicit[0] else _TEXT
        return _LIST if kind is yaml.SequenceNode else _MAPPING


def _too_many() -> str:
    return f"more than {_VALUES_MAX} values (a config has a few hundred)"


def _too_deep() -> str:
    return f"nested more than {_DEPTH_MAX} deep"


def decode(raw: bytes) -> str:
    """The text of a file. Raises Unreadable."""
    if len(raw) > SIZE_MAX:
        raise Unreadable(1, f"more than {SIZE_MAX >> 20} MiB (a config has a few KiB)")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise Unreadable(line, f"not UTF-8 text (byte 0x{raw[error.start]:02x})") from error


def read(text: str) -> Document:
    """What a YAML text says. Raises Unreadable where that can't be told."""
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise _in_plain_words(error) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"a character that YAML doesn't allow (U+{error.character:04X})"
        raise Unreadable(line, what) from error
    except (ValueError, OverflowError) as error:
        what = "not YAML: an escaped character or a YAML version that can't be"
        raise Unreadable(loader.line + 1 if loader else 1, what) from error
    document = Document()
    if node is not None:
        document.lines[()] = node.start_mark.line + 1
        document.data = _plain(node, (), document)
    return document


def _in_plain_words(error: yaml.MarkedYAMLError) -> Unreadable:
    problem = error.problem or error.context or "no reason known"
    mark = error.problem_mark
    for fragment, meaning, at_beginning in _MEANINGS:
        if fragment in problem:
            problem = meaning
            mark = error.context_mark if at_beginning and error.context_mark else mark
            break
    return Unreadable(mark.line + 1 if mark else 1, f"not YAML: {problem}")


def _plain(node: yaml.Node, path: KeyPath, document: Document) -> Any:
    """The data of a node; what is wrong in it goes to the document."""
    line = node.start_mark.line + 1
    if len(document.lines) > _VALUES_MAX:
        raise Unreadable(line, _too_many(), path[:1])
    if len(path) > _DEPTH_MAX:
        raise Unreadable(line, _too_deep() + " (an alias inside of its own anchor?)", path[:1])
    if node.tag not in {_PLAIN, _TEXT, _LIST, _MAPPING}:
        tag = re.sub(r"^tag:yaml.org,2002:", "!!", node.tag)
        document.problems.append(Problem(line, path, f"tags are not supported (remove `{tag}`)"))
        return None
    if isinstance(node, yaml.SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            document.lines[*path, index] = item.start_mark.line + 1
            items.append(_plain(item, (*path, index), document))
        return items
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, document)
    if _CONTROL.search(node.value):
        document.problems.append(Problem(line, path, "text with a control character in it"))
        return None
    return scalar(node.value) if node.tag == _PLAIN else node.value


def _mapping(node: yaml.MappingNode, path: KeyPath, document: Document) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        is_scalar = isinstance(key_node, yaml.ScalarNode)
        key = _plain(key_node, path, document) if is_scalar else None
        if not isinstance(key, str):
            shown = f" (write '{key_node.value}', in quotes)" if is_scalar else ""
            wrong = f"a key should be text{shown}"
        elif key == "<<" and key_node.tag == _PLAIN:
            wrong = "merge keys (`<<`) are not supported (write the keys out)"
        elif key in data:
            wrong = f"the key `{key}` is given twice (first in line {document.lines[*path, key]})"
        else:
            document.lines[*path, key] = line
            data[key] = _plain(value_node, (*path, key), document)
            continue
        document.problems.append(Problem(line, path, wrong))
    return data


def scalar(text: str) -> str | int | float | bool | None:
    """What a scalar without quotes means. A number too big to be meant is text."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) <= _NUMBER_CHARS_MAX:
        if _INT.fullmatch(text):
            return int(text)
        if _INT_BASED.fullmatch(text):
            return int(text, 0)
        if _FLOAT.fullmatch(text) and abs(number := float(text)) < float("inf"):
            return number
    return text


class _Dumper(yaml.SafeDumper):
    """Writes text so that `scalar` reads text again."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    quotes = None if isinstance(scalar(text), str) else "'"
    if shown.printable(text) != text:  # YAML has the same escapes, in these quotes
        quotes = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=quotes)


_Dumper.add_representer(str, _represent_text)


def write(data: Any) -> str:
    """YAML that `read` reads as the same data; keys stay in their order."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return shown.printable(text)


def show(path: Sequence[str | int]) -> str:
    """A path as people write it: `faults[0].every`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def override(document: Document, text: str, defaults: Mapping[str, Any]) -> None:
    """Set one `path=value` in a document; what is wrong with it goes to the document's problems.

    `defaults` are top-level values that may be set in parts though the document leaves them out.
    """
    target, equals, value_text = text.partition("=")
    place: int | str = f"--set {shown.assignment(target, value_text) if equals else text}"
    if not (value_text.strip() and _steps(target)):
        what = "should be a path, `=` and a value (such as faults[0].every=3s)"
        document.problems.append(Problem(place, (), what))
        return
    try:
        value = read(value_text)
    except Unreadable as error:
        document.problems.append(Problem(place, (), str(error.args[0])))
        return
    path = assign(document, target, value.data, place, defaults)
    if path is not None:
        document.problems += [Problem(place, path + p.path, p.what) for p in value.problems]


def _steps(target: str) -> list[str]:
    """The parts of a path such as `faults[0].every`; empty if it is none."""
    steps = re.findall(r"[^.\[\]]+", target)
    return steps if _TARGET.fullmatch(target) and len(steps) <= _DEPTH_MAX else []


def assign(
    document: Document, target: str, value: Any, place: int | str, defaults: Mapping[str, Any]
) -> KeyPath | None:
    """Set the value at a path; `place` is where the user wrote it. None if it can't be set there.

    What is wrong goes to the document's problems; `defaults` as for `override`.
    """
    steps = _steps(target)
    if not steps:
        what = f"`{target}` is no path (such as proxy.resolvers.timeout_resolve)"
        document.problems.append(Problem(place, (), what))
        return None
    try:
        if document.data.get(steps[0]) is None and len(steps) > 1 and defaults.get(steps[0]):
            document.data[steps[0]] = deepcopy(defaults[steps[0]])
        path = _set(document.data, steps, value)
    except LookupError as error:
        document.problems.append(Problem(place, (), str(error.args[0])))
        return None
    kept = {at: line for at, line in document.lines.items() if at[: len(path)] != path}
    document.lines = dict.fromkeys((path[:n] for n in range(1, len(path) + 1)), place) | kept
    return path


def _set(data: Any, steps: Sequence[str], value: Any) -> KeyPath:
    """Set the value, making mappings on the way. Raises LookupError in words for the user."""
    path: KeyPath = ()
    for step in steps:
        key: str | int = step
        if isinstance(data, list):
            if not step.isdecimal() or int(step) >= len(data):
                size = f"the last is [{len(data) - 1}]" if data else "it is empty"
                raise LookupError(f"{show(path)} is a list without [{step}] ({size})")
            key = int(step)
        elif not isinstance(data, dict):
            raise LookupError(f"{show(path)} has no parts (set it as a whole)")
        path = (*path, key)
        if len(path) == len(steps):
            data[key] = value
        elif isinstance(data, dict) and data.get(key) is None:
            data[key] = {}
        data = data[key]
    return path
