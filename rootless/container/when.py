"""A moment as users write it for --since, --until and filters: a time, a Unix time, or how long ago."""

from __future__ import annotations

import time

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}


def duration_ns(text: str) -> int | None:
    """Nanoseconds of a Go duration such as 1h30m; None where it is none."""
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    total = 0.0
    while rest:
        size = len(rest) - len(rest.lstrip("0123456789."))
        number, rest = rest[:size], rest[size:]
        size = 0
        while size < len(rest) and rest[size] not in "0123456789.":
            size += 1
        unit, rest = rest[:size], rest[size:]
        if unit not in _UNITS or not number.strip(".") or number.count(".") > 1:
            return None
        total += float(number) * _UNITS[unit]
    if not text.strip("+-"):
        return None
    return -int(total) if text[0] == "-" else int(total)


def moment_ns(text: str, now_ns: int | None = None, *, future: bool = False) -> int:
    """Nanoseconds since 1970 of what `text` means; ValueError where it means nothing.

    A duration is so long ago, or with `future` so far ahead. A time without a zone is local time, as in Podman.
    """
    span = duration_ns(text)
    if span is not None and not text.isdigit():
        now = time.time_ns() if now_ns is None else now_ns
        return now + span if future else now - span
    whole, dot, fraction = text.partition(".")
    if whole.isascii() and whole.isdigit() and (not dot or fraction.isdigit()):
        return int(whole) * 1_000_000_000 + int(f"{fraction:0<9}"[:9])
    return date_ns(text)


def date_ns(text: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time, or of the beginning of one down to the date."""
    from datetime import datetime

    head, dot, fraction = text.partition(".")
    digits = len(fraction) - len(fraction.lstrip("0123456789"))
    if dot and not digits:
        raise ValueError(text)
    moment = datetime.fromisoformat(head + fraction[digits:])
    return int(moment.timestamp()) * 1_000_000_000 + int(f"{fraction[:digits]:0<9}"[:9])
