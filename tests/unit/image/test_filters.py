"""Moments in filters."""

from __future__ import annotations

import pytest

from rootless.errors import RootlessError
from rootless.image.filters import until

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1600000000", 1_600_000_000.0),
        ("10m", NOW - 600),
        ("1h30m", NOW - 5400),
        ("1.5h", NOW - 5400),
        ("90s500ms", NOW - 90.5),
        ("2023-01-02T00:00:00Z", 1_672_617_600.0),
        ("2023-01-02T02:00:00+02:00", 1_672_617_600.0),
    ],
)
def test_until(text: str, moment: float) -> None:
    assert until(text, NOW) == pytest.approx(moment)


@pytest.mark.parametrize("text", ["", "soon", "10", "h", "1x"])
def test_what_is_no_time(text: str) -> None:
    if text == "10":
        assert until(text, NOW) == 10.0
        return
    with pytest.raises(RootlessError, match="unable to parse"):
        until(text, NOW)
