"""json's loads and dumps, straight from the C parts of the json package.

The package itself imports `re`, which imports `enum`, `functools` and `collections`, for what no record needs: error
positions in lines and columns, and an encoder in Python. Every command reads a record, so that was 7 ms of each. Documents
are the same both ways; an error is a plain ValueError.
"""

from __future__ import annotations

from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

_SPACE = " \t\n\r"


def _refuse_constant(name: str) -> NoReturn:
    # NaN and Infinity are Python's, not JSON's.
    raise ValueError(f"{name} is not JSON")


class _Context:
    """What the scanner reads from a json.JSONDecoder."""

    strict = True
    object_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_refuse_constant)

    def __init__(self, object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None) -> None:
        self.object_pairs_hook = object_pairs_hook


_scan: Any = make_scanner(_Context(None))  # type: ignore[arg-type]


def loads(
    text: str | bytes | bytearray,
    *,
    object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """Parse a document; ValueError where it is none."""
    scan = _scan
    if object_pairs_hook is not None:
        scan = make_scanner(_Context(object_pairs_hook))  # type: ignore[arg-type]
    if not isinstance(text, str):
        text = text.decode("utf-8")
    start = len(text) - len(text.lstrip(_SPACE))
    try:
        value, end = scan(text, start)
    except StopIteration as error:
        raise ValueError(f"a value is missing at character {error.value}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except SystemError:
        # The scanner looks for json.decoder's exception, and that module is not loaded.
        raise ValueError("neither a value nor the end of one where one was expected") from None
    rest = text[end:].lstrip(_SPACE)
    if rest:
        raise ValueError(f"more text after the value, at character {len(text) - len(rest)}")
    return value


def _refuse(value: object) -> NoReturn:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def dumps(
    value: object,
    *,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
    ensure_ascii: bool = True,
) -> str:
    """Write a document as json.dumps does, NaN and Infinity refused."""
    item, key = separators or ((", ", ": ") if indent is None else (",", ": "))
    string = encode_basestring_ascii if ensure_ascii else encode_basestring
    if indent is not None:
        step = indent if isinstance(indent, str) else " " * indent
        out: list[str] = []
        _write(value, "\n", step, (item, key, sort_keys, string), out.append)
        return "".join(out)
    encode: Any = make_encoder({}, _refuse, string, None, key, item, sort_keys, False, False)
    return "".join(encode(value, 0))


def _write(
    value: Any, line: str, step: str, how: tuple[str, str, bool, Any], put: Callable[[str], object]
) -> None:
    """An indented document: the C encoder has no indentation before Python 3.14."""
    item, key, sort_keys, string = how
    inner = line + step
    if isinstance(value, dict) and value:
        put("{")
        before = inner
        for name, part in sorted(value.items()) if sort_keys else value.items():
            put(before + string(name if isinstance(name, str) else dumps(name)) + key)
            _write(part, inner, step, how, put)
            before = item + inner
        put(line + "}")
    elif isinstance(value, (list, tuple)) and value:
        put("[")
        before = inner
        for part in value:
            put(before)
            _write(part, inner, step, how, put)
            before = item + inner
        put(line + "]")
    elif isinstance(value, str):
        put(string(value))
    else:
        put(dumps(value))
