"""A moment as users write it for --since, --until and filters: a time, a Unix time, or how long ago."""

from __future__ import annotations

import time

from rootless import durations


def moment_ns(text: str, now_ns: int | None = None, *, future: bool = False) -> int:
    """Nanoseconds since 1970 of what `text` means; ValueError where it means nothing.

    A duration is so long ago, or with `future` so far ahead. A time without a zone is local time, as in Podman.
    """
    if text != "0":  # which is a duration and a Unix time; to Podman the latter
        try:
            span = durations.parse(text)
        except ValueError:
            pass
        else:
            now = time.time_ns() if now_ns is None else now_ns
            return now + span if future else now - span
    whole, dot, fraction = text.partition(".")
    if text.isascii() and whole.isdigit() and (not dot or fraction.isdigit()):
        return int(whole) * durations.SECOND + int(f"{fraction:0<9}"[:9])
    return date_ns(text)


def date_ns(text: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time, or of the beginning of one down to the date."""
    from datetime import datetime

    head, dot, fraction = text.partition(".")
    digits = len(fraction) - len(fraction.lstrip("0123456789"))
    if dot and not digits:
        raise ValueError(text)
    moment = datetime.fromisoformat(head + fraction[digits:])
    return int(moment.timestamp()) * durations.SECOND + int(f"{fraction[:digits]:0<9}"[:9])
