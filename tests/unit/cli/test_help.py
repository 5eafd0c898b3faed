"""The two readers of the tables agree: Typer, which words help and completion, and `parse`, which reads ordinary calls."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from typer.testing import CliRunner

from rootless.cli import complete, help
from rootless.cli.table import ABSENT, COMMANDS, GLOBALS, GROUPS, Command, Option, load
from tests.support import words as command_line

PATHS = sorted(COMMANDS)
#: Each table once: `container run` is `run`.
DISTINCT = sorted({COMMANDS[path][0]: path for path in PATHS}.values())

#: A value for each kind that both readers take, as words and as what it means.
SAMPLES: dict[str, tuple[str, object]] = {
    "str": ("text", "text"),
    "list": ("a,b", ["a,b"]),
    "csv": ("a,b", ["a", "b"]),
    "int": ("-5", -5),
    "int32": ("7", 7),
    "uint": ("0x10", 16),
    "uints": ("1,2", [1, 2]),
    "ints": ("1,-2", [1, -2]),
    "float": ("1.5", 1.5),
    "duration": ("1m", 60 * 10**9),
    "map": ("k=v", {"k": "v"}),
    "ips": ("10.0.0.1", ["10.0.0.1"]),
}


def typer_reads(path: str, words: list[str]) -> dict[str, Any]:
    """The values of a command line, as the Typer application reads it."""
    seen: list[dict[str, Any]] = []
    application = help.build(path, lambda **values: seen.append(values))
    result = CliRunner().invoke(application, [*path.split(), *words])
    assert result.exit_code == 0, result.output
    assert len(seen) == 1
    return seen[0]


def arguments_for(command: Command) -> list[str]:
    return ["one", "two"] if command.usage.removeprefix("[options]").strip() else []


def sample(option: Option) -> tuple[list[str], object]:
    if option.kind == "bool":
        return [f"--{option.name}"], True
    if option.choices:
        return [f"--{option.name}", option.choices[-1]], option.choices[-1]
    text, value = SAMPLES[option.kind]
    return [f"--{option.name}={text}"], value


@pytest.mark.parametrize("path", DISTINCT)
def test_the_readers_agree(path: str) -> None:
    command = load(path)
    arguments = arguments_for(command)
    options = [option for option in command.options if not option.refused]
    words: list[str] = []
    wanted: dict[str, object] = {}
    for option in options:
        more, value = sample(option)
        words += more
        wanted[option.name] = value
    seen = typer_reads(path, [*words, *arguments])
    ours = command_line.parse(
        path,
        Command(command.usage, command.main, command.options, args=(0, None)),
        [*words, *arguments],
    )
    theirs = help.values(command, seen)
    for name, value in wanted.items():
        assert (name, ours.options[name]) == (name, value)
        assert (name, theirs[name]) == (name, value)
    assert ours.args == arguments == list(seen.get("arguments") or [])


@pytest.mark.parametrize("path", DISTINCT)
def test_the_readers_agree_on_defaults_and_short_forms(path: str) -> None:
    command = load(path)
    arguments = arguments_for(command)
    bare = Command(command.usage, command.main, command.options, args=(0, None))
    theirs = help.values(command, typer_reads(path, arguments))
    assert theirs == command_line.parse(path, bare, arguments).options
    words = []
    for option in command.options:
        if option.short and not option.refused:
            words.append(f"-{option.short}")
            if option.choices:
                words.append(option.choices[0])
            elif option.kind != "bool":
                words.append(SAMPLES[option.kind][0])
    words += arguments
    theirs = help.values(command, typer_reads(path, words))
    assert theirs == command_line.parse(path, bare, words).options


@pytest.mark.parametrize("path", PATHS)
def test_tables_are_sound(path: str) -> None:
    command = load(path)
    names = [name for option in command.options for name in (option.name, *option.aliases)]
    shorts = [option.short for option in command.options if option.short]
    assert len(set(names)) == len(names)
    assert len(set(shorts)) == len(shorts)
    assert not set(names) & {"help", "log-level"}
    for option in command.options:
        assert option.help or option.hidden or option.refused, option.name
        assert not option.help.endswith("."), option.name
        assert not option.complete or hasattr(complete, option.complete), option.complete
    assert not command.complete or hasattr(complete, command.complete)
    assert COMMANDS[path][1] and not COMMANDS[path][1].endswith(".")
    parent = path.rpartition(" ")[0]
    assert not parent or parent in GROUPS


@pytest.mark.parametrize("path", ["", *sorted(set(GROUPS) - set(ABSENT)), *DISTINCT])
def test_help_names_every_option(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert path not in GROUPS or any(name.startswith(path + " ") for name in COMMANDS)
    assert help.show(path) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: rootless {path}".rstrip())
    options = GLOBALS if not path else load(path).options if path in COMMANDS else ()
    for option in options:
        visible = not (option.hidden or option.refused)
        assert (f"--{option.name}" in shown.replace(",", " ").split()) == visible, option.name


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    script = help.completion_script(shell)
    assert "_ROOTLESS_COMPLETE=complete_" + shell in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("rootless vers", "version"),
        ("rootless ps --no-tr", "--no-trunc"),
        ("rootless ps --sort nam", "names"),
        ("rootless container li", "list"),
        ("rootless --log-level debug vers", "version"),
    ],
)
def test_completion(
    words: str, found: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_ROOTLESS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    assert help.complete() == 0
    assert capsys.readouterr().out.split() == [found]


def test_suggestions() -> None:
    assert "version" in help.suggestions("", "versoin")
    assert "ps" in help.suggestions("", "p")
    assert help.suggestions("container", "lst") == []
