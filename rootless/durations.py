"""Spans of time in Go's notation, "1h2m3.5s", which Podman, the OCI tools and the Containerfile share.

Lean, for it is read on hot paths: a single pass over the text and no imports. The rules and the words of the errors
are those of Go's time.ParseDuration.
"""

from __future__ import annotations

SECOND = 10**9

_UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,  # U+00B5, the micro sign
    "μs": 10**3,  # U+03BC, the Greek letter
    "ms": 10**6,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}
_DIGITS = "0123456789"
_LARGEST = (1 << 63) - 1  # a duration is an int64: some 292 years


def parse(text: str) -> int:
    """Nanoseconds of a duration; ValueError with Go's words where it is none, or too long."""
    sign = text[:1] if text[:1] in ("+", "-") else ""
    rest = text[len(sign) :]
    if rest == "0":
        return 0
    if not rest:
        raise _invalid(text)
    total = 0
    while rest:
        whole, rest = _split(rest, _DIGITS)
        fraction = ""
        if rest.startswith("."):
            fraction, rest = _split(rest[1:], _DIGITS)
        if not whole and not fraction:
            raise _invalid(text)
        size = next((at for at, char in enumerate(rest) if char in "." + _DIGITS), len(rest))
        unit, rest = rest[:size], rest[size:]
        if not unit:
            raise ValueError(f"time: missing unit in duration {_quote(text)}")
        if unit not in _UNITS:
            raise ValueError(f"time: unknown unit {_quote(unit)} in duration {_quote(text)}")
        total += int(whole or "0") * _UNITS[unit]
        if fraction:
            # Floating point as in Go, so that 0.333… of an hour comes to the same nanosecond.
            fraction = fraction[:19]
            total += int(float(fraction) * (_UNITS[unit] / 10 ** len(fraction)))
    if total > _LARGEST + (sign == "-"):
        raise _invalid(text)
    return -total if sign == "-" else total


def _split(text: str, characters: str) -> tuple[str, str]:
    """`text` behind and from the first character that is not one of `characters`."""
    rest = text.lstrip(characters)
    return text[: len(text) - len(rest)], rest


def _invalid(text: str) -> ValueError:
    return ValueError(f"time: invalid duration {_quote(text)}")


def _quote(text: str) -> str:
    """As Go's package time quotes: what is not ASCII byte by byte."""
    found = ""
    for byte in text.encode("utf-8", "surrogateescape"):
        if byte < 0x20 or byte >= 0x80:
            found += f"\\x{byte:02x}"
        else:
            found += ("\\" if byte in b'"\\' else "") + chr(byte)
    return f'"{found}"'
