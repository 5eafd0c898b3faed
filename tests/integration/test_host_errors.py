"""What the host refuses: one line that names the thing and the reason, one that says what to do about the host."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.poor import in_mounts, plain, with_user_limit

HOST = ("run", "--rm", "--network", "none", "host", "true")


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """The error and its remedy, in one line."""
    assert done.returncode == 125, done
    plain(done.stderr, *words)
    assert "; " in done.stderr, done.stderr


def limited(fresh: Engine, limit: str, *command: str) -> subprocess.CompletedProcess[str]:
    fresh.ok("version")  # the interpreter writes its caches
    return subprocess.run(
        ["prlimit", limit, *fresh.program, *command],
        env=fresh.env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("count", [12, 18, 24])
def test_open_files(count: int, fresh: Engine) -> None:
    """In the command, its monitor and the container's init."""
    done = limited(fresh, f"--nofile={count}", *HOST)
    refused(done, "too many open files", f"may have {count} files open (ulimit -n)", "LimitNOFILE=")


@pytest.mark.needs("userns", "subids", "tun")
@pytest.mark.parametrize("count", [14, 20, 28, 34])
def test_open_files_with_a_network(count: int, fresh: Engine) -> None:
    """In init while the network is made, and in its helper."""
    done = limited(fresh, f"--nofile={count}", "run", "--rm", "host", "true")
    if count == 34 and not done.returncode:
        return  # enough for pasta of 2024 and later
    refused(done, "oo many open files", f"may have {count} files open (ulimit -n)", "LimitNOFILE=")


@pytest.mark.parametrize("command", [HOST, ("volume", "create", "v")])
def test_file_size(command: tuple[str, ...], fresh: Engine) -> None:
    refused(limited(fresh, "--fsize=9", *command), "file too large", "9 bytes long (ulimit -f)")


def test_processes(fresh: Engine) -> None:
    done = limited(fresh, "--nproc=1", *HOST)
    refused(done, "cannot start a process: ", "1 processes (ulimit -u)", "TasksMax=")


@pytest.mark.needs("userns")
@pytest.mark.parametrize("kind", ["user", "mnt", "pid", "net", "ipc", "uts"])
def test_namespaces_used_up(kind: str, fresh: Engine) -> None:
    name = f"max_{kind}_namespaces"
    done = in_mounts("", *fresh.program, *HOST, env=fresh.env, limit=name)
    refused(done, "no space left on device", f"sysctl user.{name}=")


@pytest.mark.needs("userns")
@pytest.mark.parametrize(
    ("limit", "sysctl"),
    [
        ("max_inotify_instances", "fs.inotify.max_user_instances"),
        ("max_inotify_watches", "fs.inotify.max_user_watches"),
    ],
)
def test_inotify_used_up(limit: str, sysctl: str, rootless: Engine) -> None:
    rootless.ok("run", "-d", "--name", "c", "--network", "none", "host", "sleep", "100")
    for command in (("logs", "-f", "c"), ("events", "--stream")):
        done = with_user_limit(limit, *rootless.program, *command, env=rootless.env)
        refused(done, "Error: inotify", f"sysctl {sysctl}")


@pytest.mark.needs("userns", "pasta")
@pytest.mark.parametrize(
    ("hidden", "options", "words"),
    [
        ("pasta", "--network pasta", ("pasta is not installed", "passt")),
        ("slirp4netns", "--network slirp4netns", ("slirp4netns is not installed", "passt")),
        ("pasta slirp4netns", "", ("neither pasta nor slirp4netns", "--network none")),
        ("catatonit", "--network none --init", ("catatonit is not there", "install the package")),
        ("tun", "--network pasta", ("/dev/net/tun cannot be opened", "modprobe tun")),
    ],
)  # fmt: skip
def test_programs_and_devices(
    hidden: str, options: str, words: tuple[str, ...], fresh: Engine, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    mounts = "\n".join(
        f"for at in /usr/bin /usr/libexec/podman /usr/lib/podman; do test ! -e $at/{name} || mount --bind {tmp_path}/empty $at/{name}; done"
        for name in hidden.split()
        if name != "tun"
    )
    if hidden == "tun":
        mounts = "mount -t tmpfs tmpfs /dev/net"
    command = ("run", "--rm", *options.split(), "host", "true")
    refused(in_mounts(mounts, *fresh.program, *command, env=fresh.env), *words)


@pytest.mark.needs("userns", "fuse-overlayfs")
def test_fuse_overlayfs(fresh: Engine, tmp_path: Path) -> None:
    command = ("--storage-opt", "mount_program=/usr/bin/fuse-overlayfs", *HOST)
    done = in_mounts("mount --bind /dev/null /dev/fuse", *fresh.program, *command, env=fresh.env)
    refused(done, "fuse-overlayfs: ", "is /dev/fuse there and open to this user?")


@pytest.mark.needs("privileged-ports")
def test_ports(fresh: Engine) -> None:
    result = fresh("run", "--rm", "-p", "80:80", "host", "true")
    assert result.code == 125
    plain(
        result.err,
        "port 0.0.0.0:80/tcp: ports below 1024 are privileged",
        "ip_unprivileged_port_start=80",
    )


@pytest.mark.needs("no-delegation")
def test_limits(fresh: Engine) -> None:
    for option in (("-m", "100m"), ("--cpus", "1"), ("--pids-limit", "10")):
        result = fresh("run", "--rm", *option, "--network", "none", "host", "true")
        assert result.code == 125
        plain(result.err, f"({'--memory' if option[0] == '-m' else option[0]}", "; ")


@pytest.mark.needs("userns")
@pytest.mark.parametrize("size", ["size=4k", "nr_inodes=3"])
def test_run_folder_full(size: str, fresh: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    env = {**fresh.env, "XDG_RUNTIME_DIR": str(folder)}
    mounts = f"mount -t tmpfs -o mode=700,{size} tmpfs {folder}"
    done = in_mounts(mounts, *fresh.program, *HOST, env=env)
    refused(done, f"Error: {folder}/", "no space left on device", "make room there")


@pytest.mark.needs("userns")
@pytest.mark.parametrize("size", ["size=300k", "nr_inodes=30"])
def test_store_full(size: str, fresh: Engine, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    fresh.ok(*HOST)
    fresh.ok("save", "-o", str(tmp_path / "image.tar"), "host")
    program = (*fresh.program, "--root", f"{disk}/d")
    mounts = f"mount -t tmpfs -o mode=755,{size} tmpfs {disk}"
    command = ("load", "-i", str(tmp_path / "image.tar"))
    done = in_mounts(mounts, *program, *command, env=fresh.env)
    refused(done, f"{disk}/d", "no space left on", "prune")


@pytest.mark.needs("userns")
def test_masked_proc(fresh: Engine) -> None:
    """As in a container: the kernel mounts no proc where another one is partly hidden."""
    mounts = "mount -t tmpfs tmpfs /proc/bus 2> /dev/null || mount -t tmpfs tmpfs /proc/irq"
    done = in_mounts(mounts, *fresh.program, *HOST, env=fresh.env)
    refused(done, "cannot mount proc", "unmask=ALL")


#: (what is injected, words of the error and its remedy)
INJECTED = (
    ("fsopen:error=EPERM:when=1", ("overlay of ", "operation not permitted")),
    ("move_mount:error=ENOSPC:when=1", ("no space left on device", "fs.mount-max")),
    ("openat2:error=ENOSYS:when=1", ("function not implemented", "Linux ", "seccomp filter")),
    ("pivot_root:error=EPERM:when=1", ("init, pivot_root: ", "security module", "doctor")),
    ("sethostname:error=EPERM:when=1", ("init, namespaces: ", "security module")),
    ("setresuid:error=EPERM:when=1", ("operation not permitted", "security module")),
    ("seccomp:error=EPERM:when=1", ("operation not permitted", "security module")),
    ("capset:error=EPERM:when=1", ("operation not permitted", "security module")),
    ("clone3:error=EAGAIN:when=1", ("cannot make the container's namespaces", "ulimit -u")),
    ("clone3:error=ENOMEM:when=1", ("cannot make the container's namespaces", "memory is used up")),
    ("socketpair:error=EMFILE:when=1", ("cannot open a file, pipe or socket", "ulimit -n")),
    ("pipe2:error=ENFILE:when=1", ("too many open files in system", "fs.file-max")),
    ("flock:error=ENOLCK:when=1", ("no locks available", "another")),
    ("mkdir:error=EDQUOT:when=2", ("disk quota exceeded", "quota")),
    ("mkdir:error=EROFS:when=1", ("read-only file system", "--root")),
    ("rename:error=ENOSPC:when=1", ("no space left on device", "prune")),
    ("rename:error=EIO:when=1", ("input/output error", "dmesg")),
)


@pytest.mark.needs("userns", "strace")
def test_injected(fresh: Engine) -> None:
    """What no test can bring about on a machine that others use: the kernel's answer is replaced."""
    program = " ".join([*fresh.program, *HOST])
    script = f"{program} || exit\n" + "\n".join(
        f"echo '== {inject}'; strace -f -qq -o /dev/null -e signal=none -e trace={inject.partition(':')[0]} -e inject={inject} {program} 2>&1; echo $?"
        for inject, _ in INJECTED
    )
    done = in_mounts("", "sh", "-c", script, env=fresh.env, timeout=300)
    answers = dict(part.split("\n", 1) for part in done.stdout.split("== ")[1:])
    for inject, words in INJECTED:
        error, _, code = answers[inject].rstrip("\n").rpartition("\n")
        assert code == "125", (inject, error)
        plain(error, *words)
        assert "; " in error, (inject, error)
