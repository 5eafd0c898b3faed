"""Namespaces shared with another container: each kind with each network, made before the other one runs or while it does."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator

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


# --- by a path ---


class Holder:
    """A process in namespaces of its own, as another tool has made them; it ends with its standard input."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            [*command, "sh", "-c", "echo $$; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        self.pid = int(self.process.stdout.readline())

    def path(self, kind: str) -> str:
        return f"/proc/{self.pid}/ns/{kind}"

    def close(self) -> None:
        self.process.communicate(timeout=20)


@pytest.fixture
def holder(request: pytest.FixtureRequest) -> Iterator[Holder]:
    found = Holder("unshare", *request.param)
    yield found
    found.close()


NETWORK = "readlink /proc/self/ns/net; ls /sys/class/net; wc -l < /proc/self/uid_map"


@pytest.mark.parametrize(
    ("holder", "ranges"),
    [
        pytest.param(["-r", "-n"], "1", id="one-id"),
        pytest.param(["--map-root-user", "--map-auto", "-n"], "2", id="all-ids", marks=pytest.mark.needs("subids")),
    ],
    indirect=["holder"],
)  # fmt: skip
def test_network_of_a_foreign_user_namespace(rootless: Engine, holder: Holder, ranges: str) -> None:
    """What `unshare` has made belongs to a user namespace of the user's, with the ids that it has."""
    path = holder.path("net")
    run = ("run", "--name", "j", "--network", f"ns:{path}", "host", "sh", "-c", NETWORK)
    assert rootless.ok(*run).splitlines() == [os.readlink(path), "lo", ranges]
    assert rootless.inspect("j")["HostConfig"]["NetworkMode"] == f"ns:{path}"
    assert rootless.ok("start", "-a", "j").splitlines()[0] == os.readlink(path)


@pytest.mark.needs("tun", "nft", "pasta")
@pytest.mark.parametrize("network", ["pasta", "podman"])
@pytest.mark.parametrize("own", [(), ("--userns", "keep-id")])
def test_network_of_a_container_by_path(
    rootless: Engine, network: str, own: tuple[str, ...]
) -> None:
    """Each way to name it, with its ids and with others, which are then mapped below it."""
    rootless.ok("run", "-d", "--name", "x", "--network", network, *SLEEP)
    theirs = rootless.ok("exec", "x", "sh", "-c", "readlink /proc/self/ns/net; ip -4 -o addr")
    pid = rootless.inspect("x")["State"]["Pid"]
    script = "readlink /proc/self/ns/net; ip -4 -o addr; id -u; readlink /proc/self/ns/user"
    users = rootless.ok("exec", "x", "readlink", "/proc/self/ns/user")
    for mode in ("container:x", f"ns:/proc/{pid}/ns/net"):
        out = rootless.ok("run", "--rm", *own, "--network", mode, "host", "sh", "-c", script)
        *shown, uid, user = out.splitlines()
        assert shown == theirs.splitlines()
        assert uid == (str(os.getuid()) if own else "0")
        assert (user == users) == (not own)


@pytest.mark.needs("tun", "pasta")
def test_address_and_name_servers_of_a_joined_network(rootless: Engine) -> None:
    """As Podman shows and writes them: what is found in there, and no server that only the host reaches."""
    network = "pasta:-a,10.9.9.9,-n,24,-g,10.9.9.1,-4,-I,eth0"
    rootless.ok("run", "-d", "--name", "x", "--network", network, *SLEEP)
    pid = rootless.inspect("x")["State"]["Pid"]
    rootless.ok("run", "-d", "--name", "y", "--network", f"ns:/proc/{pid}/ns/net", *SLEEP)
    settings = rootless.inspect("y")["NetworkSettings"]
    assert (settings["IPAddress"], settings["IPPrefixLen"]) == ("10.9.9.9", 24)
    assert settings["MacAddress"] == rootless.ok("exec", "x", "cat", "/sys/class/net/eth0/address")
    assert "Networks" not in settings
    assert "nameserver 127." not in rootless.ok("exec", "y", "cat", "/etc/resolv.conf")
    rootless.ok("stop", "-t0", "y")
    assert rootless.inspect("y")["NetworkSettings"]["IPAddress"] == ""


@pytest.mark.peer
@pytest.mark.needs("podman", "subids")
def test_network_in_podmans_user_namespace(rootless: Engine) -> None:
    """Where its containers have theirs."""
    store = [f"--{one}={rootless.folder}/p{one}" for one in ("root", "runroot")]
    podman = Holder("podman", *store, "unshare", "unshare", "-n")
    try:
        path = podman.path("net")
        out = rootless.ok("run", "--rm", "--network", f"ns:{path}", "host", "sh", "-c", NETWORK)
        assert out.splitlines() == [os.readlink(path), "lo", "2"]
    finally:
        podman.close()
        subprocess.run(["podman", *store, "system", "reset", "-f"], check=True, timeout=60, capture_output=True)  # fmt: skip


@pytest.mark.parametrize("holder", [["-r", "-n", "-i", "-u"]], indirect=True)
def test_other_kinds_by_path(rootless: Engine, holder: Holder) -> None:
    kinds = {"net": "--network", "ipc": "--ipc", "uts": "--uts"}
    words = [word for kind, option in kinds.items() for word in (option, f"ns:{holder.path(kind)}")]
    links = [f"/proc/self/ns/{kind}" for kind in kinds]
    out = rootless.ok("run", "--rm", *words, "host", "readlink", *links)
    assert out.splitlines() == [os.readlink(holder.path(kind)) for kind in kinds]


@pytest.mark.parametrize("holder", [["-U", "-n", "-u"]], indirect=True)
def test_paths_that_cannot_be_joined(rootless: Engine, holder: Holder) -> None:
    """One line each, with the path and the reason."""
    for option, path, words in (
        ("--network", "/nonexistent", "cannot find specified network namespace path: stat /nonexistent: no such file or directory"),
        ("--pid", "/nonexistent", "cannot find specified PID namespace path"),
        ("--network", "/etc/passwd", "cannot join the network namespace /etc/passwd: it is none"),
        ("--network", holder.path("uts"), "it is none; the file wanted is one as /proc/PID/ns/net"),
        ("--network", holder.path("net"), "no ids are mapped in its user namespace"),
        ("--network", "/proc/1/ns/net", "permission denied"),
    ):  # fmt: skip
        message = rootless.fails("run", "--rm", option, f"ns:{path}", "host", "true")
        assert words in message
        assert len(message.splitlines()) == 1
    # Ours already is the host's.
    out = rootless.ok("run", "--rm", "--network", "ns:/proc/self/ns/net", "host", "readlink", "/proc/self/ns/net")  # fmt: skip
    assert out == os.readlink("/proc/self/ns/net")


def test_own_ids_and_what_goes_with_a_user_namespace(other: Engine) -> None:
    for option in ("--pid", "--ipc"):
        message = other.fails(
            "run", "--rm", "--userns", "keep-id", option, "container:x", "host", "true"
        )
        assert f"--userns and a joined {option[2:]} namespace exclude each other" in message
