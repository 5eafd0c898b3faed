"""rootless.quickjson: the same documents as json's, and ValueError for everything else."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from rootless import quickjson
from tests.support.engine import REPOSITORY

VALUES: list[Any] = [
    {},
    [],
    "",
    0,
    -1,
    2**70,
    1.5,
    1e300,
    True,
    None,
    {"a": [1, {"b": None}], "é": 'ü "\\ \n \x01 \ud800', "": [[]]},
    {"b": 1, "a": 2},
    (1, 2),
    {2: "two", None: "none", True: "true"},
]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(
    "options",
    [{}, {"separators": (",", ":")}, {"indent": 2}, {"indent": "\t"}, {"ensure_ascii": False}],
    ids=str,
)
def test_documents_are_jsons(value: Any, options: dict[str, Any]) -> None:
    text = quickjson.dumps(value, **options)
    assert text == json.dumps(value, **options)
    assert quickjson.loads(text) == json.loads(text)


def test_a_hook_gets_the_pairs() -> None:
    assert quickjson.loads('{"a": 1, "a": {"b": 2}}', object_pairs_hook=tuple) == (
        ("a", 1),
        ("a", (("b", 2),)),
    )


def test_keys_can_be_sorted() -> None:
    assert quickjson.dumps({"b": 1, "a": 2}, sort_keys=True) == '{"a": 2, "b": 1}'


@pytest.mark.parametrize(
    "text", [" [1 , 2]\n", b'{"a": "\xc3\xa9"}', bytearray(b"1"), "\r\n\tnull "]
)
def test_spaces_and_bytes_are_read(text: str | bytes) -> None:
    assert quickjson.loads(text) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "[1,]",
        "{'a': 1}",
        "1 2",
        '"a',
        '"\n"',
        "nul",
        b"\xff",
        "NaN",
        "[-Infinity]",
        "\xa01",
        "[" * 100000,
    ],
    ids=lambda text: repr(text)[:20],
)
def test_everything_else_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match="."):
        quickjson.loads(text)


@pytest.mark.parametrize("value", [b"x", {1, 2}, object(), [1j]])
def test_what_is_not_json_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="is not JSON serializable"):
        quickjson.dumps(value)


@pytest.mark.parametrize("value", [float("nan"), [float("inf")]])
def test_numbers_that_json_does_not_have_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="."):
        quickjson.dumps(value)


def test_it_and_sockets_spare_the_modules_that_they_are_there_to_spare() -> None:
    code = f"""
import sys
sys.path.append({str(REPOSITORY)!r})
from rootless import quickjson
from rootless.linux import sockets
quickjson.loads(quickjson.dumps([1, "a", {{"b": None}}]))
sockets.socketpair()
print(*sorted({{"re", "enum", "json", "functools", "collections", "socket", "selectors"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-ISc", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"
