"""Single values of a config: names, addresses and the like, each with its meaning."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)

from chaosd.history.values import Address


def _matching(pattern: str, meaning: str) -> tuple[AfterValidator, WithJsonSchema]:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(meaning)
        return text

    schema = {"type": "string", "pattern": f"^(?:{pattern})$"}
    return AfterValidator(check), WithJsonSchema(schema)


Name = Annotated[str, *_matching(r"[a-z0-9-]{1,40}", "should be 1 to 40 of a-z, 0-9 and -")]
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
DnsName = Annotated[
    str,
    *_matching(
        rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*",
        "not a DNS name (labels of letters, digits and -, such as app.internal)",
    ),
]


def _address(value: Any) -> Address:
    if isinstance(value, Address):
        return value
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})", str(value))
    if not isinstance(value, str) or not found or int(found[3]) > 65_535:  # noqa: PLR2004
        raise ValueError("not an address with a port (write it like 127.0.0.1:9464 or [::1]:9464)")
    return Address(found[1] or found[2], int(found[3]))


# A section whose keys are all commented out.
NOTHING_SET = BeforeValidator(lambda value: {} if value is None else value)

Listen = Annotated[
    Address,
    PlainValidator(_address),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["127.0.0.1:9464", "[::1]:0"]}),
]
