"""Options that stand before the command: each does what it says or is refused, none is passed over."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.support.engine import Engine


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--runtime nosuch", 'default OCI runtime "nosuch" not found: invalid argument; install '),
        ("--runtime /no/such", "no valid executable found for OCI runtime /no/such"),
        ("--runtime-flag debug", "takes no such flags; name the runtime that they are for with"),
        ("--tmpdir /tmp", "--tmpdir is not supported: what is gone after a reboot lies in one"),
        ("--transient-store", "--transient-store is not supported: containers are not kept in"),
        ("--conmon /usr/bin/conmon", "--conmon is not supported: rootless has its own monitor"),
        ("--remote", "--remote is not supported: rootless has no service to connect to"),
        ("--events-backend journald", "there is no journal to write to"),
        ("--hooks-dir /nope", "--hooks-dir /nope: no such directory"),
        ("--network-cmd-path /nope", "--network-cmd-path /nope: no such program"),
        ("--module nope", 'could not resolve module "nope": there is no '),
        ("--storage-driver btrfs", '"btrfs" is not a valid value'),
        ("--cgroup-manager x", '"x" is not a valid value'),
    ],
)
def test_refused(rootless: Engine, options: str, message: str) -> None:
    error = rootless.fails(*options.split(), "ps")
    assert message in error and error.startswith("Error: ") and error.count("\n") <= 2


def test_parts_of_the_store_elsewhere(rootless: Engine, tmp_path: Path) -> None:
    images, volumes, networks = (str(tmp_path / name) for name in ("images", "volumes", "networks"))
    assert rootless.ok("--imagestore", images, "run", "--rm", "host", "echo", "hi") == "hi"
    assert (tmp_path / "images").is_dir()
    rootless.ok("--volumepath", volumes, "volume", "create", "v")
    assert (tmp_path / "volumes/v").is_dir() and rootless.ok("volume", "ls", "-q") == ""
    rootless.ok("--network-config-dir", networks, "network", "create", "n")
    assert (tmp_path / "networks/n.json").is_file()
    assert "n" not in rootless.ok("network", "ls", "--format", "{{.Name}}").split()


def test_no_events(fresh: Engine) -> None:
    fresh.ok("--events-backend", "none", "run", "--rm", "--network", "none", "host", "true")
    assert fresh.ok("events", "--stream=false") == ""
    assert '"none" backend' in fresh.fails("--events-backend", "none", "events", "--stream=false")


def test_module(rootless: Engine) -> None:
    folder = rootless.home / ".config/containers/containers.conf.modules"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dark").write_text('[containers]\nenv = ["SHADE=dark"]\n')
    command = ("run", "--rm", "--network", "none", "host", "sh", "-c", "echo $SHADE")
    assert rootless.ok("--module", "dark", *command) == "dark"
    assert rootless.ok("--module", str(folder / "dark"), *command) == "dark"
    assert rootless.ok(*command) == ""


def test_hooks_dir(rootless: Engine, tmp_path: Path) -> None:
    (tmp_path / "hook").write_text(f"#!/bin/sh\ncat > {tmp_path}/state\n")
    (tmp_path / "hook").chmod(0o755)
    (tmp_path / "a.json").write_text(
        json.dumps(
            {
                "version": "1.0.0",
                "hook": {"path": f"{tmp_path}/hook"},
                "when": {"always": True},
                "stages": ["prestart"],
            }
        )
    )
    rootless.ok("--hooks-dir", str(tmp_path), "run", "--rm", "--network", "none", "host", "true")
    assert '"ociVersion"' in (tmp_path / "state").read_text()


@pytest.mark.needs("no-syslog")
def test_syslog_that_is_not_there(rootless: Engine) -> None:
    assert "--syslog: /dev/log: no such file" in rootless.fails("--syslog", "ps")


def test_syslog_gets_messages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from rootless import log

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "log"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(str(tmp_path / "log"))
            monkeypatch.setattr(log, "_syslog", sender)
            log.warn("something")
        assert listener.recv(100).startswith(b"<12>rootless[")
