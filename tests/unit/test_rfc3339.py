"""Times as the specifications write them."""

from __future__ import annotations

import pytest

from rootless.rfc3339 import parse


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("1970-01-01T00:00:00Z", (0, 0, 0)),
        ("1969-12-31T23:59:59z", (-1, 0, 0)),
        ("2024-02-29T23:59:59.5-01:00", (1709254799, 500_000_000, -3600)),
        ("2024-02-29T23:59:59.1234567899+05:30", (1709231399, 123_456_789, 19800)),
        ("0001-01-01T00:00:00Z", (-62135596800, 0, 0)),
    ],
)
def test_times(text: str, parsed: tuple[int, int, int]) -> None:
    assert parse(text) == parsed


@pytest.mark.parametrize("text", ["", "today", "2024-02-29", "2024-02-29T12:00:00", "2024-02-29T12Z", "T::Z"])  # fmt: skip
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)
