"""Containers whose own init is systemd: Debian's, booted in the cgroup that was delegated to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.guest.conftest import Command, cgroup_of, pids, until

#: What belongs to the machine's root and cannot work in a container of it without a network.
NOT_INSIDE = (
    "-v", "/dev/null:/etc/fstab", "-v", "/dev/null:/etc/systemd/system/systemd-resolved.service", "--network", "none",
)  # fmt: skip


def booted(rootless: Command, name: str) -> None:
    until(
        lambda: (
            rootless("exec", name, "systemctl", "is-system-running").stdout.strip()
            in ("running", "degraded")
        ),
        "systemd has reached its target",
        limit_s=600,
    )


@pytest.mark.parametrize("userns", ["host", "keep-id:uid=5,gid=5"])
def test_systemd_boots_and_stops(rootless: Command, userns: str) -> None:
    identity = rootless.ok(
        "run", "-d", "--name", "booted", *NOT_INSIDE, "--userns", userns, "--user", "0", "host", "/sbin/init", "--unit=basic.target"
    )  # fmt: skip
    assert (
        rootless.ok(
            "inspect", "--format", "{{.Config.SystemdMode}} {{.Config.StopSignal}}", "booted"
        )
        == "true SIGRTMIN+3"
    )
    booted(rootless, "booted")
    said = rootless.ok(
        "exec", "booted", "sh", "-c",
        "systemctl is-system-running; systemctl is-active basic.target; cat /proc/1/cgroup; tr '\\0' '\\n' </proc/1/environ;"
        "systemctl list-units --failed --plain --no-legend; cat /run/host/container-uuid 2>/dev/null;"
        "for at in /run /run/lock /tmp /var/log/journal; do stat -f -c \"$at %T\" $at; done",
    ).splitlines()  # fmt: skip
    assert said[:3] == ["running", "active", "0::/init.scope"], said
    assert f"container_uuid={identity[:32]}" in said
    assert {f"{at} tmpfs" for at in ("/run", "/run/lock", "/tmp", "/var/log/journal")} <= set(said)
    # The leaf that was delegated is its root's, and what it made below it too; the scope above it is not.
    _, inside = pids(identity)
    folder = Path(f"/sys/fs/cgroup{cgroup_of(inside)}").parent
    assert folder.name == "container"
    owner = Path(f"/proc/{inside}").stat().st_uid
    assert (folder / "cgroup.procs").stat().st_uid == owner
    assert (folder / "init.scope").stat().st_uid == owner
    assert owner == 1000 or folder.parent.stat().st_uid == 1000
    rootless.ok("stop", "-t", "300", "booted")
    # SIGRTMIN+3 has halted it: it was not killed.
    assert rootless.ok("inspect", "--format", "{{.State.ExitCode}}", "booted") != "137"


def test_false_is_an_ordinary_program(rootless: Command) -> None:
    said = rootless.ok(
        "run", "--rm", "--network", "none", "--systemd", "false", "--entrypoint", "/bin/sh", "host", "-c",
        "stat -f -c %T /run/lock /tmp; touch /sys/fs/cgroup/cgroup.procs 2>/dev/null && echo writable; env",
    )  # fmt: skip
    assert "tmpfs" not in said.split()
    assert "writable" not in said and "container_uuid" not in said


def test_always_makes_any_program_a_systemd(rootless: Command) -> None:
    """Where it may write, it makes cgroups of its own, and its first process may leave the root of them."""
    said = rootless.ok(
        "run", "--rm", "--network", "none", "--systemd", "always", "--stop-timeout", "0", "host", "sh", "-c",
        "mkdir /sys/fs/cgroup/inner && echo 1 >/sys/fs/cgroup/inner/cgroup.procs && cat /proc/1/cgroup; env",
    )  # fmt: skip
    assert "0::/inner" in said.split()
    assert "container_uuid=" in said
