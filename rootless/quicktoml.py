"""tomllib's loads, without tomllib where a document is as plain as most settings are.

tomllib imports `re`, `typing` and `datetime`, which is a tenth of all that a pull of an unchanged image does, and what it
reads there is a file of comments and one of aliases. What is understood here means the same to tomllib; the first line
that is anything else leaves the whole document to it, and so are all errors its own.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BARE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


class _Other(Exception):
    """Something that is left to tomllib."""


def loads(data: bytes) -> dict[str, Any]:
    """Parse a document; ValueError where it is none."""
    text = data.decode()
    try:
        return _plain(text)
    except _Other:
        import tomllib

        return tomllib.loads(text)


def _plain(text: str) -> dict[str, Any]:
    document: dict[str, Any] = {}
    arrays: dict[str, list[dict[str, Any]]] = {}
    table = document
    # Not splitlines(): that knows more ends of lines than TOML does.
    for line in text.replace("\r\n", "\n").split("\n"):
        line = line.strip(" \t")
        if not line.replace("\t", " ").isprintable():
            raise _Other
        if not line or line[0] == "#":
            continue
        if line[0] == "[":
            table = {}
            if line.startswith("[["):
                name = _header(line, "[[", "]]")
                if name not in arrays:
                    arrays[name] = _set(document, name, [])
                arrays[name].append(table)
            else:
                _set(document, _header(line, "[", "]"), table)
            continue
        key, equals, value = line.partition("=")
        if not equals:
            raise _Other
        key = key.strip(" \t")
        _set(table, _string(key) if key[:1] == '"' else _bare(key), _value(value.strip(" \t")))
    return document


def _set(table: dict[str, Any], key: str, value: Any) -> Any:
    if key in table:
        raise _Other
    table[key] = value
    return value


def _header(line: str, begin: str, end: str) -> str:
    if not line.endswith(end):
        raise _Other
    return _bare(line[len(begin) : -len(end)])


def _bare(key: str) -> str:
    if not key or not _BARE.issuperset(key):
        raise _Other
    return key


def _value(text: str) -> Any:
    if text == "true":
        return True
    if text == "false":
        return False
    if text[:1] == "[" and text[-1:] == "]":
        inner = text[1:-1].strip(" \t")
        return [_string(one.strip(" \t")) for one in inner.split(",")] if inner else []
    return _string(text)


def _string(text: str) -> str:
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        raise _Other
    inner = text[1:-1]
    if '"' in inner or "\\" in inner:
        raise _Other
    return inner
