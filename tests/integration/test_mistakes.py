"""Every class of wrong command line, in the words and with the exit status of Podman 5.4.2 (tests/data/podman-mistakes.json)."""

from __future__ import annotations

import json
from pathlib import Path

from rootless.cli.table import ALIASES, COMMANDS, GROUPS
from tests.support.engine import Engine

CASES = json.loads(Path(__file__).parents[1].joinpath("data/podman-mistakes.json").read_text())


def exists(words: list[str]) -> bool:
    """Whether this engine has the command that the words name, or they name none at all."""
    path = ""
    for word in words:
        if word.startswith("-"):
            continue
        name = f"{path} {word}".strip()
        name = ALIASES.get(name, name)
        if name in COMMANDS:
            return True
        if name not in GROUPS:
            return False
        path = name
    return not path or any(name.startswith(path + " ") for name in COMMANDS)


#: Where ours says more than Podman's, or what is wrong in another order: the exit status is the same.
OWN_WORDS = {
    ("cp", "a", "b"),
    ("cp", "-", "-"),
    ("diff", "--format", "x", "a"),
    ("export", "-o", "/x/y", "nonex"),
}


def test_mistakes_read_as_podmans(rootless: Engine) -> None:
    rootless.ok("volume", "create", "a")  # one that the recorded calls found there
    wrong = []
    for words, status, message in CASES:
        if not exists(words):
            continue
        result = rootless(*words)
        if tuple(words) in OWN_WORDS and result.code == status:
            continue
        if (result.code, result.err.strip()) != (status, message.strip()):
            wrong.append(f"{result}\nwanted {status}: {message!r}\n")
    assert not wrong, "\n".join(wrong)


def test_unknown_commands(rootless: Engine) -> None:
    assert rootless.fails("foo").startswith("Error: unrecognized command `rootless foo`\n")
    assert "\n\nDid you mean this?\n\tps\n" in rootless.fails("pss")
    assert rootless.fails("foo").endswith("\nTry 'rootless --help' for more information\n")
    assert rootless.fails("container", "foo") == (
        "Error: unrecognized command `rootless container foo`\n"
        "Try 'rootless container --help' for more information\n"
    )


def test_absent_commands_say_why(rootless: Engine) -> None:
    assert rootless.fails("machine", "init") == (
        "Error: rootless has no command `machine`: containers need no virtual machine on Linux\n"
    )
    assert rootless.fails("farm", "list").startswith("Error: rootless has no command `farm`: ")


def test_absent_options_say_why(rootless: Engine) -> None:
    error = rootless.fails("--remote", "ps")
    assert error.startswith("Error: --remote is not supported: rootless has no service")
    assert error.count("\n") == 1


def test_no_traceback_reaches_a_user(rootless: Engine) -> None:
    error = rootless.fails("ps", env={"XDG_DATA_HOME": "/proc/self/mem"})
    assert "Traceback" not in error and error.startswith("Error: ")


def test_closed_standard_streams(rootless: Engine) -> None:
    import os
    import subprocess

    for number in (0, 1, 2):
        process = rootless.popen(
            "ps",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda number=number: os.close(number),
        )
        assert process.wait(timeout=60) == 0


def test_version_and_help(rootless: Engine) -> None:
    assert rootless.ok("--version").startswith("rootless version ")
    assert rootless.ok("-v") == rootless.ok("--version")
    assert rootless.ok("--help") == rootless.ok("help")
    assert rootless.ok("ps", "--help") == rootless.ok("help", "ps")
    result = rootless()
    assert (result.code, result.err) == (125, "Error: missing command 'rootless COMMAND'\n")
    assert result.out == rootless.ok("--help") + "\n"
