"""The parser's values and mistakes, in a table: what Podman 5.4.2 answers to the same words."""

from __future__ import annotations

from typing import Any

import pytest

from rootless.cli import parse
from rootless.cli.table import Command, Invocation, Option
from rootless.errors import Usage
from tests.support import words as command_line

OPTIONS = (
    Option("rm"),
    Option("interactive", short="i"),
    Option("tty", short="t"),
    Option("detach", short="d"),
    Option("publish", "csv", short="p"),
    Option("env", "list", short="e"),
    Option("memory", "str", short="m"),
    Option("cpu-shares", "uint", short="c"),
    Option("last", "int", short="n", default=-1),
    Option("cpus", "float"),
    Option("network", "list", aliases=("net",)),
    Option("pull", "str", implied="missing", default="never"),
    Option("sort", "str", choices=("id", "names")),
    Option("opt", "map"),
    Option("wait", "duration"),
    Option("init", refused="no reason at all"),
    Option("groups", "csv", default=["a", "b"]),
)


def read(*words: str, interspersed: bool = True, args: Any = (0, None)) -> Invocation:
    command = Command(
        "[options] [ARG...]", lambda inv: 0, OPTIONS, args=args, interspersed=interspersed
    )
    return command_line.parse("run", command, list(words))


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--rm"], "rm", True),
        (["--rm=false"], "rm", False),
        (["--rm=T"], "rm", True),
        (["-it"], "tty", True),
        (["-itd"], "interactive", True),
        (["-t=false"], "tty", False),
        (["-p8080:80"], "publish", ["8080:80"]),
        (["-p=8080:80"], "publish", ["8080:80"]),
        (["-itp", "1:2"], "publish", ["1:2"]),
        (["--publish", "1:2,3:4", "-p", "5:6"], "publish", ["1:2", "3:4", "5:6"]),
        (["-p", '"a,b",c'], "publish", ["a,b", "c"]),
        (["-p", '"a""b"'], "publish", ['a"b']),
        (["-p", ""], "publish", []),
        (["-p", "a,"], "publish", ["a", ""]),
        (["-e", "A=1,2", "--env", "B"], "env", ["A=1,2", "B"]),
        (["-e="], "env", ["="]),  # pflag: "-e=" is too short to be -e=VALUE
        (["--env="], "env", [""]),
        (["-e", "-x"], "env", ["-x"]),
        (["--memory", "--rm"], "memory", "--rm"),
        (["-m", "1g", "-m", "2g"], "memory", "2g"),
        (["-c", "0x10"], "cpu-shares", 16),
        (["-c", "010"], "cpu-shares", 8),
        (["-c", "1_000"], "cpu-shares", 1000),
        (["-n", "-5"], "last", -5),
        ([], "last", -1),
        (["--cpus", "1.5"], "cpus", 1.5),
        (["--net", "none", "--network=host"], "network", ["none", "host"]),
        (["--pull"], "pull", "missing"),
        (["--pull=always"], "pull", "always"),
        ([], "pull", "never"),
        (["--sort", "id"], "sort", "id"),
        (["--opt", "a=b,c=d"], "opt", {"a": "b", "c": "d"}),
        (["--opt", "a=b,c"], "opt", {"a": "b,c"}),
        (["--wait", "1h2m3.5s"], "wait", 3723500000000),
        (["--wait", "0"], "wait", 0),
        (["--init=false"], "init", False),
        ([], "groups", ["a", "b"]),
        (["--groups", "c", "--groups", "d"], "groups", ["c", "d"]),
        (["--log-level", "debug", "--rm"], "rm", True),
    ],
)
def test_values(words: list[str], name: str, value: object) -> None:
    assert read(*words).options[name] == value


def test_defaults_are_not_shared_between_calls() -> None:
    read().words("env").append("changed")
    assert read().words("env") == []


def test_given_tells_a_default_from_the_same_value() -> None:
    assert read("--last=-1").given("last")
    assert not read().given("last")
    assert read("--net=x").given("network")


@pytest.mark.parametrize(
    ("words", "interspersed", "args"),
    [
        (["a", "--rm", "b"], True, ["a", "b"]),
        (["a", "--rm", "b"], False, ["a", "--rm", "b"]),
        (["--rm", "a", "--foo"], False, ["a", "--foo"]),
        (["--", "--rm"], True, ["--rm"]),
        (["--", "--rm"], False, ["--rm"]),
        (["a", "--", "--rm"], True, ["a", "--rm"]),
        (["a", "--", "--rm"], False, ["a", "--", "--rm"]),
        (["-", "a"], True, ["-", "a"]),
        (["", "a"], True, ["", "a"]),
    ],
)
def test_arguments(words: list[str], interspersed: bool, args: list[str]) -> None:
    assert read(*words, interspersed=interspersed).args == args


SEE = "\nSee 'rootless run --help'"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--foo"], "unknown flag: --foo" + SEE),
        (["--foo=1"], "unknown flag: --foo" + SEE),
        (["--mem", "1g"], "unknown flag: --mem" + SEE),
        (["-Z"], "unknown shorthand flag: 'Z' in -Z" + SEE),
        (["-iZ"], "unknown shorthand flag: 'Z' in -Z" + SEE),
        (["--memory"], "flag needs an argument: --memory" + SEE),
        (["-m"], "flag needs an argument: 'm' in -m" + SEE),
        (["-im"], "flag needs an argument: 'm' in -m" + SEE),
        (["--=x"], "bad flag syntax: --=x" + SEE),
        (["---x"], "bad flag syntax: ---x" + SEE),
        (
            ["-c", "x"],
            'invalid argument "x" for "-c, --cpu-shares" flag: strconv.ParseUint: parsing "x": invalid syntax'
            + SEE,
        ),
        (
            ["--cpu-shares", "-1"],
            'invalid argument "-1" for "-c, --cpu-shares" flag: strconv.ParseUint: parsing "-1": invalid syntax'
            + SEE,
        ),
        (
            ["-n", "99999999999999999999"],
            'invalid argument "99999999999999999999" for "-n, --last" flag: '
            'strconv.ParseInt: parsing "99999999999999999999": value out of range' + SEE,
        ),
        (
            ["-n", " 1"],
            'invalid argument " 1" for "-n, --last" flag: strconv.ParseInt: parsing " 1": invalid syntax'
            + SEE,
        ),
        (
            ["--rm=maybe"],
            'invalid argument "maybe" for "--rm" flag: strconv.ParseBool: parsing "maybe": invalid syntax'
            + SEE,
        ),
        (
            ["--cpus", "x"],
            'invalid argument "x" for "--cpus" flag: strconv.ParseFloat: parsing "x": invalid syntax'
            + SEE,
        ),
        (
            ["-p", 'a"b'],
            'invalid argument "a\\"b" for "-p, --publish" flag: '
            'parse error on line 1, column 2: bare " in non-quoted-field' + SEE,
        ),
        (
            ["--sort", "foo"],
            'invalid argument "foo" for "--sort" flag: "foo" is not a valid value.  Choose from: "id, names"'
            + SEE,
        ),
        (
            ["--wait", "x"],
            'invalid argument "x" for "--wait" flag: time: invalid duration "x"' + SEE,
        ),
        (
            ["--opt", "x"],
            'invalid argument "x" for "--opt" flag: x must be formatted as key=value' + SEE,
        ),
        (["--init"], "--init is not supported: no reason at all"),
        (["--remote"], "unknown flag: --remote" + SEE),
    ],
)
def test_mistakes(words: list[str], message: str) -> None:
    with pytest.raises(Usage) as caught:
        read(*words)
    assert str(caught.value) == message
    assert caught.value.exit_code == 125


@pytest.mark.parametrize(
    ("args", "count", "message"),
    [
        ((0, 0), 1, "`rootless run` takes no arguments"),
        ((2, 2), 1, "accepts 2 arg(s), received 1"),
        ((1, None), 0, "requires at least 1 arg(s), only received 0"),
        ((0, 1), 2, "accepts at most 1 arg(s), received 2"),
        ((1, 2), 0, "accepts between 1 and 2 arg(s), received 0"),
    ],
)
def test_argument_counts(args: tuple[int, int | None], count: int, message: str) -> None:
    with pytest.raises(Usage) as caught:
        read(*["x"] * count, args=args)
    assert str(caught.value) == message


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--rm", "--help", "x"], ["x", "--help"]])
def test_help(words: list[str]) -> None:
    with pytest.raises(parse.HelpWanted):
        read(*words)


def test_help_after_the_image_is_the_container_s() -> None:
    assert read("image", "--help", interspersed=False).args == ["image", "--help"]


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("a", '"a"'),
        ('a"\\', '"a\\"\\\\"'),
        ("\n\t\x00", '"\\n\\t\\x00"'),
        ("é", '"é"'),
        ("\udcff", '"\\xff"'),
    ],
)
def test_quote(text: str, quoted: str) -> None:
    assert parse.quote(text) == quoted
