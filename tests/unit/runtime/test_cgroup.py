"""Resources by version 2's files, and where a container's cgroup is made; hierarchies are folders of the test."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import RootlessError, Usage
from rootless.runtime import cgroup, cgroup_plan, scope
from rootless.runtime.cgroup import Cgroup
from rootless.runtime.cgroup_plan import plan
from rootless.runtime.limits import settings


def files(resources: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(controller, file, value) for controller, file, value, _ in settings(resources)]


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, []),
        ({"memory": {"limit": 100}}, [("memory", "memory.max", "100")]),
        ({"memory": {"limit": -1}}, [("memory", "memory.max", "max")]),
        (
            {"memory": {"limit": 100, "swap": 150, "reservation": 50}},
            [("memory", "memory.max", "100"), ("memory", "memory.swap.max", "50"), ("memory", "memory.low", "50")],
        ),
        ({"memory": {"limit": 100, "swap": -1}}, [("memory", "memory.max", "100"), ("memory", "memory.swap.max", "max")]),
        ({"memory": {"limit": 100, "swap": 100}}, [("memory", "memory.max", "100"), ("memory", "memory.swap.max", "0")]),
        ({"memory": {"swappiness": -1, "kernel": 0}}, []),
        ({"cpu": {"shares": 2}}, [("cpu", "cpu.weight", "1")]),
        ({"cpu": {"shares": 1024}}, [("cpu", "cpu.weight", "39")]),
        ({"cpu": {"shares": 262144}}, [("cpu", "cpu.weight", "10000")]),
        ({"cpu": {"quota": 50000, "period": 100000}}, [("cpu", "cpu.max", "50000 100000")]),
        ({"cpu": {"quota": -1, "period": 5000}}, [("cpu", "cpu.max", "max 5000")]),
        ({"cpu": {"quota": 7000}}, [("cpu", "cpu.max", "7000")]),
        ({"cpu": {"burst": 5, "idle": 1}}, [("cpu", "cpu.max.burst", "5"), ("cpu", "cpu.idle", "1")]),
        ({"cpu": {"cpus": "0-1", "mems": "0"}}, [("cpuset", "cpuset.cpus", "0-1"), ("cpuset", "cpuset.mems", "0")]),
        ({"pids": {"limit": 5}}, [("pids", "pids.max", "5")]),
        ({"pids": {"limit": -1}}, [("pids", "pids.max", "max")]),
        ({"pids": {"limit": 0}}, [("pids", "pids.max", "max")]),
        (
            {"blockIO": {"weight": 10, "weightDevice": [{"major": 8, "minor": 0, "weight": 1000}]}},
            [("io", "io.weight", "default 1"), ("io", "io.weight", "8:0 10000")],
        ),
        (
            {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 1, "rate": 9}],
                         "throttleWriteIOPSDevice": [{"major": 8, "minor": 1, "rate": 0}]}},
            [("io", "io.max", "8:1 rbps=9"), ("io", "io.max", "8:1 wiops=max")],
        ),
        (
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 4}]},
            [("hugetlb", "hugetlb.2MB.max", "4"), ("hugetlb", "hugetlb.2MB.rsvd.max", "4")],
        ),
        ({"rdma": {"mlx5_0": {"hcaHandles": 3, "hcaObjects": 4}}}, [("rdma", "rdma.max", "mlx5_0 hca_handle=3 hca_object=4")]),
        (
            {"unified": {"memory.high": "1G", "cgroup.max.descendants": "5"}},
            [("memory", "memory.high", "1G"), ("", "cgroup.max.descendants", "5")],
        ),
    ],
)  # fmt: skip
def test_resources_become_files(
    resources: dict[str, Any], expected: list[tuple[str, str, str]]
) -> None:
    assert files(resources) == expected


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"memory": {"swap": 5}}, "memory.swap: needs a limit of memory"),
        ({"memory": {"limit": 9, "swap": 5}}, "memory.swap: is below the limit of memory"),
        ({"memory": {"swappiness": 0}}, "memory.swappiness: exists with cgroups of version 1 only"),
        ({"memory": {"kernelTCP": 5}}, "memory.kernelTCP: exists with"),
        ({"memory": {"disableOOMKiller": True}}, "memory.disableOOMKiller"),
        ({"cpu": {"realtimeRuntime": 5}}, "cpu.realtimeRuntime"),
        ({"blockIO": {"leafWeight": 5}}, "blockIO.leafWeight"),
        ({"network": {"classID": 5}}, "network.classID"),
        ({"unified": {"../x.y": "1"}}, '"../x.y" is not the name of a control file'),
    ],
)
def test_what_version_2_has_not(resources: dict[str, Any], message: str) -> None:
    with pytest.raises(RootlessError) as caught:
        settings(resources)
    assert message in str(caught.value)


class Tree:
    """A hierarchy of folders, and a process in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.host = cgroup_plan.Host(2, "", "")

    def group(self, path: str, controllers: str = "", *, enabled: str = "", pids: str = "") -> Path:
        folder = self.root / path.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.controllers").write_text(controllers)
        (folder / "cgroup.subtree_control").write_text(enabled)
        (folder / "cgroup.procs").write_text(pids)
        return folder


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    made = Tree(tmp_path)
    monkeypatch.setattr(cgroup_plan, "ROOT", str(tmp_path))
    monkeypatch.setattr(cgroup_plan, "detect", lambda: made.host)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(scope, "is_available", lambda: False)
    return made


MANAGER = "user.slice/user-1000.slice/user@1000.service"
LIMIT = {"memory": {"limit": 1 << 20}}


@pytest.fixture
def session(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> Tree:
    tree.group(MANAGER, "cpu memory pids")
    tree.host = cgroup_plan.Host(2, f"{tree.root}/user.slice/user-1000.slice/session-1.scope", "")
    monkeypatch.setattr(scope, "is_available", lambda: True)
    return tree


def test_a_scope_where_there_is_a_manager(session: Tree) -> None:
    chosen = plan("abc", LIMIT, default_pids=2048, stop_timeout_s=9)
    assert (chosen.manager, chosen.unit, chosen.slice) == (
        "systemd",
        "rootless-abc.scope",
        "user.slice",
    )
    assert [(file, value) for _, file, value, _ in chosen._settings] == [
        ("memory.max", "1048576"), ("pids.max", "2048")
    ]  # fmt: skip
    assert chosen.monitored
    assert plan("abc", parent="my.slice").slice == "my.slice"
    assert not plan("abc", mode="no-conmon").monitored


def test_an_asked_for_pids_limit_replaces_the_default(session: Tree) -> None:
    chosen = plan("abc", {"pids": {"limit": -1}}, default_pids=2048)
    assert [value for _, _, value, _ in chosen._settings] == ["max"]


def test_the_cgroups_path_of_the_runtime_spec(session: Tree) -> None:
    chosen = plan("abc", cgroups_path="machine.slice:libpod:deadbeef")
    assert (chosen.unit, chosen.slice) == ("libpod-deadbeef.scope", "machine.slice")


def test_a_controller_that_is_not_delegated_is_named(session: Tree) -> None:
    with pytest.raises(RootlessError) as caught:
        plan("abc", {"cpu": {"cpus": "0"}})
    assert str(caught.value) == (
        "cannot set the set of cpus (--cpuset-cpus): the cpuset controller is not delegated to uid 1000"
    )
    assert "user@.service.d/delegate.conf" in caught.value.hint
    assert "Delegate=cpu cpuset io memory pids" in caught.value.hint


def test_the_default_pids_limit_is_no_demand(session: Tree) -> None:
    session.group(MANAGER, "memory")
    assert not plan("abc", default_pids=2048).limits


@pytest.mark.parametrize(
    ("manager", "parent", "message"),
    [
        ("systemd", "/some/path", "did not receive systemd slice as cgroup parent"),
        ("cgroupfs", "my.slice", "systemd slice received as cgroup parent when using cgroupfs"),
    ],
)
def test_parents_of_the_wrong_kind(session: Tree, manager: str, parent: str, message: str) -> None:
    with pytest.raises(Usage, match=message):
        plan("abc", manager=manager, parent=parent)


def test_version_1_has_none(tree: Tree) -> None:
    tree.host = cgroup_plan.Host(1, "", "")
    chosen = plan("abc", default_pids=2048)
    assert (chosen.manager, chosen.limits) == ("none", False)
    chosen.enter(os.getpid())
    assert chosen.cgroup is None
    with pytest.raises(RootlessError) as caught:
        plan("abc", LIMIT)
    assert str(caught.value) == (
        "cannot set the memory limit (--memory): this host has cgroups of version 1, which a user cannot be given"
    )
    assert "systemd.unified_cgroup_hierarchy=1" in caught.value.hint


def test_no_session_has_none(tree: Tree) -> None:
    tree.host = cgroup_plan.Host(2, str(tree.group("system.slice/cron.service")), "")
    tree.root.joinpath("system.slice").chmod(0o500)
    tree.root.joinpath("system.slice/cron.service").chmod(0o500)
    assert plan("abc").manager == "none"
    with pytest.raises(RootlessError, match="no systemd manager of uid 1000 runs") as caught:
        plan("abc", LIMIT)
    assert "loginctl enable-linger" in caught.value.hint


def test_cgroups_disabled(session: Tree) -> None:
    assert plan("abc", mode="disabled").manager == "none"
    with pytest.raises(RootlessError, match="--cgroups=disabled"):
        plan("abc", LIMIT, mode="disabled")


def test_a_batch_job_keeps_its_place(session: Tree) -> None:
    own = session.group("slurm/job_7/step_0", "memory", pids="1")
    session.host = cgroup_plan.Host(2, str(own), "Slurm")
    assert plan("abc").base == str(own)
    with pytest.raises(RootlessError, match="memory controller is not delegated"):
        plan("abc", LIMIT)  # processes are in it, so that it cannot hand controllers down
    own.chmod(0o500)
    assert plan("abc").reason == "this is a Slurm job, whose cgroup is not delegated to its user"
    assert plan("abc", manager="systemd").manager == "systemd"  # told to


def test_cgroupfs_beside_our_own(tree: Tree) -> None:
    tree.group("app.slice", "cpu memory", enabled="cpu memory")
    own = tree.group("app.slice/term.scope", "cpu memory", pids="1")
    tree.host = cgroup_plan.Host(2, str(own), "")
    chosen = plan("abc", LIMIT)
    assert (chosen.manager, chosen.base) == ("cgroupfs", f"{tree.root}/app.slice")
    chosen = plan("abc", parent="/app.slice/term.scope", manager="cgroupfs")
    assert chosen.base == str(own)


def test_split_needs_delegation(tree: Tree) -> None:
    own = tree.group("app.slice/web.service", "memory", pids="")
    tree.host = cgroup_plan.Host(2, str(own), "")
    chosen = plan("abc", LIMIT, mode="split")
    assert (chosen.manager, chosen.base) == ("split", str(own))
    tree.host = cgroup_plan.Host(2, f"{own}/monitor", "")
    assert plan("abc", mode="split").base == str(own)
    own.chmod(0o500)
    with pytest.raises(RootlessError, match="--cgroups=split: .* is not delegated to uid 1000"):
        plan("abc", mode="split")


def test_the_hierarchy_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    host = cgroup_plan.detect()
    unified = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    assert host.version == (2 if unified else 1 if os.path.exists("/sys/fs/cgroup") else 0)
    for name in ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert cgroup_plan.detect().batch == "Slurm"


@pytest.mark.parametrize(
    ("own", "variable", "system"),
    [
        ("/system.slice/node1_slurmstepd.scope/job_7/step_0/user/task_0", "", "Slurm"),
        ("/system.slice/slurmstepd.scope/job_7/step_0/user/task_0", "", "Slurm"),
        ("/system.slice/slurmd.service", "SLURM_JOB_ID", "Slurm"),
        ("/user.slice/user-1000.slice/session-1.scope", "SLURM_JOB_ID", ""),
        ("/pbs_jobs.service/jobid/7", "", "PBS"),
        ("/user.slice/user-1000.slice/session-1.scope", "", ""),
    ],
)
def test_a_job_is_known(
    own: str, variable: str, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its cgroup alone too: Slurm calls a container runtime without the job's variables."""
    for name in ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "7")
    assert cgroup_plan.batch_of(own, f"{own}\n") == system


# a container's cgroup


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cgroup:
    monkeypatch.setattr(cgroup, "ROOT", str(tmp_path))
    folder = tmp_path / "a.scope/container"
    folder.mkdir(parents=True)
    for name, text in {
        "cpu.stat": "usage_usec 3000\nuser_usec 2000\nsystem_usec 1000\nthrottled_usec 7\n",
        "memory.current": "5000\n",
        "memory.stat": "anon 1\ninactive_file 1000\n",
        "memory.max": "max\n",
        "memory.peak": "9000\n",
        "memory.events": "low 0\noom 2\noom_kill 1\n",
        "pids.current": "3\n",
        "pids.max": "100\n",
        "io.stat": "8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=5 wbytes=0 rios=1\n",
        "cgroup.controllers": "cpu memory pids io\n",
        "cgroup.procs": "",
    }.items():
        (folder / name).write_text(text)
    (tmp_path / "a.scope/memory.max").write_text("7000\n")
    return Cgroup(str(folder))


def test_a_reading(group: Cgroup) -> None:
    stats = group.stats()
    assert (stats.cpu_ns, stats.user_ns, stats.system_ns) == (3_000_000, 2_000_000, 1_000_000)
    assert (stats.memory_bytes, stats.memory_limit, stats.memory_peak) == (4000, 7000, 9000)
    assert (stats.block_read, stats.block_written, stats.pids, stats.pids_limit) == (15, 20, 3, 100)
    assert stats.oom_kills == 1
    assert group.oom_killed()


def test_a_reading_without_controllers(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text("7\n8\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 1\n")
    stats = Cgroup(str(tmp_path)).stats()
    assert (stats.memory_bytes, stats.block_read, stats.pids, stats.oom_kills) == (
        None,
        None,
        2,
        None,
    )


def test_a_reading_of_what_is_gone(tmp_path: Path) -> None:
    with pytest.raises(RootlessError, match="no such cgroup"):
        Cgroup(f"{tmp_path}/gone").stats()


def test_an_update_checks_what_is_in_use(group: Cgroup) -> None:
    with pytest.raises(RootlessError, match="the memory limit 4000 is below the 5000 bytes in use"):
        group.update({"memory": {"limit": 4000, "checkBeforeUpdate": True}})
    group.update({"memory": {"limit": 4000}})
    assert Path(group.path, "memory.max").read_text().startswith("4000")


def test_a_write_to_a_controller_that_is_missing(group: Cgroup) -> None:
    with pytest.raises(RootlessError, match="the cpuset controller is not delegated"):
        group.update({"cpu": {"cpus": "0"}})
    with pytest.raises(RootlessError, match=r"this kernel has no memory\.nonsense"):
        group.update({"unified": {"memory.nonsense": "0"}})
