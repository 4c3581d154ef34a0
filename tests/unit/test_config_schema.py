"""The schema for editors."""

from __future__ import annotations

import json
from typing import Any

from chaosd.config import shape
from chaosd.config.shape import Config

# --- the schema for editors -----------------------------------------------------------------------


def test_the_schema_completes_every_plugin() -> None:
    made = json.loads(json.dumps(shape.schema()))
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert list(made["properties"]) == list(Config.model_fields)
    faults = {b["properties"]["type"]["const"]: b for b in _branches(made, "faults")}
    assert set(faults) >= {"noop", "recreate"}
    assert faults["recreate"]["properties"]["old_ip"]["enum"][0] == "refuse"
    assert faults["recreate"]["properties"]["every"]["description"]
    assert made["properties"]["metrics"]["default"] == {"listen": "127.0.0.1:9464"}
    short = made["properties"]["runtime"]["oneOf"][-1]
    assert set(short["enum"]) >= {"auto", "local"}


def test_the_schema_takes_an_objective_in_either_form() -> None:
    made = shape.schema()
    forms = made["$defs"]["Slo"]["properties"]["availability"]["anyOf"]
    (either,) = [form["oneOf"] for form in forms if "oneOf" in form]
    assert either == [
        {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?%$", "examples": ["99.9%", "0.1%"]},
        {"$ref": "#/$defs/LeastShare"},
    ]


def test_every_key_of_the_schema_is_described() -> None:
    made = shape.schema()
    for key, value in made["properties"].items():
        parts = value.get("$ref", "").rpartition("/")[2]
        assert "description" in value or "description" in made["$defs"][parts], key
    parts = (shape.App, shape.Dns, shape.Direct, shape.Measure, shape.Metrics, shape.Slo)
    for part in (*parts, shape.Until):
        for key, field in part.model_fields.items():
            assert field.description, f"{part.__name__}.{key}"


def test_all_references_of_the_schema_lead_somewhere() -> None:
    made = shape.schema()

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [found for value in node.values() for found in references(value)]
        return (
            [found for item in node for found in references(item)] if isinstance(node, list) else []
        )

    assert references(made)
    for reference in references(made):
        assert reference.removeprefix("#/$defs/") in made["$defs"]


def _branches(schema: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = schema["properties"][key]["items"]["oneOf"]
    return found
