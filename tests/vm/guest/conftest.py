"""What the tests in the machine share. On any other machine they are not even collected."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

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


_STORE = Path.home() / ".local/share/rootless/containers"
_kept: set[str] = set()


@pytest.fixture
def rootless() -> Iterator[Command]:
    """The command, on the user's own store; its containers are removed after the test, and leave no scope behind.

    Those with the label `keep` stay for a later test, or for the time after the reboot.
    """
    command = Command("rootless")
    yield command
    if made := containers() - _kept:
        _kept.update(command.ok("ps", "-aq", "--no-trunc", "--filter", "label=keep").split())
        if gone := made - _kept:
            command.ok("rm", "-f", "-i", "-t", "0", *gone)
    until(lambda: not scopes(), "the scopes of removed containers are gone")


def containers() -> set[str]:
    """What is there, without the half second that `ps` takes here."""
    return (
        {path.name for path in _STORE.iterdir() if len(path.name) == 64}
        if _STORE.is_dir()
        else set()
    )


def cgroup_of(pid: int | str) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::")


def pids(identity: str) -> tuple[int, int]:
    """Of a container that runs: its monitor and its first process, on this side."""
    live = json.loads(Path(f"/run/user/1000/rootless/containers/{identity}/live.json").read_text())
    return live["monitor"][0], live["init"][0]


def scopes() -> list[str]:
    """The scopes of containers that are not kept."""
    found = Path("/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service").glob(
        "*/rootless-*.scope"
    )
    return [path.name for path in found if path.name[9:-6] not in _kept]


@pytest.fixture
def sudo() -> Command:
    return Command("sudo", "-n")


class Services:
    """Units of the user's manager, removed after the test; their containers too."""

    folder = Path.home() / ".config/systemd/user"

    def __init__(self) -> None:
        self.ctl = Command("systemctl", "--user")
        self._names: list[str] = []

    def add(self, name: str, text: str) -> str:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text)
        self._names.append(name)
        return name

    def generated(self, rootless: Command, container: str, *options: str) -> str:
        """The unit of a container that exists, installed; with --new the container is removed."""
        [[name, text]] = json.loads(
            rootless.ok("generate", "systemd", "--name", "--format", "json", *options, container)
        ).items()
        if "--new" in options:
            rootless.ok("rm", "-f", "-t", "0", container)
        self.add(f"{name}.service", text)
        self.ctl.ok("daemon-reload")
        return f"{name}.service"

    def show(self, unit: str, key: str) -> str:
        return self.ctl.ok("show", "-p", key, "--value", unit)

    def await_restart(self, unit: str, before: int) -> None:
        until(lambda: int(self.show(unit, "NRestarts")) > before, f"{unit} is started again")

    def main_pid(self, unit: str) -> int:
        return int(self.show(unit, "MainPID"))

    def cgroup(self, unit: str) -> Path:
        return Path(f"/sys/fs/cgroup{self.show(unit, 'ControlGroup')}")

    def close(self) -> None:
        """No daemon-reload, which takes a second or two and which the next unit brings with it."""
        if names := [one for one in self._names if "@." not in one]:
            self.ctl("stop", *names)
            self.ctl("reset-failed", *names)
        for name in self._names:
            (self.folder / name).unlink(missing_ok=True)


@pytest.fixture
def services(rootless: Command) -> Iterator[Services]:
    found = Services()
    yield found
    found.close()


def journal(*matches: str) -> list[dict[str, str]]:
    """Entries of the user's journal."""
    said = Command("journalctl").ok("--user", "--no-pager", "-o", "json", *matches)
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]
