"""From a template's text to nodes, with Go's words for what is wrong."""

from __future__ import annotations

from rootless.cli.parse import integer, quote
from rootless.cli.template_nodes import (
    Action,
    Branch,
    Call,
    Chain,
    Command,
    Constant,
    Dot,
    Field,
    Function,
    Jump,
    Node,
    Pipe,
    Text,
    Variable,
)
from rootless.cli.template_tokens import Failed, Token, tokens_of, unquote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from typing import NoReturn

#: Deeper than any honest template, and well within Python's own limit.
DEPTH = 100


class Parser:
    __slots__ = ("at", "depth", "functions", "loops", "names", "templates", "tokens")

    def __init__(
        self, source: str, templates: dict[str, list[Node]], functions: Container[str]
    ) -> None:
        self.functions = functions
        self.tokens = tokens_of(source)
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
        return unquote(token)

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
            value = unquote(token)
            if len(value) != 1:
                self.fail(f"malformed character constant: {text}", token)
            return Constant(at, ord(value), text)
        if kind == "(":
            return self.pipeline("parenthesized pipeline", ")")
        if kind in ("string", "raw"):
            try:
                return Constant(at, unquote(token), text)
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
