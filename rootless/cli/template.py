"""Go's text/template, for --format.

The language is Go's (pkg.go.dev/text/template), with Podman's functions added (join, json, lower, pad, split, title,
truncate, upper) and Go's way of printing values and wording mistakes. Data are Python values: str, int, float, bool,
None, lists, and dictionaries, which come in two kinds: a `Struct` has fields, of which an unknown one is a mistake; any
other dictionary is a map, where an unknown key is `<no value>`. A callable in a dictionary is a method.

Hot commands import this for --format, so it needs no other module until a function asks for one.
"""

from __future__ import annotations

from rootless.cli.parse import quote
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
    Pipe,
    Text,
    Variable,
)
from rootless.cli.template_parse import DEPTH, Parser
from rootless.cli.template_tokens import Failed
from rootless.cli.template_values import (
    MISSING,
    Struct,
    show,
    sorted_keys,
    structs,
    truth,
    type_name,
)
from rootless.errors import Usage

__all__ = ["MISSING", "Struct", "Template", "TemplateError", "parse_user", "render", "structs"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from rootless.cli.template_nodes import Node


class TemplateError(Usage):
    """A template is wrong, or does not fit the data."""


class _Bad(Exception):
    """A function refuses its arguments."""


def _json(value: Any) -> str:
    from rootless import quickjson

    return quickjson.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    """A value as JSON holds it: methods of a Struct are no data."""
    if value is MISSING:
        return None
    if hasattr(value, "go_json"):
        return value.go_json()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if not callable(item)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return int(value)
    if value is None or isinstance(value, (str, int, float)):
        return value
    return value.go_json() if hasattr(value, "go_json") else str(value)


def _join(values: list[str], separator: str) -> str:
    return separator.join(values)


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


def _title(text: str) -> str:
    out = []
    inside = False
    for char in text:
        out.append(char if inside else char.title())
        inside = char.isalnum() or char == "_"
    return "".join(out)


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else text


def _truncate(text: str, length: int) -> str:
    return text if len(text) < length else text[:length]


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
            items = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
            if key < 0 or (key >= len(items) and isinstance(value, str)):
                raise _Bad(f"index out of range: {key}")
            if key >= len(items):
                raise _Bad("reflect: slice index out of range")
            value = items[key]
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
        raise _Bad("reflect: call of reflect.Value.Type on zero Value")
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
        if one != two and "nil" not in (one, two):
            raise _Bad("incompatible types for comparison")
        if one == "other":
            raise _Bad(f"non-comparable type {show(first)}: {type_name(first)}")
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


def _call(function: Any, *values: Any) -> Any:
    if function is None:
        raise _Bad("call of nil")
    if not callable(function):
        raise _Bad(f"non-function {show(function)} of type {type_name(function)}")
    return function(*values)


#: name → (function or its name in template_format, least arguments, most or None, types that Go checks)
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "and": (None, 1, None),
    "call": (_call, 1, None),
    "eq": (_eq, 1, None),
    "ge": (lambda one, two: not _lt(one, two), 2, 2),
    "gt": (lambda one, two: not _le(one, two), 2, 2),
    "html": ("go_html", 0, None),
    "index": (_index, 1, None),
    "join": (_join, 2, 2, ("[]string", "string")),
    "js": ("go_js", 0, None),
    "json": (_json, 1, 1),
    "le": (_le, 2, 2),
    "len": (_len, 1, 1),
    "lower": (str.lower, 1, 1, ("string",)),
    "lt": (_lt, 2, 2),
    "ne": (lambda one, two: not _eq(one, two), 2, 2),
    "not": (lambda value: not truth(value), 1, 1),
    "or": (None, 1, None),
    "pad": (_pad, 3, 3, ("string", "int", "int")),
    "print": ("go_print", 0, None),
    "printf": ("go_printf", 1, None, ("string",)),
    "println": ("go_println", 0, None),
    "slice": (_slice, 1, None),
    "split": (_split, 2, 2, ("string", "string")),
    "title": (_title, 1, 1, ("string",)),
    "truncate": (_truncate, 2, 2, ("string", "int")),
    "upper": (str.upper, 1, 1, ("string",)),
    "urlquery": ("go_urlquery", 0, None),
}


_NONE: Any = object()  # no value came down the pipeline


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class _Fault(Exception):
    """A mistake found while executing, at a node."""

    def __init__(self, message: str, node: Node) -> None:
        super().__init__(message)
        self.message = message
        self.node = node


class _Run:
    __slots__ = ("depth", "name", "out", "scope", "templates")

    def __init__(self, name: str, templates: dict[str, list[Node]], data: Any) -> None:
        self.name = name
        self.templates = templates
        self.out: list[str] = []
        self.scope: list[tuple[str, Any]] = [("$", data)]
        self.depth = 0

    def walk(self, nodes: list[Node], dot: Any) -> None:
        for node in nodes:
            if isinstance(node, Text):
                self.out.append(node.text)
            elif isinstance(node, Action):
                value = self.pipeline(node.pipe, dot)
                if not node.pipe.names:
                    self.out.append(show(value))
            elif isinstance(node, Branch):
                self.branch(node, dot)
            elif isinstance(node, Call):
                self.call_template(node, dot)
            elif isinstance(node, Jump):
                raise _Break if node.word == "break" else _Continue

    def branch(self, node: Branch, dot: Any) -> None:
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

    def range(self, node: Branch, dot: Any) -> None:
        names = node.pipe.names
        known = len(self.scope)
        value = self.pipeline(node.pipe, dot, declare=False)
        items: Iterable[tuple[Any, Any]]
        if value is None or value is MISSING:
            items = ()
        elif isinstance(value, (Struct, bool, str, float)):
            raise _Fault(f"range can't iterate over {show(value)}", node.pipe)
        elif isinstance(value, dict):
            items = [(key, value[key]) for key in sorted_keys(value)]
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

    def bind(self, pipe: Pipe, name: str, value: Any) -> None:
        if not pipe.assigns:
            self.scope.append((name, value))
            return
        for at in range(len(self.scope) - 1, -1, -1):
            if self.scope[at][0] == name:
                self.scope[at] = (name, value)
                return
        raise _Fault(f"undefined variable: {name}", pipe.commands[-1].words[-1])

    def call_template(self, node: Call, dot: Any) -> None:
        body = self.templates.get(node.name)
        if body is None:
            raise _Fault(f"template {quote(node.name)} not defined", node)
        self.depth += 1
        if self.depth > DEPTH:
            raise _Fault(f"exceeded maximum template depth ({DEPTH})", node)
        value = self.pipeline(node.pipe, dot) if node.pipe else MISSING
        scope, self.scope = self.scope, [("$", value)]
        name, self.name = self.name, node.name
        self.walk(body, value)
        self.scope, self.name = scope, name
        self.depth -= 1

    def pipeline(self, pipe: Pipe, dot: Any, *, declare: bool = True) -> Any:
        value: Any = _NONE
        for command in pipe.commands:
            value = self.command(command, dot, value)
        if declare:
            for name in pipe.names:
                self.bind(pipe, name, value)
        return value

    def command(self, command: Command, dot: Any, final: Any) -> Any:
        first = command.words[0]
        rest = command.words[1:]
        if isinstance(first, Field):
            return self.fields(dot, first, first.names, dot, rest, final)
        if isinstance(first, Chain):
            return self.fields(self.value(first.node, dot), first, first.names, dot, rest, final)
        if isinstance(first, Function):
            return self.function(first, command, dot, rest, final)
        if isinstance(first, Variable):
            value = self.variable(first)
            if len(first.names) > 1:
                return self.fields(value, first, first.names[1:], dot, rest, final)
        elif isinstance(first, Pipe):
            value = self.pipeline(first, dot)
        elif isinstance(first, Dot):
            value = dot
        else:
            assert isinstance(first, Constant)
            value = first.value
        if rest or final is not _NONE:
            raise _Fault(f"can't give argument to non-function {first}", first)
        if value is None and isinstance(first, Constant):
            raise _Fault("nil is not a command", first)
        return value

    def variable(self, node: Variable) -> Any:
        name = node.names[0]
        for known, value in reversed(self.scope):
            if known == name:
                return value
        raise _Fault(f"undefined variable: {name}", node)

    def value(self, node: Node, dot: Any) -> Any:
        """The value of an operand."""
        if isinstance(node, Constant):
            return node.value
        if isinstance(node, Dot):
            return dot
        if isinstance(node, Field):
            return self.fields(dot, node, node.names, dot, (), _NONE)
        if isinstance(node, Variable):
            value = self.variable(node)
            return (
                self.fields(value, node, node.names[1:], dot, (), _NONE)
                if len(node.names) > 1
                else value
            )
        if isinstance(node, Pipe):
            return self.pipeline(node, dot)
        if isinstance(node, Chain):
            return self.fields(self.value(node.node, dot), node, node.names, dot, (), _NONE)
        assert isinstance(node, Function)
        return self.function(node, node, dot, (), _NONE)

    def fields(
        self, value: Any, node: Node, names: list[str], dot: Any, rest: Sequence[Node], final: Any
    ) -> Any:
        for name in names[:-1]:
            value = self.field(value, name, node, (), has_args=False)
        args: tuple[Any, ...] = ()
        if rest or final is not _NONE:
            args = tuple(self.value(word, dot) for word in rest)
            if final is not _NONE:
                args += (final,)
        return self.field(value, names[-1], node, args, has_args=bool(args))

    def field(
        self, value: Any, name: str, node: Node, args: tuple[Any, ...], *, has_args: bool
    ) -> Any:
        if isinstance(value, dict):
            if isinstance(value, Struct) and name in value.methods:
                return self.method(value.methods[name], name, node, args)
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

    def method(
        self, found: Callable[..., Any], name: str, node: Node, args: tuple[Any, ...]
    ) -> Any:
        code = getattr(found, "__code__", None)
        if code is not None:
            wanted = code.co_argcount - (1 if hasattr(found, "__self__") else 0)
            optional = len(found.__defaults__ or ())
            if not wanted - optional <= len(args) <= wanted:
                raise _Fault(
                    f"wrong number of args for {name}: want {wanted - optional} got {len(args)}",
                    node,
                )
        try:
            return found(*args)
        except _Bad as error:
            raise _Fault(f"error calling {name}: {error}", node) from None

    def function(
        self, node: Function, place: Node, dot: Any, rest: Sequence[Node], final: Any
    ) -> Any:
        name = node.name
        if name in ("and", "or"):
            return self.short_circuit(node, dot, rest, final)
        function, least, most, *typed = _FUNCTIONS[name]
        count = len(rest) + (final is not _NONE)
        if most is None and count < least:
            raise _Fault(
                f"wrong number of args for {name}: want at least {least} got {count}", node
            )
        if most is not None and count != most:
            raise _Fault(f"wrong number of args for {name}: want {most} got {count}", node)
        args = [self.value(word, dot) for word in rest]
        if final is not _NONE:
            args.append(final)
        if isinstance(function, str):
            from rootless.cli import template_format

            function = getattr(template_format, function)
        if typed:
            for at, wanted in enumerate(typed[0]):
                _check_type(args[at], wanted, rest[at] if at < len(rest) else node)
        try:
            return function(*args)
        except _Bad as error:
            raise _Fault(f"error calling {name}: {error}", place) from None
        except (TypeError, ValueError, OverflowError) as error:
            raise _Fault(f"error calling {name}: {error}", place) from None

    def short_circuit(self, node: Function, dot: Any, rest: Sequence[Node], final: Any) -> Any:
        if not rest and final is _NONE:
            raise _Fault(f"wrong number of args for {node.name}: want at least 1 got 0", node)
        value: Any = _NONE
        for word in rest:
            value = self.value(word, dot)
            if truth(value) == (node.name == "or"):
                return value
        return value if final is _NONE else final


def _check_type(value: Any, wanted: str, node: Node) -> None:
    if wanted == "[]string":
        if value is None or (
            isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
        ):
            return
        if isinstance(node, Constant):
            raise _Fault(f"can't handle {node} for arg of type []string", node)
    elif type_name(value) == wanted:
        return
    elif isinstance(node, Constant):
        raise _Fault(f"expected {'integer' if wanted == 'int' else wanted}; found {node}", node)
    if value is None or value is MISSING:
        raise _Fault(f"invalid value; expected {wanted}", node)
    raise _Fault(f"wrong type for value; expected {wanted}; got {type_name(value)}", node)


class Template:
    """A parsed template; `name` is what Podman calls it in messages: the command."""

    __slots__ = ("body", "name", "source", "templates")

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source
        self.templates: dict[str, list[Node]] = {}
        try:
            self.body = Parser(source, self.templates, _FUNCTIONS).parse()
        except Failed as error:
            line = source.count("\n", 0, error.at) + 1
            raise TemplateError(f"template: {name}:{line}: {error.message}") from None

    def render(self, data: Any) -> str:
        run = _Run(self.name, self.templates, data)
        try:
            run.walk(self.body, data)
        except _Fault as error:
            at = error.node.at
            before = self.source[:at]
            line = before.count("\n") + 1
            column = len(before[before.rfind("\n") + 1 :].encode("utf-8", "surrogateescape"))
            raise TemplateError(
                f"template: {self.name}:{line}:{column}: executing {quote(run.name)} at <{error.node}>: {error.message}"
            ) from None
        return "".join(run.out)


def parse_user(name: str, form: str, around: tuple[str, str] = ("", "")) -> Template:
    """Parse what a user gave for --format.

    As Podman does it: the two letters \\n mean a line end, and a line end is added where there is none. A template
    that fails to parse this way, as `{{print "\\n"}}` does, is parsed once more as it was given.
    """
    before, after = around
    text = form.replace("\\t", "\t").replace("\\n", "\n")
    if not text.endswith("\n"):
        text += "\n"
    try:
        return Template(name, before + text + after)
    except TemplateError:
        return Template(name, before + form + after)


def render(name: str, form: str, data: Any) -> str:
    """What --format FORM prints for one object."""
    return parse_user(name, form).render(data)
