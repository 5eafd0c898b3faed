"""Slurm runs our bundles: `srun --container` by config/oci.conf, with a Slurm of the test's own."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.data import data_path
from tests.support import slurm
from tests.support.engine import REPOSITORY, Engine

pytestmark = pytest.mark.needs("userns", "overlay", "munged", "slurmctld", "slurmd", "srun")


@pytest.fixture(scope="module")
def cluster() -> Iterator[slurm.Slurm]:
    # A short path: unix(7) gives a socket 108 bytes.
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder:
        text = Path(data_path("config", "oci.conf")).read_text()
        oci_conf = text.replace(
            "rootless-oci ", f"{REPOSITORY}/bin/rootless-oci --root={folder}/oci "
        )
        with slurm.Slurm(Path(folder), oci_conf, "/usr/bin:/bin") as cluster:
            yield cluster


@pytest.fixture
def bundle(rootless: Engine, cluster: slurm.Slurm) -> Iterator[str]:
    place = f"{cluster.folder}/bundle"
    assert (
        rootless.ok("bundle", "-e", "A=b", "-v", f"{cluster.folder}:/job", "host", place) == place
    )
    yield place
    rootless.ok("unshare", "rm", "-rf", place)


def wait_for(path: Path, cluster: slurm.Slurm) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, cluster.logs()
        time.sleep(0.05)


def test_streams_variables_and_exit_codes(cluster: slurm.Slurm, bundle: str) -> None:
    code, out, err = cluster.run(
        "-n1",
        f"--container={bundle}",
        "sh",
        "-c",
        "id -u; echo $A $SLURM_JOB_NUM_NODES; echo err >&2; exit 7",
    )
    assert (code, out) == (7, "0\nb 1\n")
    assert "err\n" in err
    code, out, _ = cluster.run(
        "-n1", f"--container={bundle}", "sh", "-c", "kill -9 $$; echo not reached"
    )
    assert (code, out) == (0, "not reached\n")  # init of its pid namespace has no such enemy
    code, _, _ = cluster.run("-n1", f"--container={bundle}", "/nowhere")
    assert code != 0


def test_several_at_once_from_one_bundle(cluster: slurm.Slurm, bundle: str) -> None:
    if slurm.version() >= (23, 2):
        code, out, _ = cluster.run(
            "-n3", f"--container={bundle}", "sh", "-c", "echo $SLURM_PROCID; exit $SLURM_PROCID"
        )
        assert (code, sorted(out.split())) == (2, ["0", "1", "2"])
        return
    # Slurm 22 gives a container step one task: three steps then.
    steps = [
        cluster.popen(
            "-n1", "--overlap", f"--container={bundle}", "sh", "-c",
            f"echo {number}; touch /job/at-{number}; until [ -e /job/at-{(number + 1) % 3} ]; do sleep 0.1; done",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )
        for number in range(3)
    ]  # fmt: skip
    said = []
    for step in steps:
        printed, _ = step.communicate(timeout=90)
        assert step.returncode == 0, cluster.logs()
        said.append(printed.decode().strip())
    assert said == ["0", "1", "2"]


def test_signals_reach_the_container(cluster: slurm.Slurm, bundle: str) -> None:
    ready = cluster.folder / "ready"
    ready.unlink(missing_ok=True)
    step = cluster.popen(
        "-n1", f"--container={bundle}", "sh", "-c",
        "trap 'echo got; exit 9' TERM; touch /job/ready; while :; do sleep 0.1; done",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    )  # fmt: skip
    wait_for(ready, cluster)
    cluster.say("scancel", "-s", "TERM", cluster.say("squeue", "-h", "-o", "%i").split()[0])
    printed, _ = step.communicate(timeout=60)
    assert (step.returncode, printed) == (9, b"got\n")


def test_cancelling_ends_every_process(cluster: slurm.Slurm, bundle: str) -> None:
    ready = cluster.folder / "ready"
    ready.unlink(missing_ok=True)
    mark = f"9{os.getpid():07d}"
    step = cluster.popen(
        "-n1", f"--container={bundle}", "sh", "-c", f"trap '' TERM; touch /job/ready; sleep {mark}; sleep {mark}",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    )  # fmt: skip
    wait_for(ready, cluster)
    cluster.say("scancel", cluster.say("squeue", "-h", "-o", "%i").split()[0])
    step.communicate(timeout=90)
    deadline = time.monotonic() + 30
    while any(mark in line for line in cluster.say("ps", "ax", "-o", "args").splitlines()):
        assert time.monotonic() < deadline, cluster.logs()
        time.sleep(0.1)
    while cluster.say("squeue", "-h"):
        assert time.monotonic() < deadline, cluster.logs()
        time.sleep(0.1)
