"""`image scp` through a real ssh server on loopback, which serves this very user with another home."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.errors import RootlessError
from rootless.image.scp import parse, plan
from tests.support import host, images
from tests.support.engine import Engine
from tests.support.images import file

NAME = "localhost/copied:1"


class SshServer:
    """sshd as this user: `other` is the host of `ssh`, with the environment of an engine of its own."""

    def __init__(self, folder: Path, there: Engine) -> None:
        program = host.program("sshd")
        assert program
        for name in ("host", "user"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)],
                check=True,
            )
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        (folder / "keys").write_bytes((folder / "user.pub").read_bytes())
        bin = folder / "bin"
        bin.mkdir()
        (bin / "rootless").write_text(f'#!/bin/sh\nexec {" ".join(there.program)} "$@"\n')
        (bin / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {folder}/config "$@"\n')
        for name in ("rootless", "ssh"):
            (bin / name).chmod(0o755)
        env = {**there.env, "PATH": f"{bin}:/usr/bin:/bin"}
        words = " ".join(f'"{key}={value}"' for key, value in env.items() if value)
        (folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {folder}/host\nPidFile none\nUsePAM no\n"
            f"StrictModes no\nAuthorizedKeysFile {folder}/keys\nSetEnv {words}\n"
        )
        (folder / "config").write_text(
            f"Host other\n  HostName 127.0.0.1\n  Port {self.port}\nHost *\n  IdentityFile {folder}/user\n"
            "  BatchMode yes\n  StrictHostKeyChecking no\n  LogLevel ERROR\n"
            f"  UserKnownHostsFile {folder}/known\n"
        )
        self.path = f"{bin}:{os.environ['PATH']}"
        self._process = subprocess.Popen(
            [program, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                assert self._process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)  # it says nowhere else that it listens

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)


@pytest.fixture
def hosts(fresh: Engine, tmp_path: Path) -> Iterator[tuple[Engine, Engine, SshServer]]:
    there = Engine()
    server = SshServer(there.folder, there)
    fresh.env["PATH"] = server.path
    archive = images.docker_archive(tmp_path / "i.tar", [images.layer([file("f", b"1")])], [NAME])
    fresh.ok("load", "-q", "-i", str(archive))
    yield fresh, there, server
    server.close()
    there.close()


@pytest.mark.needs("userns", "subids", "sshd", "ssh")
def test_an_image_there_and_back(hosts: tuple[Engine, Engine, SshServer]) -> None:
    here, there, server = hosts
    identity = here.ok("image", "inspect", "-f", "{{.Id}}", NAME)
    result = here("image", "scp", NAME, "other::")
    assert (result.code, result.out) == (0, f"Loaded image: {NAME}\n"), result
    assert there.ok("image", "inspect", "-f", "{{.Id}}", NAME) == identity
    here.ok("rmi", NAME)
    # By address, user and port.
    me = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    place = f"{me}@127.0.0.1:{server.port}::{NAME}"
    assert here.ok("image", "scp", place) == f"Loaded image: {NAME}"
    assert here.ok("image", "inspect", "-f", "{{.Id}}", NAME) == identity
    assert here.ok("image", "scp", "-q", NAME, "other::") == ""
    # From host to host, both of which are the same here.
    assert here.ok("image", "scp", f"other::{NAME}", f"{me}@127.0.0.1:{server.port}::") == (
        f"Loaded image: {NAME}"
    )


@pytest.mark.needs("userns", "subids", "sshd", "ssh")
def test_what_goes_wrong_there_is_told(hosts: tuple[Engine, Engine, SshServer]) -> None:
    here, _, _ = hosts
    said = here.fails("image", "scp", "other::nosuch")
    assert "nosuch: image not known" in said
    assert "other::nosuch: ssh ended with exit status 125" in said
    assert "nosuch: image not known" in here.fails("image", "scp", "nosuch", "other::")
    said = here.fails("image", "scp", NAME, "127.0.0.1:1::")
    assert "Connection refused" in said
    assert "ssh ended with exit status 255" in said
    here.env["PATH"] = "/nonexistent"
    assert "ssh: no such program" in here.fails("image", "scp", NAME, "other::")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a"], "must specify a destination"),
        (["host::"], "no source image specified"),
        (["a", "b"], "from here to here"),
        (["me@localhost::a"], "from here to here"),
        (["host::a", "other::b"], "cannot specify an image rename"),
        (["a", "b@localhost::"], "only root can reach other users' images"),
        (["-oProxyCommand=x::a"], "no host before the colons"),
        (["a", "host:x::"], "'x' is no port"),
    ],
)
def test_arguments_that_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(RootlessError, match=message):
        plan(words, 1000, "me")


def test_places() -> None:
    assert parse("a").is_here
    assert parse("h::a").command("load")[:3] == ["ssh", "--", "h"]
    assert parse("me@h:22::a:1").command("save", "a:1")[:5] == ["ssh", "-p", "22", "--", "me@h"]
    source, destination = plan(["a@localhost::x", "b@localhost::"], 0, "root")
    assert source.command("save", source.image)[:3] == ["su", "-l", "a"]
    assert destination.user == "b"
    # What an image is called is one word there.
    assert "'a; b'" in parse("h::x").command("save", "a; b")[-1]
