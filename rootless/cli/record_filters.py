"""`--filter` of volumes and networks: what their two lists of filters share."""

from __future__ import annotations

from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Record = dict[str, Any]
    Test = Callable[[Record], bool]


def combined(
    words: Iterable[str],
    labels: Callable[[Record], dict[str, str]],
    test_of: Callable[[str, str], Test],
) -> Test:
    """Whether a record fits: values of one key are alternatives, of labels all, and keys are conditions.

    `labels` takes a record's labels, `test_of` makes the test of any other key from it and its value.
    """
    tests: dict[str, list[Test]] = {}
    every: list[Test] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise Usage(f"filter input must be in the form of filter=value: {word} is invalid")
        if key == "label":
            every.append(lambda record, wanted=value: has(labels(record), wanted))  # type: ignore[misc]
        elif key == "label!":
            every.append(lambda record, wanted=value: not has(labels(record), wanted))  # type: ignore[misc]
        else:
            tests.setdefault(key, []).append(test_of(key, value))
    return lambda record: (
        all(test(record) for test in every)
        and all(any(test(record) for test in some) for some in tests.values())
    )


def has(pairs: dict[str, str], word: str) -> bool:
    """Whether there is a pair like `key` or `key=value`."""
    key, equals, value = word.partition("=")
    return key in pairs and (not equals or pairs[key] == value)


def matching(pattern: str) -> Callable[[str], bool]:
    """Whether a text fits a regular expression."""
    import re

    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise Usage(f"invalid regular expression {pattern}: {error}") from None
    return lambda text: compiled.search(text) is not None


def yes_or_no(value: str, wrong: str) -> bool:
    """Read a truth; raises Usage with `wrong`."""
    if value.lower() not in ("true", "1", "false", "0"):
        raise Usage(wrong)
    return value.lower() in ("true", "1")


def until_ns(text: str) -> int:
    """A moment in nanoseconds since 1970: a duration before now, seconds since then, or a date and time."""
    from rootless.moments import moment_ns

    try:
        return moment_ns(text)
    except ValueError:
        raise Usage(f'unable to parse "{text}" as a time or duration') from None
