"""Quadlet's files as systemd.syntax(7) has them: sections, keys, values, drop-ins; what is wrong is an error with its place.

What is read can be written again with its comments, since a unit holds all of its source.
"""

from __future__ import annotations

import os

from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}
_TRUE, _FALSE = ("1", "yes", "y", "true", "t", "on"), ("0", "no", "n", "false", "f", "off")
_LARGEST = 1 << 20


class QuadletError(RootlessError):
    """Something in a quadlet file that cannot be made into a unit."""


class Value:
    __slots__ = ("text", "place")

    def __init__(self, text: str, place: str) -> None:
        self.text = text
        self.place = place  # FILE:LINE

    def fail(self, why: str) -> QuadletError:
        return QuadletError(f"{self.place}: {why}")


class Group:
    """A section: the comments that stand before it, and its lines; a line without a key is a comment."""

    __slots__ = ("heads", "lines")

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.lines: list[tuple[str, Value]] = []


class Source:
    """A quadlet file with its drop-ins."""

    __slots__ = ("path", "name", "groups")

    def __init__(self, path: str, name: str = "") -> None:
        self.path = path
        self.name = name or os.path.basename(path)
        self.groups: dict[str, Group] = {}

    def read(self, text: str, path: str) -> None:
        """Add a file's content."""
        group: Group | None = None
        comments: list[tuple[str, Value]] = []
        pending, first = "", 0
        rows = text.removesuffix("\n").split("\n")
        for number, raw in enumerate(rows, 1):
            line = raw.strip()
            if not line or line.startswith(("#", ";")):
                if not pending:  # inside of a line that goes on it is as if it was not there
                    comments.append(("", Value(line, f"{path}:{number}")))
                continue
            first = first if pending else number
            if (len(line) - len(line.rstrip("\\"))) % 2:
                line = line[:-1]
                if number < len(rows):
                    pending += line if line.endswith((" ", "\t")) else f"{line} "
                    continue
            line, pending = pending + line, ""
            place = f"{path}:{first}"
            if line.startswith("["):
                name = line[1:-1]
                if not line.endswith("]") or not name or "[" in name or "]" in name:
                    raise QuadletError(f"{place}: invalid section header '{line}'")
                group = self.groups.setdefault(name, Group())
                # Between two sections an empty line is written anyway.
                heads = [value.text for _, value in comments]
                group.heads += heads[1:] if heads[:1] == [""] else heads
                comments = []
                continue
            key, equals, value = line.partition("=")
            key = key.rstrip()
            if not equals or not key:
                raise QuadletError(
                    f"{place}: '{line}' is not a key-value pair, a section or a comment"
                )
            if group is None:
                raise QuadletError(f"{place}: {key}= stands before the first section")
            group.lines += [*comments, (key, Value(value.strip(), place))]
            comments = []
        if pending and group is not None:
            key, _, value = pending.partition("=")
            group.lines.append((key.rstrip(), Value(value.strip(), f"{path}:{first}")))
        if group is not None:
            group.lines += comments

    def keys(self, section: str) -> list[tuple[str, Value]]:
        group = self.groups.get(section)
        return [line for line in group.lines if line[0]] if group is not None else []

    def all(self, section: str, key: str) -> list[Value]:
        """The values of a key; an empty one takes back those before it."""
        found: list[Value] = []
        for name, value in self.keys(section):
            if name == key:
                found = [*found, value] if value.text else []
        return found

    def last(self, section: str, key: str) -> Value | None:
        """The one value of a key, without the quotes around all of it; None where there is none or an empty one."""
        found = [value for name, value in self.keys(section) if name == key]
        if not found:
            return None
        text = found[-1].text
        if len(text) >= 2 and text[0] == text[-1] == '"' and '"' not in text[1:-1]:
            text = text[1:-1]
        return Value(text, found[-1].place) if text else None

    def words(self, section: str, key: str, *, escapes: bool = True) -> list[tuple[str, Value]]:
        return [
            (word, value)
            for value in self.all(section, key)
            for word in split(value, escapes=escapes)
        ]

    def flag(self, section: str, key: str) -> bool | None:
        value = self.last(section, key)
        if value is None:
            return None
        text = value.text.lower()
        if text in _TRUE:
            return True
        if text in _FALSE:
            return False
        raise value.fail(f"{key}={value.text}: neither true nor false")


def split(value: Value, *, escapes: bool = True) -> list[str]:
    """A value's words: quotes and, with `escapes`, C escapes as systemd's commands have them; without, a backslash and
    what follows it are kept. `%` and `$` are left for systemd.
    """
    text = value.text
    words: list[str] = []
    at = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            return words
        word, mark = "", ""
        while at < len(text):
            c = text[at]
            at += 1
            if mark and c == mark:
                mark = ""
            elif not mark and c in "\"'":
                mark = c
            elif not mark and c.isspace():
                break
            elif c == "\\" and not escapes:
                word += text[at - 1 : at + 1]
                at += 1
            elif c == "\\":
                escaped, at = _unescape(value, at)
                word += escaped
            else:
                word += c
        if mark:
            raise value.fail(f"a {mark} is not closed")
        words.append(word)


def _unescape(value: Value, at: int) -> tuple[str, int]:
    text = value.text
    if at >= len(text):
        raise value.fail("ends with a backslash")
    c = text[at]
    if c in _ESCAPES:
        return _ESCAPES[c], at + 1
    if c in "\"'\\":
        return c, at + 1
    lengths = {"x": 2, "u": 4, "U": 8}
    base = 16 if c in lengths else 8
    at += 1 if c in lengths else 0
    end = at + lengths.get(c, 3)
    digits, at = text[at:end], end
    try:
        number = int(digits, base)
        if number == 0 or len(digits) < 2:
            raise ValueError
        return chr(number), at
    except (ValueError, OverflowError):
        raise value.fail(f"\\{c}: no such escape") from None


def load(path: str, folders: Iterable[str] = ()) -> Source:
    """A file with the drop-ins that lie in `folders`, the most general first."""
    source = Source(path)
    source.read(_text(path), path)
    chosen: dict[str, str] = {}
    for folder in folders:  # from the least specific to the most: the same name further on replaces
        try:
            names = sorted(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for name in names:
            if name.endswith(".conf"):
                chosen[name] = f"{folder}/{name}"
    for name in sorted(chosen):
        source.read(_text(chosen[name]), chosen[name])
    return source


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise QuadletError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if len(data) > _LARGEST:
        raise QuadletError(f"{path}: larger than 1 MiB")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise QuadletError(f"{path}: not UTF-8") from None


def drop_in_folders(folder_list: Iterable[str], name: str) -> list[str]:
    """Folders of drop-ins for foo-bar@i.container: container.d, foo-.container.d, foo-bar@.container.d, its own."""
    stem, _, kind = name.rpartition(".")
    names = [f"{kind}.d"]
    for at, c in enumerate(stem):
        if c == "-" and at + 1 < len(stem):
            names.append(f"{stem[: at + 1]}.{kind}.d")
    before, at_sign, instance = stem.partition("@")
    if at_sign and instance:
        names.append(f"{before}@.{kind}.d")
    names.append(f"{name}.d")
    places = list(folder_list)
    return [f"{folder}/{one}" for one in names for folder in reversed(places)]
