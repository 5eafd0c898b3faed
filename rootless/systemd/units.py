"""Text of unit files: words quoted as systemd.service(5) and systemd.syntax(7) read them, and sections of lines.

Whatever stands in a container's name, command or variables, a unit says exactly that again (security case 49): not a
character of it is a line end, a quote, a specifier or a variable to systemd.
"""

from __future__ import annotations

import os

from rootless.data import data_path
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+=:,@")
_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}
_UNIT_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@")


def quote(word: str, *, command: bool = True, specifiers: bool = False) -> str:
    """A word of a line. `$` is special in commands only; with `specifiers`, `%` keeps its meaning."""
    if "\0" in word:
        raise RootlessError(f"{word!r}: a unit cannot hold a NUL character")
    text = word if specifiers else word.replace("%", "%%")
    if command:
        text = text.replace("$", "$$")
    plain = _SAFE | {"%", "$"}
    if text and all(c in plain for c in text):
        return text
    out = []
    for c in text:
        if c in '"\\':
            out.append("\\" + c)
        elif c in _ESCAPES:
            out.append(_ESCAPES[c])
        elif ord(c) < 0x20 or ord(c) == 0x7F:
            out.append(f"\\x{ord(c):02x}")
        elif (
            0xDC80 <= ord(c) <= 0xDCFF
        ):  # a byte that is no UTF-8: systemd skips lines that hold one
            out.append(f"\\x{ord(c) - 0xDC00:02x}")
        else:
            out.append(c)
    return '"' + "".join(out) + '"'


def command_line(words: Iterable[str], *, raw: Iterable[str] = ()) -> str:
    """A command over several lines; the words in `raw` are ours and keep their specifiers."""
    ours = frozenset(raw)
    quoted = [quote(word, specifiers=word in ours) for word in words]
    lines: list[str] = []
    for word in quoted:
        # An option and its value stand on one line, and so does what follows the program's name.
        if lines and len(lines[-1]) + len(word) < 90 and not word.startswith(("-", '"-')):
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return " \\\n\t".join(lines)


def variable(name: str, value: str) -> str:
    """The value of an Environment= line."""
    return quote(f"{name}={value}", command=False)


def check_unit_name(name: str) -> str:
    """Refuse what systemd.unit(5) allows for no unit's name."""
    if (
        not name
        or len(name) > 240
        or any(c not in _UNIT_NAME for c in name)
        or name.startswith(".")
    ):
        raise RootlessError(
            f"{name!r} is no name for a unit",
            hint="use letters, digits and :-_. only, or give other prefixes",
        )
    return name


def check_value(key: str, value: str) -> str:
    """A value that is written as it is given: it must stay on its line."""
    if "\n" in value or "\r" in value or value.rstrip().endswith("\\"):
        raise RootlessError(f"{key}={value!r}: a line of a unit cannot hold this")
    return value


def template(name: str) -> str:
    """A shipped template of systemd-units/."""
    with open(data_path("systemd-units", name), encoding="utf-8") as file:
        return file.read()


def fill(text: str, values: dict[str, str]) -> str:
    """A template with its @NAME@ replaced; a line whose only content is an empty value vanishes."""
    lines = []
    for line in text.splitlines():
        for name, value in values.items():
            if line == f"@{name}@":
                line = value
                break
            line = line.replace(f"@{name}@", value)
        else:
            lines.append(line)
            continue
        if line:
            lines.append(line)
    return "\n".join(lines) + "\n"


def program() -> str:
    """Where this command is, for units to call."""
    for folder in os.environ.get("PATH", os.defpath).split(":"):
        path = f"{folder}/rootless"
        if folder.startswith("/") and os.access(path, os.X_OK):
            return path
    path = data_path("bin", "rootless")
    if os.access(path, os.X_OK):
        return path
    raise RootlessError(
        "cannot find the command `rootless` that units are to call", hint="add its folder to PATH"
    )
