"""The values of templates: what stands for Go's structs and maps, and how fmt prints a value."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any


class Struct(dict):  # type: ignore[type-arg]
    """A dictionary with a fixed set of fields; `go_type` names it in messages."""

    __slots__ = ("go_type", "methods")

    def __init__(
        self,
        fields: Any = (),
        go_type: str = "struct",
        methods: dict[str, Callable[..., Any]] | None = None,
    ) -> None:
        super().__init__(fields)
        self.go_type = go_type
        #: What a template finds before the fields; JSON has the fields only.
        self.methods = methods or {}


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
        return float_text(value)
    if isinstance(value, Struct):
        return (
            "{"
            + " ".join(show(item, top=False) for item in value.values() if not callable(item))
            + "}"
        )
    if isinstance(value, dict):
        return (
            "map["
            + " ".join(f"{show(key)}:{show(value[key], top=False)}" for key in sorted_keys(value))
            + "]"
        )
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(show(item, top=False) for item in value) + "]"
    return str(value)


def sorted_keys(keys: Iterable[Any]) -> list[Any]:
    """In the order in which Go prints a map's."""
    return sorted(keys, key=lambda key: (str(type(key)), key))


def float_text(value: float) -> str:
    """%g with as few digits as tell the number from its neighbours."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    sign = "-" if str(value)[0] == "-" else ""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    power = (
        int(exponent or 0) + len(whole) - 1 - (len(whole + fraction) - len(digits)) if digits else 0
    )
    digits = digits.rstrip("0") or "0"
    if power < -4 or power >= 6:
        tail = "." + digits[1:] if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{tail}e{'-' if power < 0 else '+'}{abs(power):02d}"
    if power < 0:
        return f"{sign}0.{'0' * (-power - 1)}{digits}"
    digits = digits.ljust(power + 1, "0")
    return f"{sign}{digits[: power + 1]}" + (
        "." + digits[power + 1 :] if digits[power + 1 :] else ""
    )


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
