"""--sdnotify, socket activation and the passthrough log driver: what systemd gives to a service reaches its container."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.container.service import check_passthrough
from rootless.errors import RootlessError
from tests.support.engine import Engine
from tests.support.service import passes_streams, refuses_terminals, serves_socket

SEND = "python3 -c 'import os,socket,sys; s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); s.connect(os.environ[\"NOTIFY_SOCKET\"]); s.send(sys.argv[1].encode())' "


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "n"))
        end.settimeout(30)
        yield end


def monitor(rootless: Engine, name: str) -> int:
    return int(rootless.inspect(name)["State"]["ConmonPid"])


def run(rootless: Engine, tmp_path: Path, name: str, *words: str) -> None:
    rootless.ok("run", "-d", "--name", name, *words, env={"NOTIFY_SOCKET": str(tmp_path / "n")})


def test_conmon(rootless: Engine, manager: socket.socket, tmp_path: Path) -> None:
    show = 'echo "[$NOTIFY_SOCKET]"; exec sleep 1000'
    run(rootless, tmp_path, "sd1", "--sdnotify", "conmon", "host", "sh", "-c", show)
    assert manager.recv(1000).decode() == f"MAINPID={monitor(rootless, 'sd1')}\nREADY=1"
    assert rootless.ok("exec", "sd1", "sh", "-c", "ls /run/notify 2>&1; true") != "notify.sock"


def test_container(rootless: Engine, manager: socket.socket, tmp_path: Path) -> None:
    script = SEND + '"$(printf "MAINPID=1\\nSTATUS=a\\nREADY=1")"; exec sleep 1000'
    run(rootless, tmp_path, "sd2", "--user", "nobody", "host", "sh", "-c", script)
    assert manager.recv(1000).decode() == f"MAINPID={monitor(rootless, 'sd2')}"
    assert manager.recv(1000) == b"STATUS=a\nREADY=1"
    found = rootless.ok("exec", "sd2", "sh", "-c", "echo $NOTIFY_SOCKET")
    assert found == "/run/notify/notify.sock"


def test_container_after_a_restart(
    rootless: Engine, manager: socket.socket, tmp_path: Path
) -> None:
    script = SEND + "STATUS=again; exit 1"
    run(rootless, tmp_path, "sd3", "--restart", "on-failure:1", "host", "sh", "-c", script)
    assert manager.recv(1000).startswith(b"MAINPID=")
    assert [manager.recv(1000) for _ in range(2)] == [b"STATUS=again"] * 2


def test_healthy(rootless: Engine, manager: socket.socket, tmp_path: Path) -> None:
    check = ("--health-cmd", "test -e /tmp/ok", "--health-interval", "50ms")
    run(rootless, tmp_path, "sd4", "--sdnotify", "healthy", *check, "host", "sleep", "1000")
    assert manager.recv(1000).decode() == f"MAINPID={monitor(rootless, 'sd4')}"
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(1000)
    manager.settimeout(30)
    rootless.ok("exec", "sd4", "touch", "/tmp/ok")
    assert manager.recv(1000) == b"READY=1"


def test_healthy_needs_a_check(rootless: Engine) -> None:
    assert "no healthcheck set" in rootless.fails(
        "run", "--rm", "--sdnotify", "healthy", "host", "true"
    )


def test_ignore(rootless: Engine, manager: socket.socket, tmp_path: Path) -> None:
    show = ("host", "sh", "-c", 'echo "[$NOTIFY_SOCKET]"')
    env = {"NOTIFY_SOCKET": str(tmp_path / "n")}
    assert rootless.ok("run", "--rm", "--sdnotify", "ignore", *show, env=env) == "[]"
    assert rootless.ok("run", "--rm", "--sdnotify", "ignore", "--env-host", *show, env=env) == "[]"
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(1000)


def test_socket_activation(rootless: Engine) -> None:
    serves_socket(rootless)


def test_sockets_for_another_process_are_not_passed(rootless: Engine) -> None:
    show = ("run", "--rm", "host", "sh", "-c", 'echo "[$LISTEN_FDS]"')
    assert rootless.ok(*show, env={"LISTEN_FDS": "1", "LISTEN_PID": "1"}) == "[]"


def test_passthrough(rootless: Engine, tmp_path: Path) -> None:
    passes_streams(rootless, tmp_path)


def test_passthrough_refuses_folders(tmp_path: Path) -> None:
    """A folder would be a way out. Python refuses to start with one; the check is for the day it does not."""
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(tmp_path, os.O_RDONLY), 1)
            os.dup2(os.open("/dev/null", os.O_RDWR), 0)
            check_passthrough("passthrough")
        except RootlessError as error:
            os._exit(77 if "descriptor 1 is a folder" in str(error) else 1)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 77


def test_passthrough_refuses_terminals(rootless: Engine) -> None:
    refuses_terminals(rootless)
