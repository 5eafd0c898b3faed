"""What the tests in the machine share. On any other machine they are not even collected."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

collect_ignore_glob = [] if os.environ.get("ROOTLESS_TEST_MACHINE") else ["test_*.py"]


class Command:
    """A command line's front: `rootless(...)` runs it and gives its result, `.ok` its output."""

    def __init__(self, *front: str) -> None:
        self.front = front

    def __call__(self, *words: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.front, *words],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip

    def ok(self, *words: str) -> str:
        done = self(*words)
        assert done.returncode == 0, (
            f"{words}: status {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done.stdout.strip()


def until(condition: Callable[[], object], what: str, limit_s: float = 120) -> None:
    """Wait until something is so; the machine is slow, and how slow is nobody's business."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"it never came about: {what}"
        time.sleep(0.1)


@pytest.fixture
def rootless() -> Iterator[Command]:
    """The command, on the user's own store; its containers are removed after the test, and leave no scope behind."""
    command = Command("rootless")
    yield command
    kept = command.ok("ps", "-aq", "--filter", "label=keep")
    for identity in set(command.ok("ps", "-aq").split()) - set(kept.split()):
        command.ok("rm", "-f", "-t", "0", identity)
    until(lambda: not scopes(kept.split()), "the scopes of removed containers are gone")


def scopes(but: list[str] | None = None) -> list[str]:
    listed = Command("systemctl").ok(
        "--user", "list-units", "--all", "--plain", "--no-legend", "rootless-*.scope"
    )
    names = [line.split()[0] for line in listed.splitlines() if line]
    return [
        name for name in names if not any(f"rootless-{identity}" in name for identity in but or ())
    ]


@pytest.fixture
def sudo() -> Command:
    return Command("sudo", "-n")
