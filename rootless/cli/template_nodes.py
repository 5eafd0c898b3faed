"""What a template's text becomes: nodes, whose strings are what Go's messages show of them."""

from __future__ import annotations

from rootless.cli.parse import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


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
