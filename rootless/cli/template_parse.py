"""From a template's text to nodes, with Go's words for what is wrong."""

from __future__ import annotations

from rootless.cli.parse import integer, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from typing import Any, NoReturn

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
#: Deeper than any honest template, and well within Python's own limit.
DEPTH = 100


class Node:
    __slots__ = ("at",)
    at: int


class Text(Node):
    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Action(Node):
    __slots__ = ("pipe",)

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe


class Branch(Node):
    """if, with, range."""

    __slots__ = ("body", "otherwise", "pipe", "word")

    def __init__(self, word: str, pipe: Pipe, body: list[Node], otherwise: list[Node]) -> None:
        self.word = word
        self.pipe = pipe
        self.body = body
        self.otherwise = otherwise


class Call(Node):
    """template NAME PIPELINE."""

    __slots__ = ("name", "pipe")

    def __init__(self, at: int, name: str, pipe: Pipe | None) -> None:
        self.at = at
        self.name = name
        self.pipe = pipe

    def __str__(self) -> str:
        return "{{template " + quote(self.name) + (f" {self.pipe}" if self.pipe else "") + "}}"


class Jump(Node):
    """break, continue."""

    __slots__ = ("word",)

    def __init__(self, word: str) -> None:
        self.word = word


class Pipe(Node):
    __slots__ = ("assigns", "commands", "names")

    def __init__(self, at: int) -> None:
        self.at = at
        self.names: list[str] = []
        self.assigns = False
        self.commands: list[Command] = []

    def __str__(self) -> str:
        text = " | ".join(str(command) for command in self.commands)
        return (
            f"{', '.join(self.names)} {'=' if self.assigns else ':='} {text}"
            if self.names
            else text
        )


class Command(Node):
    __slots__ = ("words",)

    def __init__(self, at: int) -> None:
        self.at = at
        self.words: list[Node] = []

    def __str__(self) -> str:
        return " ".join(f"({word})" if isinstance(word, Pipe) else str(word) for word in self.words)


class Dot(Node):
    __slots__ = ()

    def __init__(self, at: int) -> None:
        self.at = at

    def __str__(self) -> str:
        return "."


class Constant(Node):
    __slots__ = ("text", "value")

    def __init__(self, at: int, value: Any, text: str) -> None:
        self.at = at
        self.value = value
        self.text = text

    def __str__(self) -> str:
        return self.text


class Field(Node):
    __slots__ = ("names",)

    def __init__(self, at: int, names: list[str]) -> None:
        self.at = at
        self.names = names

    def __str__(self) -> str:
        return "." + ".".join(self.names)


class Variable(Node):
    """$name, with fields after it."""

    __slots__ = ("names",)

    def __init__(self, at: int, names: list[str]) -> None:
        self.at = at
        self.names = names

    def __str__(self) -> str:
        return ".".join(self.names)


class Chain(Node):
    """(pipeline).Field."""

    __slots__ = ("names", "node")

    def __init__(self, at: int, node: Node, names: list[str]) -> None:
        self.at = at
        self.node = node
        self.names = names

    def __str__(self) -> str:
        inner = f"({self.node})" if isinstance(self.node, Pipe) else str(self.node)
        return inner + "." + ".".join(self.names)


class Function(Node):
    __slots__ = ("name",)

    def __init__(self, at: int, name: str) -> None:
        self.at = at
        self.name = name

    def __str__(self) -> str:
        return self.name


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


def _tokens(source: str) -> list[Token]:
    """The whole source as tokens. A mistake is the last token, as the parser may find an earlier one."""
    out: list[Token] = []
    at = 0
    end = len(source)
    while at < end:
        start = source.find("{{", at)
        if start < 0:
            out.append(Token("text", source[at:], at))
            at = end
            break
        text = source[at:start]
        inside = start + 2
        # "{{- " trims the text before: the minus must be followed by a blank.
        trims = source[inside : inside + 1] == "-" and source[inside + 1 : inside + 2] in tuple(
            _BLANKS
        )
        if trims:
            text = text.rstrip(_BLANKS)
            inside += 2
        if text:
            out.append(Token("text", text, at))
        if source.startswith("/*", inside):
            stop = source.find("*/", inside + 2)
            if stop < 0:
                out.append(Token("error", "unclosed comment", start))
                return out
            at = stop + 2
            trim_after = source[at : at + 1] in tuple(_BLANKS) and source.startswith("-}}", at + 1)
            if trim_after:
                at += 2
            if not source.startswith("}}", at):
                out.append(Token("error", "comment ends before closing delimiter", start))
                return out
            at += 2
            if trim_after:
                while at < end and source[at] in _BLANKS:
                    at += 1
            continue
        out.append(Token("open", "{{", start))
        at = _inside_action(source, inside, out)
        if out[-1].kind == "error":
            return out
    out.append(Token("end", "", end))
    return out


def _inside_action(source: str, at: int, out: list[Token]) -> int:
    """Tokens up to and including the closing braces; returns where text goes on."""
    end = len(source)
    depth = 0

    def fail(message: str) -> int:
        out.append(Token("error", message, at))
        return end

    while True:
        if source.startswith("}}", at) or (
            source[at : at + 1] in tuple(_BLANKS) and source.startswith("-}}", at + 1)
        ):
            if depth:
                return fail("unclosed left paren")
            trims = source[at] != "}"
            at += 2 if trims else 0
            out.append(Token("close", "}}", at))
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
                out.append(Token("space", source[start:at], start))
            continue
        if char == "=":
            out.append(Token("assign", char, at))
            at += 1
        elif source.startswith(":=", at):
            out.append(Token("declare", ":=", at))
            at += 2
        elif char == ":":
            return fail("expected :=")
        elif char == "|":
            out.append(Token("pipe", char, at))
            at += 1
        elif char == '"':
            at += 1
            while at < end and source[at] not in '"\n':
                at += 2 if source[at] == "\\" else 1
            if at >= end or source[at] == "\n":
                return fail("unterminated quoted string")
            at += 1
            out.append(Token("string", source[start:at], start))
        elif char == "`":
            stop = source.find("`", at + 1)
            if stop < 0:
                return fail("unterminated raw quoted string")
            at = stop + 1
            out.append(Token("raw", source[start:at], start))
        elif char == "'":
            at += 1
            while at < end and source[at] not in "'\n":
                at += 2 if source[at] == "\\" else 1
            if at >= end or source[at] == "\n":
                return fail("unterminated character constant")
            at += 1
            out.append(Token("char", source[start:at], start))
        elif char == "$" or (char == "." and not source[at + 1 : at + 2].isdigit()):
            at += 1
            while at < end and _is_alphanumeric(source[at]):
                at += 1
            if at < end and not _ends_word(source, at):
                return fail(f"bad character U+{ord(source[at]):04X} {_shown_char(source[at])}")
            word = source[start:at]
            out.append(
                Token("dot" if word == "." else "variable" if char == "$" else "field", word, start)
            )
        elif char in "+-." or char.isdigit():
            at, good = _scan_number(source, at)
            if not good:
                return fail(f"bad number syntax: {quote(source[start:at])}")
            out.append(Token("number", source[start:at], start))
        elif _is_alphanumeric(char):
            while at < end and _is_alphanumeric(source[at]):
                at += 1
            if at < end and not _ends_word(source, at):
                return fail(f"bad character U+{ord(source[at]):04X} {_shown_char(source[at])}")
            word = source[start:at]
            kind = (
                "keyword" if word in _KEYWORDS else "bool" if word in ("true", "false") else "word"
            )
            out.append(Token(kind, word, start))
        elif char == "(":
            depth += 1
            out.append(Token("(", char, at))
            at += 1
        elif char == ")":
            depth -= 1
            if depth < 0:
                return fail("unexpected right paren")
            out.append(Token(")", char, at))
            at += 1
        elif " " < char <= "~":
            out.append(Token("symbol", char, at))
            at += 1
        else:
            return fail(
                f"unrecognized character in action: U+{ord(char):04X} {_shown_char(char)}".rstrip()
            )


def _scan_number(source: str, at: int) -> tuple[int, bool]:
    """Where a number ends, and whether it may end there. Its value is for the parser to judge."""
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
        return at + 1, False
    return at, True


def _shown_char(char: str) -> str:
    return f"'{char}'" if char.isprintable() else ""


def _ends_word(source: str, at: int) -> bool:
    return source[at] in ".,|:()=" + _BLANKS or source.startswith("}}", at)


class Parser:
    __slots__ = ("at", "depth", "functions", "loops", "names", "templates", "tokens")

    def __init__(
        self, source: str, templates: dict[str, list[Node]], functions: Container[str]
    ) -> None:
        self.functions = functions
        self.tokens = _tokens(source)
        self.at = 0
        self.names = ["$"]
        self.loops = 0
        self.depth = 0
        self.templates = templates

    # tokens
    def next(self) -> Token:
        # The last token, an end or a mistake, is met again and again.
        token = self.tokens[min(self.at, len(self.tokens) - 1)]
        self.at += 1
        return token

    def back(self) -> None:
        self.at -= 1

    def peek(self) -> Token:
        return self.tokens[min(self.at, len(self.tokens) - 1)]

    def next_word(self) -> Token:
        token = self.next()
        while token.kind == "space":
            token = self.next()
        return token

    def peek_word(self) -> Token:
        while self.peek().kind == "space":
            self.at += 1
        return self.peek()

    def fail(self, message: str, token: Token | None = None) -> NoReturn:
        raise Failed(message, (token or self.tokens[min(self.at, len(self.tokens)) - 1]).at)

    def unexpected(self, token: Token, context: str) -> NoReturn:
        if token.kind == "error":
            raise Failed(token.text, token.at)
        raise Failed(f"unexpected {token} in {context}", token.at)

    def expect(self, kind: str, context: str) -> Token:
        token = self.next_word()
        if token.kind != kind:
            self.unexpected(token, context)
        return token

    # statements
    def parse(self) -> list[Node]:
        nodes: list[Node] = []
        while self.peek().kind != "end":
            node = self.text_or_action(nodes)
            if isinstance(node, Token):
                raise Failed(f"unexpected {{{{{node.text}}}}}", node.at)
        return nodes

    def text_or_action(self, nodes: list[Node]) -> Token | None:
        """Parse one item into `nodes`; returns the token where it is `else` or `end`."""
        token = self.next()
        if token.kind == "text":
            nodes.append(Text(token.text))
            return None
        if token.kind != "open":
            self.unexpected(token, "input")
        token = self.next_word()
        if token.kind != "keyword" or token.text == "nil":
            self.back()
            pipe = self.pipeline("command", "close")
            nodes.append(Action(pipe))
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
                raise Failed("{{" + word + "}} outside {{range}}", token.at)
            nodes.append(Jump(word))
        elif word == "define":
            self.define()
        elif word == "template":
            name_token = self.next_word()
            name = self.template_name(name_token, "template clause")
            pipe_or_none = None
            if self.peek_word().kind != "close":
                pipe_or_none = self.pipeline("template clause", "close")
            else:
                self.next()
            nodes.append(Call(name_token.at, name, pipe_or_none))
        else:
            name = self.template_name(self.next_word(), "block clause")
            pipe = self.pipeline("block clause", "close")
            self.templates[name] = self.apart("block clause")
            nodes.append(Call(token.at, name, pipe))
        return None

    def template_name(self, token: Token, context: str) -> str:
        if token.kind not in ("string", "raw"):
            self.unexpected(token, context)
        return _unquote(token)

    def define(self) -> None:
        name = self.template_name(self.next_word(), "define clause")
        self.expect("close", "define clause")
        self.templates[name] = self.apart("define clause")

    def apart(self, context: str) -> list[Node]:
        """A body with variables of its own, up to {{end}}."""
        names, self.names = self.names, ["$"]
        loops, self.loops = self.loops, 0
        body, stop = self.list(context)
        if stop.text == "else":
            raise Failed(f"unexpected {{{{else}}}} in {context}", stop.at)
        self.names = names
        self.loops = loops
        return body

    def list(self, context: str) -> tuple[list[Node], Token]:
        self.depth += 1
        if self.depth > DEPTH:
            self.fail("template is nested too deeply")
        nodes: list[Node] = []
        while self.peek().kind != "end":
            stop = self.text_or_action(nodes)
            if stop is not None:
                self.depth -= 1
                return nodes, stop
        raise Failed("unexpected EOF", self.peek().at)

    def branch(self, word: str) -> Branch:
        known = len(self.names)
        pipe = self.pipeline(word, "close")
        if word == "range":
            self.loops += 1
        body, stop = self.list(word)
        if word == "range":
            self.loops -= 1
        otherwise: list[Node] = []
        if stop.text == "else":
            after = self.peek_word()
            if after.kind == "keyword" and after.text == word and word in ("if", "with"):
                self.next()
                otherwise = [self.branch(word)]
            else:
                self.expect("close", "else")
                otherwise, stop = self.list(word)
                if stop.text != "end":
                    raise Failed(f"expected end; found {{{{{stop.text}}}}}", stop.at)
        del self.names[known:]
        return Branch(word, pipe, body, otherwise)

    # expressions
    def pipeline(self, context: str, end: str) -> Pipe:
        self.depth += 1
        if self.depth > DEPTH:
            self.fail("template is nested too deeply")
        pipe = Pipe(self.peek_word().at)
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
            if token.kind in (
                "bool",
                "char",
                "dot",
                "field",
                "word",
                "number",
                "string",
                "raw",
                "variable",
                "(",
            ) or (token.kind == "keyword" and token.text == "nil"):
                self.back()
                pipe.commands.append(self.command())
            else:
                self.unexpected(token, context)
        if not pipe.commands:
            self.fail(f"missing value for {context}")
        for number, command in enumerate(pipe.commands[1:], 2):
            if isinstance(command.words[0], (Constant, Dot)):
                self.fail(f"non executable command in pipeline stage {number}")
        self.depth -= 1
        return pipe

    def command(self) -> Command:
        command = Command(self.peek_word().at)
        while True:
            self.peek_word()
            operand = self.operand()
            if operand is not None:
                command.words.append(operand)
            token = self.next()
            if token.kind == "space":
                continue
            if token.kind in ("close", ")"):
                self.back()
            elif token.kind != "pipe":
                self.unexpected(token, "operand")
            break
        if not command.words:
            self.fail("empty command")
        return command

    def operand(self) -> Node | None:
        node = self.term()
        if node is None or self.peek().kind != "field":
            return node
        at = self.peek().at
        names = []
        while self.peek().kind == "field":
            names.append(self.next().text[1:])
        if isinstance(node, Field):
            return Field(at, node.names + names)
        if isinstance(node, Variable):
            return Variable(at, node.names + names)
        if isinstance(node, (Constant, Dot)):
            self.fail(f"unexpected . after term {quote(str(node))}")
        return Chain(at, node, names)

    def term(self) -> Node | None:
        token = self.next_word()
        kind, text, at = token.kind, token.text, token.at
        if kind == "word":
            if text not in self.functions:
                self.fail(f"function {quote(text)} not defined", token)
            return Function(at, text)
        if kind == "dot":
            return Dot(at)
        if kind == "keyword" and text == "nil":
            return Constant(at, None, text)
        if kind == "variable":
            if text not in self.names:
                self.fail(f"undefined variable {quote(text)}", token)
            return Variable(at, [text])
        if kind == "field":
            return Field(at, [text[1:]])
        if kind == "bool":
            return Constant(at, text == "true", text)
        if kind == "number":
            return Constant(at, self.number(token), text)
        if kind == "char":
            value = _unquote(token)
            if len(value) != 1:
                self.fail(f"malformed character constant: {text}", token)
            return Constant(at, ord(value), text)
        if kind == "(":
            return self.pipeline("parenthesized pipeline", ")")
        if kind in ("string", "raw"):
            try:
                return Constant(at, _unquote(token), text)
            except ValueError:
                self.fail("invalid syntax", token)
        self.back()
        return None

    def number(self, token: Token) -> int | float:
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
        raise Failed(f"illegal number syntax: {quote(text)}", token.at)


_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}


def _unquote(token: Token) -> str:
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
