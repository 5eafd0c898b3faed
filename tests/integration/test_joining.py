"""Namespaces shared with another container: each kind with each network, made before the other one runs or while it does."""

from __future__ import annotations

import itertools
import subprocess

import pytest

from tests.support import host
from tests.support.engine import Engine

SLEEP = ("host", "sleep", "1000")
NAMESPACE = {"pid": "pid", "ipc": "ipc", "uts": "uts", "cgroupns": "cgroup", "userns": "user"}


@pytest.fixture
def other(rootless: Engine) -> Engine:
    rootless.ok("run", "-d", "--name", "x", "--network", "none", *SLEEP)
    return rootless


@pytest.mark.needs("tun")
@pytest.mark.parametrize(("kind", "network"), [*itertools.product(NAMESPACE, ("none", "pasta"))])
def test_one_namespace_is_shared(other: Engine, kind: str, network: str) -> None:
    if network == "pasta":
        host.require("pasta")
    link = f"/proc/self/ns/{NAMESPACE[kind]}"
    theirs = other.ok("exec", "x", "readlink", link)
    script = f"readlink {link}; readlink /proc/self/ns/net; ls /sys/class/net | grep -vc lo"
    result = other("run", "--rm", "--network", network, f"--{kind}", "container:x", "host", "sh", "-c", script)  # fmt: skip
    shared, net, interfaces = result.lines
    assert shared == theirs, result
    assert net != other.ok("exec", "x", "readlink", "/proc/self/ns/net")
    assert interfaces == ("0" if network == "none" else "1")


def test_shared_memory_comes_with_the_ipc_namespace(other: Engine) -> None:
    other.ok("exec", "x", "sh", "-c", "echo through > /dev/shm/f")
    script = "cat /dev/shm/f; echo back > /dev/shm/g; grep -c ' /dev/shm tmpfs rw,nosuid,nodev,noexec' /proc/self/mounts"
    out = other.ok("run", "--rm", "--network", "none", "--ipc", "container:x", "host", "sh", "-c", script)  # fmt: skip
    assert out == "through\n1"
    assert other.ok("exec", "x", "cat", "/dev/shm/g") == "back"


@pytest.mark.parametrize("option", ["--network", "--pid", "--ipc", "--uts", "--userns"])
def test_created_before_the_other_one_runs(rootless: Engine, option: str) -> None:
    """As Podman: the other one is started first when this one is."""
    rootless.ok("create", "--name", "x", "--network", "none", *SLEEP)
    network = () if option == "--network" else ("--network", "none")
    rootless.ok("create", "--name", "y", *network, option, "container:x", "host", "echo", "here")
    assert rootless.ok("start", "-a", "y") == "here"
    assert rootless.ok("ps", "--format", "{{.Names}}") == "x"


def test_host_namespace_of_the_other_one(rootless: Engine) -> None:
    """What it shares with the host is shared with the host."""
    rootless.ok("run", "-d", "--name", "x", "--network", "host", "--uts", "host", *SLEEP)
    script = "readlink /proc/self/ns/net /proc/self/ns/uts"
    theirs = rootless.ok("exec", "x", "sh", "-c", script)
    words = ("--network", "container:x", "--uts", "container:x", "host", "sh", "-c", script)
    assert rootless.ok("run", "--rm", *words) == theirs


def test_case_03_joiner_cannot_be_traced(other: Engine) -> None:
    """A process that shares the pid namespace may not look into one that is being set up there."""
    script = (
        "until test -e /tmp/stop; do for p in /proc/[0-9]*; do "
        'case $(readlink $p/fd/* $p/cwd $p/exe 2>/dev/null) in *"$0"*|*python*) echo LEAK;; esac; done; done'
    )
    attacker = other.popen("exec", "x", "sh", "-c", script, other.word, stdout=subprocess.PIPE)
    for _ in range(3):
        other.ok("run", "--rm", "--network", "none", "--pid", "container:x", "host", "true")
    other.ok("exec", "x", "touch", "/tmp/stop")
    out, _ = attacker.communicate(timeout=60)
    assert out == b""
