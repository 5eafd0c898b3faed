"""What systemd gives to a command for its container, and whether it gets there: streams as they are, and sockets.

Each takes the command's global options: the cases hold under every runtime.
"""

from __future__ import annotations

import os
import pty
import socket
from pathlib import Path

from tests.support.engine import Engine, Result

SERVE = (
    "import os,socket; assert os.environ['LISTEN_PID'] == str(os.getpid()), os.environ; "
    "assert os.environ['LISTEN_FDS'] == '1' and os.environ['LISTEN_FDNAMES'] == 'web'; "
    "s=socket.socket(fileno=3); c,_=s.accept(); c.sendall(b'hello'); c.close()"
)
# systemd's own way: the pid is known in the child only.
ACTIVATE = (
    "import os,sys; os.dup2(int(sys.argv[1]), 3, inheritable=True); "
    "os.environ.update(LISTEN_FDS='1', LISTEN_FDNAMES='web', LISTEN_PID=str(os.getpid())); "
    "os.execvp(sys.argv[2], sys.argv[2:])"
)


def passes_streams(engine: Engine, folder: Path, *options: str) -> None:
    """`--log-driver passthrough`: the container reads the command's own input and writes its own output."""
    (folder / "in").write_text("from a file\n")
    with open(folder / "in") as given, open(folder / "out", "w") as taken:
        process = engine.popen(
            *options, "run", "--name", "pt1", "--network", "none", "--log-driver", "passthrough", "host",
            "sh", "-c", "cat; echo err >&2",
            stdin=given, stdout=taken, stderr=taken,
        )  # fmt: skip
        assert process.wait(60) == 0
    assert (folder / "out").read_text() == "from a file\nerr\n"
    assert "cannot read logs" in engine.fails("logs", "pt1")


def refuses_terminals(engine: Engine, *options: str) -> None:
    """A terminal is passed on where `passthrough-tty` asks for it only."""
    words = (*options, "run", "--rm", "--network", "none", "--log-driver")
    master, slave = pty.openpty()
    process = engine.popen(*words, "passthrough", "host", "true", stdin=slave, stdout=-1, stderr=-1)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 125 and b"cannot be used on a terminal" in told
    process = engine.popen(
        *words, "passthrough-tty", "host", "sh", "-c", "test -t 0", stdin=slave
    )  # fmt: skip
    assert process.wait(60) == 0
    os.close(master)
    os.close(slave)


def activated(engine: Engine, server: socket.socket, *words: str) -> Result:
    """Run the command as systemd does for a socket unit."""
    program = engine.program
    engine.program = ["python3", "-c", ACTIVATE, str(server.fileno()), *program]
    try:
        return engine(*words, pass_fds=(server.fileno(),))
    finally:
        engine.program = program


def serves_socket(engine: Engine, *options: str) -> None:
    """The container serves a socket that was opened before it, by name and with the pid that it sees itself as."""
    words = (*options, "run", "-d", "--name", "sa1", "--network", "none", "host")
    with socket.create_server(("127.0.0.1", 0)) as server:
        started = activated(engine, server, *words, "python3", "-c", SERVE)
        assert started.code == 0, started
        with socket.create_connection(server.getsockname(), timeout=30) as client:
            assert client.recv(100) == b"hello"
    assert engine.ok("wait", "sa1") == "0"
