"""Hosts with something missing: the command works, or says in one line what is wrong and what to do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support import host, images
from tests.support.engine import Engine
from tests.support.poor import in_mounts, plain, without_userns

HOST = ("run", "--rm", "--network", "none", "host")


@pytest.mark.needs("userns")
def test_read_only_home(fresh: Engine, tmp_path: Path) -> None:
    home = tmp_path / "h"
    home.mkdir()
    env = {**fresh.env, "HOME": str(home), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""}
    script = f"mount -t tmpfs -o ro tmpfs {home}"
    for listing in ("ps", "images"):
        result = in_mounts(script, *fresh.program, listing, "-q", env=env)
        assert (result.returncode, result.stdout) == (0, ""), result
    for command in (HOST, ("volume", "create", "v")):
        result = in_mounts(script, *fresh.program, *command, env=env)
        assert result.returncode == 125
        plain(result.stderr, f"{home}/.local: read-only file system", "--root")


@pytest.mark.needs("userns", "fuse", "fuse-overlayfs")
def test_images_where_the_file_system_makes_no_nameless_files(
    fresh: Engine, tmp_path: Path
) -> None:
    """As NFS and Lustre homes; FUSE knows no O_TMPFILE either."""
    for name in ("lower", "upper", "work", "home"):
        (tmp_path / name).mkdir()
    archive = tmp_path / "i.tar"
    images.docker_archive(archive, [images.layer([images.file("f", b"x" * 5000)])], ["i:1"])
    command = [*fresh.program, "--root", f"{tmp_path}/home/d"]
    script = f"""
        run() {{ {" ".join(command)} "$@"; }}
        gzip < {archive} | run load -q
        run save -q i:1 | run load -q
        run push -q i:1 dir:{tmp_path}/pushed
        ls -A {tmp_path}/home/d/images/tmp
    """
    where = "lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work {0}/home"
    # In the foreground, to end with the command.
    mounts = f"""
        setpriv --pdeathsig KILL fuse-overlayfs -f -o {where} &
        until mountpoint -q {{0}}/home; do sleep 0.02; done
    """
    result = in_mounts(mounts.format(tmp_path), "sh", "-ec", script, env=fresh.env)
    assert result.returncode == 0, result
    assert result.stdout.splitlines() == ["Loaded image: docker.io/library/i:1"] * 2, result


@pytest.mark.needs("userns")
def test_full_disk(fresh: Engine, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [*fresh.program, "--root", f"{disk}/d"]
    script = f"""
        run() {{ {" ".join(command)} "$@"; }}
        run run --rm --network none host true
        run run -d --name a --network none host sh -c 'trap "exit 7" TERM; while :; do sleep 0.1; done' > /dev/null
        cat /dev/zero > {disk}/zeros 2> /dev/null || true
        run run --rm --network none host true || echo "new: $?"
        run volume create v || echo "volume: $?"
        run exec a echo exec works
        run stop a
        run ps -a --format '{{{{.Names}}}} {{{{.Status}}}}'
        rm {disk}/zeros
        run rm a
        run run --rm --network none host echo again
        ls {disk}/d/tmp {disk}/d/containers
    """
    mounts = f"mount -t tmpfs -o size=60m,mode=755 tmpfs {disk}"
    result = in_mounts(mounts, "sh", "-ec", script, env=fresh.env)
    out = result.stdout.splitlines()
    assert out[:4] == ["new: 125", "volume: 125", "exec works", "a"], result
    assert out[4].startswith("a Exited (7) "), result
    assert out[5:7] == ["a", "again"], result
    assert result.stderr.count("Error: ") == 2 and result.stderr.count("no space left on") == 2
    assert "Traceback" not in result.stderr


@pytest.mark.needs("userns")
def test_user_namespaces_forbidden(fresh: Engine) -> None:
    for command, code in ((HOST, 125), (("unshare",), 125), (("ps",), 0)):
        arguments = [*fresh.program, *command, *(["true"] if code else [])]
        result = without_userns(*arguments, env=fresh.env)
        assert result.returncode == code, result
        if code:
            plain(result.stderr, "user namespaces are forbidden here", "max_user_namespaces")


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&-", "0<&- 1>&- 2>&-"])
def test_closed_streams(rootless: Engine, closed: str) -> None:
    for words in (HOST, ("run", "--rm", "-i", "--network", "none", "host"), ("run", "-d", "--name", "d", "--network", "none", "host")):  # fmt: skip
        script = f'"$@" sh -c "ls /proc/self/fd >&2; exit 3" {closed}'
        result = subprocess.run(
            ["sh", "-c", script, "sh", *rootless.program, *words],
            env=rootless.env, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert result.returncode == (0 if "-d" in words else 3), result
    assert rootless.ok("wait", "d") == "3"


def test_no_home_and_no_runtime_folder(fresh: Engine) -> None:
    env = {k: v for k, v in fresh.env.items() if k != "XDG_RUNTIME_DIR"}
    for value in ({}, {"XDG_RUNTIME_DIR": "relative"}, {"XDG_RUNTIME_DIR": "/nope"}):
        result = subprocess.run(
            [*fresh.program, *HOST, "echo", "hi"], env={**env, **value}, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert (result.stdout, result.returncode) == ("hi\n", 0), result


def test_umask(fresh: Engine) -> None:
    result = subprocess.run(
        ["sh", "-c", 'umask 077; exec "$@"', "sh", *fresh.program, "run", "--rm", "--network", "none", "-u", "5", "-v", "v:/v",
         "host", "sh", "-c", "cat /etc/hosts /etc/hostname > /v/x && umask && stat -c %a / /v /v/x"],
        env=fresh.env, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert result.stdout.split() == ["0022", "755", "755", "644"], result


@pytest.mark.parametrize(
    "name", ["a b", "a:b", "a,b", "a\\b", 'a"b', "a'b", "ü", "a\nb", "$x", "x" * 250]
)
def test_odd_home(name: str, tmp_path: Path) -> None:
    home = tmp_path / name
    home.mkdir()
    engine = Engine()
    engine.env.update(HOME=str(home), XDG_DATA_HOME="", XDG_CONFIG_HOME="")
    try:
        script = "touch /x /v/x && echo done"
        assert (
            engine.ok("run", "--rm", "--network", "none", "-v", "v:/v", "host", "sh", "-c", script)
            == "done"
        )
        engine.ok("run", "-d", "--name", "w", "--network", "none", "host", "sleep", "1000")
        assert engine.ok("exec", "w", "echo", "in") == "in"
        engine.ok("rm", "-f", "-t", "0", "w")
    finally:
        engine.ok("system", "reset", "--force")
        engine.close()


@pytest.mark.needs("userns", "overlay", "fuse")
def test_store_on_an_overlay(fresh: Engine, tmp_path: Path) -> None:
    """Where the kernel refuses an overlay on an overlay, another kind of root takes its place."""
    for name in ("l", "u", "w", "m"):
        (tmp_path / name).mkdir()
    mount = f"mount -t overlay -o userxattr,lowerdir={tmp_path}/l,upperdir={tmp_path}/u,workdir={tmp_path}/w overlay {tmp_path}/m"
    command = (*fresh.program, "--root", f"{tmp_path}/m/d")
    result = in_mounts(mount, *command, *HOST, "sh", "-c", "touch /x; echo ok", env=fresh.env)
    assert (result.stdout, result.returncode) == ("ok\n", 0), result


def test_driver_by_option(rootless: Engine) -> None:
    script = "touch /x; stat -f -c %T /"
    driver = ("--storage-driver", "vfs")
    assert rootless.ok(*driver, *HOST, "sh", "-c", script) not in ("overlayfs", "fuseblk")
    if host.has("fuse"):
        program = ("--storage-opt", "mount_program=/usr/bin/fuse-overlayfs")
        assert "fuse" in rootless.ok(
            *program, *HOST, "sh", "-c", "touch /x; grep ' / ' /proc/mounts"
        )


@pytest.mark.needs("userns")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", "0 0"),
        ("--userns keep-id", f"{os.getuid()} {os.getgid()}"),
        ("--userns keep-id:uid=5,gid=6", "5 6"),
        ("--userns host", "0 0"),
        ("--group-add keep-groups", "0 0"),
    ],
)
def test_one_id(fresh: Engine, options: str, expected: str) -> None:
    script = "echo $(id -u) $(id -g); touch /x /v/x"
    command = ("run", "--rm", "--network", "none", "-v", "v:/v", *options.split(), "host")
    result = in_mounts("", *fresh.program, *command, "sh", "-c", script, env=fresh.env)
    assert (result.stdout.strip(), result.returncode) == (expected, 0), result


@pytest.mark.needs("userns")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("-u 5", "user 5:60: not mapped in this container"),
        ("-u 5:5", "user 5:5: not mapped in this container"),
        ("--group-add 5", "setgroups is denied where one id is mapped"),
        ("--userns nomap", "--userns=nomap: this user has no subordinate ids"),
        ("--userns auto", "subordinate ids are free"),
        ("--uidmap 0:5:1", "id mapping 0:5:1: this user has 1 ids"),
    ],
)
def test_one_id_is_not_enough(fresh: Engine, options: str, words: str) -> None:
    command = ("run", "--rm", "--network", "none", *options.split(), "host", "true")
    result = in_mounts("", *fresh.program, *command, env=fresh.env)
    assert result.returncode in (125, 126), result
    plain(result.stderr, words)


def test_current_folder_is_gone(rootless: Engine) -> None:
    gone = rootless.folder / "gone"
    script = 'mkdir -p "$GONE" && cd "$GONE" && rmdir "$GONE" && exec "$@" 2>&1'
    for words, code, said in (
        ((*HOST, "echo", "hi"), 0, "hi\n"),
        (("run", "--rm", "-v", "./x:/y", "host", "true"), 125, "the current folder has been removed, so that a relative path names nothing"),
    ):  # fmt: skip
        result = subprocess.run(
            ["sh", "-c", script, "sh", *rootless.program, *words],
            env={**rootless.env, "GONE": str(gone)}, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert result.returncode == code and said in result.stdout, result


def test_input_is_no_terminal(rootless: Engine) -> None:
    """As Podman: it is said, and it runs."""
    result = rootless("run", "--rm", "-it", "--network", "none", "host", "echo", "hi")
    assert (result.code, result.out.strip()) == (0, "hi")
    assert result.err == (
        "WARN: The input device is not a TTY. The --tty and --interactive flags might not work properly\n"
    )
