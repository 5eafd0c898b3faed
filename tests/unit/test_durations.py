"""Durations, held against what Go's time.ParseDuration (1.24) gives for the same text."""

from __future__ import annotations

import pytest

from rootless import durations

SECOND = durations.SECOND


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("-0", 0),
        ("0s", 0),
        ("5s", 5 * SECOND),
        ("+5s", 5 * SECOND),
        ("-5s", -5 * SECOND),
        ("1h2m3.5s", 3_723_500_000_000),
        ("1.5h", 5400 * SECOND),
        ("1m30s", 90 * SECOND),
        ("1s1s", 2 * SECOND),
        ("3ns", 3),
        ("1us", 1000),
        ("1\u00b5s", 1000),
        ("1\u03bcs", 1000),
        ("100ms", 10**8),
        (".5s", SECOND // 2),
        ("5.s", 5 * SECOND),
        ("1.9ns", 1),
        ("0.1h", 360 * SECOND),
        ("0.123456789s", 123_456_789),
        ("0.3333333333333333333h", 1200 * SECOND),
        ("1.0000000000000000000000001s", SECOND),
        ("9223372036854775807ns", (1 << 63) - 1),
        ("-9223372036854775808ns", -(1 << 63)),
    ],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert durations.parse(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 'invalid duration ""'),
        ("-", 'invalid duration "-"'),
        ("s", 'invalid duration "s"'),
        (".s", 'invalid duration ".s"'),
        ("+-5s", 'invalid duration "+-5s"'),
        (" 5s", 'invalid duration " 5s"'),
        ("\u0663s", 'invalid duration "\\xd9\\xa3s"'),
        ("1", 'missing unit in duration "1"'),
        ("1.2.3s", 'missing unit in duration "1.2.3s"'),
        ("1x", 'unknown unit "x" in duration "1x"'),
        ("1S", 'unknown unit "S" in duration "1S"'),
        ("5s ", 'unknown unit "s " in duration "5s "'),
        ('1"', 'unknown unit "\\"" in duration "1\\""'),
        ("9223372036854775808ns", 'invalid duration "9223372036854775808ns"'),
        ("-9223372036854775809ns", 'invalid duration "-9223372036854775809ns"'),
        ("2562048h", 'invalid duration "2562048h"'),
    ],
)
def test_what_is_none(text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        durations.parse(text)
    assert str(caught.value) == f"time: {words}"
