"""rootless-oci where systemd delegates cgroups: limits, freezer and statistics, by itself and below rootless podman."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.oci import base_spec, make_rootfs
from tests.vm.guest.conftest import Command, cgroup_of, until

UNIFIED = Path("/sys/fs/cgroup")
MANAGER = "/user.slice/user-1000.slice/user@1000.service"
LIMITS = {"memory": {"limit": 64 << 20}, "pids": {"limit": 40}, "cpu": {"quota": 50000, "period": 100000}}  # fmt: skip


class Oci(Command):
    """The runtime, with a bundle for each container and none of them left."""

    def __init__(self, folder: Path, *words: str) -> None:
        super().__init__("rootless-oci", "--root", str(folder / "s"), *words)
        self.folder = folder

    def start(self, name: str, change: Callable[[dict[str, Any]], object]) -> Path:
        """A container that sleeps; the folder of its cgroup."""
        bundle = self.folder / name
        make_rootfs(bundle / "rootfs")
        spec = base_spec("sleep", "100000")
        spec["linux"]["namespaces"].append({"type": "cgroup"})
        change(spec)
        (bundle / "config.json").write_text(json.dumps(spec))
        words = [*self.front, "run", "--detach", "--bundle", str(bundle), name]
        subprocess.run(words, stdin=-3, stdout=-3, stderr=-3, check=True, timeout=300)
        return Path(f"{UNIFIED}{cgroup_of(self.state(name)['pid'])}")

    def state(self, name: str) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.ok("state", name))
        return state


@pytest.fixture
def oci(tmp_path: Path) -> Iterator[Oci]:
    command = Oci(tmp_path, "--systemd-cgroup")
    yield command
    for name in command.ok("list", "-q").split():
        command.ok("delete", "--force", name)


def with_limits(path: str) -> Callable[[dict[str, Any]], object]:
    return lambda spec: spec["linux"].update(resources=LIMITS, cgroupsPath=path)


def test_a_scope_with_its_limits(oci: Oci) -> None:
    folder = oci.start("one", with_limits("user.slice:test:one"))
    assert folder == Path(f"{UNIFIED}{MANAGER}/user.slice/test-one.scope/container")
    assert (folder / "memory.max").read_text() == f"{64 << 20}\n"
    assert (folder / "pids.max").read_text() == "40\n"
    assert (folder / "cpu.max").read_text() == "50000 100000\n"
    inside = oci.ok("exec", "one", "cat", "/proc/self/cgroup")
    assert inside == "0::/"
    oci.ok("update", "--memory", "70m", "--pids-limit", "50", "one")
    assert (folder / "memory.max").read_text() == f"{70 << 20}\n"
    document = Path(oci.folder, "resources.json")
    document.write_text(json.dumps({"cpu": {"shares": 2048}, "pids": {"limit": 60}}))
    oci.ok("update", "--resources", str(document), "one")
    assert (folder / "pids.max").read_text() == "60\n"
    assert (folder / "cpu.weight").read_text() != "100\n"
    stats = json.loads(oci.ok("events", "--stats", "one"))
    assert (stats["type"], stats["id"]) == ("stats", "one")
    assert stats["data"]["pids"] == {"current": 1, "limit": 60}
    assert stats["data"]["memory"]["usage"]["limit"] == 70 << 20
    assert stats["data"]["cpu"]["usage"]["total"] > 0
    oci.ok("pause", "one")
    assert oci.state("one")["status"] == "paused"
    assert "frozen 1" in (folder / "cgroup.events").read_text()
    assert oci("exec", "one", "true").returncode == 255
    oci.ok("resume", "one")
    assert oci.state("one")["status"] == "running"
    assert json.loads(oci.ok("ps", "--format", "json", "one")) == [oci.state("one")["pid"]]
    oci.ok("kill", "--all", "one", "KILL")
    until(lambda: oci.state("one")["status"] == "stopped", "it is stopped")
    oci.ok("delete", "one")
    until(lambda: not folder.parent.exists(), "the scope goes with it")


def test_what_is_left_without_a_pid_namespace(oci: Oci) -> None:
    """Init's end is not the others': SIGKILL is for all, and delete ends by the cgroup what init leaves."""

    def change(spec: dict[str, Any]) -> None:
        with_limits("user.slice:test:two")(spec)
        spec["linux"]["namespaces"] = [
            one for one in spec["linux"]["namespaces"] if one["type"] != "pid"
        ]
        spec["mounts"][0] = {"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]}  # fmt: skip

    folder = oci.start("two", change)
    words = [*oci.front, "exec", "--detach", "--pid-file", str(oci.folder / "pid"), "two", "sleep", "100001"]  # fmt: skip
    subprocess.run(words, stdin=-3, stdout=-3, stderr=-3, check=True, timeout=300)
    other = int((oci.folder / "pid").read_text())
    assert cgroup_of(other) == cgroup_of(oci.state("two")["pid"])
    oci.ok("kill", "two", "KILL")
    until(lambda: not Path(f"/proc/{other}/cwd").exists(), "the other one is gone, too")
    until(lambda: oci.state("two")["status"] == "stopped", "it is stopped")
    oci.ok("delete", "two")
    assert not folder.exists()


def test_a_limit_that_cannot_be_had(oci: Oci) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        oci.start("three", lambda spec: spec["linux"].update(resources={"memory": {"kernel": 1 << 20}}))  # fmt: skip
    assert oci("state", "three").returncode == 1


def test_rootless_podman_with_limits(tmp_path: Path) -> None:
    make_rootfs(tmp_path / "rootfs")
    with tarfile.open(tmp_path / "root.tar", "w") as archive:
        archive.add(tmp_path / "rootfs", arcname=".")
    podman = Command("podman", "--runtime", "/usr/local/bin/rootless-oci")
    podman.ok("import", str(tmp_path / "root.tar"), "localhost/oci-box")
    try:
        podman.ok("run", "-d", "--name", "limited", "--network", "none", "--memory", "50m", "--pids-limit", "30", "--cpus", "0.5", "localhost/oci-box", "sleep", "100000")  # fmt: skip
        pid = podman.ok("inspect", "--format", "{{.State.Pid}}", "limited")
        cgroup = cgroup_of(pid)
        assert cgroup.startswith(f"{MANAGER}/user.slice/libpod-")
        assert cgroup.endswith(".scope/container")
        said = podman.ok("exec", "limited", "cat", "/proc/self/cgroup", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/cpu.max")  # fmt: skip
        assert said.split() == ["0::/", str(50 << 20), "30", "50000", "100000"]
        podman.ok("pause", "limited")
        assert podman.ok("inspect", "--format", "{{.State.Status}}", "limited") == "paused"
        podman.ok("unpause", "limited")
        podman.ok("update", "--memory", "60m", "limited")
        assert (UNIFIED / cgroup.lstrip("/") / "memory.max").read_text() == f"{60 << 20}\n"
    finally:
        podman("rm", "--force", "--time", "0", "limited")
        podman("rmi", "--force", "localhost/oci-box")
