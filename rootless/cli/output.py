"""What commands print: tables, JSON, times and sizes as Podman words them, and untrusted text made safe to show."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from rootless.errors import RootlessError


def printable(text: str, descriptor: int) -> str:
    """Escape control characters of untrusted text where it goes to a terminal; elsewhere data stays as it is."""
    if text.isprintable() or not is_terminal(descriptor):
        return text
    return "".join(
        char
        if char.isprintable() or char in "\n\t"
        else f"\\x{ord(char):02x}"
        if ord(char) < 0x100
        else f"\\x{ord(char) - 0xDC00:02x}"
        if 0xDC80 <= ord(char) <= 0xDCFF
        else f"\\u{ord(char):04x}"
        if ord(char) < 0x10000
        else f"\\U{ord(char):08x}"
        for char in text
    )


def is_terminal(descriptor: int) -> bool:
    """Whether a descriptor is a terminal; a closed one is none."""
    try:
        return os.isatty(descriptor)
    except OSError:
        return False


def write(text: str) -> None:
    """Print text on standard output: data, which may hold bytes that are not UTF-8."""
    data = printable(text, 1).encode("utf-8", "surrogateescape")
    try:
        sys.stdout.flush()
        while data:
            data = data[os.write(1, data) :]
    except OSError as error:
        raise unwritten(error) from None


def unwritten(error: OSError) -> OSError:
    """The error of a write to standard output with the name of what that is: a full disk is to be known by it."""
    try:
        error.filename = error.filename or os.readlink("/proc/self/fd/1")
    except OSError:
        error.filename = "/dev/stdout"
    return error


def line(text: str) -> None:
    """Write a line to standard output."""
    write(text + "\n")


def error_line(message: str, remedy: str = "") -> str:
    """One line for an error: the thing and the reason, then what helps. Podman's own longer messages stay as they are."""
    return printable(f"Error: {message}" + (f"; {remedy}" if remedy else ""), 2)


def report(error: RootlessError) -> None:
    """An error on standard error, as the front door prints the one that ends a command."""
    text = error_line(error.message, error.hint) + "\n"
    try:
        os.write(2, text.encode("utf-8", "surrogateescape"))
    except OSError:
        pass  # nobody is listening


def table(rows: Iterable[Sequence[str]]) -> str:
    """Rows as aligned columns; line ends and tabs within a cell are escaped."""
    return columns("".join("\t".join(_one_line(cell) for cell in row) + "\n" for row in rows))


def columns(text: str, *, minimum: int = 12, padding: int = 2) -> str:
    """Align cells that end with tabs, as Go's text/tabwriter with Podman's settings.

    What follows a line's last tab is in no column. A column is a block of consecutive lines that have it.
    """
    lines = [line.split("\t") for line in text.split("\n")]
    widths: list[list[int]] = [[0] * (len(cells) - 1) for cells in lines]
    deepest = max(len(cells) for cells in widths)
    for column in range(deepest):
        start = 0
        while start < len(lines):
            if len(widths[start]) <= column:
                start += 1
                continue
            end = start
            while end < len(lines) and len(widths[end]) > column:
                end += 1
            width = max(minimum, max(len(lines[at][column]) for at in range(start, end)) + padding)
            for at in range(start, end):
                widths[at][column] = width
            start = end
    return "\n".join(
        "".join(cell.ljust(width) for cell, width in zip(cells, sizes, strict=False)) + cells[-1]
        for cells, sizes in zip(lines, widths, strict=True)
    )


def _one_line(text: str) -> str:
    if "\n" not in text and "\t" not in text:
        return text
    return text.replace("\n", "\\n").replace("\t", "\\t")


def to_json(value: Any, indent: int = 4) -> str:
    """JSON as Podman prints it: indented, non-ASCII text as it is, and <, > and & escaped as Go does."""
    from rootless import quickjson

    text = quickjson.dumps(
        value, indent=indent or None, ensure_ascii=False, separators=None if indent else (",", ":")
    )
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def human_duration(seconds: float) -> str:
    """A span in words, as Docker's go-units.HumanDuration: "About an hour", "3 weeks"."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = int(seconds / 60)
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"


def human_size(size_bytes: float, digits: int = 4) -> str:
    """A size with decimal units, as Docker's go-units.HumanSize: "1.23MB"."""
    return _scaled(
        size_bytes, 1000.0, ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"), digits
    )


def binary_size(size_bytes: float, digits: int = 4) -> str:
    """A size with binary units, as Docker's go-units.BytesSize: "1.21MiB"."""
    return _scaled(
        size_bytes, 1024.0, ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"), digits
    )


def _scaled(value: float, base: float, units: tuple[str, ...], digits: int) -> str:
    value = float(value)
    at = 0
    while value >= base and at < len(units) - 1:
        value /= base
        at += 1
    return f"{value:.{digits}g}{units[at]}"


def truncate(text: str, width: int, mark: str = "...") -> str:
    """At most `width` characters; `mark` stands for what was cut."""
    return text if len(text) <= width else text[: max(0, width - len(mark))] + mark


def short_id(identity: str) -> str:
    """The first twelve digits of an id or digest."""
    return identity.removeprefix("sha256:")[:12]


def clear_screen() -> None:
    """Empty the terminal, where standard output is one."""
    if is_terminal(1):
        os.write(1, b"\033[2J\033[H")
