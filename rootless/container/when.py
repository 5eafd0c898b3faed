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
_FORMS = (
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%dT%H",
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S",
)


def duration_ns(text: str) -> int | None:
    """Nanoseconds of a Go duration such as 1h30m; None where it is none."""
    rest = text.lstrip("+-") if text[:1] in ("+", "-") else text
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


def moment_ns(text: str, now_ns: int | None = None) -> int:
    """Nanoseconds since 1970 of what `text` means; ValueError where it means nothing.

    A duration is so long ago. A time without a zone is local time, as in Podman.
    """
    ago = duration_ns(text)
    if ago is not None and not text.isdigit():
        return (time.time_ns() if now_ns is None else now_ns) - ago
    whole, dot, fraction = text.partition(".")
    if whole.isascii() and whole.isdigit() and (not dot or fraction.isdigit()):
        return int(whole) * 1_000_000_000 + int(f"{fraction:0<9}"[:9])
    return _date_ns(text)


def _date_ns(text: str) -> int:
    zone_s: int | None = None
    if text.endswith("Z"):
        text, zone_s = text[:-1], 0
    elif "T" in text:
        at = max(text.rfind("+"), text.rfind("-", text.index("T")))
        if at > 0:
            hours, _, minutes = text[at + 1 :].partition(":")
            if not (len(hours) == 2 and hours.isdigit() and (minutes or "00").isdigit()):
                raise ValueError(text)
            zone_s = int(hours) * 3600 + int(minutes or 0) * 60
            zone_s = -zone_s if text[at] == "-" else zone_s
            text = text[:at]
    text, dot, fraction = text.partition(".")
    if dot and not fraction.isdigit():
        raise ValueError(text)
    for form in _FORMS:
        try:
            fields = time.strptime(text, form)
        except ValueError:
            continue
        if zone_s is None:
            second = int(time.mktime(fields))
        else:
            import calendar

            second = calendar.timegm(fields) - zone_s
        return second * 1_000_000_000 + int(f"{fraction:0<9}"[:9])
    raise ValueError(f"unable to interpret time value: {text}")
