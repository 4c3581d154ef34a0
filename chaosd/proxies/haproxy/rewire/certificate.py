"""A certificate of one's own for TLS binds whose files are not there: P-256, self-signed.

In plain Python, for chaosd has no library that makes certificates. It is for loopback and tests
only: the arithmetic does not hide the key from somebody who measures how long it takes.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Sequence
from functools import cache

# The curve P-256 (FIPS 186-4, D.1.2.3).
_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
_EC_KEY, _P256, _ECDSA_SHA256 = "1.2.840.10045.2.1", "1.2.840.10045.3.1.7", "1.2.840.10045.4.3.2"
_COMMON_NAME, _ALT_NAME = "2.5.4.3", "2.5.29.17"
_BYTES = 32
_NAME_BYTES_MAX = 60  # of a common name

Point = tuple[int, int] | None  # None: the point at infinity


@cache
def make(names: tuple[str, ...]) -> bytes:
    """A PEM file with a certificate for these names and its key, valid from 2020 to 2049.

    It is the same one for the same names: the app has it, and the proxy believes it.
    """
    key = secrets.randbelow(_N - 1) + 1
    public = _times(key, _G)
    assert public is not None  # noqa: S101 - the key is below the order
    point = b"\x04" + public[0].to_bytes(_BYTES) + public[1].to_bytes(_BYTES)
    body = _body(names, point)
    signature = _sequence(*map(_integer, _sign(key, body)))
    whole = _sequence(body, _sequence(_oid(_ECDSA_SHA256)), _bits(signature))
    private = _sequence(
        _integer(1),
        _tagged(0x04, key.to_bytes(_BYTES)),
        _tagged(0xA0, _oid(_P256)),
        _tagged(0xA1, _bits(point)),
    )
    return _pem("CERTIFICATE", whole) + _pem("EC PRIVATE KEY", private)


def _body(names: Sequence[str], point: bytes) -> bytes:
    common = names[0][:_NAME_BYTES_MAX].encode("ascii", "replace")
    name = _sequence(_tagged(0x31, _sequence(_oid(_COMMON_NAME), _tagged(0x0C, common))))
    validity = _sequence(_tagged(0x17, b"200101000000Z"), _tagged(0x17, b"491231235959Z"))
    alternatives = _sequence(*(_tagged(0x82, n.encode("ascii", "replace")) for n in names))
    extension = _sequence(_oid(_ALT_NAME), _tagged(0x04, alternatives))
    return _sequence(
        _tagged(0xA0, _integer(2)),  # version 3
        _integer(secrets.randbits(63) | 1),
        _sequence(_oid(_ECDSA_SHA256)),
        name,
        validity,
        name,
        _sequence(_sequence(_oid(_EC_KEY), _oid(_P256)), _bits(point)),
        _tagged(0xA3, _sequence(extension)),
    )


# --- arithmetic ---


def _add(one: Point, other: Point) -> Point:
    if one is None or other is None:
        return one or other
    (x1, y1), (x2, y2) = one, other
    if x1 == x2 and (y1 + y2) % _P == 0:
        return None
    if one == other:
        slope = (3 * x1 * x1 - 3) * pow(2 * y1, -1, _P)
    else:
        slope = (y2 - y1) * pow(x2 - x1, -1, _P)
    x = (slope * slope - x1 - x2) % _P
    return x, (slope * (x1 - x) - y1) % _P


def _times(factor: int, point: Point) -> Point:
    found: Point = None
    while factor:
        if factor & 1:
            found = _add(found, point)
        point, factor = _add(point, point), factor >> 1
    return found


def _sign(key: int, message: bytes) -> tuple[int, int]:
    digest = int.from_bytes(hashlib.sha256(message).digest())
    while True:
        nonce = secrets.randbelow(_N - 1) + 1
        point = _times(nonce, _G)
        r = point[0] % _N if point is not None else 0
        s = pow(nonce, -1, _N) * (digest + r * key) % _N
        if r and s:
            return r, s


# --- DER and PEM ---


def _tagged(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:  # noqa: PLR2004 - the short form of a length
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length + content


def _sequence(*parts: bytes) -> bytes:
    return _tagged(0x30, b"".join(parts))


def _integer(number: int) -> bytes:
    return _tagged(0x02, number.to_bytes(number.bit_length() // 8 + 1))


def _bits(content: bytes) -> bytes:
    return _tagged(0x03, b"\0" + content)


def _oid(text: str) -> bytes:
    first, second, *rest = map(int, text.split("."))
    content = [40 * first + second]
    for number in rest:
        septets = [number & 0x7F]
        while number := number >> 7:
            septets.append(number & 0x7F | 0x80)
        content += reversed(septets)
    return _tagged(0x06, bytes(content))


def _pem(kind: str, content: bytes) -> bytes:
    text = base64.encodebytes(content).decode().replace("\n", "")
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----", ""]).encode()
