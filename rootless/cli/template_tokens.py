"""A template's text as tokens, with Go's words for what is none."""

from __future__ import annotations

from rootless.cli.parse import quote

_KEYWORDS = frozenset(
    (
        "block",
        "break",
        "continue",
        "define",
        "else",
        "end",
        "if",
        "range",
        "nil",
        "template",
        "with",
    )
)
_BLANKS = " \t\r\n"
_BLANK = tuple(_BLANKS)  # of which an empty string is none
_AFTER_A_WORD = ".,|:()=" + _BLANKS
_SINGLE = {"=": "assign", "|": "pipe", "(": "(", ")": ")"}
_QUOTED = {'"': ("string", "quoted string"), "'": ("char", "character constant")}
_BOOLEANS = {"true": "bool", "false": "bool"}


class Token:
    """kind: text, open, close, space, pipe, declare, assign, (, ), field, variable, dot, word, keyword, string, raw,
    number, char, bool, symbol, comment, error, end."""

    __slots__ = ("at", "kind", "text")

    def __init__(self, kind: str, text: str, at: int) -> None:
        self.kind = kind
        self.text = text
        self.at = at

    def __str__(self) -> str:
        if self.kind == "end":
            return "EOF"
        if self.kind == "error":
            return self.text
        if self.kind in ("keyword", "dot"):
            return f"<{self.text}>"
        if len(self.text) > 10:
            return quote(self.text[:10]) + "..."
        return quote(self.text)


class Failed(Exception):
    """A mistake at an offset of the source, not yet worded with its place."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.message = message
        self.at = at


def _is_alphanumeric(char: str) -> bool:
    return char == "_" or char.isalnum()


def tokens_of(source: str) -> list[Token]:
    """The whole source as tokens. A mistake is the last token, as the parser may find an earlier one."""
    out: list[Token] = []
    at = 0
    try:
        while at < len(source):
            at = _text_and_action(source, at, out)
        out.append(Token("end", "", at))
    except Failed as mistake:
        out.append(Token("error", mistake.message, mistake.at))
    return out


def _text_and_action(source: str, at: int, out: list[Token]) -> int:
    """Text, and the action or comment behind it; returns where the next text begins."""
    start = source.find("{{", at)
    if start < 0:
        out.append(Token("text", source[at:], at))
        return len(source)
    text = source[at:start]
    inside = start + 2
    # "{{- " trims the text before: the minus must be followed by a blank.
    if source.startswith("-", inside) and source[inside + 1 : inside + 2] in _BLANK:
        text = text.rstrip(_BLANKS)
        inside += 2
    if text:
        out.append(Token("text", text, at))
    if source.startswith("/*", inside):
        return _after_comment(source, start, inside)
    out.append(Token("open", "{{", start))
    return _inside_action(source, inside, out)


def _after_comment(source: str, start: int, inside: int) -> int:
    stop = source.find("*/", inside + 2)
    if stop < 0:
        raise Failed("unclosed comment", start)
    at = stop + 2
    trims = source[at : at + 1] in _BLANK and source.startswith("-}}", at + 1)
    if trims:
        at += 2
    if not source.startswith("}}", at):
        raise Failed("comment ends before closing delimiter", start)
    at += 2
    return _after_blanks(source, at) if trims else at


def _inside_action(source: str, at: int, out: list[Token]) -> int:
    """Tokens up to and including the closing braces; returns where text goes on."""
    depth = 0
    while True:
        trims = source[at : at + 1] in _BLANK and source.startswith("-}}", at + 1)
        if trims or source.startswith("}}", at):
            if depth:
                raise Failed("unclosed left paren", at)
            at += 2 if trims else 0
            out.append(Token("close", "}}", at))
            at += 2
            return _after_blanks(source, at) if trims else at
        if at >= len(source):
            raise Failed("unclosed action", at)
        kind, end = _token(source, at)
        depth += (kind == "(") - (kind == ")")
        if depth < 0:
            raise Failed("unexpected right paren", at)
        out.append(Token(kind, source[at:end], at))
        at = end


def _token(source: str, at: int) -> tuple[str, int]:
    """What kind of token begins here, and where it ends."""
    char = source[at]
    if char in _BLANKS:
        return "space", _end_of_blanks(source, at)
    if char in _SINGLE:
        return _SINGLE[char], at + 1
    if char == ":":
        if source.startswith(":=", at):
            return "declare", at + 2
        raise Failed("expected :=", at)
    if char in _QUOTED:
        return _QUOTED[char][0], _end_of_quoted(source, at)
    if char == "`":
        stop = source.find("`", at + 1)
        if stop < 0:
            raise Failed("unterminated raw quoted string", at)
        return "raw", stop + 1
    if char == "$" or (char == "." and not source[at + 1 : at + 2].isdigit()):
        end = _end_of_word(source, at + 1)
        if char == "$":
            return "variable", end
        return "field" if end > at + 1 else "dot", end
    if char in "+-." or char.isdigit():
        return "number", _end_of_number(source, at)
    if _is_alphanumeric(char):
        end = _end_of_word(source, at)
        word = source[at:end]
        return "keyword" if word in _KEYWORDS else _BOOLEANS.get(word, "word"), end
    if " " < char <= "~":
        return "symbol", at + 1
    shown = f"U+{ord(char):04X} {_shown_char(char)}"
    raise Failed(f"unrecognized character in action: {shown}".rstrip(), at)


def _after_blanks(source: str, at: int) -> int:
    while at < len(source) and source[at] in _BLANKS:
        at += 1
    return at


def _end_of_blanks(source: str, at: int) -> int:
    """The same, but a blank before "-}}" belongs to the closing braces."""
    while at < len(source) and source[at] in _BLANKS and not source.startswith("-}}", at + 1):
        at += 1
    return at


def _end_of_quoted(source: str, at: int) -> int:
    mark = source[at]
    at += 1
    while at < len(source) and source[at] not in (mark, "\n"):
        at += 2 if source[at] == "\\" else 1
    if source[at : at + 1] != mark:
        raise Failed(f"unterminated {_QUOTED[mark][1]}", at)
    return at + 1


def _end_of_word(source: str, at: int) -> int:
    while at < len(source) and _is_alphanumeric(source[at]):
        at += 1
    if at < len(source) and source[at] not in _AFTER_A_WORD and not source.startswith("}}", at):
        raise Failed(f"bad character U+{ord(source[at]):04X} {_shown_char(source[at])}", at)
    return at


def _end_of_number(source: str, at: int) -> int:
    """Its value is for the parser to judge."""
    start = at
    end = len(source)

    def run(digits: str) -> None:
        nonlocal at
        while at < end and source[at] in digits:
            at += 1

    if source[at] in "+-":
        at += 1
    digits = "0123456789_"
    exponent = "eE"
    if source[at : at + 1] == "0":
        at += 1
        base = source[at : at + 1].lower()
        if base and base in "xob":
            at += 1
            digits = {"x": "0123456789abcdefABCDEF_", "o": "01234567_", "b": "01_"}[base]
            exponent = "pP" if base == "x" else ""
    run(digits)
    if source[at : at + 1] == ".":
        at += 1
        run(digits)
    if exponent and source[at : at + 1] and source[at] in exponent:
        at += 1
        if source[at : at + 1] and source[at] in "+-":
            at += 1
        run("0123456789_")
    if at < end and (_is_alphanumeric(source[at]) or source[at] in "+-"):
        raise Failed(f"bad number syntax: {quote(source[start : at + 1])}", at + 1)
    return at


def _shown_char(char: str) -> str:
    return f"'{char}'" if char.isprintable() else ""


_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}


def unquote(token: Token) -> str:
    """The value of a Go string or character constant; ValueError where it has none."""
    body = token.text[1:-1]
    if token.kind == "raw" or "\\" not in body:
        return body
    mark = token.text[0]
    out = bytearray()
    at = 0
    while at < len(body):
        char = body[at]
        at += 1
        if char != "\\":
            out += char.encode("utf-8", "surrogateescape")
            continue
        char = body[at : at + 1]
        at += 1
        if char == mark:
            out += char.encode()
        elif char in _ESCAPES:
            out += _ESCAPES[char].encode()
        elif char == "x":
            out.append(int(body[at : at + 2], 16))
            at += 2
        elif char in ("u", "U"):
            size = 4 if char == "u" else 8
            out += chr(int(body[at : at + size], 16)).encode("utf-8")
            at += size
        elif char in "01234567" and char:
            out.append(int(body[at - 1 : at + 2], 8))
            at += 2
        else:
            raise ValueError(body)
    return out.decode("utf-8", "surrogateescape")
