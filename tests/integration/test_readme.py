"""Every command that README.md shows is run, in its order, and prints what README.md says it prints.

In an expected output `…` stands for anything, and a line of its own for any number of lines. Commands that change the
machine, or that run the tests themselves, are checked in another way, which UNRUN names.
"""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.engine import REPOSITORY, Engine

README = (REPOSITORY / "README.md").read_text()


def commands(text: str) -> list[tuple[str, list[str]]]:
    """The commands of all console blocks, each with its expected output."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.M | re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def pattern(expected: list[str]) -> str:
    parts = []
    for line in expected:
        if line == "…":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(".*".join(re.escape(part) for part in line.split("…")) + r"\n")
    return "".join(parts)


def check_installation(command: str) -> None:
    """pip builds a wheel of this tree whose command works where pip puts it: tools/workbench did it for this run."""
    assert command == "pipx install ."
    script = (REPOSITORY / "tools/workbench").read_text()
    assert '"$venv/bin/pip" install' in script


def check_packages(command: str) -> None:
    """The packages exist, and are among those that the tests run with."""
    packages = command.partition("--no-install-recommends ")[2].split()
    script = (REPOSITORY / "tools/workbench").read_text()
    engine = re.search(r'^engine="(.*)"$', script, re.M)
    assert engine and set(packages) <= set(engine[1].split())
    table = set(re.findall(r"^\| `([a-z0-9-]+)` \|", README.partition("## ")[0], re.M))
    assert table == set(packages)


def check_usermod(command: str) -> None:
    """The options exist."""
    done = subprocess.run(
        ["/usr/sbin/usermod", "--help"], capture_output=True, text=True, check=True
    )
    for word in shlex.split(command)[2:]:
        assert not word.startswith("-") or word in done.stdout


def check_make(command: str) -> None:
    """The target exists; running it would run this test."""
    makefile = (REPOSITORY / "Makefile").read_text()
    assert re.search(rf"^{command.removeprefix('make ')}:", makefile, re.M)


def check_linger(command: str) -> None:
    assert command == "loginctl enable-linger"


UNRUN: dict[str, Callable[[str], None]] = {
    "pipx install": check_installation,
    "sudo apt-get": check_packages,
    "sudo usermod": check_usermod,
    "make": check_make,
    "loginctl": check_linger,
}


def on_terminal(command: str, env: dict[str, str], cwd: Path, typed: bytes) -> tuple[int, str]:
    """Run a command on a terminal of its own, type once it has said something, and return its status and output."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", "bash", "-c", command],
        env=env,
        cwd=cwd,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    said = b""
    deadline = time.monotonic() + 60
    try:
        while select.select([controller], [], [], max(0, deadline - time.monotonic()))[0]:
            try:
                chunk = os.read(controller, 4096)
            except OSError:  # EIO: nobody holds the terminal any more
                break
            if not said:
                os.write(controller, typed)
            said += chunk
        else:
            process.kill()
        return process.wait(), said.decode("utf-8", "replace")
    finally:
        os.close(controller)


def test_the_patterns_match_what_they_should() -> None:
    assert re.fullmatch(pattern(["a…b", "…", "c"]), "a..b\nx\ny\nc\n")
    assert re.fullmatch(pattern(["…"]), "")
    assert not re.fullmatch(pattern(["a"]), "a\nb\n")
    assert commands("```console\n$ a\nb\n$ c\n```\n```sh\n$ d\n```\n") == [("a", ["b"]), ("c", [])]


@pytest.mark.needs("userns", "subids", "busybox", "pasta", "curl")
@pytest.mark.slow
def test_every_command_does_what_readme_says(
    fresh: Engine, busybox_archive: Path, tmp_path: Path
) -> None:
    program = Path(fresh.program[0])
    env = {**fresh.env, "PATH": f"{program.parent}:{fresh.env['PATH']}"}
    (tmp_path / "busybox.tar").symlink_to(busybox_archive)
    (found := commands(README)).sort(key=lambda pair: "reset" in pair[0])
    assert len(found) > 20
    port = unused_port()
    for command, expected in found:
        command = command.replace("8080", str(port))
        known = [check for start, check in UNRUN.items() if command.startswith(start)]
        if known:
            known[0](command)
            continue
        if command.startswith("rootless run -it"):
            status, said = on_terminal(command, env, tmp_path, b"id -u; exit 3\n")
            assert status == 3, (command, said)
            # bash turns bracketed paste off before the output of what was typed
            assert re.search(r"^(\x1b\[\?2004l\r?)?0\r?$", said, re.M), (command, said)
            continue
        # As somebody at a terminal would: nothing to read.
        done = subprocess.run(
            ["bash", "-c", command],
            env=env,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
            check=False,
        )
        said = done.stdout.decode("utf-8", "replace")
        assert done.returncode == 0, f"$ {command}\n{said}"
        if expected:
            assert re.fullmatch(pattern(expected), said), (
                f"$ {command}\n{said}\nREADME.md says:\n" + "\n".join(expected)
            )


def unused_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_readme_names_only_commands_and_files_that_exist() -> None:
    from rootless.cli.table import COMMANDS

    first = {words.split()[0] for words in COMMANDS}
    for command, _ in commands(README):
        for verb in re.findall(r"rootless (?:--log-level \w+ )?([a-z]+)", command):
            assert verb in first, command
    for name in re.findall(
        r"`((?:rootless|slirp|config|systemd-units|tests|bin)/[\w./-]*)`", README
    ):
        assert (REPOSITORY / name).exists(), name
