"""A plugin's part of the config, checked by the plugin that its `type` names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError, ValidationInfo
from pydantic_core import PydanticCustomError, core_schema

from chaosd import plugins
from chaosd.plugins.bases import FaultConfig, KeyPath, Part, ProbeConfig, ProxyConfig, RuntimeConfig

AUTO = "auto"  # the runtime that is chosen when the machine is known
_BASES: dict[str, type[Part]] = {
    "runtimes": RuntimeConfig,
    "proxies": ProxyConfig,
    "faults": FaultConfig,
    "probes": ProbeConfig,
}


def plugin_config(kind: str, name: str) -> type[Part]:
    """The config class of a plugin. Raises ValueError, in words for the user."""
    if kind == "runtimes" and name == AUTO:
        return RuntimeConfig
    known = _names(kind)
    if name not in known:
        raise ValueError(plugins.unknown(name, known))
    try:
        config = plugins.find(kind, name).Config
        if not issubclass(config, _BASES[kind]):
            raise TypeError(f"its Config is no {_BASES[kind].__name__}")  # noqa: TRY301
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"plugin {kind}/{name} can't be loaded: {reason}") from error
    found: type[Part] = config
    return found


def _names(kind: str) -> list[str]:
    return [*plugins.available(kind), *([AUTO] if kind == "runtimes" else [])]


@dataclass(frozen=True)
class Plugin:
    """Validates a part by the plugin that its `type` names; its schema is that of all installed."""

    kind: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.with_info_plain_validator_function(self._validate)

    def _validate(self, value: Any, info: ValidationInfo) -> Part:
        if isinstance(value, _BASES[self.kind]):
            return value
        if self.kind == "runtimes" and isinstance(value, str):
            value = {"type": value}
        if not (isinstance(value, dict) and isinstance(value.get("type"), str)):
            raise self._no_type(value)
        try:
            model = plugin_config(self.kind, value["type"])
        except ValueError as error:
            raise at(("type",), str(error)) from error
        if info.mode == "python":
            return model.model_validate(value, context=info.context)
        text = json.dumps(value)  # strict JSON takes lists for tuples, strict Python doesn't
        return model.model_validate_json(text, strict=True, context=info.context)

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
    for kind, base in _BASES.items():
        if model is base and isinstance(data, dict):
            try:
                return plugin_config(kind, str(data.get("type")))
            except ValueError:
                return model
    return model
