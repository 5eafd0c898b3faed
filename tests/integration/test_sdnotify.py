"""--sdnotify, socket activation and the passthrough log driver: what systemd gives to a service reaches its container."""

from __future__ import annotations

import os
import pty
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.container.service import check_passthrough
from rootless.errors import RootlessError
from tests.support.engine import Engine

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
    """The container serves a socket that was opened before it, by name and with the pid that it sees itself as."""
    script = (
        "import os,socket; assert os.environ['LISTEN_PID'] == str(os.getpid()), os.environ; "
        "assert os.environ['LISTEN_FDS'] == '1' and os.environ['LISTEN_FDNAMES'] == 'web'; "
        "s=socket.socket(fileno=3); c,_=s.accept(); c.sendall(b'hello'); c.close()"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        # systemd's own way: the pid is known in the child only.
        starter = (
            "import os,sys; os.dup2(int(sys.argv[1]), 3, inheritable=True); "
            "os.environ.update(LISTEN_FDS='1', LISTEN_FDNAMES='web', LISTEN_PID=str(os.getpid())); "
            "os.execvp(sys.argv[2], sys.argv[2:])"
        )
        program = rootless.program
        rootless.program = ["python3", "-c", starter, str(server.fileno()), *program]
        try:
            rootless.ok(
                "run", "-d", "--name", "sa1", "--network", "none", "host", "python3", "-c", script,
                pass_fds=(server.fileno(),),
            )  # fmt: skip
        finally:
            rootless.program = program
        with socket.create_connection(server.getsockname(), timeout=30) as client:
            assert client.recv(100) == b"hello"
    assert rootless.ok("wait", "sa1") == "0"


def test_sockets_for_another_process_are_not_passed(rootless: Engine) -> None:
    show = ("run", "--rm", "host", "sh", "-c", 'echo "[$LISTEN_FDS]"')
    assert rootless.ok(*show, env={"LISTEN_FDS": "1", "LISTEN_PID": "1"}) == "[]"


def test_passthrough(rootless: Engine, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from a file\n")
    with open(tmp_path / "in") as given, open(tmp_path / "out", "w") as taken:
        process = rootless.popen(
            "run", "--name", "pt1", "--log-driver", "passthrough", "host", "sh", "-c", "cat; echo err >&2",
            stdin=given, stdout=taken, stderr=taken,
        )  # fmt: skip
        assert process.wait(60) == 0
    assert (tmp_path / "out").read_text() == "from a file\nerr\n"
    assert "cannot read logs" in rootless.fails("logs", "pt1")


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
    words = ("run", "--rm", "--log-driver", "passthrough", "host", "true")
    master, slave = pty.openpty()
    process = rootless.popen(*words, stdin=slave, stdout=-1, stderr=-1)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 125 and b"cannot be used on a terminal" in told
    process = rootless.popen(
        "run",
        "--rm",
        "--log-driver",
        "passthrough-tty",
        "host",
        "sh",
        "-c",
        "test -t 0",
        stdin=slave,
    )
    assert process.wait(60) == 0
    os.close(master)
    os.close(slave)
