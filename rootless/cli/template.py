"""Go's text/template, for --format.

The language is Go's (pkg.go.dev/text/template), with Podman's functions added (join, json, lower, pad, split, title,
truncate, upper) and Go's way of printing values and wording mistakes. Data are Python values: str, int, float, bool,
None, lists, and dictionaries, which come in two kinds: a `Struct` has fields, of which an unknown one is a mistake; any
other dictionary is a map, where an unknown key is `<no value>`. A callable in a dictionary is a method.

Hot commands import this for --format, so it needs no other module until a function asks for one.
"""

from __future__ import annotations

from rootless.cli.parse import integer, quote
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, NoReturn

_KEYWORDS = frozenset(
    ("block", "break", "continue", "define", "else", "end", "if", "range", "nil", "template", "with")
)
_BLANKS = " \t\r\n"
#: Deeper than any honest template, and well within Python's own limit.
_DEPTH = 100


class TemplateError(Usage):
    """A template is wrong, or does not fit the data."""


class Struct(dict):  # type: ignore[type-arg]
    """A dictionary with a fixed set of fields; `go_type` names it in messages."""

    __slots__ = ("go_type",)

    def __init__(self, fields: Any = (), go_type: str = "struct") -> None:
        super().__init__(fields)
        self.go_type = go_type


class _Missing:
    """What a map holds under an unknown key."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False


MISSING = _Missing()


def structs(value: Any, maps: frozenset[str] = frozenset(), go_type: str = "struct") -> Any:
    """Plain JSON data with dictionaries made Structs, but for those under a key in `maps`, which are maps."""
    if isinstance(value, dict):
        return Struct(
            {
                key: (
                    {name: structs(inner, maps) for name, inner in item.items()}
                    if key in maps and isinstance(item, dict)
                    else structs(item, maps)
                )
                for key, item in value.items()
            },
            go_type,
        )
    if isinstance(value, (list, tuple)):
        return [structs(item, maps, go_type) for item in value]
    return value


# --- values, as Go prints them -------------------------------------------------------------------------------------


def show(value: Any, *, top: bool = True) -> str:
    """A value as fmt's %v prints it."""
    if value is MISSING:
        return "<no value>" if top else "<nil>"
    if value is None:
        return "<nil>"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Struct):
        return "{" + " ".join(show(item, top=False) for item in value.values() if not callable(item)) + "}"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{show(key)}:{show(value[key], top=False)}" for key in _sorted(value)) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(show(item, top=False) for item in value) + "]"
    return str(value)


def _sorted(keys: Iterable[Any]) -> list[Any]:
    return sorted(keys, key=lambda key: (str(type(key)), key))


def _float(value: float, letter: str = "g") -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    mantissa, _, exponent = text.partition("e")
    if exponent:
        power = int(exponent)
    else:
        digits = mantissa.lstrip("-").replace(".", "").lstrip("0")
        whole = mantissa.lstrip("-").split(".")[0]
        if whole.strip("0"):
            power = len(whole.lstrip("0")) - 1
        elif digits:
            fraction = mantissa.split(".")[1]
            power = -(len(fraction) - len(fraction.lstrip("0"))) - 1
        else:
            power = 0
    if power < -4 or power >= 21:
        short = f"{value:.{max(0, _significant(text) - 1)}e}"
        return short
    fixed = f"{value:f}" if not exponent and "." not in mantissa else format(value, "f") if exponent else mantissa
    if "." in fixed:
        fixed = fixed.rstrip("0").rstrip(".")
    return fixed


def _significant(text: str) -> int:
    return len(text.partition("e")[0].lstrip("-").replace(".", "").strip("0")) or 1


def type_name(value: Any) -> str:
    """The Go type that stands for a Python value."""
    if value is None or value is MISSING:
        return "<nil>"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float64"
    if isinstance(value, Struct):
        return value.go_type
    if isinstance(value, dict):
        return "map[string]" + _element_type(value.values())
    if isinstance(value, (list, tuple)):
        return "[]" + _element_type(value)
    return getattr(value, "go_type", type(value).__name__)


def _element_type(values: Iterable[Any]) -> str:
    kinds = {type_name(value) for value in values}
    return kinds.pop() if len(kinds) == 1 else "interface {}" if kinds else "string"


def truth(value: Any) -> bool:
    """Whether Go's `if` takes it for true: a Struct always is."""
    return True if isinstance(value, Struct) else bool(value)


# --- the parsed form ------------------------------------------------------------------------------------------------


class _Node:
    __slots__ = ("at",)
    at: int


class _Text(_Node):
    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class _Action(_Node):
    __slots__ = ("pipe",)

    def __init__(self, pipe: _Pipe) -> None:
        self.pipe = pipe


class _Branch(_Node):
    """if, with, range."""

    __slots__ = ("body", "otherwise", "pipe", "word")

    def __init__(self, word: str, pipe: _Pipe, body: list[_Node], otherwise: list[_Node]) -> None:
        self.word = word
        self.pipe = pipe
        self.body = body
        self.otherwise = otherwise


class _Call(_Node):
    """template NAME PIPELINE."""

    __slots__ = ("name", "pipe")

    def __init__(self, at: int, name: str, pipe: _Pipe | None) -> None:
        self.at = at
        self.name = name
        self.pipe = pipe

    def __str__(self) -> str:
        return "{{template " + quote(self.name) + (f" {self.pipe}" if self.pipe else "") + "}}"


class _Jump(_Node):
    """break, continue."""

    __slots__ = ("word",)

    def __init__(self, word: str) -> None:
        self.word = word


class _Pipe(_Node):
    __slots__ = ("assigns", "commands", "names")

    def __init__(self, at: int) -> None:
        self.at = at
        self.names: list[str] = []
        self.assigns = False
        self.commands: list[_Command] = []

    def __str__(self) -> str:
        text = " | ".join(str(command) for command in self.commands)
        return f"{', '.join(self.names)} {'=' if self.assigns else ':='} {text}" if self.names else text


class _Command(_Node):
    __slots__ = ("words",)

    def __init__(self, at: int) -> None:
        self.at = at
        self.words: list[_Node] = []

    def __str__(self) -> str:
        return " ".join(f"({word})" if isinstance(word, _Pipe) else str(word) for word in self.words)


class _Dot(_Node):
    __slots__ = ()

    def __init__(self, at: int) -> None:
        self.at = at

    def __str__(self) -> str:
        return "."


class _Constant(_Node):
    __slots__ = ("text", "value")

    def __init__(self, at: int, value: Any, text: str) -> None:
        self.at = at
        self.value = value
        self.text = text

    def __str__(self) -> str:
        return self.text


class _Field(_Node):
    __slots__ = ("names",)

    def __init__(self, at: int, names: list[str]) -> None:
        self.at = at
        self.names = names

    def __str__(self) -> str:
        return "." + ".".join(self.names)


class _Variable(_Node):
    """$name, with fields after it."""

    __slots__ = ("names",)

    def __init__(self, at: int, names: list[str]) -> None:
        self.at = at
        self.names = names

    def __str__(self) -> str:
        return ".".join(self.names)


class _Chain(_Node):
    """(pipeline).Field."""

    __slots__ = ("names", "node")

    def __init__(self, at: int, node: _Node, names: list[str]) -> None:
        self.at = at
        self.node = node
        self.names = names

    def __str__(self) -> str:
        inner = f"({self.node})" if isinstance(self.node, _Pipe) else str(self.node)
        return inner + "." + ".".join(self.names)


class _Function(_Node):
    __slots__ = ("name",)

    def __init__(self, at: int, name: str) -> None:
        self.at = at
        self.name = name

    def __str__(self) -> str:
        return self.name


class _Token:
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
        if self.kind == "keyword":
            return f"<{self.text}>"
        if len(self.text) > 10:
            return quote(self.text[:10]) + "..."
        return quote(self.text)


class _Failed(Exception):
    """A mistake at an offset of the source, not yet worded with its place."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.message = message
        self.at = at


def _is_alphanumeric(char: str) -> bool:
    return char == "_" or char.isalnum()


def _tokens(source: str) -> list[_Token]:
    """The whole source as tokens. A mistake is the last token, as the parser may find an earlier one."""
    out: list[_Token] = []
    at = 0
    end = len(source)
    while at < end:
        start = source.find("{{", at)
        if start < 0:
            out.append(_Token("text", source[at:], at))
            at = end
            break
        text = source[at:start]
        inside = start + 2
        # "{{- " trims the text before: the minus must be followed by a blank.
        trims = source[inside : inside + 1] == "-" and source[inside + 1 : inside + 2] in tuple(_BLANKS)
        if trims:
            text = text.rstrip(_BLANKS)
            inside += 2
        if text:
            out.append(_Token("text", text, at))
        if source.startswith("/*", inside):
            stop = source.find("*/", inside + 2)
            if stop < 0:
                out.append(_Token("error", "unclosed comment", start))
                return out
            at = stop + 2
            trim_after = source[at : at + 1] in tuple(_BLANKS) and source.startswith("-}}", at + 1)
            if trim_after:
                at += 2
            if not source.startswith("}}", at):
                out.append(_Token("error", "comment ends before closing delimiter", start))
                return out
            at += 2
            if trim_after:
                while at < end and source[at] in _BLANKS:
                    at += 1
            continue
        out.append(_Token("open", "{{", start))
        at = _inside_action(source, inside, out)
        if out[-1].kind == "error":
            return out
    out.append(_Token("end", "", end))
    return out


def _inside_action(source: str, at: int, out: list[_Token]) -> int:
    """Tokens up to and including the closing braces; returns where text goes on."""
    end = len(source)
    depth = 0

    def fail(message: str) -> int:
        out.append(_Token("error", message, at))
        return end

    while True:
        if source.startswith("}}", at) or (
            source[at : at + 1] in tuple(_BLANKS) and source.startswith("-}}", at + 1)
        ):
            if depth:
                return fail("unclosed left paren")
            trims = source[at] != "}"
            at += 2 if trims else 0
            out.append(_Token("close", "}}", at))
            at += 2
            if trims:
                while at < end and source[at] in _BLANKS:
                    at += 1
            return at
        if at >= end:
            return fail("unclosed action")
        char = source[at]
        start = at
        if char in _BLANKS:
            while at < end and source[at] in _BLANKS:
                # A blank before "-}}" belongs to the closing braces.
                if source.startswith("-}}", at + 1):
                    break
                at += 1
            if at > start:
                out.append(_Token("space", source[start:at], start))
            continue
        if char == "=":
            out.append(_Token("assign", char, at))
            at += 1
        elif source.startswith(":=", at):
            out.append(_Token("declare", ":=", at))
            at += 2
        elif char == ":":
            return fail("expected :=")
        elif char == "|":
            out.append(_Token("pipe", char, at))
            at += 1
        elif char == '"':
            at += 1
            while at < end and source[at] not in '"\n':
                at += 2 if source[at] == "\\" else 1
            if at >= end or source[at] == "\n":
                return fail("unterminated quoted string")
            at += 1
            out.append(_Token("string", source[start:at], start))
        elif char == "`":
            stop = source.find("`", at + 1)
            if stop < 0:
                return fail("unterminated raw quoted string")
            at = stop + 1
            out.append(_Token("raw", source[start:at], start))
        elif char == "'":
            at += 1
            while at < end and source[at] not in "'\n":
                at += 2 if source[at] == "\\" else 1
            if at >= end or source[at] == "\n":
                return fail("unterminated character constant")
            at += 1
            out.append(_Token("char", source[start:at], start))
        elif char == "$" or (char == "." and not source[at + 1 : at + 2].isdigit()):
            at += 1
            while at < end and _is_alphanumeric(source[at]):
                at += 1
            if at < end and not _ends_word(source, at):
                return fail(f"bad character U+{ord(source[at]):04X} {_shown_char(source[at])}")
            word = source[start:at]
            out.append(_Token("dot" if word == "." else "variable" if char == "$" else "field", word, start))
        elif char in "+-" or char.isdigit() or char == ".":
            at += 1
            while at < end and (source[at] in ".+-_" or source[at].isalnum()):
                if source[at] in "+-" and source[at - 1] not in "eEpP":
                    break
                at += 1
            out.append(_Token("number", source[start:at], start))
        elif _is_alphanumeric(char):
            while at < end and _is_alphanumeric(source[at]):
                at += 1
            if at < end and not _ends_word(source, at):
                return fail(f"bad character U+{ord(source[at]):04X} {_shown_char(source[at])}")
            word = source[start:at]
            kind = "keyword" if word in _KEYWORDS else "bool" if word in ("true", "false") else "word"
            out.append(_Token(kind, word, start))
        elif char == "(":
            depth += 1
            out.append(_Token("(", char, at))
            at += 1
        elif char == ")":
            depth -= 1
            if depth < 0:
                return fail("unexpected right paren")
            out.append(_Token(")", char, at))
            at += 1
        elif " " < char <= "~":
            out.append(_Token("symbol", char, at))
            at += 1
        else:
            return fail(f"unrecognized character in action: U+{ord(char):04X} {_shown_char(char)}".rstrip())


def _shown_char(char: str) -> str:
    return f"'{char}'" if char.isprintable() else ""


def _ends_word(source: str, at: int) -> bool:
    return source[at] in ".,|:()=" + _BLANKS or source.startswith("}}", at)


class _Parser:
    __slots__ = ("at", "depth", "loops", "names", "templates", "tokens")

    def __init__(self, source: str, templates: dict[str, list[_Node]]) -> None:
        self.tokens = _tokens(source)
        self.at = 0
        self.names = ["$"]
        self.loops = 0
        self.depth = 0
        self.templates = templates

    # tokens
    def next(self) -> _Token:
        token = self.tokens[self.at]
        if self.at < len(self.tokens) - 1:
            self.at += 1
        return token

    def peek(self) -> _Token:
        return self.tokens[self.at]

    def next_word(self) -> _Token:
        token = self.next()
        while token.kind == "space":
            token = self.next()
        return token

    def peek_word(self) -> _Token:
        while self.tokens[self.at].kind == "space":
            self.at += 1
        return self.tokens[self.at]

    def fail(self, message: str, token: _Token | None = None) -> NoReturn:
        raise _Failed(message, (token or self.tokens[max(0, self.at - 1)]).at)

    def unexpected(self, token: _Token, context: str) -> NoReturn:
        if token.kind == "error":
            raise _Failed(token.text, token.at)
        raise _Failed(f"unexpected {token} in {context}", token.at)

    def expect(self, kind: str, context: str) -> _Token:
        token = self.next_word()
        if token.kind != kind:
            self.unexpected(token, context)
        return token

    # statements
    def parse(self) -> list[_Node]:
        nodes: list[_Node] = []
        while self.peek().kind != "end":
            node = self.text_or_action(nodes)
            if isinstance(node, _Token):
                raise _Failed(f"unexpected {{{{{node.text}}}}}", node.at)
        return nodes

    def text_or_action(self, nodes: list[_Node]) -> _Token | None:
        """Parse one item into `nodes`; returns the token where it is `else` or `end`."""
        token = self.next()
        if token.kind == "text":
            nodes.append(_Text(token.text))
            return None
        if token.kind != "open":
            self.unexpected(token, "input")
        token = self.next_word()
        if token.kind != "keyword" or token.text == "nil":
            self.at -= 1
            pipe = self.pipeline("command", "close")
            nodes.append(_Action(pipe))
            return None
        word = token.text
        if word in ("else", "end"):
            if word == "end":
                self.expect("close", "end")
            return token
        if word in ("if", "with", "range"):
            nodes.append(self.branch(word))
        elif word in ("break", "continue"):
            after = self.next_word()
            if after.kind != "close":
                self.unexpected(after, "{{" + word + "}}")
            if not self.loops:
                raise _Failed("{{" + word + "}} outside {{range}}", token.at)
            nodes.append(_Jump(word))
        elif word == "define":
            self.define()
        elif word == "template":
            name = self.template_name(self.next_word(), "template clause")
            pipe_or_none = None
            if self.peek_word().kind != "close":
                pipe_or_none = self.pipeline("template clause", "close")
            else:
                self.next()
            nodes.append(_Call(token.at, name, pipe_or_none))
        else:
            name = self.template_name(self.next_word(), "block clause")
            pipe = self.pipeline("block clause", "close")
            self.templates[name] = self.apart("block clause")
            nodes.append(_Call(token.at, name, pipe))
        return None

    def template_name(self, token: _Token, context: str) -> str:
        if token.kind not in ("string", "raw"):
            self.unexpected(token, context)
        return _unquote(token)

    def define(self) -> None:
        name = self.template_name(self.next_word(), "define clause")
        self.expect("close", "define clause")
        self.templates[name] = self.apart("define clause")

    def apart(self, context: str) -> list[_Node]:
        """A body with variables of its own, up to {{end}}."""
        names, self.names = self.names, ["$"]
        loops, self.loops = self.loops, 0
        body, stop = self.list(context)
        if stop.text == "else":
            raise _Failed(f"unexpected {{{{else}}}} in {context}", stop.at)
        self.names = names
        self.loops = loops
        return body

    def list(self, context: str) -> tuple[list[_Node], _Token]:
        self.depth += 1
        if self.depth > _DEPTH:
            self.fail("template is nested too deeply")
        nodes: list[_Node] = []
        while self.peek().kind != "end":
            stop = self.text_or_action(nodes)
            if stop is not None:
                self.depth -= 1
                return nodes, stop
        raise _Failed("unexpected EOF", self.peek().at)

    def branch(self, word: str) -> _Branch:
        known = len(self.names)
        pipe = self.pipeline(word, "close")
        if word == "range":
            self.loops += 1
        body, stop = self.list(word)
        if word == "range":
            self.loops -= 1
        otherwise: list[_Node] = []
        if stop.text == "else":
            after = self.peek_word()
            if after.kind == "keyword" and after.text == word and word in ("if", "with"):
                self.next()
                otherwise = [self.branch(word)]
            else:
                self.expect("close", "else")
                otherwise, stop = self.list(word)
                if stop.text != "end":
                    raise _Failed(f"expected end; found {{{{{stop.text}}}}}", stop.at)
        del self.names[known:]
        return _Branch(word, pipe, body, otherwise)

    # expressions
    def pipeline(self, context: str, end: str) -> _Pipe:
        self.depth += 1
        if self.depth > _DEPTH:
            self.fail("template is nested too deeply")
        pipe = _Pipe(self.peek_word().at)
        while self.peek_word().kind == "variable":
            start = self.at
            variable = self.next()
            after = self.peek_word()
            if after.kind in ("assign", "declare"):
                pipe.assigns = after.kind == "assign"
                self.next()
                pipe.names.append(variable.text)
                self.names.append(variable.text)
                break
            if after.kind == "symbol" and after.text == ",":
                self.next()
                pipe.names.append(variable.text)
                self.names.append(variable.text)
                if context == "range" and len(pipe.names) < 2:
                    if self.peek_word().kind in ("variable", "close", ")"):
                        continue
                    self.fail("range can only initialize variables")
                self.fail(f"too many declarations in {context}")
            self.at = start
            break
        while True:
            token = self.next_word()
            if token.kind == end:
                break
            if token.kind in ("bool", "char", "dot", "field", "word", "number", "string", "raw", "variable", "(") or (
                token.kind == "keyword" and token.text == "nil"
            ):
                self.at -= 1
                pipe.commands.append(self.command())
            else:
                self.unexpected(token, context)
        if not pipe.commands:
            self.fail(f"missing value for {context}")
        for number, command in enumerate(pipe.commands[1:], 2):
            if isinstance(command.words[0], (_Constant, _Dot)):
                self.fail(f"non executable command in pipeline stage {number}")
        self.depth -= 1
        return pipe

    def command(self) -> _Command:
        command = _Command(self.peek_word().at)
        while True:
            self.peek_word()
            operand = self.operand()
            if operand is not None:
                command.words.append(operand)
            token = self.next()
            if token.kind == "space":
                continue
            if token.kind in ("close", ")"):
                self.at -= 1
            elif token.kind != "pipe":
                self.unexpected(token, "operand")
            break
        if not command.words:
            self.fail("empty command")
        return command

    def operand(self) -> _Node | None:
        node = self.term()
        if node is None or self.peek().kind != "field":
            return node
        at = self.peek().at
        names = []
        while self.peek().kind == "field":
            names.append(self.next().text[1:])
        if isinstance(node, _Field):
            return _Field(at, node.names + names)
        if isinstance(node, _Variable):
            return _Variable(at, node.names + names)
        if isinstance(node, (_Constant, _Dot)):
            self.fail(f"unexpected . after term {quote(str(node))}")
        return _Chain(at, node, names)

    def term(self) -> _Node | None:
        token = self.next_word()
        kind, text, at = token.kind, token.text, token.at
        if kind == "word":
            if text not in _FUNCTIONS and text not in ("and", "or"):
                self.fail(f"function {quote(text)} not defined", token)
            return _Function(at, text)
        if kind == "dot":
            return _Dot(at)
        if kind == "keyword" and text == "nil":
            return _Constant(at, None, text)
        if kind == "variable":
            if text not in self.names:
                self.fail(f"undefined variable {quote(text)}", token)
            return _Variable(at, [text])
        if kind == "field":
            return _Field(at, [text[1:]])
        if kind == "bool":
            return _Constant(at, text == "true", text)
        if kind == "number":
            return _Constant(at, self.number(token), text)
        if kind == "char":
            value = _unquote(token)
            if len(value) != 1:
                self.fail(f"malformed character constant: {text}", token)
            return _Constant(at, ord(value), text)
        if kind == "(":
            return self.pipeline("parenthesized pipeline", ")")
        if kind in ("string", "raw"):
            try:
                return _Constant(at, _unquote(token), text)
            except ValueError:
                self.fail("invalid syntax", token)
        self.at -= 1
        return None

    def number(self, token: _Token) -> int | float:
        text = token.text
        try:
            return integer(text)
        except ValueError as error:
            if "out of range" in str(error):
                self.fail(f"integer overflow: {quote(text)}", token)
        try:
            if text[-1:] in "0123456789." and text.lstrip("+-")[:1] in tuple("0123456789."):
                return float(text.replace("_", ""))
        except ValueError:
            pass
        self.fail(f"bad number syntax: {quote(text)}", token)


_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}


def _unquote(token: _Token) -> str:
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


# --- functions ------------------------------------------------------------------------------------------------------


class _Bad(Exception):
    """A function refuses its arguments."""


def _need_string(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise _Bad(f"wrong type for value; expected string; got {type_name(value)}")


def _json(value: Any) -> str:
    import json

    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    """A value as JSON holds it: methods of a Struct are no data."""
    if value is MISSING:
        return None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if not callable(item)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def _join(values: Any, separator: Any) -> str:
    if isinstance(values, str) or not isinstance(values, (list, tuple, type(None))):
        raise _Bad(f"wrong type for value; expected []string; got {type_name(values)}")
    return _need_string(separator).join(_need_string(value) for value in values or ())


def _split(text: Any, separator: Any) -> list[str]:
    text, separator = _need_string(text), _need_string(separator)
    return text.split(separator) if separator else list(text)


def _title(text: Any) -> str:
    out = []
    inside = False
    for char in _need_string(text):
        out.append(char if inside else char.title())
        inside = char.isalnum() or char in "_'"
    return "".join(out)


def _pad(text: Any, before: Any, after: Any) -> str:
    text = _need_string(text)
    return " " * int(before) + text + " " * int(after) if text else text


def _truncate(text: Any, length: Any) -> str:
    text = _need_string(text)
    return text if len(text) < int(length) else text[: int(length)]


def _print(*values: Any) -> str:
    out = ""
    for at, value in enumerate(values):
        # fmt.Sprint puts a blank between two operands of which neither is a string.
        if at and not isinstance(value, str) and not isinstance(values[at - 1], str):
            out += " "
        out += show(value, top=False)
    return out


def _println(*values: Any) -> str:
    return " ".join(show(value, top=False) for value in values) + "\n"


def _printf(form: Any, *values: Any) -> str:
    """fmt.Sprintf."""
    form = _need_string(form)
    out = []
    at = 0
    used = 0
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
    if used < len(values):
        extra = ", ".join(f"{type_name(v)}={show(v, top=False)}" if v is not None else "<nil>" for v in values[used:])
        out.append(f"%!(EXTRA {extra})")
    return "".join(out)


def _formatted(verb: str, flags: str, width: int | None, precision: int | None, value: Any) -> str:
    if isinstance(value, (list, tuple)) and verb not in "vT" and not (verb in "xX" and isinstance(value, bytes)):
        body = "[" + " ".join(_formatted(verb, flags, width, precision, item) for item in value) + "]"
        return body
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
    if isinstance(value, bool):
        if verb in "tv":
            return show(value)
    elif isinstance(value, int):
        text = _integer_verb(verb, flags, precision, value)
        if text is not None:
            return text
    elif isinstance(value, float):
        text = _float_verb(verb, flags, precision, value)
        if text is not None:
            return text
    elif isinstance(value, str):
        if verb in "sv":
            return quote(value) if verb == "v" and "#" in flags else value[:precision]
        if verb == "q":
            value = value[:precision]
            return f"`{value}`" if "#" in flags and "`" not in value else quote(value)
        if verb in "xX":
            text = value[:precision].encode("utf-8", "surrogateescape").hex(*([" "] if " " in flags and value else []))
            return text.upper() if verb == "X" else text
    elif verb in "vs":
        return show(value)
    return f"%!{verb}({type_name(value)}={show(value, top=False)})"


def _signed(text: str, negative: bool, flags: str) -> str:
    return "-" + text if negative else "+" + text if "+" in flags else " " + text if " " in flags else text


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
        text = _float(abs(value))
    elif verb in "eEfFgG":
        text = format(abs(value), f".{6 if precision is None else precision}{verb}")
    else:
        return None
    return _signed(text, value < 0, flags)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if value is None or value is MISSING:
            raise _Bad("index of untyped nil")
        if isinstance(value, Struct):
            raise _Bad(f"can't index item of type {type_name(value)}")
        if isinstance(value, dict):
            if key not in value:
                return _zero(value)
            value = value[key]
        elif isinstance(value, (list, tuple, str)):
            if isinstance(key, bool) or not isinstance(key, int):
                raise _Bad(f"cannot index slice/array with type {type_name(key)}")
            if not 0 <= key < len(value):
                raise _Bad(f"index out of range: {key}")
            value = value.encode("utf-8", "surrogateescape")[key] if isinstance(value, str) else value[key]
        else:
            raise _Bad(f"can't index item of type {type_name(value)}")
    return value


def _zero(known: dict[Any, Any]) -> Any:
    """What Go's index gives for an unknown key: the zero value of the map's element type."""
    for value in known.values():
        if isinstance(value, bool):
            return False
        if isinstance(value, (int, float)):
            return 0
        if isinstance(value, (list, tuple, dict)):
            return type(value)()
    return ""


def _slice(value: Any, *bounds: Any) -> Any:
    if value is None or value is MISSING:
        raise _Bad("slice of untyped nil")
    if len(bounds) > 3:
        raise _Bad(f"too many slice indexes: {len(bounds)}")
    if not isinstance(value, (str, list, tuple)):
        raise _Bad(f"can't slice item of type {type_name(value)}")
    if isinstance(value, str) and len(bounds) == 3:
        raise _Bad("cannot 3-index slice a string")
    data: Any = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    for bound in bounds:
        if isinstance(bound, bool) or not isinstance(bound, int):
            raise _Bad(f"cannot index slice/array with type {type_name(bound)}")
        if not 0 <= bound <= len(data):
            raise _Bad(f"index out of range: {bound}")
    if len(bounds) > 1 and bounds[0] > bounds[1]:
        raise _Bad(f"invalid slice index: {bounds[0]} > {bounds[1]}")
    part = data[slice(*bounds[:2])] if len(bounds) > 1 else data[bounds[0] :] if bounds else data
    return part.decode("utf-8", "surrogateescape") if isinstance(value, str) else part


def _len(value: Any) -> int:
    if value is None or value is MISSING:
        raise _Bad("len of nil pointer")
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, (list, tuple, dict)) and not isinstance(value, Struct):
        return len(value)
    raise _Bad(f"len of type {type_name(value)}")


def _kind(value: Any) -> str:
    if value is None or value is MISSING:
        return "nil"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    return "string" if isinstance(value, str) else "other"


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise _Bad("missing argument for comparison")
    for other in others:
        one, two = _kind(first), _kind(other)
        if "other" in (one, two) and "nil" not in (one, two):
            raise _Bad(f"non-comparable type {show(first)}: {type_name(first)}")
        if one != two and "nil" not in (one, two):
            raise _Bad("incompatible types for comparison")
        if one == two and (first == other or one == "nil"):
            return True
    return False


def _lt(first: Any, second: Any) -> bool:
    one, two = _kind(first), _kind(second)
    if one != two:
        raise _Bad("incompatible types for comparison")
    if one not in ("int", "float", "string"):
        raise _Bad("invalid type for comparison")
    result: bool = first < second
    return result


def _le(first: Any, second: Any) -> bool:
    return _lt(first, second) or _eq(first, second)


def _text_of(values: tuple[Any, ...]) -> str:
    return values[0] if len(values) == 1 and isinstance(values[0], str) else _print(*values)


def _html(*values: Any) -> str:
    text = _text_of(values)
    for char, code in (("&", "&amp;"), ("'", "&#39;"), ('"', "&#34;"), ("<", "&lt;"), (">", "&gt;"), ("\0", "\ufffd")):
        text = text.replace(char, code)
    return text


def _js(*values: Any) -> str:
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


def _urlquery(*values: Any) -> str:
    safe = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")
    data = _text_of(values).encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if byte in safe else "+" if byte == 32 else f"%{byte:02X}" for byte in data)


def _call(function: Any, *values: Any) -> Any:
    if not callable(function):
        raise _Bad(f"non-function of type {type_name(function)}")
    return function(*values)


#: name → (function, least, most arguments; None for any number)
_FUNCTIONS: dict[str, tuple[Callable[..., Any], int, int | None]] = {
    "call": (_call, 1, None),
    "eq": (_eq, 1, None),
    "ge": (lambda one, two: not _lt(one, two), 2, 2),
    "gt": (lambda one, two: not _le(one, two), 2, 2),
    "html": (_html, 0, None),
    "index": (_index, 1, None),
    "join": (_join, 2, 2),
    "js": (_js, 0, None),
    "json": (_json, 1, 1),
    "le": (_le, 2, 2),
    "len": (_len, 1, 1),
    "lower": (lambda text: _need_string(text).lower(), 1, 1),
    "lt": (_lt, 2, 2),
    "ne": (lambda one, two: not _eq(one, two), 2, 2),
    "not": (lambda value: not truth(value), 1, 1),
    "pad": (_pad, 3, 3),
    "print": (_print, 0, None),
    "printf": (_printf, 1, None),
    "println": (_println, 0, None),
    "slice": (_slice, 1, None),
    "split": (_split, 2, 2),
    "title": (_title, 1, 1),
    "truncate": (_truncate, 2, 2),
    "upper": (lambda text: _need_string(text).upper(), 1, 1),
    "urlquery": (_urlquery, 0, None),
}


# --- execution ------------------------------------------------------------------------------------------------------

_NONE: Any = object()  # no value came down the pipeline


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class _Fault(Exception):
    """A mistake found while executing, at a node."""

    def __init__(self, message: str, node: _Node) -> None:
        super().__init__(message)
        self.message = message
        self.node = node


class _Run:
    __slots__ = ("depth", "out", "scope", "templates")

    def __init__(self, templates: dict[str, list[_Node]], data: Any) -> None:
        self.templates = templates
        self.out: list[str] = []
        self.scope: list[tuple[str, Any]] = [("$", data)]
        self.depth = 0

    def walk(self, nodes: list[_Node], dot: Any) -> None:
        for node in nodes:
            if isinstance(node, _Text):
                self.out.append(node.text)
            elif isinstance(node, _Action):
                value = self.pipeline(node.pipe, dot)
                if not node.pipe.names:
                    self.out.append(show(value))
            elif isinstance(node, _Branch):
                self.branch(node, dot)
            elif isinstance(node, _Call):
                self.call_template(node, dot)
            elif isinstance(node, _Jump):
                raise _Break if node.word == "break" else _Continue

    def branch(self, node: _Branch, dot: Any) -> None:
        known = len(self.scope)
        if node.word == "range":
            self.range(node, dot)
        else:
            value = self.pipeline(node.pipe, dot)
            if truth(value):
                self.walk(node.body, value if node.word == "with" else dot)
            else:
                self.walk(node.otherwise, dot)
        del self.scope[known:]

    def range(self, node: _Branch, dot: Any) -> None:
        names = node.pipe.names
        known = len(self.scope)
        value = self.pipeline(node.pipe, dot, declare=False)
        items: Iterable[tuple[Any, Any]]
        if value is None or value is MISSING:
            items = ()
        elif isinstance(value, Struct) or isinstance(value, (bool, str, float)):
            raise _Fault(f"range can't iterate over {show(value)}", node.pipe)
        elif isinstance(value, dict):
            items = [(key, value[key]) for key in _sorted(value)]
        elif isinstance(value, (list, tuple)):
            items = enumerate(value)
        elif isinstance(value, int):
            items = ((at, at) for at in range(value))
        else:
            raise _Fault(f"range can't iterate over {show(value)}", node.pipe)
        ran = False
        for key, item in items:
            ran = True
            del self.scope[known:]
            if len(names) == 1:
                self.bind(node.pipe, names[0], item)
            elif names:
                self.bind(node.pipe, names[0], key)
                self.bind(node.pipe, names[1], item)
            try:
                self.walk(node.body, item)
            except _Continue:
                continue
            except _Break:
                break
        del self.scope[known:]
        if not ran:
            self.walk(node.otherwise, dot)

    def bind(self, pipe: _Pipe, name: str, value: Any) -> None:
        if not pipe.assigns:
            self.scope.append((name, value))
            return
        for at in range(len(self.scope) - 1, -1, -1):
            if self.scope[at][0] == name:
                self.scope[at] = (name, value)
                return

    def call_template(self, node: _Call, dot: Any) -> None:
        body = self.templates.get(node.name)
        if body is None:
            raise _Fault(f"template {quote(node.name)} not defined", node)
        self.depth += 1
        if self.depth > _DEPTH:
            raise _Fault(f"exceeded maximum template depth ({_DEPTH})", node)
        value = self.pipeline(node.pipe, dot) if node.pipe else None
        scope, self.scope = self.scope, [("$", value)]
        self.walk(body, value)
        self.scope = scope
        self.depth -= 1

    def pipeline(self, pipe: _Pipe, dot: Any, *, declare: bool = True) -> Any:
        value: Any = _NONE
        for command in pipe.commands:
            value = self.command(command, dot, value)
        if declare:
            for name in pipe.names:
                self.bind(pipe, name, value)
        return value

    def command(self, command: _Command, dot: Any, final: Any) -> Any:
        first = command.words[0]
        rest = command.words[1:]
        if isinstance(first, _Field):
            return self.fields(dot, first, first.names, dot, rest, final)
        if isinstance(first, _Chain):
            return self.fields(self.value(first.node, dot), first, first.names, dot, rest, final)
        if isinstance(first, _Function):
            return self.function(first, command, dot, rest, final)
        if isinstance(first, _Variable):
            value = self.variable(first)
            if len(first.names) > 1:
                return self.fields(value, first, first.names[1:], dot, rest, final)
        elif isinstance(first, _Pipe):
            value = self.pipeline(first, dot)
        elif isinstance(first, _Dot):
            value = dot
        else:
            value = first.value if isinstance(first, _Constant) else None
            if value is None:
                raise _Fault("nil is not a command", first)
        if rest or final is not _NONE:
            raise _Fault(f"can't give argument to non-function {first}", first)
        return value

    def variable(self, node: _Variable) -> Any:
        name = node.names[0]
        for known, value in reversed(self.scope):
            if known == name:
                return value
        raise _Fault(f"undefined variable: {name}", node)

    def value(self, node: _Node, dot: Any) -> Any:
        """The value of an operand."""
        if isinstance(node, _Constant):
            return node.value
        if isinstance(node, _Dot):
            return dot
        if isinstance(node, _Field):
            return self.fields(dot, node, node.names, dot, (), _NONE)
        if isinstance(node, _Variable):
            value = self.variable(node)
            return self.fields(value, node, node.names[1:], dot, (), _NONE) if len(node.names) > 1 else value
        if isinstance(node, _Pipe):
            return self.pipeline(node, dot)
        if isinstance(node, _Chain):
            return self.fields(self.value(node.node, dot), node, node.names, dot, (), _NONE)
        assert isinstance(node, _Function)
        return self.function(node, node, dot, (), _NONE)

    def fields(
        self, value: Any, node: _Node, names: list[str], dot: Any, rest: Sequence[_Node], final: Any
    ) -> Any:
        for name in names[:-1]:
            value = self.field(value, name, node, (), has_args=False)
        args: tuple[Any, ...] = ()
        if rest or final is not _NONE:
            args = tuple(self.value(word, dot) for word in rest)
            if final is not _NONE:
                args += (final,)
        return self.field(value, names[-1], node, args, has_args=bool(args))

    def field(self, value: Any, name: str, node: _Node, args: tuple[Any, ...], *, has_args: bool) -> Any:
        if isinstance(value, dict):
            if name in value:
                found = value[name]
                if callable(found):
                    return self.method(found, name, node, args)
                if has_args:
                    raise _Fault(f"{name} has arguments but cannot be invoked as function", node)
                return found
            if not isinstance(value, Struct):
                if has_args:
                    raise _Fault(f"{name} is not a method but has arguments", node)
                return MISSING
        elif value is MISSING:
            raise _Fault(f"nil data; no entry for key {quote(name)}", node)
        elif value is None:
            raise _Fault(f"nil pointer evaluating interface {{}}.{name}", node)
        else:
            methods = getattr(value, "go_methods", None)
            if methods and name in methods:
                return self.method(getattr(value, methods[name]), name, node, args)
        raise _Fault(f"can't evaluate field {name} in type {type_name(value)}", node)

    def method(self, found: Callable[..., Any], name: str, node: _Node, args: tuple[Any, ...]) -> Any:
        code = getattr(found, "__code__", None)
        if code is not None:
            wanted = code.co_argcount - (1 if hasattr(found, "__self__") else 0)
            optional = len(found.__defaults__ or ())  # type: ignore[attr-defined]
            if not wanted - optional <= len(args) <= wanted:
                raise _Fault(f"wrong number of args for {name}: want {wanted - optional} got {len(args)}", node)
        try:
            return found(*args)
        except _Bad as error:
            raise _Fault(f"error calling {name}: {error}", node) from None

    def function(
        self, node: _Function, place: _Node, dot: Any, rest: Sequence[_Node], final: Any
    ) -> Any:
        name = node.name
        if name in ("and", "or"):
            return self.short_circuit(node, dot, rest, final)
        function, least, most = _FUNCTIONS[name]
        count = len(rest) + (final is not _NONE)
        if most is None and count < least:
            raise _Fault(f"wrong number of args for {name}: want at least {least} got {count}", node)
        if most is not None and count != most:
            raise _Fault(f"wrong number of args for {name}: want {most} got {count}", node)
        args = [self.value(word, dot) for word in rest]
        if final is not _NONE:
            args.append(final)
        try:
            return function(*args)
        except _Bad as error:
            text = str(error)
            if text.startswith("wrong type for value"):
                raise _Fault(text, rest[0] if rest else node) from None
            raise _Fault(f"error calling {name}: {text}", place) from None
        except (TypeError, ValueError, OverflowError) as error:
            raise _Fault(f"error calling {name}: {error}", place) from None

    def short_circuit(self, node: _Function, dot: Any, rest: Sequence[_Node], final: Any) -> Any:
        if not rest and final is _NONE:
            raise _Fault(f"wrong number of args for {node.name}: want at least 1 got 0", node)
        value: Any = _NONE
        for word in rest:
            value = self.value(word, dot)
            if truth(value) == (node.name == "or"):
                return value
        return value if final is _NONE else final


class Template:
    """A parsed template; `name` is what Podman calls it in messages: the command."""

    __slots__ = ("body", "name", "source", "templates")

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source
        self.templates: dict[str, list[_Node]] = {}
        try:
            self.body = _Parser(source, self.templates).parse()
        except _Failed as error:
            line = source.count("\n", 0, error.at) + 1
            raise TemplateError(f"template: {name}:{line}: {error.message}") from None

    def render(self, data: Any) -> str:
        run = _Run(self.templates, data)
        try:
            run.walk(self.body, data)
        except _Fault as error:
            at = error.node.at
            before = self.source[:at]
            line = before.count("\n") + 1
            column = len(before[before.rfind("\n") + 1 :].encode("utf-8", "surrogateescape"))
            raise TemplateError(
                f"template: {self.name}:{line}:{column}: executing {quote(self.name)} at <{error.node}>: {error.message}"
            ) from None
        return "".join(run.out)


def render(name: str, source: str, data: Any) -> str:
    """Parse and execute at once."""
    return Template(name, source).render(data)
