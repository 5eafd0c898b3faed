"""slirp as a library: a namespace of the caller's is connected, published and let go, without the engine."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import slirp
from rootless.errors import Conflict, NotFound, Usage
from rootless.linux.sched import CLONE_NEWNET, unshare
from slirp.connect import connect
from tests.support import host
from tests.support.namespaces import Namespaces

pytestmark = pytest.mark.needs("userns", "tun")

#: What slirp is built upon: system calls and errors; nothing that knows a container, a setting or a user's folders.
BASE = {"errors", "files", "interpreter", "linux", "quickjson"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _serve_one(space: Namespaces, port: int) -> int:
    """The pid of a server in the namespace that sends one client's words back; it listens on return."""
    reads, writes = os.pipe()
    pid = os.fork()
    if not pid:
        try:

            def body() -> None:
                with socket.create_server(("0.0.0.0", port)) as server:
                    os.write(writes, b"x")
                    client, _ = server.accept()
                    client.sendall(client.recv(100).upper())
                    client.close()

            space.inside(body)
        finally:
            os._exit(0)
    os.close(writes)
    assert os.read(reads, 1) == b"x"
    os.close(reads)
    return pid


@pytest.mark.parametrize("driver", ["pasta", "slirp4netns"])
@pytest.mark.parametrize("named", ["pid", "path"])
def test_namespace_is_connected(space: Namespaces, driver: str, named: str) -> None:
    host.require(driver)
    port = _free_port()
    target: int | str = space.pid if named == "pid" else f"/proc/{space.pid}/ns/net"
    with connect(target, driver=driver, publish=[f"127.0.0.1:{port}:7777"]) as connection:
        assert (connection.driver, connection.ports[0].host_port) == (driver, port)
        server = _serve_one(space, 7777)
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(b"words")
            assert client.recv(100) == b"WORDS"
        os.waitpid(server, 0)
        with pytest.raises(Conflict, match=str(port)):
            connect(space.pid, driver=driver, publish=[f"127.0.0.1:{port}:7777"])
        alive = connection.pidfds()
        assert alive and not select.select(alive, [], [], 0)[0]
    assert connection.pidfds() == []
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_what_cannot_be_connected(space: Namespaces, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotFound, match="No such file"):
        connect(str(tmp_path / "nothing"))
    for path in (str(tmp_path / "file"), f"/proc/{space.pid}/ns/user"):
        with pytest.raises(Usage, match="is no network namespace"):
            connect(path)
    with pytest.raises(Usage, match="own network"):
        connect(os.getpid())
    with pytest.raises(Usage, match="unknown network driver 'bridge'"):
        connect(space.pid, driver="bridge")


@pytest.mark.needs("pasta")
def test_inside_the_user_namespace_that_owns_it(space: Namespaces) -> None:
    def body() -> None:
        told, tell = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                unshare(CLONE_NEWNET)
                os.write(tell, b"x")
                signal.pause()
            finally:
                os._exit(1)
        try:
            assert os.read(told, 1) == b"x"
            with connect(pid, driver="pasta") as connection:
                alive = connection.pidfds()
                assert alive and not select.select(alive, [], [], 0)[0]
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    space.inside(body)


def test_no_module_of_it_loads_the_engine() -> None:
    names = sorted(path.stem for path in Path(slirp.__path__[0]).glob("[a-z]*.py"))
    program = (
        f"import importlib, sys\nfor name in {names}: importlib.import_module('slirp.' + name)\n"
        "print(*(name.split('.')[1] for name in sys.modules if name.startswith('rootless.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert names and set(done.stdout.split()) <= BASE
