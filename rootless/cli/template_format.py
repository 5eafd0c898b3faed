"""The functions of templates that fewer of them use: print, println, printf, html, js, urlquery, as Go's fmt and text/template.

Apart from the rest, so that `ps --format '{{.Names}}'` need not load them.
"""

from __future__ import annotations

from rootless.cli.parse import quote
from rootless.cli.template_values import MISSING, float_text, show, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def go_print(*values: Any) -> str:
    """As Go's fmt.Sprint."""
    out = ""
    for at, value in enumerate(values):
        # fmt.Sprint puts a blank between two operands of which neither is a string.
        if at and not isinstance(value, str) and not isinstance(values[at - 1], str):
            out += " "
        out += show(value, top=False)
    return out


def go_println(*values: Any) -> str:
    """As Go's fmt.Sprintln."""
    return " ".join(show(value, top=False) for value in values) + "\n"


def go_printf(form: str, *values: Any) -> str:
    """fmt.Sprintf."""
    out = []
    at = 0
    used = 0
    reordered = False
    while True:
        percent = form.find("%", at)
        if percent < 0:
            out.append(form[at:])
            break
        out.append(form[at:percent])
        at = percent + 1
        flags = ""
        while form[at : at + 1] and form[at] in "+-# 0":
            flags += form[at]
            at += 1
        width: int | None = None
        precision: int | None = None
        if form[at : at + 1] == "[" and form[at + 1 : form.find("]", at)].isdigit():
            used = int(form[at + 1 : form.find("]", at)]) - 1
            reordered = True
            at = form.find("]", at) + 1
        if form[at : at + 1] == "*":
            at += 1
            if used < len(values) and isinstance(values[used], int):
                width = values[used]
                if width is not None and width < 0:
                    flags, width = flags + "-", -width
            else:
                out.append("%!(BADWIDTH)")
            used += 1
        else:
            start = at
            while form[at : at + 1].isdigit():
                at += 1
            width = min(int(form[start:at]), 1_000_000) if at > start else None
        if form[at : at + 1] == ".":
            at += 1
            if form[at : at + 1] == "*":
                at += 1
                if used < len(values) and isinstance(values[used], int) and values[used] >= 0:
                    precision = values[used]
                else:
                    out.append("%!(BADPREC)")
                used += 1
            else:
                start = at
                while form[at : at + 1].isdigit():
                    at += 1
                precision = min(int(form[start:at] or "0"), 1_000_000)
        verb = form[at : at + 1]
        at += 1
        if not verb:
            out.append("%!(NOVERB)")
            break
        if verb == "%":
            out.append("%")
            continue
        if used >= len(values):
            out.append(f"%!{verb}(MISSING)")
            continue
        out.append(_formatted(verb, flags, width, precision, values[used]))
        used += 1
    if used < len(values) and not reordered:
        extra = ", ".join(
            f"{type_name(v)}={show(v, top=False)}" if v is not None else "<nil>"
            for v in values[used:]
        )
        out.append(f"%!(EXTRA {extra})")
    return "".join(out)


def _formatted(verb: str, flags: str, width: int | None, precision: int | None, value: Any) -> str:
    if isinstance(value, (list, tuple)) and verb not in "vT":
        items = [_formatted(verb, flags, width, precision, item) for item in value]
        return "[" + " ".join(items) + "]"
    text = _verb(verb, flags, precision, value)
    if width is None or len(text) >= width:
        return text
    if "-" in flags:
        return text.ljust(width)
    if "0" in flags and verb in "dxXobeEfFgGs" and not text.startswith("%!"):
        if isinstance(value, (int, float)) and text[:1] in ("+", "-"):
            return text[0] + text[1:].rjust(width - 1, "0")
        return text.rjust(width, "0")
    return text.rjust(width)


def _verb(verb: str, flags: str, precision: int | None, value: Any) -> str:
    if verb == "T":
        return type_name(value)
    if value is None or value is MISSING:
        return "<nil>" if verb == "v" else f"%!{verb}(<nil>)"
    text = None
    if isinstance(value, bool):
        text = show(value) if verb in "tv" else None
    elif isinstance(value, int):
        text = _integer_verb(verb, flags, precision, value)
    elif isinstance(value, float):
        text = _float_verb(verb, flags, precision, value)
    elif isinstance(value, str):
        text = _string_verb(verb, flags, value[:precision])
    elif verb in "vs":
        text = show(value)
    return f"%!{verb}({type_name(value)}={show(value, top=False)})" if text is None else text


def _string_verb(verb: str, flags: str, value: str) -> str | None:
    if verb == "s" or (verb == "v" and "#" not in flags):
        return value
    if verb == "q" and "#" in flags and "`" not in value:
        return f"`{value}`"
    if verb in "qv":
        return ascii_only(quote(value)) if "+" in flags else quote(value)
    if verb in "xX":
        data = value.encode("utf-8", "surrogateescape")
        text = data.hex(" ") if " " in flags else data.hex()
        return text.upper() if verb == "X" else text
    return None


def ascii_only(text: str) -> str:
    """Go's %+q: what is not ASCII by its escape."""
    return "".join(
        char
        if char < "\x7f"
        else f"\\u{ord(char):04x}"
        if ord(char) < 0x10000
        else f"\\U{ord(char):08x}"
        for char in text
    )


def _signed(text: str, negative: bool, flags: str) -> str:
    return (
        "-" + text
        if negative
        else "+" + text
        if "+" in flags
        else " " + text
        if " " in flags
        else text
    )


def _integer_verb(verb: str, flags: str, precision: int | None, value: int) -> str | None:
    if verb == "v":
        verb = "d"
    bases = {"d": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}
    if verb in bases:
        digits = format(abs(value), bases[verb]).rjust(precision or 0, "0")
        prefix = "0o" if verb == "O" else ""
        if "#" in flags:
            prefix = {"b": "0b", "o": "0", "x": "0x", "X": "0X"}.get(verb, prefix)
        return _signed(prefix + digits, value < 0, flags)
    if verb == "c":
        return chr(value) if 0 <= value < 0x110000 else "\ufffd"
    if verb == "q":
        return "'" + quote(chr(value) if 0 <= value < 0x110000 else "\ufffd")[1:-1] + "'"
    if verb == "U":
        return f"U+{value:04X}"
    return None


def _float_verb(verb: str, flags: str, precision: int | None, value: float) -> str | None:
    if verb in "vgG" and precision is None:
        text = float_text(abs(value))
    elif verb in "eEfFgG":
        text = format(abs(value), f".{6 if precision is None else precision}{verb}")
    else:
        return None
    return _signed(text, value < 0, flags)


def _text_of(values: tuple[Any, ...]) -> str:
    return values[0] if len(values) == 1 and isinstance(values[0], str) else go_print(*values)


def go_html(*values: Any) -> str:
    """As text/template's html."""
    text = _text_of(values)
    for char, code in (
        ("&", "&amp;"),
        ("'", "&#39;"),
        ('"', "&#34;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ("\0", "\ufffd"),
    ):
        text = text.replace(char, code)
    return text


def go_js(*values: Any) -> str:
    """As text/template's js."""
    out = []
    for char in _text_of(values):
        if char in "\\'\"":
            out.append("\\" + char)
        elif char in "<>&=":
            out.append(f"\\u{ord(char):04X}")
        elif char.isprintable():
            out.append(char)
        else:
            out.append(f"\\u{ord(char):04X}")
    return "".join(out)


def go_urlquery(*values: Any) -> str:
    """As text/template's urlquery."""
    safe = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")
    data = _text_of(values).encode("utf-8", "surrogateescape")
    return "".join(
        chr(byte) if byte in safe else "+" if byte == 32 else f"%{byte:02X}" for byte in data
    )
