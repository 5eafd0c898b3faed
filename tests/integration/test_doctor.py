"""`rootless doctor` on this host, and on ones that are made worse: what it says is what they are."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.poor import in_mounts, without_userns

DOCTOR = ("doctor", "--offline", "--format", "json")


def look(done: subprocess.CompletedProcess[str]) -> dict[str, list[tuple[str, str, str]]]:
    """What was found, by subject: (state, text, remedy). The exit status goes with it."""
    assert done.stderr == "", done
    document = json.loads(done.stdout)
    bad = [one for one in document["findings"] if one["state"] == "failed"]
    assert (document["works"], done.returncode) == ((not bad), 1 if bad else 0), done
    found: dict[str, list[tuple[str, str, str]]] = {}
    for one in document["findings"]:
        assert one["state"] == "ok" or one["remedy"] or "batch" in one["text"], one
        assert "\n" not in one["text"] + one["remedy"]
        found.setdefault(one["subject"], []).append((one["state"], one["text"], one["remedy"]))
    return found


def worst(found: dict[str, list[tuple[str, str, str]]]) -> list[str]:
    return [subject for subject, rows in found.items() if any(row[0] == "failed" for row in rows)]


def test_here(rootless: Engine) -> None:
    """Where tests of containers run, containers can be run."""
    result = rootless("doctor", "--offline")
    assert (result.code, result.err) == (0, "")
    assert result.lines[-1] == "Containers can be run here."
    for subject in ("user namespaces", "isolation", "store", "seccomp"):
        assert any(line.startswith(f"ok    {subject}: ") for line in result.lines)


def test_json(rootless: Engine) -> None:
    assert rootless("doctor", "--offline", "--format", "json").json["works"] is True


def test_no_place_to_write(rootless: Engine) -> None:
    result = rootless("--root", "/proc/nowhere", "doctor", "--offline")
    assert result.code == 1
    failed = [line for line in result.lines if line.startswith("FAIL")]
    assert failed == [
        "FAIL  store: /proc/nowhere cannot be written to: /proc: belongs to uid 0, not to uid "
        + str(os.getuid())
    ]
    assert result.lines[-1].startswith("Containers cannot be run here")


def test_no_runtime_folder(rootless: Engine) -> None:
    result = rootless("doctor", "--offline", env={"XDG_RUNTIME_DIR": "/nowhere"})
    assert "warn  $XDG_RUNTIME_DIR: /nowhere is missing" in result.out


def test_settings_that_cannot_be_read(fresh: Engine, tmp_path: Path) -> None:
    (tmp_path / "c.conf").write_text("[engine\n")
    done = fresh("doctor", "--offline", env={"CONTAINERS_CONF": str(tmp_path / "c.conf")})
    assert done.code == 1 and done.err == ""
    assert any(line.startswith("FAIL  settings: ") and "c.conf" in line for line in done.lines)


@pytest.mark.needs("userns")
def test_no_user_namespaces(fresh: Engine) -> None:
    found = look(without_userns(*fresh.program, *DOCTOR, env=fresh.env))
    ((state, text, remedy),) = found["user namespaces"]
    assert state == "failed" and "forbidden here" in text
    assert "sysctl user.max_user_namespaces=" in remedy
    assert "isolation" not in found, "the same cause is told once"


@pytest.mark.needs("userns")
def test_neither_ids_nor_devices_nor_programs(fresh: Engine, tmp_path: Path) -> None:
    """Less of everything, and yet containers can be run."""
    (tmp_path / "empty").touch()
    hidden = ("pasta", "slirp4netns", "fuse-overlayfs", "catatonit", "gpg")
    mounts = "mount -t tmpfs tmpfs /dev/net; mount --bind /dev/null /dev/fuse\n" + "\n".join(
        f"test ! -e /usr/bin/{name} || mount --bind {tmp_path}/empty /usr/bin/{name}"
        for name in hidden
    )
    found = look(in_mounts(mounts, *fresh.program, *DOCTOR, env=fresh.env))
    assert worst(found) == []
    for subject, remedy in (
        ("subordinate uids", "usermod --add-subuids 100000-165535 "),
        ("subordinate gids", "usermod --add-subgids 100000-165535 "),
        ("/dev/net/tun", "modprobe tun"),
        ("network helper", "install passt"),
        ("catatonit", "install catatonit"),
        ("gpg", "install gnupg"),
    ):
        ((state, _, said),) = found[subject]
        assert state == "warning" and remedy in said, subject
    assert "pasta" not in found and "fuse-overlayfs" not in found and "newuidmap" not in found


@pytest.mark.needs("userns")
def test_tables_that_cannot_be_read(fresh: Engine, tmp_path: Path) -> None:
    (tmp_path / "secret").touch(mode=0)
    mounts = f"for file in /etc/subuid /etc/subgid; do mount --bind {tmp_path}/secret $file; done"
    found = look(in_mounts(mounts, *fresh.program, *DOCTOR, env=fresh.env))
    for subject, file in (("subordinate uids", "/etc/subuid"), ("subordinate gids", "/etc/subgid")):
        ((state, text, remedy),) = found[subject]
        assert (state, remedy) == ("warning", f"`chmod 644 {file}` by root")
        assert text.startswith(f"{file} cannot be read")


@pytest.mark.needs("userns", "newuidmap")
@pytest.mark.parametrize(
    ("mounts", "text", "remedy", "told"),
    [
        ("mount --bind EMPTY /usr/bin/newuidmap", "is not installed", "install the package uidmap", "install the package uidmap"),
        ("mount --bind COPY /usr/bin/newuidmap", "neither the set-uid bit", "chmod u+s", "ask for `chmod u+s /usr/bin/newuidmap`"),
        ("mount --bind /usr/bin /usr/bin; mount -o remount,bind,nosuid /usr/bin", "nosuid", "without nosuid", "on a nosuid file system"),
    ],
)  # fmt: skip
def test_newuidmap(
    mounts: str, text: str, remedy: str, told: str, fresh: Engine, tmp_path: Path
) -> None:
    """What doctor says of it, and what `run` does, where the program itself is hidden, a copy, or on such a mount."""
    (tmp_path / "empty").touch()
    copy = tmp_path / "copy"
    copy.write_bytes(Path("/usr/bin/newuidmap").read_bytes())
    copy.chmod(0o755)
    mounts = mounts.replace("EMPTY", f"{tmp_path}/empty").replace("COPY", str(copy))
    found = look(in_mounts(mounts, *fresh.program, *DOCTOR, env=fresh.env, subids=True))
    assert worst(found) == ["newuidmap"]
    state, said, way = found["newuidmap"][-1]
    assert state == "failed" and text in said and remedy in way
    command = (*fresh.program, "run", "--rm", "--network", "none", "host", "true")
    result = in_mounts(mounts, *command, env=fresh.env, subids=True)
    assert result.returncode == 125
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: newuidmap") and told in line


@pytest.mark.needs("userns")
@pytest.mark.parametrize(
    ("options", "state", "text", "remedy"),
    [
        ("size=200m,noexec", "failed", "is mounted noexec: no program of an image can run", "--root"),
        ("size=200m,nosuid", "warning", "is mounted nosuid", "remount,suid"),
        ("size=200m", "warning", "is in memory (tmpfs)", "--root on a disk"),
        ("size=1m", "failed", " KiB free, which no image fits in", "system prune"),
        ("size=200m,nr_inodes=100", "warning", "inodes are left", "system prune"),
        ("size=200m,ro", "failed", "cannot be written to: read-only file system", "--root elsewhere"),
    ],
)  # fmt: skip
def test_store(
    options: str, state: str, text: str, remedy: str, fresh: Engine, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [*fresh.program, "--root", f"{disk}/d", *DOCTOR]
    found = look(in_mounts(f"mount -t tmpfs -o {options} tmpfs {disk}", *command, env=fresh.env))
    assert any(row[0] == state and text in row[1] and remedy in row[2] for row in found["store"])
    assert ("store" in worst(found)) == (state == "failed")


@pytest.mark.needs("userns")
def test_proc_that_cannot_be_mounted(fresh: Engine) -> None:
    """As inside of a container whose /proc is masked: the kernel then refuses an unmasked one."""
    mounts = "mount -t tmpfs tmpfs /proc/bus 2> /dev/null || mount -t tmpfs tmpfs /proc/irq"
    found = look(in_mounts(mounts, *fresh.program, *DOCTOR, env=fresh.env))
    ((state, text, remedy),) = found["isolation"]
    assert (state, text) == ("failed", "proc cannot be mounted: operation not permitted")
    assert "unmask=ALL" in remedy and "--pid host" in remedy


def test_limits(fresh: Engine) -> None:
    done = subprocess.run(
        ["prlimit", "--nofile=300", "--nproc=400", *fresh.program, *DOCTOR],
        env=fresh.env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    ((state, text, remedy),) = look(done)["limits"]
    assert state == "warning" and "LimitNPROC=" in remedy
    assert text == "this user is held to 400 processes (nproc) and 300 open files (nofile)"


def test_no_more_processes(fresh: Engine) -> None:
    done = subprocess.run(
        ["prlimit", "--nproc=1", *fresh.program, *DOCTOR],
        env=fresh.env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    ((state, text, remedy),) = look(done)["user namespaces"]
    assert (state, text) == ("failed", "user namespaces: resource temporarily unavailable")
    assert "1 processes (ulimit -u)" in remedy and "LimitNPROC=" in remedy


def test_registries_that_do_not_answer_are_not_waited_for(fresh: Engine, tmp_path: Path) -> None:
    """One refuses, one takes the call and says nothing."""
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        socket.create_server(("127.0.0.1", 0)) as gone,
    ):
        ports = [one.getsockname()[1] for one in (mute, gone)]
        gone.close()
        names = json.dumps([f"127.0.0.1:{port}" for port in ports])
        (tmp_path / "r.conf").write_text(f"unqualified-search-registries = {names}\n")
        env = {
            **fresh.env,
            "CONTAINERS_REGISTRIES_CONF": str(tmp_path / "r.conf"),
            "HTTPS_PROXY": "",
        }
        done = subprocess.run(
            [*fresh.program, "doctor", "--format", "json"],
            env=env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    rows = look(done)["registry"]
    assert [row[0] for row in rows] == ["warning", "warning"]
    assert "timed out" in rows[0][1] and "connection refused" in rows[1][1]
