"""Other runtimes under the engine where cgroups are delegated: the limits, update, pause and stats are the engine's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.vm.guest.conftest import Command, until

RUNTIMES = [
    pytest.param("crun", marks=pytest.mark.needs("crun")),
    pytest.param("runc", marks=pytest.mark.needs("runc")),
    "rootless-oci",
]


def cgroup_of(rootless: Command, name: str) -> Path:
    pid = rootless.ok("inspect", "--format", "{{.State.Pid}}", name)
    folder = Path(
        f"/sys/fs/cgroup{Path(f'/proc/{pid}/cgroup').read_text().strip().removeprefix('0::')}"
    )
    # runc makes one of its own below the container's.
    return folder if folder.name == "container" else folder.parent


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_limits_update_pause_and_stats(rootless: Command, runtime: str) -> None:
    words = ("--network", "none", "--memory", "64m", "--pids-limit", "33", "--cpus", "0.5")
    rootless.ok(
        "--runtime", shutil.which(runtime) or runtime, "run", "-d", "--name", "other", *words, "host",
        "sh", "-c", "cat /proc/self/cgroup; exec sleep 100000",
    )  # fmt: skip
    folder = cgroup_of(rootless, "other")
    assert folder.name == "container" and "/rootless-" in str(folder)
    values = {
        name: (folder / name).read_text().strip() for name in ("memory.max", "pids.max", "cpu.max")
    }
    assert values == {"memory.max": "67108864", "pids.max": "33", "cpu.max": "50000 100000"}
    until(lambda: rootless.ok("logs", "other") == "0::/", "it sees its own cgroup as the root")
    rootless.ok("update", "--memory", "96m", "other")
    assert (folder / "memory.max").read_text().strip() == str(96 << 20)
    (stats,) = json.loads(rootless.ok("stats", "--no-stream", "--format", "json", "other"))
    assert stats["pids"] == "1"
    assert "100.7MB" in stats["mem_usage"], stats
    rootless.ok("pause", "other")
    assert (folder / "cgroup.freeze").read_text().strip() == "1"
    rootless.ok("unpause", "other")
    # What exec starts is within the limits as well.
    inside = rootless.ok("exec", "other", "cat", "/proc/self/cgroup")
    assert inside == "0::/"
    rootless.ok("stop", "-t", "0", "other")
    until(lambda: not folder.exists(), "the cgroup goes with the container")


@pytest.mark.parametrize("runtime", RUNTIMES[1:2])
def test_too_much_memory_is_told(rootless: Command, runtime: str) -> None:
    done = rootless(
        "--runtime", shutil.which(runtime) or runtime, "run", "--name", "greedy", "--network", "none",
        "--memory", "32m", "host", "sh", "-c", "head -c 100000000 /dev/zero | tail -c 100000000 > /dev/null; exit 5",
    )  # fmt: skip
    assert done.returncode in (5, 137), done
    assert rootless.ok("inspect", "--format", "{{.State.OOMKilled}}", "greedy") == "true"
