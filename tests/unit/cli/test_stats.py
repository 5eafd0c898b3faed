"""Podman's forms of the numbers in `stats`."""

from __future__ import annotations

import pytest

from rootless.cli.gotime import go_duration


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (999, "999ns"),
        (1_500, "1.5µs"),
        (45_123_000, "45.123ms"),
        (1_000_000_000, "1s"),
        (2_500_000_000, "2.5s"),
        (62_000_000_001, "1m2.000000001s"),
        (60_000_000_000, "1m0s"),
        (3_600_000_000_000, "1h0m0s"),
        (90_061_500_000_000, "25h1m1.5s"),
    ],
)
def test_durations_are_gos(nanoseconds: int, text: str) -> None:
    assert go_duration(nanoseconds) == text
