"""Plain data as YAML, laid out as Podman's `info` and `kube generate` do (ghodss/yaml: keys sorted)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WORDS = frozenset(
    (
        "",
        "~",
        "null",
        "true",
        "false",
        "yes",
        "no",
        "on",
        "off",
        "y",
        "n",
        "nan",
        ".nan",
        ".inf",
        "-.inf",
    )
)
_SPECIAL = "-?:,[]{}#&*!|>'\"%@` "


def dump(value: Any) -> str:
    """A document of dicts, lists and scalars, in block style."""
    return "".join(line + "\n" for line in _lines(value, 0))


def _lines(value: Any, depth: int) -> list[str]:
    """A mapping or a list, a line per item; a list stands no deeper than its key."""
    pad = " " * depth
    out = []
    if isinstance(value, dict):
        for key in sorted(value):
            item = value[key]
            if isinstance(item, dict) and item:
                out += [f"{pad}{scalar(key)}:", *_lines(item, depth + 2)]
            elif isinstance(item, (list, tuple)) and item:
                out += [f"{pad}{scalar(key)}:", *_lines(item, depth)]
            else:
                out += _with(f"{pad}{scalar(key)}: ", item, depth + 2)
        return out
    for item in value:
        if isinstance(item, (dict, list, tuple)) and item:
            first, *rest = _lines(item, depth + 2)
            out += [f"{pad}- {first[depth + 2 :]}", *rest]
        else:
            out += _with(f"{pad}- ", item, depth + 2)
    return out


def _with(start: str, item: Any, depth: int) -> list[str]:
    if (
        isinstance(item, str)
        and "\n" in item
        and item.strip("\n") == item
        and item.isprintable() is False
    ):
        inner = item.split("\n")
        if all(line.isprintable() and line == line.rstrip() for line in inner) and not inner[
            0
        ].startswith(" "):
            return [f"{start}|-", *(" " * depth + line if line else "" for line in inner)]
    return [start + scalar(item)]


def scalar(value: Any) -> str:
    if value is None:
        return "null"
    if value is True or value is False:
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, (list, tuple)):
        return "[]"
    text = str(value)
    if not text.isprintable():
        from rootless.cli.parse import quote

        return quote(text)
    if text.lower() in _WORDS or _is_number(text):
        return f'"{text}"'
    if text[0] in _SPECIAL or text[-1] in ": " or ": " in text or " #" in text:
        return "'" + text.replace("'", "''") + "'"
    return text


def _is_number(text: str) -> bool:
    if text[0] not in "+-.0123456789":
        return False
    for kind in (int, float):
        try:
            kind(text.replace("_", ""), 0) if kind is int else kind(text.replace("_", ""))
            return True
        except ValueError:
            continue
    # dates, and times and versions of base 60
    return text.replace("-", "").replace(":", "").isdigit()
