"""Numbers with units as they stand on a command line: sizes, durations, signals. Lean: on `run`'s path."""

from __future__ import annotations

from rootless.errors import Usage

_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_UNITS = {
    "ns": 1,
    "us": 1000,
    "µs": 1000,
    "μs": 1000,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}


def parse_size(text: str) -> int:
    """Read a number of bytes: 10m, 1.5g, 64KiB; units are powers of 1024."""
    rest = text.lower().strip()
    digits = rest.rstrip("bikmgtp ")
    unit = rest[len(digits) :].lstrip(" ")
    unit = unit.removesuffix("b").removesuffix("i") if unit != "i" else "?"
    try:
        plain = digits.replace(".", "", 1)
        if not plain.isascii() or not plain.isdigit() or digits.startswith("."):
            raise KeyError
        return int(float(digits) * _SIZES[unit])
    except KeyError:
        raise Usage(f"invalid size: '{text}'") from None


def parse_duration(text: str) -> int:
    """Read a duration of Go's, in nanoseconds: 30s, 1m30s, 1.5h."""
    rest, total = text, 0.0
    negative = rest[:1] == "-"
    rest = rest.lstrip("+-") if rest[:1] in ("+", "-") else rest
    if rest == "0":
        return 0
    if not rest:
        raise Usage(f'time: invalid duration "{text}"')
    while rest:
        digits = 0
        while digits < len(rest) and (rest[digits] in "0123456789."):
            digits += 1
        letters = digits
        while letters < len(rest) and rest[letters] not in "0123456789.":
            letters += 1
        number, unit = rest[:digits], rest[digits:letters]
        if not number.strip(".") or number.count(".") > 1:
            raise Usage(f'time: invalid duration "{text}"')
        if not unit:
            raise Usage(f'time: missing unit in duration "{text}"')
        if unit not in _UNITS:
            raise Usage(f'time: unknown unit "{unit}" in duration "{text}"')
        total += float(number) * _UNITS[unit]
        rest = rest[letters:]
    return int(-total if negative else total)


def parse_signal(text: str) -> int:
    """Read a signal: a number, TERM, SIGTERM, RTMIN+3."""
    from rootless.linux import signals

    return signals.parse(text)


def parse_uint(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise Usage(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    return int(text)
