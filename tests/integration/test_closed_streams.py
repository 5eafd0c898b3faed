"""Commands whose reader has gone, or whose standard output is closed: a clean end, and never a word about it."""

from __future__ import annotations

import os
import subprocess

import pytest

from rootless.cli.table import COMMANDS, GROUPS
from tests.support.engine import Engine

PRINTING = [
    "container inspect seen",
    "container list -a",
    "container --help",
    "diff seen",
    "events --stream=false",
    "history host",
    "image tree host",
    "images",
    "info",
    "inspect seen",
    "logs seen",
    "network inspect podman",
    "network ls",
    "ps -a",
    "ps --help",
    "stats --no-stream -a",
    "system df",
    "version",
    "volume inspect seen",
    "volume ls",
    "--version",
]


@pytest.fixture(scope="module")
def seen() -> Engine:
    engine = Engine()
    engine.ok("run", "--name", "seen", "--network", "none", "-v", "seen:/v", "host", "echo", "x")
    return engine


@pytest.fixture(scope="module", autouse=True)
def _end(seen: Engine) -> object:
    yield
    seen.clear()
    seen.close()


def run(engine: Engine, line: str, stdout: int | None, script: str) -> tuple[int, str]:
    result = subprocess.run(
        ["sh", "-c", script, "sh", *engine.program, *line.split()],
        env=engine.env,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    return result.returncode, result.stderr


@pytest.mark.parametrize("line", PRINTING)
def test_nobody_reads(seen: Engine, line: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert run(seen, line, writer, 'exec "$@"') == (141, "")
    finally:
        os.close(writer)


@pytest.mark.parametrize("line", PRINTING)
def test_standard_output_is_closed(seen: Engine, line: str) -> None:
    assert run(seen, line, None, 'exec "$@" >&-') == (0, "")
    assert run(seen, line, None, 'exec "$@" >&- 2>&- <&-') == (0, "")


@pytest.mark.parametrize("line", PRINTING)
def test_no_room_for_the_output(seen: Engine, line: str) -> None:
    code, message = run(seen, line, None, 'exec "$@" >/dev/full')
    said = "Error: /dev/full: no space left on device; the file system of /dev is out of space"
    assert (code, message.count("\n")) == (125, 1)
    assert message.startswith(said)


@pytest.mark.parametrize(
    "group", sorted(group for group in GROUPS if any(c.startswith(f"{group} ") for c in COMMANDS))
)
def test_group_without_a_command(seen: Engine, group: str) -> None:
    """The help goes nowhere; what is missing is still said."""
    code, message = run(seen, group, None, 'exec "$@" >&-')
    assert (code, message) == (125, f"Error: missing command 'rootless {group} COMMAND'\n")
