"""Numbers with units as they stand on a command line: sizes, signals. Lean: on `run`'s path."""

from __future__ import annotations

from rootless.errors import Usage

_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


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


def parse_signal(text: str) -> int:
    """Read a signal: a number, TERM, SIGTERM, RTMIN+3."""
    from rootless.linux import signals

    return signals.parse(text)


def parse_uint(text: str) -> int:
    """A number without sign, with Go's words for what is none."""
    if not text.isascii() or not text.isdigit():
        raise Usage(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    return int(text)
