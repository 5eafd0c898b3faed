"""What is told to systemd, and what a container may tell it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.errors import RootlessError
from rootless.systemd import notify


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "s"))
        end.settimeout(5)
        yield end


def test_send(manager: socket.socket, tmp_path: Path) -> None:
    assert notify.Notifier(str(tmp_path / "s")).send("MAINPID=5", "READY=1")
    assert manager.recv(100) == b"MAINPID=5\nREADY=1"


def test_nobody_listens(tmp_path: Path) -> None:
    assert not notify.Notifier(str(tmp_path / "none")).send("READY=1")


def test_abstract_socket() -> None:
    end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    end.bind(f"\0rlt-notify-{os.getpid()}")
    end.settimeout(5)
    assert notify.Notifier(f"@rlt-notify-{os.getpid()}").send("READY=1")
    assert end.recv(100) == b"READY=1"
    end.close()


def test_other_addresses() -> None:
    with pytest.raises(RootlessError):
        notify.Notifier("vsock:2:3")
    assert notify.Notifier.of({}) is None
    assert notify.Notifier.of({"NOTIFY_SOCKET": ""}) is None


def test_a_container_says_what_is_its_own_only() -> None:
    text = b"READY=1\nMAINPID=7\nSTATUS=a=b\nFDSTORE=1\nBARRIER=1\nX\nWATCHDOG=1\nREADY"
    assert notify.allowed(text) == ["READY=1", "STATUS=a=b", "WATCHDOG=1"]


def test_proxy(manager: socket.socket, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    proxy = notify.Proxy(str(folder), notify.Notifier(str(tmp_path / "s")))
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    here = os.open(folder, os.O_PATH)
    sender.connect(f"/proc/self/fd/{here}/notify.sock")
    read_end, write_end = os.pipe()
    socket.send_fds(sender, [b"BARRIER=1\nREADY=1\nMAINPID=1"], [write_end])
    os.close(write_end)
    proxy.handle()
    assert manager.recv(100) == b"READY=1"
    assert (
        os.read(read_end, 1) == b""
    )  # the barrier is lifted: nobody holds the descriptor any more
    proxy.close()
    sender.close()
    os.close(here)
    os.close(read_end)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "x", "LISTEN_PID": "77"},
        {"LISTEN_FDS": "0", "LISTEN_PID": "77"},
    ],
)
def test_no_activation(environ: dict[str, str]) -> None:
    assert notify.Activation.of(environ, 77) is None


def test_activation_needs_its_descriptors() -> None:
    with pytest.raises(RootlessError, match="is not open"):
        notify.Activation.of({"LISTEN_FDS": "4000", "LISTEN_PID": "77"}, 77)


def test_activation_is_passed_on() -> None:
    found = notify.Activation(2, "a:b")
    assert found.variables(1) == ["LISTEN_FDS=2", "LISTEN_PID=1", "LISTEN_FDNAMES=a:b"]
    assert notify.without(["A=1", "LISTEN_PID=4", "NOTIFY_SOCKET=/x"]) == ["A=1"]
