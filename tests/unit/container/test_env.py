"""Environment variables and labels: how they are read and combined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rootless.container import env
from rootless.errors import Usage

HOST = {"HOME": "/home/me", "HOST_A": "1", "HOST_B": "2", "SECRET": "s", "http_proxy": "p:1"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["A=b"], {"A": "b"}),
        (["A="], {"A": ""}),
        (["A=b=c"], {"A": "b=c"}),
        (["HOME"], {"HOME": "/home/me"}),
        (["NOPE"], {}),
        ([""], {}),
        (["HOST_*"], {"HOST_A": "1", "HOST_B": "2"}),
        (["A*=x"], {"A*": "x"}),
        (["A=1", "A=2"], {"A": "2"}),
        (["a b=c"], {"a b": "c"}),
    ],
)
def test_variables(words: list[str], expected: dict[str, str]) -> None:
    assert env.parse_variables(words, HOST) == expected


def test_variable_without_name() -> None:
    with pytest.raises(Usage, match='^invalid variable: "=x"$'):
        env.parse_variables(["=x"], HOST)


def test_env_file(tmp_path: Path) -> None:
    """As Podman 5.4.2 reads the same file."""
    path = tmp_path / "env"
    path.write_bytes(
        b'A=b\n# c\n  SP=x y \nQ="quoted"\nexport E=1\nNOVAL\nHOME\n  #x\nM="a\nb"\nT=1 # c\r\n\nU\n'
    )
    assert env.read_env_file(str(path), HOST) == {
        "A": "b",
        "SP": "x y ",
        "Q": '"quoted"',
        "export E": "1",
        "HOME": "/home/me",
        "M": '"a',
        "T": "1 # c",
    }


def test_env_file_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("A=1\n=bad\n")
    with pytest.raises(Usage, match=f'^parsing file "{path}": invalid variable: "=bad"$'):
        env.read_env_file(str(path), HOST)
    with pytest.raises(Usage, match=r"^parsing file .*: open .*: is a directory$"):
        env.read_env_file(str(tmp_path), HOST)


def test_labels(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_text('l1=v\n#c\nl2\n"q"="r"\n')
    assert env.parse_labels([str(path)], ["l1=w", "a"]) == {
        "l1": "w",
        "l2": "",
        '"q"': '"r"',
        "a": "",
    }
    path.write_text("l 3 = x")
    with pytest.raises(
        Usage, match='^unable to process labels: name "l 3 " has white spaces, poorly'
    ):
        env.parse_labels([str(path)], [])


def test_case_18_image_variables_never_name_the_hosts() -> None:
    entries = ["FOO=bar", "SECRET", "*", "HOST_*", "=x", "", "A=b=c", "N=\0"]
    assert env.image_variables(entries) == {"FOO": "bar", "A": "b=c"}
    assert env.image_variables(None) == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${FOO}-x", "bar-x"),
        ("$FOO/$NOPE/", "bar//"),
        ("$", "$"),
        ("a$", "a$"),
        ("$$FOO", "$bar"),
        ("${FOO", "${FOO"),
        ("$FOObar", ""),
        ("", ""),
    ],
)
def test_expand(text: str, expected: str) -> None:
    values = {"FOO": "bar"}
    assert env.expand(text, values) == expected


def combined(**given: Any) -> dict[str, str]:
    settings: dict[str, Any] = {
        "image": {"FOO": "bar"},
        "host": HOST,
        "given": {},
        "merge": {},
        "unset": (),
        "unset_all": False,
        "env_host": False,
        "http_proxy": False,
        "terminal": False,
    }
    return env.combine(**{**settings, **given})


def test_combine() -> None:
    assert combined() == {"PATH": env.DEFAULT_PATH, "container": "podman", "FOO": "bar"}
    assert combined(terminal=True)["TERM"] == "xterm"
    assert combined(image={"TERM": "vt100"}, terminal=True)["TERM"] == "vt100"
    assert combined(image={"PATH": "/x"})["PATH"] == "/x"
    assert combined(given={"FOO": "y"})["FOO"] == "y"
    assert combined(http_proxy=True)["http_proxy"] == "p:1"
    assert "SECRET" not in combined(http_proxy=True)
    assert combined(env_host=True, given={"SECRET": "t"})["SECRET"] == "t"
    assert combined(env_host=True)["SECRET"] == "s"
    assert combined(unset=["FOO", "PATH"]) == {"container": "podman"}
    assert combined(unset_all=True, terminal=True, given={"A": "b"}) == {"A": "b"}
    assert combined(unset=["A"], given={"A": "b"})["A"] == "b"
    assert combined(merge={"FOO": "${FOO}-x", "B": "$PATH"})["FOO"] == "bar-x"
    assert combined(merge={"FOO": "${FOO}-x"}, given={"FOO": "y"})["FOO"] == "y"
