"""Signals by name and number, against Python's own table."""

from __future__ import annotations

import signal

import pytest

from rootless.errors import Usage
from rootless.linux import signals


def test_every_name_is_the_kernels() -> None:
    for one in signal.Signals:
        if one.name.startswith("SIGRT"):
            continue
        assert signals.parse(one.name) == signals.parse(one.name[3:].lower()) == one.value
        assert signals.parse(signals.name(one.value)) == one.value


@pytest.mark.parametrize(
    ("text", "number"),
    [("15", 15), ("RTMIN", 34), ("SIGRTMIN+3", 37), ("rtmax-1", 63), ("64", 64), ("37", 37), ("POLL", 29)],
)  # fmt: skip
def test_parse(text: str, number: int) -> None:
    assert signals.parse(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "foo", "SIG", "SIGSIG", "RTMIN+99", "RTMAX-31", "RTMIN-1", "RTMIN+", "+1", "TERM+1"],
)
def test_no_signal(text: str) -> None:
    with pytest.raises(Usage, match="^invalid signal: "):
        signals.parse(text)


@pytest.mark.parametrize("text", ["0", "65", "999"])
def test_no_number(text: str) -> None:
    with pytest.raises(Usage, match="^valid signals are 1 through 64$"):
        signals.parse(text)


def test_names_of_real_time_signals() -> None:
    """As Podman's inspect shows them."""
    assert signals.name(34) == "SIGRTMIN" and signals.name(37) == "SIGRTMIN+3"
    assert signals.name(64) == "SIGRTMAX" and signals.name(63) == "SIGRTMAX-1"
    assert signals.name(32) == "32"
    for number in range(34, 65):
        assert signals.parse(signals.name(number)) == number
