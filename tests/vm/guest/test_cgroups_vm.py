"""cgroups where a user's systemd delegates them: scopes, limits that hold, the freezer, and users without a session."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from rootless.runtime.cgroup import Cgroup
from tests.vm.guest.conftest import Command, cgroup_of, containers, scopes, until

UNIFIED = Path("/sys/fs/cgroup")
MANAGER = "/user.slice/user-1000.slice/user@1000.service"


def pid_of(rootless: Command, name: str) -> int:
    return int(rootless.ok("inspect", "--format", "{{.State.Pid}}", name))


def running(rootless: Command, name: str, *options: str) -> tuple[str, Path]:
    """Start a container that sleeps; its id and the folder of its cgroup."""
    identity = rootless.ok(
        "run", "-d", "--network", "none", "--name", name, *options, "host", "sleep", "100000"
    )
    return identity, Path(f"{UNIFIED}{cgroup_of(pid_of(rootless, name))}")


def test_a_scope_per_container(rootless: Command) -> None:
    identity, folder = running(rootless, "scoped")
    assert cgroup_of("self").startswith("/user.slice/user-1000.slice/session-"), (
        "the tests run in a log-in session"
    )
    unit = f"rootless-{identity}.scope"
    assert folder == Path(f"{UNIFIED}{MANAGER}/user.slice/{unit}/container")
    shown = Command("systemctl").ok("--user", "show", "-p", "Delegate,ActiveState,Slice", unit)
    assert set(shown.split()) == {"Delegate=yes", "ActiveState=active", "Slice=user.slice"}
    beside = (folder.parent / "monitor/cgroup.procs").read_text().split()
    assert any(b"rootless monitor" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in beside)
    rootless.ok("stop", "-t", "0", "scoped")
    until(lambda: unit not in scopes(), "the scope ends with the container")
    rootless.ok("start", "scoped")  # and comes again
    assert cgroup_of(pid_of(rootless, "scoped")).endswith(f"/{unit}/container")


def test_the_container_sees_its_own_cgroup_only(rootless: Command) -> None:
    """Security case 23: not the user's slice, and nothing to write to."""
    said = rootless.ok(
        "run", "--rm", "--network", "none", "--memory", "64m", "host",
        "sh", "-c", "cat /proc/self/cgroup /sys/fs/cgroup/memory.max; ls -d /sys/fs/cgroup/user.slice; echo 1 > /sys/fs/cgroup/cgroup.procs; true",
    )  # fmt: skip
    assert said.split() == ["0::/", str(64 << 20)]


LIMITS = [
    (
        ("--memory", "64m", "--cpu-period", "50000", "--cpu-quota", "25000", "--cgroup-conf", "memory.high=50331648"),
        {"memory.max": "67108864", "memory.swap.max": "67108864", "cpu.max": "25000 50000", "memory.high": "50331648"},
    ),
    (
        ("--memory", "64m", "--memory-swap", "-1", "--cpus", "0.5", "--cpu-shares", "2048"),
        {"memory.swap.max": "max", "cpu.max": "50000 100000", "cpu.weight": "79"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "expected"), LIMITS, ids=["swap by default", "no limit of swap"]
)
def test_limits_reach_the_kernel(
    rootless: Command, options: tuple[str, ...], expected: dict[str, str]
) -> None:
    _, folder = running(rootless, "limited", *options)
    assert {name: (folder / name).read_text().strip() for name in expected} == expected


def test_podman_sets_the_same_limits(rootless: Command, tmp_path: Path) -> None:
    """All of them at once, ours beside Podman's; its cgroup has the same name."""
    names = ("memory.max", "memory.swap.max", "memory.low", "cpu.max", "cpu.weight", "pids.max")
    options = [
        "--memory", "64m", "--memory-swap", "96m", "--memory-reservation", "32m", "--cpus", "0.5", "--cpu-shares",
        "512", "--pids-limit", "44",
    ]  # fmt: skip
    _, ours = running(rootless, "compared", *options)
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin/sleep").write_bytes(Path("/usr/bin/busybox").read_bytes())
    (root / "bin/sleep").chmod(0o755)
    podman = Command("podman")
    try:
        podman.ok(
            "run",
            "-d",
            "--network",
            "none",
            "--name",
            "compared",
            *options,
            "--rootfs",
            str(root),
            "/bin/sleep",
            "100000",
        )
        theirs = Path(
            f"{UNIFIED}{cgroup_of(podman.ok('inspect', '--format', '{{.State.Pid}}', 'compared'))}"
        )
        assert {n: (ours / n).read_text() for n in names} == {
            n: (theirs / n).read_text() for n in names
        }
    finally:
        podman("rm", "-f", "-t", "0", "compared")


def test_a_memory_limit_holds_and_is_reported(rootless: Command) -> None:
    done = rootless(
        "run", "--name", "hungry", "--network", "none", "--memory", "24m", "--memory-swap", "24m", "host",
        "python3", "-c", "print('begin', flush=True); data = bytearray(200 << 20); print('never')",
    )  # fmt: skip
    assert (done.returncode, done.stdout.split()) == (137, ["begin"])
    assert rootless.ok("inspect", "--format", "{{.State.OOMKilled}}", "hungry") == "true"
    quiet = rootless(
        "run", "--name", "quiet", "--network", "none", "--memory", "64m", "host", "false"
    )
    assert quiet.returncode == 1
    assert rootless.ok("inspect", "--format", "{{.State.OOMKilled}}", "quiet") == "false"


def test_case_26_a_fork_bomb_meets_a_limit(rootless: Command) -> None:
    _, folder = running(rootless, "counted")
    assert int((folder / "pids.max").read_text()) == 2048  # without being asked for
    done = rootless(
        "run", "--rm", "--network", "none", "--pids-limit", "20", "host", "sh", "-c",
        "i=0; while [ $i -lt 40 ]; do sleep 100 & i=$((i+1)); done; echo all",
    )  # fmt: skip
    assert done.returncode != 0
    assert "all" not in done.stdout


def test_exec_is_under_the_containers_limits(rootless: Command) -> None:
    """From a session that may move no process by itself; a program that takes too much is killed, the container not."""
    _, folder = running(rootless, "entered", "--memory", "32m", "--memory-swap", "32m")
    assert rootless.ok("exec", "entered", "cat", "/proc/self/cgroup") == "0::/"
    done = rootless("exec", "entered", "python3", "-c", "bytearray(200 << 20)")
    assert done.returncode == 137
    assert Cgroup(str(folder)).oom_killed()
    assert rootless.ok("inspect", "--format", "{{.State.Status}}", "entered") == "running"


def test_pause_freezes(rootless: Command) -> None:
    _, folder = running(rootless, "frozen")
    rootless.ok("pause", "frozen")
    assert "frozen 1" in (folder / "cgroup.events").read_text()
    assert rootless.ok("inspect", "--format", "{{.State.Status}}", "frozen") == "paused"
    rootless.ok("unpause", "frozen")
    assert "frozen 0" in (folder / "cgroup.events").read_text()


def test_statistics_move(rootless: Command) -> None:
    rootless.ok(
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "busy",
        "--memory",
        "64m",
        "host",
        "sh",
        "-c",
        "while :; do :; done",
    )
    group = Cgroup(f"{UNIFIED}{cgroup_of(pid_of(rootless, 'busy'))}")
    first = group.stats()
    until(lambda: group.stats().cpu_ns > first.cpu_ns + 50_000_000, "a loop uses time")
    assert group.stats().memory_limit == 64 << 20
    assert group.stats().pids == 1


def test_limits_of_a_running_container_change(rootless: Command) -> None:
    _, folder = running(rootless, "updated", "--memory", "64m", "--cpus", "0.5")
    rootless.ok(
        "update", "--memory", "96m", "--cpu-quota", "20000", "--pids-limit", "-1", "updated"
    )
    read = {
        n: (folder / n).read_text().strip()
        for n in ("memory.max", "memory.swap.max", "cpu.max", "pids.max")
    }
    assert read == {
        "memory.max": str(96 << 20), "memory.swap.max": str(96 << 20), "cpu.max": "20000 100000", "pids.max": "max"
    }  # fmt: skip
    rootless.ok("restart", "-t", "0", "updated")
    again = Path(f"{UNIFIED}{cgroup_of(pid_of(rootless, 'updated'))}")
    assert (again / "memory.max").read_text().strip() == str(96 << 20)


def test_stats_top_and_what_is_inside(rootless: Command) -> None:
    """One container for what needs no limit of its own."""
    running(
        rootless, "shown", "--memory", "64m", "--privileged", "--shm-size", "8m", "--ulimit", "nofile=100:200"
    )  # fmt: skip
    [row] = json.loads(rootless.ok("stats", "--no-stream", "--format", "json", "shown"))
    assert row["mem_usage"].endswith(" / 67.11MB")
    assert row["pids"] == "1"
    assert set(row) == {
        "id", "name", "cpu_time", "cpu_percent", "avg_cpu", "mem_usage", "mem_percent", "net_io", "block_io", "pids"
    }  # fmt: skip
    with subprocess.Popen(
        ["rootless", "stats", "--no-reset", "--interval", "1", "shown"], stdout=subprocess.PIPE, text=True
    ) as streaming:  # fmt: skip
        assert streaming.stdout is not None
        lines = [streaming.stdout.readline() for _ in range(4)]
        streaming.kill()
    assert lines[0] == lines[2]  # the headings again, with the second report
    assert lines[0].split("  ")[0] == "ID"
    top = rootless.ok("top", "shown", "pid", "hpid", "huser", "user", "comm").splitlines()
    assert [line.split()[0] for line in top] == ["PID", "1"]
    assert top[1].split()[1:] == [str(pid_of(rootless, "shown")), "user", "root", "sleep"]
    inside = rootless.ok(
        "exec", "shown", "sh", "-c",
        "mkdir /sys/fs/cgroup/own && echo made; df -k /dev/shm | tail -n 1; ulimit -n; ulimit -Hn",
    ).split()  # fmt: skip
    assert inside[0] == "made"  # --privileged may divide it
    assert "8192" in inside
    assert inside[-2:] == ["100", "200"]


def test_kill_reaches_all(rootless: Command) -> None:
    rootless.ok(
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "many",
        "host",
        "sh",
        "-c",
        "sleep 1000 & sleep 1000 & wait",
    )
    group = Cgroup(f"{UNIFIED}{cgroup_of(pid_of(rootless, 'many'))}")
    until(lambda: len(group.pids()) == 3, "both have started")
    group.kill_all()
    assert rootless.ok("wait", "many") == "137"


def test_a_controller_that_is_not_delegated_is_named(rootless: Command) -> None:
    before = containers()
    done = rootless("run", "--rm", "--network", "none", "--cpuset-cpus", "0", "host", "true")
    assert done.returncode == 125
    assert "the cpuset controller is not delegated to uid 1000" in done.stderr
    assert "Delegate=cpu cpuset io memory pids" in done.stderr
    assert containers() == before


def test_a_limit_that_the_kernel_refuses_leaves_nothing(rootless: Command) -> None:
    before = containers()
    done = rootless(
        "run", "--rm", "--network", "none", "--cgroup-conf", "memory.high=nonsense", "host", "true"
    )
    assert done.returncode == 125
    assert "cannot set memory.high (--cgroup-conf) to nonsense: invalid argument" in done.stderr
    assert containers() == before
    until(lambda: not scopes(), "the scope is gone")


def test_killed_together_nothing_is_left(rootless: Command) -> None:
    identity, folder = running(rootless, "killed")
    group = Cgroup(str(folder))
    pids = [
        *group.pids(),
        *(int(pid) for pid in (folder.parent / "monitor/cgroup.procs").read_text().split()),
    ]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(lambda: f"rootless-{identity}.scope" not in scopes(), "systemd has removed the scope")
    assert (
        rootless.ok("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "killed")
        == "exited 137"
    )
    rootless.ok("start", "killed")
    assert rootless.ok("inspect", "--format", "{{.State.Status}}", "killed") == "running"


def test_a_slice_as_parent(rootless: Command) -> None:
    _, folder = running(rootless, "sliced", "--cgroup-parent", "web.slice")
    assert f"{MANAGER}/web.slice/rootless-" in str(folder)
    done = rootless(
        "run",
        "--rm",
        "--cgroup-parent",
        "/not/a/slice",
        "--cgroup-manager",
        "systemd",
        "host",
        "true",
    )
    assert done.returncode == 125


def test_a_user_namespace_of_its_own(rootless: Command, tmp_path: Path) -> None:
    """--userns=auto: other ids, the same scope and limits; its root may divide its cgroup where it is given it."""
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin/sh").write_bytes(Path("/usr/bin/busybox").read_bytes())
    (root / "bin/sh").chmod(0o755)
    Command("sh", "-c").ok(f"tar -C {root} -c . | rootless import -q - localhost/small")
    said = rootless.ok(
        "run", "--rm", "--network", "none", "--userns", "auto", "--memory", "64m", "localhost/small",
        "/bin/sh", "-c", "cat /proc/self/cgroup /sys/fs/cgroup/memory.max; read a b c </proc/self/uid_map; echo $b",
    )  # fmt: skip
    group, limit, first = said.split()
    assert (group, limit) == ("0::/", str(64 << 20))
    assert int(first) > 1000
    rootless.ok("rmi", "localhost/small")


def test_cgroups_disabled_leaves_it_where_it_is(rootless: Command) -> None:
    _, folder = running(rootless, "loose", "--cgroups", "disabled")
    assert "session-" in str(folder)


def test_no_conmon_leaves_the_monitor(rootless: Command) -> None:
    _, folder = running(rootless, "lonely", "--cgroups", "no-conmon")
    assert folder.name == "container"
    assert not (folder.parent / "monitor").exists()


# without a session


def as_guest(*words: str) -> list[str]:
    """Another user, as cron or su would start it: no session, no manager, no $XDG_RUNTIME_DIR."""
    return [
        "setpriv", "--reuid", "1001", "--regid", "1001", "--clear-groups", "env", "-i", "HOME=/home/guest",
        "PATH=/usr/local/bin:/usr/bin:/bin", "sh", "-c", 'cd; exec "$@"', "sh", *words,
    ]  # fmt: skip


def test_without_a_session_it_works_without_limits(sudo: Command) -> None:
    sudo.ok("systemctl", "stop", "user@1001.service")
    assert (
        sudo.ok(*as_guest("rootless", "run", "--rm", "--network", "none", "host", "echo", "fine"))
        == "fine"
    )
    done = sudo(
        *as_guest("rootless", "run", "--rm", "--network", "none", "--memory", "64m", "host", "true")
    )
    assert done.returncode == 125
    assert (
        "cannot set the memory limit (--memory): no systemd manager of uid 1001 runs" in done.stderr
    )
    assert "loginctl enable-linger" in done.stderr
    limits = sudo.ok(*as_guest("rootless", "info", "--format", "{{.Host.Limitations}}"))
    assert "loginctl enable-linger" in limits


def test_a_lingering_users_manager_is_found_without_the_variable(rootless: Command) -> None:
    done = subprocess.run(
        ["env", "-u", "XDG_RUNTIME_DIR", "-u", "DBUS_SESSION_BUS_ADDRESS", "rootless", "run", "--rm", "--network",
         "none", "--memory", "64m", "host", "cat", "/sys/fs/cgroup/memory.max"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == str(64 << 20), done.stderr


# in a unit


def systemd_run(*words: str) -> str:
    return Command("systemd-run").ok("--user", "--wait", "--pipe", "--quiet", "--collect", *words)


def test_split_in_a_service_that_is_delegated(rootless: Command) -> None:
    said = systemd_run(
        "-p", "Delegate=yes", "--unit", "splitter", "rootless", "run", "--rm", "--network", "none", "--cgroups=split",
        "--memory", "64m", "--cgroupns", "host", "host", "cat", "/proc/self/cgroup",
    )  # fmt: skip
    assert said == f"0::{MANAGER}/app.slice/splitter.service/container"
    refused = Command("systemd-run")(
        "--user", "--wait", "--pipe", "--quiet", "--collect", "-p", "Delegate=no", "--unit", "plain", "rootless", "run", "--rm",
        "--network", "none", "--cgroups=split", "host", "true",
    )  # fmt: skip
    # In one's own manager every cgroup belongs to oneself: it can be divided there as well.
    assert refused.returncode in (0, 125)


def test_cgroupfs_beside_a_unit(rootless: Command) -> None:
    said = systemd_run(
        "--unit", "folders", "rootless", "--cgroup-manager", "cgroupfs", "run", "--rm", "--network", "none", "--memory",
        "64m", "--cgroupns", "host", "host", "sh", "-c", "cat /proc/self/cgroup",
    )  # fmt: skip
    assert said.startswith(f"0::{MANAGER}/app.slice/rootless-")
    until(
        lambda: not list(Path(f"{UNIFIED}{MANAGER}/app.slice").glob("rootless-*")), "it is removed"
    )


# the reboot


@pytest.mark.after_reboot
def test_the_truth_after_a_reboot(rootless: Command) -> None:
    shown = json.loads(rootless.ok("inspect", "survivor"))[0]
    assert shown["State"]["Status"] == "exited"
    rootless.ok("start", "survivor")
    assert rootless.ok("exec", "survivor", "cat", "/sys/fs/cgroup/memory.max") == str(64 << 20)
    rootless.ok("rm", "-f", "-t", "0", "survivor")


@pytest.mark.after_reboot
def test_what_the_error_told_to_do_helps(rootless: Command) -> None:
    """The drop-in that test_before_the_reboot has put in place."""
    _, folder = running(
        rootless, "pinned", "--cpuset-cpus", "0", "--device-read-bps", "/dev/vda:1mb", "--blkio-weight", "300"
    )  # fmt: skip
    assert (folder / "cpuset.cpus").read_text().strip() == "0"
    assert "rbps=1048576" in (folder / "io.max").read_text()
    # 10 to 1000 becomes 1 to 10000, as in runc and crun.
    assert "default 2930" in (folder / "io.weight").read_text()


@pytest.mark.before_reboot
def test_before_the_reboot(rootless: Command, sudo: Command) -> None:
    """Leaves a container and a drop-in for the tests that come after it."""
    running(rootless, "survivor", "--memory", "64m", "--label", "keep")
    folder = "/etc/systemd/system/user@.service.d"
    lines = r"[Service]\nDelegate=cpu cpuset io memory pids\n"
    sudo.ok("sh", "-c", f"mkdir -p {folder} && printf '{lines}' > {folder}/delegate.conf")
    assert "io" in sudo.ok("cat", f"{folder}/delegate.conf")
