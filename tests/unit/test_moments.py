"""Moments as users write them for --since, --until and filters."""

from __future__ import annotations

import time

import pytest

from rootless.moments import moment_ns

NOW = 1_795_000_000 * 10**9


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("10m", NOW - 600 * 10**9),
        ("1h30m", NOW - 5400 * 10**9),
        ("1.5s", NOW - 1_500_000_000),
        ("-5m", NOW + 300 * 10**9),
        ("0s", NOW),
        ("0", 0),
        ("1795000000", NOW),
        ("1795000000.25", NOW + 250_000_000),
        ("2026-11-18T10:26:40Z", 1_794_997_600 * 10**9),
        ("2026-11-18T10:26:40.5Z", 1_794_997_600 * 10**9 + 500_000_000),
        ("2026-11-18T12:26:40+02:00", 1_794_997_600 * 10**9),
        ("2026-11-18T10:26:40.123456789-00:00", 1_794_997_600 * 10**9 + 123_456_789),
    ],
)
def test_moments(text: str, moment: int) -> None:
    assert moment_ns(text, NOW) == moment


def test_ahead() -> None:
    assert moment_ns("10m", NOW, future=True) == NOW + 600 * 10**9


@pytest.mark.parametrize(
    ("zone", "second"), [("UTC", 1_769_817_600), ("Europe/Berlin", 1_769_814_000)]
)
def test_no_zone_means_local_time(zone: str, second: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for text in ("2026-01-31", "2026-01-31T00:00", "2026-01-31T00:00:00"):
            assert moment_ns(text) == second * 10**9
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text", ["", "x", "1x", "m", "--5m", "12.", "1٣", "2026-13-01", "2026-01-31T25:00"]
)
def test_nonsense(text: str) -> None:
    with pytest.raises(ValueError):
        moment_ns(text)
