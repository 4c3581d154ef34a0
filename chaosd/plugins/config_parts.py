"""A plugin's part of the config, checked by the plugin that its `type` names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError, core_schema

from chaosd import plugins

AUTO = "auto"  # the runtime that is chosen when the machine is known
COMPANION = "companion"  # in the context of a fault's part that stands in another's `with:`
KeyPath = tuple[str | int, ...]  # to a value of the config: ("faults", 0, "old_ip")


class Part(BaseModel):
    """A piece of the config: frozen, unknown keys refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_name=False, serialize_by_alias=True
    )


BASES: dict[str, type[Part]] = {}  # what a plugin's Config extends, by kind: bases.py fills it in


def plugin_config(kind: str, name: str) -> type[Part]:
    """The config class of a plugin. Raises ValueError, in words for the user."""
    if kind == "runtimes" and name == AUTO:
        return BASES["runtimes"]
    known = _names(kind)
    if name not in known:
        raise ValueError(plugins.unknown(name, known))
    try:
        config = plugins.find(kind, name).Config
        if not issubclass(config, BASES[kind]):
            raise TypeError(f"its Config is no {BASES[kind].__name__}")  # noqa: TRY301
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"plugin {kind}/{name} can't be loaded: {reason}") from error
    found: type[Part] = config
    return found


def _names(kind: str) -> list[str]:
    return [*plugins.available(kind), *([AUTO] if kind == "runtimes" else [])]


@dataclass(frozen=True)
class Plugin:
    """Validates a part by the plugin that its `type` names; its schema is that of all installed.

    A `companion` is a fault that comes with another.
    """

    kind: str
    companion: bool = False

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.with_info_plain_validator_function(self._validate)

    def _validate(self, value: Any, info: ValidationInfo) -> Part:
        if isinstance(value, BASES[self.kind]):
            return value
        if self.kind == "runtimes" and isinstance(value, str):
            value = {"type": value}
        if not (isinstance(value, dict) and isinstance(value.get("type"), str)):
            raise self._no_type(value)
        try:
            model = plugin_config(self.kind, value["type"])
        except ValueError as error:
            raise at(("type",), str(error)) from error
        context = {**(info.context or {}), COMPANION: self.companion}
        if info.mode == "python":
            return model.model_validate(value, context=context)
        text = json.dumps(value)  # strict JSON takes lists for tuples, strict Python doesn't
        return model.model_validate_json(text, strict=True, context=context)

    def _no_type(self, value: Any) -> Exception:
        known = f"(known: {', '.join(sorted(_names(self.kind)))})"
        if not isinstance(value, dict):
            return ValueError(f"should be a mapping with a `type` {known}")
        if "type" not in value:
            return ValueError(f"`type` is missing {known}")
        return at(("type",), f"should be a name {known}")

    def __get_pydantic_json_schema__(
        self, _: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        if self.companion:  # its keys are those of the fault that it is: said once, there
            properties = {"type": {"enum": _names(self.kind)}}
            return {"type": "object", "properties": properties, "required": ["type"]}
        branches = [self._branch(name, handler) for name in _names(self.kind)]
        if self.kind == "runtimes":
            branches.append({"enum": _names(self.kind), "description": "short for {type: …}"})
        return {"oneOf": branches}

    def _branch(self, name: str, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        try:
            model = plugin_config(self.kind, name)
        except ValueError as error:  # one broken plugin doesn't take the others' completion away
            return {"properties": {"type": {"const": name}}, "description": str(error)}
        branch = handler.resolve_ref_schema(handler(model.__pydantic_core_schema__))
        branch["title"] = name
        branch["properties"]["type"] = {"const": name, "description": f"the plugin {name}"}
        branch["required"] = ["type", *(k for k in branch.get("required", []) if k != "type")]
        return branch


def at(path: KeyPath, what: str) -> ValidationError:
    """A problem at a path below the value that is being validated."""
    error = PydanticCustomError("wrong", "{what}", {"what": what})
    return ValidationError.from_exception_data(
        "config", [{"type": error, "loc": path, "input": None}]
    )


def concrete(model: type[Any], data: Any) -> type[Any]:
    """The model of a plugin's part, as far as its `type` can be told."""
    for kind, base in BASES.items():
        if model is base and isinstance(data, dict):
            try:
                return plugin_config(kind, str(data.get("type")))
            except ValueError:
                return model
    return model
