"""Checks of a parsed JSON document: each is a function that takes a value and tells, by Invalid, what is wrong with it.

Small ones are put together to one of a whole document (oci/runtime.py), which names the field that breaks a rule. They
run on the path of every start: plain functions over plain dicts.
"""

from __future__ import annotations

from rootless import quickjson as json
from rootless.oci.document import BadDocument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Check = Callable[[Any], None]


class Invalid(Exception):
    """A broken rule on its way up; each level puts its own key before the path."""

    def __init__(self, reason: str, *path: str | int) -> None:
        self.reason = reason
        self.path = list(path)


def parsed(data: bytes, check: Check, what: str) -> Any:
    """A JSON document that has passed its check; `what` names it in errors.

    :raises BadDocument: which names the field and what is wrong with it
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadDocument(f"{what}: not valid JSON: {error}") from None
    run(check, document, what)
    return document


def run(check: Check, document: Any, what: str) -> None:
    """Raise BadDocument, with the path of the field, where a document does not pass."""
    try:
        check(document)
    except Invalid as error:
        path = ""
        for key in error.path:
            path += f"[{key}]" if isinstance(key, int) else f".{key}" if path else key
        raise BadDocument(": ".join(filter(None, (what, path, error.reason)))) from None


def _kind(value: Any) -> str:
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        type(None): "null",
    }
    return names.get(type(value), "a number")


def string(value: Any) -> None:
    """A string that a system call can be given."""
    if not isinstance(value, str):
        raise Invalid(f"must be a string, not {_kind(value)}")
    if "\0" in value:
        raise Invalid("contains a null byte, which the kernel cannot be given")


def boolean(value: Any) -> None:
    """true or false."""
    if not isinstance(value, bool):
        raise Invalid(f"must be a boolean, not {_kind(value)}")


def absolute(value: Any) -> None:
    """A path from the root on."""
    string(value)
    if not value.startswith("/"):
        raise Invalid(f'"{value}" is not an absolute path')


def absolute_or_empty(value: Any) -> None:
    """The same, or nothing."""
    if value != "":
        absolute(value)


def not_empty(value: Any) -> None:
    """A string with something in it."""
    string(value)
    if not value:
        raise Invalid("is empty")


def integer(low: int, high: int) -> Check:
    """A whole number within these bounds."""

    def check(value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise Invalid(f"must be an integer, not {_kind(value)}")
        if not low <= value <= high:
            raise Invalid(f"{value} is not between {low} and {high}")

    return check


def one_of(thing: str, words: Sequence[str], prefix: str = "") -> Check:
    """One of the words, each behind the prefix; `thing` says what they are."""
    allowed = frozenset(prefix + word for word in words)

    def check(value: Any) -> None:
        string(value)
        if value not in allowed:
            raise Invalid(f'unknown {thing} "{value}"')

    return check


def array(item: Check, *, unique: str = "") -> Check:
    """An array of `item`; with `unique`, no two of its objects agree in that field."""

    def check(value: Any) -> None:
        if not isinstance(value, list):
            raise Invalid(f"must be an array, not {_kind(value)}")
        for index, entry in enumerate(value):
            try:
                item(entry)
            except Invalid as error:
                error.path.insert(0, index)
                raise
        if unique:
            seen = set()
            for index, entry in enumerate(value):
                if entry[unique] in seen:
                    raise Invalid(f'"{entry[unique]}" occurs twice', index, unique)
                seen.add(entry[unique])

    return check


def strings(value: Any) -> None:
    """An array of strings."""
    # The long ones are seccomp's lists of names: one pass, and the slow way only to say what is wrong.
    if isinstance(value, list):
        for entry in value:
            if type(entry) is not str or "\0" in entry:
                break
        else:
            return
    _slow_strings(value)


def mapping_of(item: Check) -> Check:
    """An object whose keys are the document's own, with values of one kind."""

    def check(value: Any) -> None:
        if not isinstance(value, dict):
            raise Invalid(f"must be an object, not {_kind(value)}")
        for key, entry in value.items():
            if not key:
                raise Invalid("has an empty key")
            try:
                item(entry)
            except Invalid as error:
                error.path.insert(0, key)
                raise

    return check


def record(fields: dict[str, Check], *required: str) -> Check:
    """An object whose known fields are checked; null stands for a field that is not there, as in Go."""

    def check(value: Any) -> None:
        if not isinstance(value, dict):
            raise Invalid(f"must be an object, not {_kind(value)}")
        for key in required:
            if value.get(key) is None:
                raise Invalid("is missing", key)
        for key, entry in value.items():
            if entry is not None and key in fields:
                try:
                    fields[key](entry)
                except Invalid as error:
                    error.path.insert(0, key)
                    raise

    return check


def every(*checks: Check) -> Check:
    """A value that passes all of these, one after the other."""

    def check(value: Any) -> None:
        for one in checks:
            one(value)

    return check


def never(reason: str) -> Check:
    """A field that must not be set to anything, and why."""

    def check(value: Any) -> None:
        if value:
            raise Invalid(reason)

    return check


_slow_strings = array(string)
int32 = integer(-(2**31), 2**31 - 1)
int64 = integer(-(2**63), 2**63 - 1)
uint16 = integer(0, 2**16 - 1)
uint32 = integer(0, 2**32 - 1)
uint64 = integer(0, 2**64 - 1)
texts = mapping_of(string)
