"""Containers that share something, with each other or with the host: a folder, memory, groups, cgroups, sockets, output."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.poor import in_mounts

pytestmark = pytest.mark.needs("userns", "overlay")

NONE = ("--network", "none")

# A folder of a shared volume and a link out of it change places for ever.
SWAP = """
import os
os.makedirs('/s/real/deep')
os.symlink({outside!r}, '/s/link')
os.rename('/s/real', '/s/place')
open('/s/ready', 'w').close()
while True:
    os.rename('/s/place', '/s/real'); os.rename('/s/link', '/s/place')
    os.rename('/s/place', '/s/link'); os.rename('/s/real', '/s/place')
"""


def test_case_08_mount_point_swapped_meanwhile(rootless: Engine, tmp_path: Path) -> None:
    """One container swaps a folder of the volume for a link while another one's mount is put below it."""
    shared, data, outside = (tmp_path / name for name in ("shared", "data", "outside"))
    for folder in (shared, data, outside):
        folder.mkdir()
    (outside / "deep").mkdir()
    program = SWAP.format(outside=str(outside))
    volume = ("-v", f"{shared}:/s")
    rootless.ok(
        "run", "-d", "--name", "evil", *NONE, *volume, "host", "python3", "-c", program
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not (shared / "ready").exists():
        assert time.monotonic() < deadline, rootless.ok("logs", "evil")
        time.sleep(0.02)
    done = 0
    for turn in range(10):
        for target in ("deep", f"new{turn}"):
            mounts = (*volume, "-v", f"{data}:/s/place/{target}")
            script = "grep -c ' /s/place\\| /s/real\\| /s/link' /proc/self/mountinfo"
            result = rootless("run", "--rm", *NONE, *mounts, "host", "sh", "-c", script)
            assert "Traceback" not in result.err
            done += result.code == 0
            assert [path.name for path in outside.iterdir()] == ["deep"]
            assert list((outside / "deep").iterdir()) == []
    assert done


def test_case_21_groups_of_a_process(rootless: Engine) -> None:
    """The primary group is among the supplementary ones, so that dropping it cannot go round a file's refusal."""
    for user, groups in (("1000:5", {"5"}), ("nobody", {"65534"}), ("0", {"0"})):
        script = "sed -n 's/^Groups://p' /proc/self/status"
        said = rootless.ok("run", "--rm", *NONE, "--user", user, "host", "sh", "-c", script)
        assert groups <= set(said.split())


def test_case_21_no_group_is_dropped_where_one_id_is_mapped(fresh: Engine) -> None:
    """CVE-2018-7169: whoever could drop a group would get what the group is refused."""
    script = "cat /proc/self/setgroups; python3 -c 'import os; os.setgroups([])'"
    command = ("run", "--rm", *NONE, "host", "sh", "-c", script)
    result = in_mounts("", *fresh.program, *command, env=fresh.env)
    assert result.stdout == "deny\n", result
    assert "PermissionError" in result.stderr


@pytest.mark.parametrize("options", [(), ("--cgroupns", "host"), ("--cgroupns", "private")])
def test_case_23_cgroups_are_not_written_to(rootless: Engine, options: tuple[str, ...]) -> None:
    script = (
        "find /sys/fs/cgroup -maxdepth 2 \\( -name cgroup.procs -o -name release_agent \\)"
        " | while read file; do echo $$ 2>/dev/null > $file && echo wrote $file; done;"
        " mkdir /sys/fs/cgroup/*/evil /sys/fs/cgroup/evil 2>/dev/null && echo made; true"
    )
    assert rootless.ok("run", "--rm", *NONE, *options, "host", "sh", "-c", script) == ""


def test_case_26_shared_memory_has_a_limit(rootless: Engine) -> None:
    """65536k without being asked for (containers.conf(5)), and whoever joins the IPC namespace has no other."""
    fill = ("sh", "-c", "head -c 100M /dev/zero > /dev/shm/x; stat -c %s /dev/shm/x")
    result = rootless("run", "-d", "--name", "one", *NONE, "--ipc", "shareable", "host", *fill)
    assert rootless.ok("wait", "one") == "0", result
    assert rootless.ok("logs", "one").splitlines()[-1] == "65536000"
    rootless.ok(
        "run", "-d", "--name", "two", *NONE, "--ipc", "shareable", "--shm-size", "1m", "host", "sleep", "1000"
    )  # fmt: skip
    joined = rootless("run", "--rm", *NONE, "--ipc", "container:two", "host", *fill)
    assert joined.lines[-1:] == [str(1 << 20)]


def test_case_40_no_abstract_sockets(rootless: Engine) -> None:
    """A container on the host's network sees every abstract socket: no process of the engine has one."""
    rootless.ok("run", "-d", "--name", "one", "--network", "host", "host", "sleep", "1000")
    rootless.ok("exec", "-d", "one", "sleep", "1000")
    inodes = set()
    for pid in rootless.processes():
        for name in os.listdir(f"/proc/{pid}/fd"):
            place = os.readlink(f"/proc/{pid}/fd/{name}")
            if place.startswith("socket:"):
                inodes.add(place[8:-1])
    assert inodes
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    names = [row[7] for row in rows if row[6] in inodes and len(row) > 7]
    assert names and not [name for name in names if name.startswith("@")]


@pytest.mark.parametrize("way", ["run", "exec", "exec -t", "attach"])
def test_case_45_output_that_nobody_takes_is_not_collected(rootless: Engine, way: str) -> None:
    """A slow reader holds up the program, not the engine's memory."""
    words = ("--name", "slow", *NONE, "--log-driver", "none", "host")
    if way == "run":
        reader = rootless.popen("run", *words, "yes", stdout=subprocess.PIPE)
    elif way == "attach":
        rootless.ok("create", *words, "yes")
        reader = rootless.popen("start", "-a", "slow", stdout=subprocess.PIPE)
    else:
        rootless.ok("run", "-d", *words, "sleep", "1000")
        reader = rootless.popen(*way.split(), "slow", "yes", stdout=subprocess.PIPE)
    assert reader.stdout is not None
    try:
        reader.stdout.read(1000)
        pids = [reader.pid, *_monitors(rootless)]
        sizes = []
        for _ in range(3):
            time.sleep(0.2)  # gives them the time to grow, if they did
            sizes.append([_resident_kb(pid) for pid in pids])
        grown = [max(each) - min(each) for each in zip(*sizes, strict=True)]
        assert max(grown) < 4096 and max(map(max, sizes)) < 65536, sizes
    finally:
        rootless("kill", "slow")
        reader.stdout.close()
        reader.wait(timeout=20)


def _monitors(engine: Engine) -> list[int]:
    live = json.loads(next((engine.run / "containers").glob("*/live.json")).read_text())
    return [live["monitor"][0], *(pid for pid, title in engine.processes().items() if " exec" in title)]  # fmt: skip


def _resident_kb(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0])
