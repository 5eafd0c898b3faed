"""Go's times as templates show them."""

from __future__ import annotations

import pytest

from rootless.cli.gotime import Time


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-11-21T00:55:01.402367156Z", "2026-11-21 00:55:01.402367156 +0000 UTC"),
        ("2026-11-21T00:55:01.4Z", "2026-11-21 00:55:01.4 +0000 UTC"),
        ("0001-01-01T00:00:00Z", "0001-01-01 00:00:00 +0000 UTC"),
        ("2024-02-29T23:59:59+05:30", "2024-02-29 23:59:59 +0530 +0530"),
    ],
)
def test_shown_as_go_does(text: str, shown: str) -> None:
    assert str(Time(text)) == shown
    assert Time(text).go_json() == text


@pytest.mark.parametrize(
    ("layout", "shown"),
    [
        ("2006-01-02T15:04:05Z07:00", "2026-03-04T17:06:07Z"),
        ("Mon Jan _2 3:04PM 06", "Wed Mar  4 5:06PM 26"),
        ("15:04:05.000 -0700 MST", "17:06:07.089 +0000 UTC"),
        ("05.999999", "07.089"),
        ("Monday, 2 January", "Wednesday, 4 March"),
    ],
)
def test_format(layout: str, shown: str) -> None:
    assert Time("2026-03-04T17:06:07.089Z").format(layout) == shown
