"""The program that waits in the place of an interpreter, on this machine and, in emulation, on the other kind."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from rootless.linux import sleeper

_REPORT = """
import os, signal, sys
print(*sys.argv[1:], os.environ["WORD"], *map(int, signal.sigpending()))
"""
_KINDS = sorted(sleeper.ASSEMBLERS)
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Sleeper:
    """A sleeper that becomes an interpreter, which says what it was given."""

    def __init__(self, kind: str, file: Path, *, timeout_ms: int | None = None) -> None:
        self.read, self.write = os.pipe()
        others = [os.dup(self.read) for _ in range(3)]
        sleep = sleeper.Sleep(
            "sleeper-of-a-test",
            sys.executable,
            ["python3", "-I", "-S", "-c", _REPORT, "one two"],
            descriptors=[self.read, *others],
            signals=_SIGNALS,
            timeout_ms=timeout_ms,
        )
        file.write_bytes(sleeper.program(sleeper.ASSEMBLERS[kind], sleep))
        file.chmod(0o755)
        command: Sequence[str] = [str(file)]
        if kind != platform.machine():
            command = [f"qemu-{kind}", *command]
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                env={"WORD": "passed", "PATH": "/bin"},
                pass_fds=(self.read, *others),
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)
        for fd in others:
            os.close(fd)

    def file(self, name: str) -> str:
        return Path(f"/proc/{self.process.pid}", name).read_text()

    def wait_until_it_waits(self) -> None:
        deadline = time.monotonic() + 20
        # In emulation it is qemu that waits, in whichever call.
        while self.file("comm") != "sleeper-of-a-te\n" or self.file("stat").split()[2] != "S":
            assert self.process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)

    def end(self) -> str:
        out, _ = self.process.communicate(timeout=20)
        return out.decode()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.read)
        os.close(self.write)


@pytest.fixture(params=_KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    one: str = request.param
    assert one == platform.machine() or shutil.which(f"qemu-{one}"), "install qemu-user"
    return one


@pytest.fixture
def waiting(kind: str, tmp_path: Path) -> Iterator[Sleeper]:
    one = Sleeper(kind, tmp_path / "program")
    one.wait_until_it_waits()
    yield one
    one.close()


def test_input_wakes_it(waiting: Sleeper) -> None:
    os.write(waiting.write, b"x")
    assert waiting.end().strip() == "one two passed"


def test_a_blocked_signal_wakes_it_and_stays_pending(waiting: Sleeper, kind: str) -> None:
    waiting.process.send_signal(signal.SIGTERM)
    words = waiting.end().split()
    assert words[:3] == ["one", "two", "passed"]
    if kind == platform.machine():  # an emulator keeps its own account of what is pending
        assert words[3:] == [str(int(signal.SIGTERM))]


def test_the_time_wakes_it(kind: str, tmp_path: Path) -> None:
    one = Sleeper(kind, tmp_path / "program", timeout_ms=1)
    assert one.end().strip() == "one two passed"
    one.close()


def test_a_program_that_is_being_replaced_is_tried_again(kind: str, tmp_path: Path) -> None:
    script, file = tmp_path / "script", tmp_path / "program"
    sleep = sleeper.Sleep("again", str(script), ["script"], timeout_ms=0)
    file.write_bytes(sleeper.program(sleeper.ASSEMBLERS[kind], sleep))
    file.chmod(0o755)
    command = [str(file)] if kind == platform.machine() else [f"qemu-{kind}", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{process.pid}/comm").read_text() != "again\n":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    new = tmp_path / "new"
    new.write_text("#!/bin/sh\necho there\n")
    new.chmod(0o755)
    new.rename(script)
    assert process.communicate(timeout=20)[0] == b"there\n"


def test_it_is_small_and_cannot_write_to_itself() -> None:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.set_inheritable(read, True)
        try:
            sleep = sleeper.Sleep(
                "small", "/bin/true", ["true"], descriptors=[read], signals=_SIGNALS
            )
            sleeper.execute(sleep, title="a title", environment={"A": "b"})
        finally:
            os._exit(1)
    folder = Path(f"/proc/{pid}")
    deadline = time.monotonic() + 20
    while (folder / "comm").read_text() != "small\n":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert (folder / "cmdline").read_bytes() == b"a title\0"
    assert (folder / "environ").read_bytes() == b"A=b\0"
    rollup = (folder / "smaps_rollup").read_text()
    assert int(rollup.split("Pss:")[1].split()[0]) <= 64
    for line in (folder / "maps").read_text().splitlines():
        assert "w" not in line.split()[1] or "x" not in line.split()[1], line
    os.write(write, b"x")
    assert os.waitpid(pid, 0)[1] == 0
    os.close(read)
    os.close(write)


def test_more_descriptors_than_it_can_name_are_refused() -> None:
    sleep = sleeper.Sleep("many", "/bin/true", [], descriptors=range(sleeper.MOST + 1))
    with pytest.raises(OSError, match="at most 400 descriptors, not 401") as caught:
        sleeper.execute(sleep, title="", environment={})
    assert caught.value.errno == errno.E2BIG


def test_another_kind_of_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sleeper, "ASSEMBLERS", {})
    with pytest.raises(OSError, match=f"for {platform.machine()} machines") as caught:
        sleeper.execute(sleeper.Sleep("none", "/bin/true", []), title="", environment={})
    assert caught.value.errno == errno.ENOTSUP
