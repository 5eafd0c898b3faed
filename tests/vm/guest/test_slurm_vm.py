"""Slurm 24.11 as a site runs it, with root's daemons and cgroups, runs a user's bundles by the oci.conf that we ship."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.data import data_path
from tests.support.oci import make_rootfs
from tests.vm.guest.conftest import Command, cgroup_of, until

UNIFIED = Path("/sys/fs/cgroup")
SLURM_CONF = """\
ClusterName=t
SlurmctldHost=rootless-test(127.0.0.1)
SlurmUser=slurm
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
JobAcctGatherType=jobacct_gather/cgroup
JobAcctGatherFrequency=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
StateSaveLocation=/var/lib/slurm-test
KillWait=2
NodeName=rootless-test NodeAddr=127.0.0.1 CPUs=4 RealMemory=1500 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES DefMemPerCPU=100 State=UP
"""
CGROUP_CONF = "ConstrainRAMSpace=yes\nConstrainSwapSpace=yes\n"
STATE = "/var/lib/slurm-test"
DAEMONS = ("slurmd", "slurmctld", "munge")
#: Where records of containers lie, and how they are asked for.
RECORDS = Path("/run/user/1000/rootless-oci")
OCI = ("env", "-u", "XDG_RUNTIME_DIR", "rootless-oci")


class Slurm:
    """One node, its daemons started by systemd, and a bundle of an image that sees one folder of the host at /job."""

    def __init__(self, folder: Path) -> None:
        self.bundle = folder / "bundle"
        self.job = folder / "job"
        self.job.mkdir()

    def popen(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["srun", "--quiet", f"--container={self.bundle}", *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.job,
        )  # fmt: skip

    def run(self, *words: str) -> tuple[int, str, str]:
        """srun's exit code, output and errors."""
        step = self.popen(*words)
        out, err = step.communicate(timeout=300)
        return step.returncode, out, err

    def the_job(self) -> str:
        """The number of the one that runs."""
        (number,) = Command("squeue").ok("-h", "-t", "running", "-o", "%i").split()
        return number

    def at(self, step: subprocess.Popen[str], *names: str) -> None:
        """Wait until the tasks of a step have made these files."""

        def there() -> bool:
            assert step.poll() is None, step.communicate()
            return all((self.job / name).exists() for name in names)

        until(there, f"there is {names}")


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    sudo, rootless = Command("sudo", "-n"), Command("rootless")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cluster = Slurm(folder)
        (folder / "slurm.conf").write_text(SLURM_CONF)
        (folder / "cgroup.conf").write_text(CGROUP_CONF)
        files = [
            str(folder / "slurm.conf"),
            str(folder / "cgroup.conf"),
            data_path("config", "oci.conf"),
        ]
        sudo.ok("install", "-m", "644", "-t", "/etc/slurm", *files)
        sudo.ok("rm", "-rf", STATE, "/var/spool/slurmd")
        sudo.ok("install", "-d", "-o", "slurm", STATE)
        make_rootfs(folder / "rootfs")
        with tarfile.open(folder / "root.tar", "w") as archive:
            archive.add(folder / "rootfs", arcname=".")
        rootless.ok("import", "--change", "CMD=sh", str(folder / "root.tar"), "slurm-box")
        try:
            # /tmp is a tmpfs here, and the store on a disk.
            volume = f"{cluster.job}:/job"
            rootless.ok("bundle", "-e", "A=b", "-v", volume, "slurm-box", str(cluster.bundle))
            sudo.ok("systemctl", "start", *DAEMONS)
            until(lambda: "idle" in Command("sinfo").ok("-h", "-o", "%T"), "the node is idle")
            yield cluster
        finally:
            Command("scancel")("-u", "user")
            until(lambda: not Command("squeue")("-h").stdout, "Slurm's jobs have ended")
            sudo("systemctl", "stop", *DAEMONS)
            rootless("rmi", "slurm-box")
            rootless("unshare", "rm", "-rf", str(cluster.bundle))


def processes_in(job: str) -> list[int]:
    """All in a job's cgroups, but for Slurm's own."""
    found = []
    for path in UNIFIED.glob(
        f"system.slice/*slurmstepd.scope/job_{job}/step_*/user/**/cgroup.procs"
    ):
        found += [int(pid) for pid in path.read_text().split()]
    return found


def test_four_tasks_at_once_from_one_bundle(slurm: Slurm) -> None:
    """Each waits for all others, and has its own number; the highest exit code is the step's."""
    said = "touch /job/at-$SLURM_PROCID; for n in 0 1 2 3; do until [ -e /job/at-$n ]; do sleep 0.1; done; done; echo $SLURM_PROCID $SLURM_NTASKS $A $(id -u); exit $SLURM_PROCID"
    code, out, err = slurm.run("-n4", "/bin/sh", "-c", said)
    assert (code, sorted(out.splitlines())) == (3, [f"{n} 4 b 0" for n in range(4)]), err


def test_a_step_in_its_cgroup_and_a_signal(slurm: Slurm) -> None:
    """Slurm accounts for what containers use, and limits it; they stay where it has put them."""
    said = "trap 'echo got; exit 9' USR1; touch /job/in-$SLURM_PROCID; while :; do sleep 0.1; done"
    step = slurm.popen("-n2", "--mem=200M", "/bin/sh", "-c", said)
    slurm.at(step, "in-0", "in-1")
    job = slurm.the_job()
    names = Command(*OCI).ok("list", "-q").split()
    assert names == [f"rootless-test.user.{job}.0.{task}" for task in range(2)]
    for task, name in enumerate(names):
        state = json.loads(Command(*OCI).ok("state", name))
        assert state["status"] == "running"
        own = cgroup_of(state["pid"])
        assert own.endswith(f"slurmstepd.scope/job_{job}/step_0/user/task_{task}"), own
    limit = next(UNIFIED.glob(f"system.slice/*slurmstepd.scope/job_{job}/step_0/user/memory.max"))
    assert limit.read_text() == f"{200 << 20}\n"

    def measured() -> bool:
        tasks, _, used = (
            Command("sstat")
            .ok("-n", "-P", "-j", f"{job}.0", "-o", "NTasks,JobID,MaxRSS")
            .partition("|")
        )
        return tasks == "2" and not used.endswith("|0")

    until(measured, "sstat tells what the containers use")
    Command("scancel").ok("-s", "USR1", job)
    out, err = step.communicate(timeout=120)
    assert (step.returncode, out) == (9, "got\ngot\n"), err
    assert Command(*OCI).ok("list", "-q") == ""


def test_a_steps_memory_is_limited(slurm: Slurm) -> None:
    said = "echo begin; dd if=/dev/zero of=/dev/null bs=300M count=1; echo never || exit 0"
    code, out, err = slurm.run("-n1", "--mem=60M", "/bin/sh", "-c", f"set -e; {said}")
    assert code != 0 and out == "begin\n" and "task 0: Out Of Memory" in err, (code, out, err)


def test_a_batch_script_in_a_container(slurm: Slurm) -> None:
    script = slurm.job / "script"
    script.write_text("#!/bin/sh\necho $A $0 $SLURM_JOB_NAME; id -u; exit 5\n")
    options = (f"--container={slurm.bundle}", f"--output={slurm.job}/out", "-J", "inside")
    number = Command("sbatch").ok("--parsable", *options, str(script))
    show = ("-o", "show", "job", number)
    until(lambda: " JobState=FAILED " in Command("scontrol").ok(*show), "the job has ended")
    assert " ExitCode=5:0 " in Command("scontrol").ok(*show)
    assert (slurm.job / "out").read_text() == "b /tmp/slurm/startup inside\n0\n"


def test_nothing_remains_of_a_job_that_is_cancelled(slurm: Slurm) -> None:
    mounts = Path("/proc/self/mounts").read_text()
    step = slurm.popen(
        "-n2",
        "/bin/sh",
        "-c",
        "trap '' TERM; touch /job/deaf-$SLURM_PROCID; sleep 100001; sleep 100001",
    )
    slurm.at(step, "deaf-0", "deaf-1")
    job = slurm.the_job()
    inside = processes_in(job)
    assert len(inside) >= 4, inside
    Command("scancel").ok(job)
    step.communicate(timeout=120)
    until(
        lambda: not any(os.path.exists(f"/proc/{pid}") for pid in inside),
        "its processes have ended",
    )
    until(lambda: not Command("squeue").ok("-h"), "Slurm is done with it")
    assert Path("/proc/self/mounts").read_text() == mounts
    until(lambda: not [*RECORDS.glob("[!.]*")], "records of what was killed are taken away")
