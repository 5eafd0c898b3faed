"""runc's way of writing options: one dash or two, before or after the words, several letters at once."""

from __future__ import annotations

import pytest

from rootless.errors import Usage
from rootless.ocicli.commandline import NUMBER, SWITCH, TEXT, TEXTS, parse
from rootless.ocicli.commands import COMMANDS, GLOBAL, GLOBAL_SHORT

OPTIONS = {"force": SWITCH, "tty": SWITCH, "bundle": TEXT, "env": TEXTS, "preserve-fds": NUMBER}
SHORT = {"f": "force", "t": "tty", "b": "bundle", "e": "env"}


@pytest.mark.parametrize(
    ("words", "options", "rest"),
    [
        (["--force", "id"], {"force": True}, ["id"]),
        (["-force", "id"], {"force": True}, ["id"]),
        (["id", "-f"], {"force": True}, ["id"]),
        (["-ft", "id"], {"force": True, "tty": True}, ["id"]),
        (["--force=false", "id"], {"force": False}, ["id"]),
        (["--bundle", "/b", "id"], {"bundle": "/b"}, ["id"]),
        (["--bundle=/b=c", "id"], {"bundle": "/b=c"}, ["id"]),
        (["-b/b", "id"], {"bundle": "/b"}, ["id"]),
        (["-e", "A=1", "--env=B=2"], {"env": ["A=1", "B=2"]}, []),
        (["--preserve-fds", "3"], {"preserve-fds": 3}, []),
        (["--", "--force"], {}, ["--force"]),
        (["id", "-"], {}, ["id", "-"]),
    ],
)
def test_options_and_words(words: list[str], options: dict[str, object], rest: list[str]) -> None:
    given = parse(words, OPTIONS, SHORT, stops=False)
    assert (given.options, given.words) == (options, rest)


def test_what_follows_the_first_word_is_the_programs() -> None:
    given = parse(["-t", "id", "ls", "-f", "--", "x"], OPTIONS, SHORT, stops=True)
    assert (given.options, given.words) == ({"tty": True}, ["id", "ls", "-f", "--", "x"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nonesuch"], "flag provided but not defined: --nonesuch"),
        (["-x"], "flag provided but not defined: -x"),
        (["-fx"], "flag provided but not defined: -fx"),
        (["--bundle"], "flag needs an argument: -bundle"),
        (["--force=perhaps"], 'invalid boolean value "perhaps" for -force'),
        (["--preserve-fds", "three"], 'invalid value "three" for flag -preserve-fds'),
    ],
)
def test_mistakes(words: list[str], said: str) -> None:
    with pytest.raises(Usage) as caught:
        parse(words, OPTIONS, SHORT, stops=False)
    assert said in caught.value.message


def test_the_table_is_whole() -> None:
    assert set(GLOBAL_SHORT.values()) <= set(GLOBAL)
    for name, command in COMMANDS.items():
        assert set(command.short.values()) <= set(command.options), name
        module = __import__(f"rootless.ocicli.{command.module}", fromlist=["run"])
        assert callable(getattr(module, command.function)), name


def test_how_many_words_a_command_takes() -> None:
    assert (COMMANDS["kill"].least, COMMANDS["kill"].most) == (1, 2)
    assert (COMMANDS["list"].least, COMMANDS["list"].most) == (0, 0)
    assert COMMANDS["exec"].least == 1 and COMMANDS["exec"].most > 1000
