"""What the engine survives: being killed at any moment, all at once, and a reboot. The next command tells the truth."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.killed import killed_at

MOST = 150


def settled(engine: Engine) -> None:
    """Until what was left on its own has come to its end: processes that die with their parent, or finish a start."""
    deadline = time.monotonic() + 20
    before: object = None
    while time.monotonic() < deadline:
        now = sorted(engine.processes())
        if now == before:
            return
        before = now
        time.sleep(0.02)


def truthful(engine: Engine) -> None:
    """`ps` names just what lives, and the next commands work."""
    settled(engine)
    for entry in json.loads(engine.ok("ps", "--all", "--format", "json")):
        pid = entry["Pid"]
        if entry["State"] == "running":
            assert Path(f"/proc/{pid}").exists()
        else:
            assert entry["State"] in ("created", "exited"), entry
    engine.ok("rm", "--force", "--all", "--time", "0")
    assert engine.ok("ps", "--all", "--quiet") == ""
    assert (
        engine.ok("run", "--rm", "--network", "none", "--name", "mine", "host", "echo", "well")
        == "well"
    )
    assert engine.leaks() == []


@pytest.mark.needs("userns", "overlay")
@pytest.mark.timeout(900)  # some sixty moments, with half a dozen commands after each
@pytest.mark.parametrize("role", ["command", "monitor"])
def test_start_killed_at_each_moment(fresh: Engine, role: str) -> None:
    fresh.ok("run", "--rm", "--network", "none", "host", "true")
    for moment in range(1, MOST):
        code = killed_at(
            fresh,
            role,
            moment,
            "run",
            "--detach",
            "--name",
            "mine",
            "--network",
            "none",
            "host",
            "sleep",
            "1000",
        )
        alive = fresh("ps", "--quiet").lines if code == 0 else []
        truthful(fresh)
        if code == 0 and alive and moment > 5 and role == "command":
            return
        if code == 0 and alive and role == "monitor" and moment > 5:
            return
    pytest.fail(f"more than {MOST} moments")


@pytest.mark.needs("userns", "overlay")
@pytest.mark.timeout(900)
def test_run_interrupted_at_each_moment(fresh: Engine) -> None:
    """By Ctrl-C: with --rm no container is left, however far it had come."""
    fresh.ok("run", "--rm", "--network", "none", "host", "true")
    for moment in range(1, MOST, 3):
        words = ("run", "--rm", "--network", "none", "host", "true")
        code = killed_at(fresh, "command:2", moment, *words)
        assert code in (0, 130, -2), moment  # -2: before there is a command
        settled(fresh)
        assert fresh.ok("ps", "--all", "--quiet") == "", moment
        assert fresh.leaks() == [], moment
        if code == 0 and moment > 5:
            return
    pytest.fail(f"more than {MOST} moments")


@pytest.mark.needs("userns", "overlay")
@pytest.mark.timeout(900)
def test_removal_killed_at_each_moment(fresh: Engine) -> None:
    fresh.ok("run", "--rm", "--network", "none", "host", "true")
    for moment in range(1, MOST):
        fresh.ok("run", "--detach", "--name", "mine", "--network", "none", "host", "sleep", "1000")
        code = killed_at(fresh, "command", moment, "rm", "--force", "--time", "0", "mine")
        truthful(fresh)
        if code == 0:
            assert moment > 3
            return
    pytest.fail(f"more than {MOST} moments")


@pytest.mark.needs("userns", "overlay")
@pytest.mark.timeout(900)
def test_end_killed_at_each_moment(fresh: Engine) -> None:
    """The monitor is killed at each step of its work after the program's end, with --rm."""
    fresh.ok("run", "--rm", "--network", "none", "host", "true")
    finished = False
    for moment in range(1, MOST):
        code = killed_at(
            fresh,
            "monitor",
            moment,
            "run",
            "--rm",
            "--name",
            "mine",
            "--network",
            "none",
            "host",
            "true",
        )
        settled(fresh)
        truthful(fresh)
        if code == 0:
            finished = True
            break
    assert finished and moment > 8


@pytest.mark.needs("userns", "overlay", "pasta")
@pytest.mark.parametrize("victim", ["monitor", "init", "helper", "all"])
def test_kill_of_a_running_container(rootless: Engine, victim: str) -> None:
    rootless.ok("run", "--detach", "--name", "victim", "host", "sleep", "1000")
    live = json.loads(next((rootless.run / "containers").glob("*/live.json")).read_text())
    pids = {
        "monitor": [live["monitor"][0]],
        "init": [live["init"][0]],
        "helper": [live["network"]["helper"]["pid"]],
    }
    pids["all"] = [pid for one in pids.values() for pid in one]
    for pid in pids[victim]:
        os.kill(pid, signal.SIGKILL)
    settled(rootless)
    states = {"monitor": "exited", "init": "exited", "helper": "running", "all": "exited"}
    wait_until(lambda: state_of(rootless, "victim") == states[victim])
    if states[victim] == "exited":
        assert rootless.inspect("victim")["State"]["ExitCode"] == 137
        rootless.ok("start", "victim")
        assert rootless.ok("exec", "victim", "echo", "again") == "again"
    rootless.ok("rm", "--force", "--time", "0", "victim")


@pytest.mark.needs("userns", "overlay")
def test_reboot(fresh: Engine) -> None:
    """The run-time folder is gone and every process with it: containers are there, ended, and start again."""
    fresh.ok("run", "--detach", "--name", "a", "--network", "none", "host", "sleep", "1000")
    fresh.ok("create", "--name", "b", "--network", "none", "host", "true")
    fresh.kill()
    settled(fresh)
    shutil.rmtree(fresh.run)
    states = {
        entry["Names"][0]: entry["State"]
        for entry in json.loads(fresh.ok("ps", "-a", "--format", "json"))
    }
    assert states == {"a": "exited", "b": "created"}
    assert fresh.inspect("a")["State"]["ExitCode"] == 137
    fresh.ok("start", "a")
    assert state_of(fresh, "a") == "running"
    fresh.ok("rm", "--force", "--time", "0", "a", "b")


@pytest.mark.needs("userns", "overlay")
def test_case_46_52_old_boot_is_not_believed(fresh: Engine) -> None:
    """A run-time folder that outlived the reboot: its pids are other processes' now."""
    fresh.ok("create", "--name", "old", "--network", "none", "host", "true")
    identity = fresh.inspect("old")["Id"]
    folder = fresh.run / "containers" / identity
    folder.mkdir(parents=True, exist_ok=True)
    innocent = subprocess.Popen(["sleep", "1000"])
    try:
        start = int(Path(f"/proc/{innocent.pid}/stat").read_text().rpartition(")")[2].split()[19])
        for live in (
            {"boot": "another", "init": [innocent.pid, start], "monitor": [innocent.pid, start]},
            {"boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(), "init": [innocent.pid, start + 1],
             "monitor": [innocent.pid, start + 1]},
        ):  # fmt: skip
            (folder / "live.json").write_text(
                json.dumps({"phase": "running", "started_at": 1, **live})
            )
            assert state_of(fresh, "old") != "running"
            fresh("kill", "old")
            fresh("stop", "--time", "0", "old")
            assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()
    fresh.ok("rm", "--force", "old")


@pytest.mark.needs("userns", "overlay")
def test_fifty_runs_at_once(rootless: Engine) -> None:
    rootless.ok("run", "--rm", "--network", "none", "host", "true")
    running = [
        rootless.popen(
            "run",
            "--rm",
            "--network",
            "none",
            "host",
            "echo",
            str(number),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for number in range(50)
    ]
    for number, process in enumerate(running):
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out.decode().strip(), err) == (0, str(number), b"")
    assert rootless.ok("ps", "--all", "--quiet") == ""


@pytest.mark.needs("userns", "overlay")
def test_fifty_removals_at_once(rootless: Engine) -> None:
    rootless.ok("run", "--detach", "--name", "one", "--network", "none", "host", "sleep", "1000")
    running = [
        rootless.popen(
            "rm", "--force", "--time", "0", "one", stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(50)
    ]
    for process in running:
        _, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, b"")
    assert rootless.ok("ps", "--all", "--quiet") == ""


@pytest.mark.needs("userns", "overlay")
def test_one_name_for_twenty(rootless: Engine) -> None:
    """Of twenty that want one name just one gets it, and the others leave nothing behind."""
    running = [
        rootless.popen(
            "create",
            "--name",
            "only",
            "--network",
            "none",
            "host",
            "true",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(20)
    ]
    codes = []
    for process in running:
        _, err = process.communicate(timeout=120)
        codes.append(process.returncode)
        if process.returncode:
            assert b'the container name "only" is already in use' in err
    assert sorted(codes) == [0] + [125] * 19
    assert len(rootless.ok("ps", "--all", "--quiet").split()) == 1


def state_of(engine: Engine, name: str) -> str:
    state: str = engine.inspect(name)["State"]["Status"]
    return state


def wait_until(holds: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)
