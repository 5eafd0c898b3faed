"""Go's time.Time as templates see it: printed as Go prints it, with its methods, and RFC 3339 as JSON."""

from __future__ import annotations

import time

from rootless.rfc3339 import parse

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip


class Time:
    """A moment, from RFC 3339 text; `offset_s` is its zone's distance from UTC."""

    __slots__ = ("second", "nanosecond", "offset_s", "text")

    go_type = "time.Time"
    go_methods = {
        "Unix": "unix",
        "UnixNano": "unix_nano",
        "Format": "format",
        "String": "__str__",
        "IsZero": "is_zero",
        "UTC": "utc",
        "Local": "local",
        "Year": "year",
        "Hour": "hour",
        "Minute": "minute",
        "Second": "second_of_minute",
    }

    def __init__(self, text: str) -> None:
        self.text = text
        self.second, self.nanosecond, self.offset_s = parse(text)

    def _fields(self) -> time.struct_time:
        return time.gmtime(self.second + self.offset_s)

    def __str__(self) -> str:
        fields = self._fields()
        fraction = f".{self.nanosecond:09d}".rstrip("0") if self.nanosecond else ""
        return (
            f"{fields.tm_year:04d}-{fields.tm_mon:02d}-{fields.tm_mday:02d} {fields.tm_hour:02d}:{fields.tm_min:02d}:"
            f"{fields.tm_sec:02d}{fraction} {self._offset('')} {self._zone()}"
        )

    def go_json(self) -> str:
        return self.text

    def _offset(self, colon: str) -> str:
        sign = "-" if self.offset_s < 0 else "+"
        minutes = abs(self.offset_s) // 60
        return f"{sign}{minutes // 60:02d}{colon}{minutes % 60:02d}"

    def _zone(self) -> str:
        if not self.offset_s:
            return "UTC"
        local = time.localtime(self.second)
        return local.tm_zone if local.tm_gmtoff == self.offset_s else self._offset("")

    def unix(self) -> int:
        return self.second

    def unix_nano(self) -> int:
        return self.second * 1_000_000_000 + self.nanosecond

    def is_zero(self) -> bool:
        return self.text.startswith("0001-01-01T00:00:00")

    def utc(self) -> Time:
        return self._at(0)

    def local(self) -> Time:
        return self._at(time.localtime(self.second).tm_gmtoff)

    def _at(self, offset_s: int) -> Time:
        moved = Time(self.text)
        moved.offset_s = offset_s
        return moved

    def year(self) -> int:
        return self._fields().tm_year

    def hour(self) -> int:
        return self._fields().tm_hour

    def minute(self) -> int:
        return self._fields().tm_min

    def second_of_minute(self) -> int:
        return self._fields().tm_sec

    def format(self, layout: str) -> str:
        """By Go's reference time, Mon Jan 2 15:04:05 MST 2006."""
        fields = self._fields()
        hour = fields.tm_hour % 12 or 12
        colon = "Z" if not self.offset_s else self._offset(":")
        words = (
            ("January", _MONTHS[fields.tm_mon - 1]),
            ("Jan", _MONTHS[fields.tm_mon - 1][:3]),
            ("Monday", _DAYS[fields.tm_wday]),
            ("Mon", _DAYS[fields.tm_wday][:3]),
            ("MST", self._zone()),
            ("2006", f"{fields.tm_year:04d}"),
            ("-07:00", self._offset(":")),
            ("-0700", self._offset("")),
            ("Z07:00", colon),
            ("01", f"{fields.tm_mon:02d}"),
            ("02", f"{fields.tm_mday:02d}"),
            ("03", f"{hour:02d}"),
            ("04", f"{fields.tm_min:02d}"),
            ("05", f"{fields.tm_sec:02d}"),
            ("06", f"{fields.tm_year % 100:02d}"),
            ("15", f"{fields.tm_hour:02d}"),
            ("PM", "PM" if fields.tm_hour >= 12 else "AM"),
            ("pm", "pm" if fields.tm_hour >= 12 else "am"),
            ("_2", f"{fields.tm_mday:2d}"),
            ("1", str(fields.tm_mon)),
            ("2", str(fields.tm_mday)),
            ("3", str(hour)),
            ("4", str(fields.tm_min)),
            ("5", str(fields.tm_sec)),
        )
        out = []
        at = 0
        while at < len(layout):
            if layout[at] in ".," and layout[at + 1 : at + 2] in ("0", "9"):
                digit = layout[at + 1]
                end = at + 1
                while layout[end : end + 1] == digit:
                    end += 1
                if not layout[end : end + 1].isdigit():
                    text = f"{self.nanosecond:09d}"[: end - at - 1]
                    if digit == "9":
                        text = text.rstrip("0")
                    out.append(layout[at] + text if text else "")
                    at = end
                    continue
            for word, value in words:
                if layout.startswith(word, at):
                    out.append(value)
                    at += len(word)
                    break
            else:
                out.append(layout[at])
                at += 1
        return "".join(out)


class Duration(int):
    """Nanoseconds, which Go prints as 1h2m3.5s, 45.123ms, 7µs or 0s; in JSON they are a number."""

    def __str__(self) -> str:
        return go_duration(int(self))


def go_duration(nanoseconds: int) -> str:
    """A duration as Go prints it: 1h2m3.5s, 45.123ms, 7µs, 0s."""
    if nanoseconds < 1_000_000_000:
        for size, unit in ((1_000_000, "ms"), (1_000, "µs")):
            if nanoseconds >= size:
                return f"{nanoseconds / size:.6f}".rstrip("0").rstrip(".") + unit
        return f"{nanoseconds}ns" if nanoseconds else "0s"
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    seconds, fraction = divmod(rest, 1_000_000_000)
    text = f"{seconds}" + (f".{fraction:09d}".rstrip("0") if fraction else "") + "s"
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
