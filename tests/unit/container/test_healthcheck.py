"""What a container's check is, from the command line and the image."""

from __future__ import annotations

import pytest

from rootless.container.healthcheck import command_of, merge

SECOND = 1_000_000_000
DEFAULTS = {"Interval": 30 * SECOND, "Retries": 3, "Timeout": 30 * SECOND, "StartPeriod": 0}


def test_the_images_check_has_defaults_for_zero() -> None:
    image = {"Test": ["CMD", "true"], "Interval": 0, "Retries": 5}
    assert merge(None, image) == {**DEFAULTS, "Test": ["CMD", "true"], "Retries": 5}


def test_times_on_the_command_line_are_for_the_images_check() -> None:
    image = {"Test": ["CMD", "true"], "Interval": 5 * SECOND}
    found = merge({"Interval": 0, "Retries": 1}, image)
    assert found == {**DEFAULTS, "Test": ["CMD", "true"], "Interval": 0, "Retries": 1}


def test_a_command_replaces_the_images_check() -> None:
    image = {"Test": ["CMD", "true"], "Interval": 5 * SECOND}
    assert merge({"Test": ["CMD", "false"]}, image) == {**DEFAULTS, "Test": ["CMD", "false"]}


@pytest.mark.parametrize(
    ("asked", "image"),
    [
        (None, None),
        (None, {"Test": ["NONE"]}),
        (None, {"Test": []}),
        ({"Test": ["NONE"]}, {"Test": ["CMD", "true"]}),
        ({"Interval": 1}, None),
        (None, {"Test": ["CMD"]}),
    ],
)
def test_no_check(asked: dict[str, object] | None, image: dict[str, object] | None) -> None:
    assert merge(asked, image) is None


def test_commands() -> None:
    assert command_of(["CMD", "a", "b c"]) == ["a", "b c"]
    assert command_of(["CMD-SHELL", "a b", "c"]) == ["/bin/sh", "-c", "a b c"]
    assert command_of(["a", "b"]) == ["a", "b"]
