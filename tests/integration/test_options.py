"""Options of `run` and `create`: what the kernel reports inside the container, not what was asked for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support import host, images
from tests.support.engine import Engine

HOST = ("run", "--rm", "--network", "none")


def sh(script: str) -> tuple[str, ...]:
    return ("host", "sh", "-c", script)


CASES: list[tuple[str, tuple[str, ...], str]] = [
    # process
    ("--ulimit nofile=10:20", sh("ulimit -Sn; ulimit -Hn"), "10\n20"),
    ("--ulimit core=0", sh("ulimit -c"), "0"),
    ("--umask 0077", sh("umask"), "0077"),
    ("", sh("umask"), "0022"),
    ("--oom-score-adj 500", sh("cat /proc/self/oom_score_adj"), "500"),
    ("--personality LINUX32", sh("uname -m"), "i686"),
    ("--workdir /tmp", sh("pwd"), "/tmp"),
    ("--entrypoint echo", ("host", "a", "b"), "a b"),
    ("--entrypoint [\"echo\",\"x\"]", ("host", "a"), "x a"),
    ("--tz Europe/Berlin", sh("TZ= ; date -d 2024-07-01 +%Z"), "CEST"),
    ("--init", sh("tr '\\0' ' ' < /proc/1/cmdline | cut -d' ' -f1"), "/run/podman-init"),
    ("--security-opt no-new-privileges", sh("grep NoNewPrivs /proc/self/status | cut -f2"), "1"),
    ("--security-opt seccomp=unconfined", sh("grep Seccomp: /proc/self/status | cut -f2"), "0"),
    ("", sh("grep Seccomp: /proc/self/status | cut -f2"), "2"),
    ("--cap-drop all", sh("grep CapBnd /proc/self/status | cut -f2"), "0000000000000000"),
    ("--cap-drop all --cap-add chown", sh("grep CapEff /proc/self/status | cut -f2"), "0000000000000001"),
    ("--user 1 --cap-add chown", sh("grep CapAmb /proc/self/status | cut -f2"), "0000000000000001"),
    ("--user 1", sh("grep CapEff /proc/self/status | cut -f2"), "0000000000000000"),
    # users
    ("--user 1:2 --group-add 77,daemon", sh("id -u; id -g; id -G"), "1\n2\n2 1 77"),
    ("--user daemon", sh("id -un; echo $HOME"), "daemon\n/usr/sbin"),
    ("--user 4444", sh("id -u; id -g; echo $HOME; tail -n1 /etc/passwd"), "4444\n0\n/\n4444:*:4444:0:container user:/:/bin/sh"),
    ("--user 4444:5555", sh("tail -n1 /etc/group"), "5555:x:5555:4444"),
    ("--user 4444 --passwd=false", sh("grep -c 4444 /etc/passwd; true"), "0"),
    ("--user 4444 --passwd-entry x:x:$UID:$GID::$HOME:", sh("tail -n1 /etc/passwd"), "x:x:4444:0::/:"),
    ("--read-only --user 4444", sh("tail -n1 /etc/passwd"), "4444:*:4444:0:container user:/:/bin/sh"),
    # environment
    ("-e A=b -e HOME=/x", sh("echo $A $HOME $container"), "b /x podman"),
    ("--env-merge PATH=$PATH:/z", sh("echo $PATH | tail -c 4"), ":/z"),
    ("--unsetenv container", sh("echo -$container-"), "--"),
    ("--hostname a.b", sh("hostname; cat /etc/hostname; echo $HOSTNAME"), "a.b\na.b\na.b"),
    # namespaces
    ("--uts host", sh("hostname"), os.uname().nodename),
    ("--pid host", sh("test $(ls -d /proc/[0-9]* | wc -l) -gt 5 && echo many"), "many"),
    ("", sh("echo $$"), "1"),
    ("--ipc none", sh("test -e /dev/shm; echo $?"), "1"),
    ("--sysctl net.ipv4.ip_forward=1", sh("cat /proc/sys/net/ipv4/ip_forward"), "1"),
    ("--sysctl kernel.shmmax=5000", sh("cat /proc/sys/kernel/shmmax"), "5000"),
    ("--sysctl fs.mqueue.msg_max=20", sh("cat /proc/sys/fs/mqueue/msg_max"), "20"),
    # files
    ("--read-only", sh("touch /x 2>/dev/null || touch /tmp/x /run/x /var/tmp/x /dev/shm/x && echo ok"), "ok"),
    ("--read-only --read-only-tmpfs=false", sh("touch /x /tmp/x /dev/x /dev/shm/x 2>&1 | grep -c Read-only"), "4"),
    ("--shm-size 1m", sh("df -k /dev/shm | tail -n1 | awk '{print $2}'"), "1024"),
    ("--tmpfs /q:size=1m,mode=711,noexec", sh("stat -c %a /q; grep -c ' /q tmpfs rw,nosuid,nodev,noexec,relatime,size=1024k' /proc/self/mounts"), "711\n1"),
    ("--tmpfs /q:notmpcopyup,exec,suid,dev", sh("grep -c ' /q tmpfs rw,relatime' /proc/self/mounts"), "1"),
    ("--device /dev/null:/dev/x", sh("echo hi > /dev/x; stat -c %t:%T /dev/x"), "1:3"),
    ("--security-opt mask=/etc/passwd", sh("wc -c < /etc/passwd"), "0"),
    ("--security-opt mask=/usr/share", sh("ls /usr/share | wc -l"), "0"),
    ("", sh("ls /sys/firmware | wc -l"), "0"),
    ("", sh("echo > /proc/sysrq-trigger 2>/dev/null; echo $?"), "2"),
    ("--security-opt proc-opts=hidepid=2", sh("grep -c ' /proc proc rw,nosuid,nodev,noexec,relatime,hidepid' /proc/self/mounts"), "1"),
    ("-v /tmp:/y:ro", sh("touch /y/x 2>&1 | grep -c Read-only"), "1"),
    ("-v /tmp:/y:rshared", sh("grep -c ' /y rw,.* shared:' /proc/self/mountinfo"), "1"),
    ("-v /etc/passwd:/y:ro", sh("test -f /y && echo file"), "file"),
    ("--mount type=ramfs,dst=/q", sh("grep -c ' /q ramfs rw,nosuid,nodev' /proc/self/mounts"), "1"),
    ("--mount type=devpts,dst=/dp", sh("grep -c ' /dp devpts' /proc/self/mounts"), "1"),
    ("--mount type=glob,src=/etc/passw?,dst=/g", sh("ls /g"), "passwd"),
    ("--userns keep-id", sh("test $(id -u) != 0 && sed -n 2p /proc/self/uid_map | awk '{print $1 == $2, $3}'"), "1 1"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "command", "expected"), CASES, ids=lambda v: v if isinstance(v, str) else None
)
def test_inside(rootless: Engine, options: str, command: tuple[str, ...], expected: str) -> None:
    if "keep-id" in options:
        host.require("subids")
    assert rootless.ok(*HOST, *options.split(), *command) == expected


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("--user nope", 126, "unable to find user nope: no matching entries in passwd file"),
        ("--user 1:nope", 126, "unable to find group nope: no matching entries in group file"),
        ("--user 4294967296", 126, "uids and gids must be in range 0-2147483647"),
        ("--group-add nope", 126, "unable to find group nope"),
        ("--workdir /nodir", 126, 'workdir "/nodir" does not exist'),
        ("--workdir rel", 126, 'workdir "rel" must be an absolute path'),
        ("--hostuser nope", 126, "unknown user nope"),
        ("--detach-keys foo,b", 126, "invalid detach keys 'foo,b': unknown key 'foo'"),
        (
            "--pid container:nope",
            125,
            'no container with name or ID "nope" found: no such container',
        ),
        (
            "--security-opt apparmor=foo",
            125,
            'apparmor profile "foo" specified, but Apparmor is not enabled',
        ),
        ("--security-opt label=type:foo", 125, "SELinux is not enabled"),
        ("--security-opt seccomp=/etc/passwd", 125, "not JSON"),
        ("--sysctl net.nope=1", 125, "sysctl net.nope: this kernel has none of that name"),
        ("--ulimit nofile=99999999", 125, "not permitted"),
        ("-v /tmp:/proc/x", 125, "nothing may be mounted below /proc"),
        ("-v /tmp:/proc", 125, "only a proc file system"),
        ("--pod x", 125, "pods are not available in this version"),
        ("--arch arm --variant v5", 125, "image host is this machine, linux/"),
        ("--os windows", 125, "image host is this machine, linux/"),
    ],
)
def test_error(rootless: Engine, options: str, code: int, message: str) -> None:
    assert message in rootless.fails(*HOST, *options.split(), "host", "true", code=code)
    assert rootless.ok("ps", "-aq") == ""


def test_env_file_and_host(rootless: Engine, tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("A=1\nONLY_HERE\n")
    result = rootless.ok(
        *HOST, "--env-file", str(path), *sh("env"), env={"ONLY_HERE": "yes", "OTHER": "no"}
    )
    lines = result.splitlines()
    assert "A=1" in lines and "ONLY_HERE=yes" in lines and "OTHER=no" not in lines


def test_case_18_host_variables_stay_out(rootless: Engine) -> None:
    assert "SECRET" not in rootless.ok(*HOST, *sh("env"), env={"SECRET": "x"})
    assert "SECRET=x" in rootless.ok(*HOST, "-e", "SECRET", *sh("env"), env={"SECRET": "x"})


def test_proxy_variables(rootless: Engine) -> None:
    proxy = {"http_proxy": "http://p:1", "NO_PROXY": "x"}
    assert rootless.ok(*HOST, *sh("echo $http_proxy $NO_PROXY"), env=proxy) == "http://p:1 x"
    assert rootless.ok(*HOST, "--http-proxy=false", *sh("echo $http_proxy"), env=proxy) == ""


def test_preserved_descriptors(rootless: Engine, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("through\n")
    for option, script in (
        ("--preserve-fds=2", "head -n1 <&3; head -n1 <&4; ls /proc/self/fd | wc -l"),
        ("--preserve-fd=4", "head -n1 <&4; ls -d /proc/self/fd/3; ls /proc/self/fd | wc -l"),
    ):
        result = subprocess.run(
            [
                "sh",
                "-c",
                'exec "$@" 3<"$F" 4<"$F"',
                "sh",
                *rootless.program,
                *HOST,
                option,
                *sh(script),
            ],
            env={**rootless.env, "F": str(tmp_path / "f")},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        lines = result.stdout.splitlines()
        assert lines == (["through", "through", "6"] if "fds" in option else ["through", "5"]), (
            result
        )


def test_preserved_descriptors_of_a_supervised_exec(rootless: Engine, tmp_path: Path) -> None:
    """With a terminal, or detached, it is a process of our own between the command and the container."""
    (tmp_path / "f").write_text("through\n")
    rootless.ok("run", "-d", "--name", "c", "--network", "none", "host", "sleep", "100")
    with open(tmp_path / "f") as file:
        fd, given = file.fileno(), ("--preserve-fd", str(file.fileno()))
        script = f"cat /proc/self/fd/{fd}"
        seen = rootless.ok("exec", "-t", *given, "c", "sh", "-c", script, pass_fds=[fd])
        assert seen.rstrip() == "through"
        script = f"mkfifo /tmp/p; cat /proc/self/fd/{fd} > /tmp/p"
        rootless.ok("exec", "-d", *given, "c", "sh", "-c", script, pass_fds=[fd])
    wait = "until test -p /tmp/p; do sleep 0.02; done; cat /tmp/p"
    assert rootless.ok("exec", "c", "sh", "-c", wait) == "through"
    rootless.ok("rm", "-f", "-t", "0", "c")


def test_privileged(rootless: Engine) -> None:
    script = "grep CapEff /proc/self/status | cut -f2; ls /proc/self/fd | wc -l; touch /sys/x 2>&1 | grep -c Read-only; ls /sys/firmware | wc -l"
    lines = rootless.ok(*HOST, "--privileged", *sh(script)).splitlines()
    assert int(lines[0], 16).bit_count() > 35 and lines[2] == "0"


def test_case_06_link_in_the_place_of_proc(rootless: Engine, tmp_path: Path) -> None:
    for name in ("proc", "sys"):
        archive = images.docker_archive(
            tmp_path / f"{name}.tar",
            [
                images.busybox_layer(),
                images.layer([images.file(f".wh.{name}"), images.symlink(name, "tmp")]),
            ],
            [f"localhost/link-{name}:latest"],
            Cmd=["true"],
        )
        rootless.ok("load", "--input", str(archive))
        error = rootless.fails(*HOST, f"localhost/link-{name}:latest")
        assert f"/{name} must be mounted on ordinary directory" in error


# containers that need others


def test_requires(rootless: Engine) -> None:
    """What is required is started first, and cannot be removed before."""
    rootless.ok("create", "--name", "a", "--network", "none", "host", "sleep", "1000")
    rootless.ok(
        "create", "--name", "b", "--network", "none", "--requires", "a", "host", "sleep", "1000"
    )
    rootless.ok(
        "run",
        "-d",
        "--name",
        "c",
        "--requires",
        "b",
        "--network",
        "container:a",
        "host",
        "sleep",
        "1000",
    )
    assert sorted(rootless.ok("ps", "--format", "{{.Names}}").split()) == ["a", "b", "c"]
    error = rootless.fails("rm", "-f", "-t", "0", "a")
    assert "has dependent containers which must be removed before it" in error
    assert rootless.ok("ps", "-q").count("\n") == 2, "it was stopped"
    assert rootless.ok("rm", "-f", "-t", "0", "--depend", "a") == "a"
    assert rootless.ok("ps", "-aq") == ""


def test_requires_what_is_not_there(rootless: Engine) -> None:
    error = rootless.fails(*HOST, "--requires", "nope", "host", "true")
    assert (
        '"nope" is not a valid container, cannot be used as a dependency: no container with name or ID'
        in error
    )
    error = rootless.fails("run", "--rm", "--network", "container:nope", "host", "true")
    assert "looking up container to share net namespace with: no container with name or ID" in error


def test_joined_container_is_found_by_id(rootless: Engine) -> None:
    rootless.ok(
        "run",
        "-d",
        "--name",
        "a",
        "--network",
        "none",
        "--hostname",
        "theirs",
        "host",
        "sleep",
        "1000",
    )
    rootless.ok(
        "create",
        "--name",
        "b",
        "--network",
        "container:a",
        "--uts",
        "container:a",
        "host",
        "hostname",
    )
    rootless.ok("rename", "a", "renamed")
    assert rootless.ok("start", "-a", "b") == "theirs"


@pytest.mark.parametrize("target", ["/nowhere/x", "../../nowhere/x", "var/../nowhere/x"])
def test_volume_of_the_image_at_a_link_that_leads_nowhere(
    rootless: Engine, tmp_path: Path, target: str
) -> None:
    """It is made inside the root, as runc does; Podman with crun fails."""
    name = f"localhost/dangling-{abs(hash(target))}:latest"
    archive = images.docker_archive(
        tmp_path / "a.tar",
        [images.busybox_layer(), images.layer([images.symlink("data", target)])],
        [name],
        Volumes={"/data": {}},
    )
    rootless.ok("load", "--input", str(archive))
    script = "touch /data/f && ls /nowhere/x; grep -c ' /nowhere/x ' /proc/self/mounts"
    assert rootless.ok(*HOST, name, "sh", "-c", script) == "f\n1"
    file = ("-v", "/etc/passwd:/data:ro", "--image-volume", "ignore")
    assert rootless.ok(*HOST, *file, name, "test", "-f", "/nowhere/x") == ""


def test_workdir_at_a_link_to_nowhere_and_at_a_circle(rootless: Engine, tmp_path: Path) -> None:
    links = [images.symlink("a", "b"), images.symlink("b", "a"), images.symlink("c", "/made/there")]
    archive = images.docker_archive(
        tmp_path / "a.tar",
        [images.busybox_layer(), images.layer(links)],
        ["localhost/circle:latest"],
        WorkingDir="/c",
    )
    rootless.ok("load", "--input", str(archive))
    assert rootless.ok(*HOST, "localhost/circle", "pwd") == "/made/there"
    error = rootless.fails(*HOST, "-v", "/tmp:/a", "localhost/circle", "pwd")
    assert "/a: too many levels of symbolic links" in error


def test_slirp4netns_needs_root_inside(rootless: Engine) -> None:
    """It becomes root of the user namespace, and a map may have none."""
    words = ("--network", "slirp4netns", "--uidmap", "5:0:1", "--gidmap", "0:0:1")
    error = rootless.fails("run", "--rm", *words, "host", "true")
    assert "--network slirp4netns: it has to be root in the container's user namespace" in error
    assert "; use --network pasta" in error


@pytest.mark.needs("no-systemd")
def test_systemd_is_asked_for_where_there_is_none(rootless: Engine) -> None:
    """As Podman: it is said, and cgroups are made without it."""
    result = rootless("--cgroup-manager", "systemd", *HOST, "host", "echo", "ok")
    assert (result.code, result.out) == (0, "ok\n")
    assert result.err.startswith("WARN: --cgroup-manager systemd: falling back to cgroupfs: ")
    assert result.err.count("\n") == 1
    info = ("--cgroup-manager", "systemd", "info", "--format", "{{.Host.CgroupManager}}")
    assert rootless.ok(*info) == "cgroupfs"


def test_pidfiles(rootless: Engine, tmp_path: Path) -> None:
    pid, monitor = tmp_path / "pid", tmp_path / "monitor"
    rootless.ok(
        "run", "-d", "--name", "a", "--network", "none", "--pidfile", str(pid), "--conmon-pidfile", str(monitor),
        "host", "sleep", "1000",
    )  # fmt: skip
    assert rootless.inspect("a")["State"]["Pid"] == int(pid.read_text())
    status = Path(f"/proc/{pid.read_text()}/stat").read_text()
    assert status.rpartition(")")[2].split()[1] == monitor.read_text()


def test_chrootdirs(rootless: Engine) -> None:
    script = "cat /srv/etc/hostname; ls /srv/etc"
    out = rootless.ok(*HOST, "--chrootdirs", "/srv", "--hostname", "x", *sh(script)).split()
    assert out == ["x", "hostname", "hosts"] or out == ["x", "hostname", "hosts", "resolv.conf"]


def test_containers_conf(fresh: Engine) -> None:
    folder = fresh.home / ".config/containers"
    folder.mkdir(parents=True)
    (folder / "containers.conf").write_text(
        '[containers]\numask = "0077"\nenv = ["A=conf"]\nshm_size = "1m"\ntz = "local"\n'
        'default_capabilities = ["CHOWN"]\nvolumes = ["/etc/passwd:/y:ro"]\ndefault_ulimits = ["core=0"]\n'
    )
    script = "umask; echo $A; grep CapBnd /proc/self/status | cut -f2; test -f /y && ulimit -c"
    assert fresh.ok(*HOST, *sh(script)).split() == ["0077", "conf", "0000000000000001", "0"]
    assert fresh.ok(*HOST, "--umask", "0022", "-e", "A=mine", *sh("umask; echo $A")).split() == [
        "0022",
        "mine",
    ]


# hostile images


@pytest.mark.parametrize("kind", ["fifo", "link", "folder", "huge", "device-like"])
def test_case_16_account_files(rootless: Engine, tmp_path: Path, kind: str) -> None:
    """An image's account file that is no plain file is no account file: nothing hangs, nothing of the host is read."""
    import tarfile

    secret = tmp_path / "passwd"
    secret.write_text("evil:x:0:0::/evil:/bin/sh\n")
    info = tarfile.TarInfo("etc/passwd")
    data = b""
    if kind == "fifo":
        info.type = tarfile.FIFOTYPE
    elif kind == "link":
        info.type, info.linkname = tarfile.SYMTYPE, str(secret)
    elif kind == "folder":
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    elif kind == "huge":
        data = b"evil:x:0:0::/evil:/bin/sh\n" + b"#" * (11 << 20)
    else:
        info.type, info.linkname = tarfile.SYMTYPE, "/dev/zero"
    info.size = len(data)
    name = f"localhost/accounts-{kind}:latest"
    layers = [images.busybox_layer(), images.layer([images.file("etc/.wh.passwd"), (info, data)])]
    rootless.ok(
        "load",
        "--input",
        str(images.docker_archive(tmp_path / "i.tar", layers, [name], Cmd=["sh"])),
    )
    # Not id(1): it would read the file itself.
    assert (
        rootless.ok(*HOST, "--user", "5:6", name, "grep", "Uid", "/proc/self/status").split()[1]
        == "5"
    )
    assert "unable to find user evil" in rootless.fails(
        *HOST, "--user", "evil", name, "true", code=126
    )


def test_case_09_workdir_that_is_a_link(rootless: Engine, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    name = "localhost/workdir:latest"
    layers = [images.busybox_layer(), images.layer([images.symlink("w", str(outside))])]
    path = images.docker_archive(
        tmp_path / "i.tar", layers, [name], Cmd=["pwd"], WorkingDir="/w/made"
    )
    rootless.ok("load", "--input", str(path))
    rootless(*HOST, name)
    rootless(*HOST, "--workdir", "/w", name)
    assert list(outside.iterdir()) == []


def test_platform_of_a_local_image(rootless: Engine, busybox: str) -> None:
    """One that is here for another platform is not taken for the one that was asked for."""
    assert rootless.ok(*HOST, "--os", "linux", busybox, "echo", "hi") == "hi"
    error = rootless.fails(*HOST, "--arch", "s390x", "--retry", "0", busybox, "true")
    assert "Trying to pull" in error or "s390x" in error


@pytest.mark.needs("no-delegation")
def test_parent_cgroup_needs_cgroups(rootless: Engine) -> None:
    error = rootless.fails(*HOST, "--cgroup-parent", "/foo", "host", "true")
    assert "cannot use the parent cgroup /foo (--cgroup-parent): " in error
    assert (
        rootless.ok(*HOST, "--cgroups", "disabled", "--cgroup-parent", "/foo", "host", "echo", "x")
        == "x"
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--cidfile", "--cidfile {0}: cannot write it: no such file or directory"),
        ("--pidfile", "{0}: no such file or directory"),
        ("--conmon-pidfile", "{0}: no such file or directory"),
    ],
)
def test_file_that_cannot_be_written(rootless: Engine, option: str, message: str) -> None:
    path = "/nope/file"
    error = rootless.fails("run", "--rm", "--network", "none", option, path, "host", "true")
    assert error == f"Error: {message.format(path)}\n"
    assert rootless.ok("ps", "-aq") == ""


def test_exec_makes_no_working_directory(rootless: Engine) -> None:
    """Only the first process has it made (an image's WORKDIR); Podman's exit status is 127, too."""
    rootless.ok("run", "-d", "--name", "a", "--network", "none", "host", "sleep", "1000")
    for place in ("/made", "/made/below"):
        error = rootless.fails("exec", "--workdir", place, "a", "true", code=127)
        assert error == f"Error: chdir to {place}: no such file or directory\n"
    error = rootless.fails("exec", "-w", "/etc/passwd", "a", "true", code=125)
    assert error == "Error: working directory /etc/passwd: is no folder\n"
    assert rootless.ok("exec", "-w", "/etc", "a", "pwd") == "/etc"
    assert "/made" not in rootless.ok("diff", "a")


def test_changes_over_a_rootfs_are_kept_over_a_restart(rootless: Engine, tmp_path: Path) -> None:
    """--rootfs DIR:O, as Podman: the overlay is the container's, and the folder stays as it is."""
    folder = images.busybox_rootfs(tmp_path / "root")
    before = sorted(path.name for path in folder.iterdir())
    script = "test -e /made && echo there; touch /made; exec sleep 1000"
    words = ("run", "-d", "--name", "o", "--network", "none", "--rootfs", f"{folder}:O")
    rootless.ok(*words, "sh", "-c", script)
    rootless.ok("stop", "-t", "0", "o")
    rootless.ok("start", "o")
    while not rootless.ok("logs", "o"):
        pass
    assert rootless.ok("logs", "o") == "there"
    assert sorted(path.name for path in folder.iterdir()) == before
