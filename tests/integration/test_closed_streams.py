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


def run(engine: Engine, line: str | list[str], stdout: int | None, script: str) -> tuple[int, str]:
    result = subprocess.run(
        [
            "sh",
            "-c",
            script,
            "sh",
            *engine.program,
            *(line.split() if isinstance(line, str) else line),
        ],
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


FULL = 'exec "$@" >/dev/full'
NO_ROOM = "Error: write /dev/stdout: no space left on device\n"


@pytest.mark.parametrize("options", [[], ["-t"]])
def test_no_room_for_what_a_container_says(seen: Engine, options: list[str]) -> None:
    script = ["sh", "-c", "echo x; exit 3"]
    made = ["run", "--network", "none", *options, "host", *script]
    assert run(seen, [*made[:1], "--name", "kept", *made[1:]], None, FULL) == (126, NO_ROOM)
    # The container has gone on, and its log has what could not be shown.
    assert seen.ok("wait", "kept") == "3"
    assert seen.ok("logs", "kept").strip() == "x"
    assert run(seen, ["start", "--attach", "kept"], None, FULL) == (125, NO_ROOM)
    seen.ok("wait", "kept")
    seen.ok("rm", "kept")
    assert run(seen, [*made[:1], "--rm", *made[1:]], None, FULL) == (126, NO_ROOM)
    assert seen.ok("ps", "-aq", "--filter", "name=kept") == ""


def test_no_room_for_the_errors_of_a_container(seen: Engine) -> None:
    made = ["run", "--rm", "--network", "none", "host", "sh", "-c", "echo x >&2"]
    assert run(seen, made, None, 'exec "$@" 2>/dev/full') == (126, "")


def test_no_room_for_what_exec_and_attach_show(seen: Engine) -> None:
    script = "while :; do echo x; sleep 0.05; done"
    seen.ok("run", "-d", "--name", "talks", "--network", "none", "host", "sh", "-c", script)
    for say in ("echo x", "echo x; exec sleep 1000"):
        for options in ([], ["-t"]):
            line = ["exec", *options, "talks", "sh", "-c", say]
            assert run(seen, line, None, FULL) == (255, NO_ROOM)
    seen.ok("exec", "talks", "sh", "-c", "echo x")
    assert run(seen, ["attach", "talks"], None, FULL) == (125, NO_ROOM)
    seen.ok("rm", "-ft0", "talks")
