"""Tables, times and sizes as Podman words them, and untrusted text on a terminal."""

from __future__ import annotations

import os
import pty

import pytest

from rootless.cli import output


def test_columns_are_tabwriter_s() -> None:
    rows = [["ID", "NAMES", "LAST"], ["1", "a-name-of-some-length", "x"], ["22", "b", ""]]
    assert output.table(rows) == (
        "ID          NAMES                  LAST\n"
        "1           a-name-of-some-length  x\n"
        "22          b                      \n"
    )


def test_columns_of_lines_with_fewer_cells() -> None:
    # A column is a block of consecutive lines that have it.
    assert output.columns("a\tb\nlong enough to be wide\nc\td\n") == (
        "a           b\nlong enough to be wide\nc           d\n"
    )
    assert output.columns("") == ""
    assert output.columns("a\t\tb\n") == "a                       b\n"


def test_a_cell_stays_on_its_line() -> None:
    assert output.table([["a\nb", "c\td"]]) == "a\\nb        c\\td\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (5399, "About an hour"),
        (5400, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (13 * 86400, "13 days"),
        (14 * 86400, "2 weeks"),
        (59 * 86400, "8 weeks"),
        (60 * 86400, "2 months"),
        (729 * 86400, "24 months"),
        (730 * 86400, "2 years"),
        (-5, "Less than a second"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert output.human_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (1024, "1.024kB"),
        (1997895, "1.998MB"),
        (2238769, "2.239MB"),
        (5 * 10**9, "5GB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert output.human_size(size) == text


def test_binary_sizes() -> None:
    assert output.binary_size(1 << 20) == "1MiB"
    assert output.binary_size(1536) == "1.5KiB"


def test_json() -> None:
    assert output.to_json({"a": ["<&>", "é"]}, 2) == (
        '{\n  "a": [\n    "\\u003c\\u0026\\u003e",\n    "é"\n  ]\n}'
    )
    assert output.to_json({"a": [1]}, 0) == '{"a":[1]}'


def test_case_50_control_characters_on_a_terminal() -> None:
    text = "a\033[31mb\r\x07\x9b\u202e\udcff\n\té"
    controller, terminal = pty.openpty()
    try:
        assert output.printable(text, terminal) == ("a\\x1b[31mb\\x0d\\x07\\x9b\\u202e\\xff\n\té")
    finally:
        os.close(controller)
        os.close(terminal)
    reader, writer = os.pipe()
    try:
        assert output.printable(text, writer) == text
    finally:
        os.close(reader)
        os.close(writer)


def test_truncate() -> None:
    assert output.truncate("abcdef", 10) == "abcdef"
    assert output.truncate("abcdef", 5) == "ab..."
    assert output.short_id("sha256:0123456789abcdef") == "0123456789ab"
