"""Nothing that is given as a config makes a traceback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import budget
import pytest
import yaml
from config_texts import VALID
from hypothesis import given, settings
from hypothesis import strategies as st

from chaosd.config import shape
from chaosd.config.shape import Config
from chaosd.errors import ConfigError

# --- nothing makes a traceback --------------------------------------------------------------------

_bounded = settings(derandomize=True, max_examples=budget.of(12, 150), deadline=None)
_keys = st.sampled_from(
    ["name", "runtime", "app", "proxy", "faults", "probes", "type", "every", "until", "env", "x"]
)
_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.dates()
    | st.sampled_from(["local", "auto", "haproxy", "recreate", "noop", "http", "5s", "100/s"])
)
_nested = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(_keys | st.text(max_size=5) | st.integers(), inner, max_size=5)
    ),
    max_leaves=25,
)


@pytest.fixture(scope="module")
def survives(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    path = tmp_path_factory.mktemp("fuzz") / "x.yaml"

    def survives(raw: bytes, *overrides: str) -> None:
        path.write_bytes(raw)
        try:
            loaded = shape.load(path, overrides)
        except ConfigError as error:
            problems = error.problems
        else:
            path.write_text(shape.dump(loaded, with_secrets=True))
            assert shape.load(path) == loaded
            return
        assert problems
        for problem in problems:
            assert problem.startswith((f"{path}:", "--set "))
            assert "\n" not in problem
            assert problem.encode()

    return survives


@_bounded
@given(st.text())
def test_any_text(survives: Any, text: str) -> None:
    survives(text.encode(errors="surrogatepass"))


@_bounded
@given(st.text(st.sampled_from("\n\n  -:{}[],&*!|>'\"%@`#?~<=.\t\\Uxab01")))
def test_any_text_of_yamls_own_characters(survives: Any, text: str) -> None:
    survives(b"name: x\n" + text.encode())


@_bounded
@given(st.binary())
def test_any_bytes(survives: Any, raw: bytes) -> None:
    survives(raw)


@_bounded
@given(_nested)
def test_any_data(survives: Any, data: Any) -> None:
    survives(yaml.safe_dump(data).encode())


@_bounded
@given(st.dictionaries(st.sampled_from([*Config.model_fields]), _nested))
def test_any_data_in_known_keys(survives: Any, data: dict[str, Any]) -> None:
    survives(yaml.safe_dump({"name": "x"} | data).encode())


@settings(derandomize=True, max_examples=budget.of(15, 400), deadline=None)
@given(st.data())
def test_a_valid_config_with_anything_changed(survives: Any, data: st.DataObject) -> None:
    tree = yaml.safe_load(VALID)
    for _ in range(data.draw(st.integers(1, 3))):
        at, key = _somewhere(tree, data)
        change = data.draw(st.sampled_from(["set", "set", "delete", "add", "wrap"]))
        if change == "set":
            at[key] = data.draw(_nested)
        elif change == "wrap":
            at[key] = data.draw(st.sampled_from([[at[key]], {"type": at[key]}, {"x": at[key]}]))
        elif change == "add" and isinstance(at, dict):
            at[data.draw(_keys | st.text(max_size=5))] = data.draw(_nested)
        else:
            del at[key]
        if not tree:
            break
    survives(yaml.safe_dump(tree).encode())


def _somewhere(tree: Any, data: st.DataObject) -> tuple[Any, Any]:
    """Some container in the tree and a key in it."""
    while True:
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        key = data.draw(st.sampled_from(keys))
        if not (tree[key] and isinstance(tree[key], dict | list)) or data.draw(st.booleans()):
            return tree, key
        tree = tree[key]


@settings(derandomize=True, max_examples=budget.of(15, 400), deadline=None)
@given(st.integers(0, len(VALID)), st.integers(0, 12), st.text(max_size=6))
def test_a_valid_text_with_anything_changed(
    survives: Any, start: int, length: int, text: str
) -> None:
    raw = VALID[:start] + text + VALID[start + length :]
    survives(raw.encode(errors="surrogatepass"))


@_bounded
@given(st.text() | st.builds("{}={}".format, st.text("ab.[]019-fultsnmc"), st.text()))
def test_any_override(survives: Any, override: str) -> None:
    survives(VALID.encode(), override)
