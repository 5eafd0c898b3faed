"""rootless-oci: what the fields of config.json make of a container."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import Result
from tests.support.oci import Runtime

pytestmark = pytest.mark.needs("userns", "busybox")

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def _oci() -> Iterator[Runtime]:
    runtime = Runtime()
    yield runtime
    runtime.close()


@pytest.fixture
def oci(_oci: Runtime) -> Iterator[Runtime]:
    yield _oci
    _oci.clear()


def mounted(**entry: Any) -> Change:
    return lambda spec: spec["mounts"].append(entry)


def process(**fields: Any) -> Change:
    return lambda spec: spec["process"].update(fields)


def linux(**fields: Any) -> Change:
    return lambda spec: spec["linux"].update(fields)


def mount_line(result: Result, target: str) -> list[str]:
    """The fields of a target's last line in mountinfo."""
    lines = [line.split() for line in result.lines if line.split()[4] == target]
    assert lines, result
    return lines[-1]


INFO = ("cat", "/proc/self/mountinfo")


# mounts


@pytest.mark.parametrize(
    ("option", "expected", "unexpected"),
    [
        ("ro", "ro", "rw"),
        ("rro", "ro", "rw"),
        ("rw", "rw", "ro"),
        ("relatime", "relatime", "noatime"),
        ("noatime", "noatime", "relatime"),
        ("strictatime", "rw", "relatime"),
        ("noexec", "noexec", "exec"),
        ("exec", "rw", "noexec"),
        ("nosuid", "nosuid", "suid"),
        ("suid", "rw", "nosuid"),
        ("nodev", "nodev", "dev"),
        ("nodiratime", "nodiratime", "diratime"),
        ("rnoexec", "noexec", "exec"),
    ],
)
@pytest.mark.parametrize("kind", ["tmpfs", "bind", "file"])
def test_flags_of_mounts(
    oci: Runtime, tmp_path: Path, kind: str, option: str, expected: str, unexpected: str
) -> None:
    source = oci.folder / "source"
    source.mkdir(exist_ok=True)
    (source / "file").touch()
    if kind == "tmpfs":
        entry = {"type": "tmpfs", "source": "tmpfs", "options": [option]}
    else:
        path = source / "file" if kind == "file" else source
        entry = {"type": "bind", "source": str(path), "options": ["bind", option]}
    target = "/tmp/file" if kind == "file" else "/tmp/dir"
    result = oci.go(*INFO, change=mounted(destination=target, **entry))
    flags = mount_line(result, target)[5].split(",")
    if kind != "tmpfs" and option in ("noatime", "strictatime", "nodiratime"):
        # Locked by the kernel in a user namespace.
        assert "times of access stay" in result.err
        return
    assert expected in flags
    assert unexpected not in flags


@pytest.mark.parametrize("option", ["sync", "dirsync"])
def test_options_of_the_file_system_itself(oci: Runtime, option: str) -> None:
    result = oci.go(*INFO, change=mounted(destination="/x", type="tmpfs", options=[option]))
    line = mount_line(result, "/x")
    assert option in line[-1].split(",")


def test_a_link_that_leads_nowhere_is_followed_inside(oci: Runtime) -> None:
    bundle = oci.bundle(*INFO, change=mounted(destination="/etc/gone", type="bind", source="/etc/hostname", options=["bind"]), own=True)  # fmt: skip
    (bundle / "rootfs/etc/gone").symlink_to("../not/here")
    assert mount_line(oci("run", "--bundle", str(bundle), "one"), "/not/here")


def test_slashes_in_a_destination(oci: Runtime) -> None:
    change = mounted(destination="/tmp//a//b", type="bind", source="/tmp", options=["rbind"])
    assert mount_line(oci.go(*INFO, change=change), "/tmp/a/b")


@pytest.mark.parametrize("options", [[], ["ro"], ["rro"]])
def test_a_fifo_and_a_socket_are_bound(oci: Runtime, tmp_path: Path, options: list[str]) -> None:
    fifo, path = oci.folder / "fifo", oci.folder / "socket"
    for one in (fifo, path):
        one.unlink(missing_ok=True)
    os.mkfifo(fifo)
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(path))

        def change(spec: dict[str, Any]) -> None:
            for one in (fifo, path):
                mounted(destination=f"/tmp/{one.name}", type="bind", source=str(one), options=["bind", *options])(spec)  # fmt: skip

        result = oci.go("stat", "-c", "%F", "/tmp/fifo", "/tmp/socket", change=change)
    assert result.lines == ["fifo", "socket"]


def test_copy_symlink(oci: Runtime) -> None:
    link = oci.folder / "link"
    link.unlink(missing_ok=True)
    link.symlink_to("nowhere")
    change = mounted(destination="/tmp/a/link", type="bind", source=str(link), options=["rbind", "copy-symlink"])  # fmt: skip
    assert oci.go("readlink", "/tmp/a/link", change=change).out == "nowhere\n"


def test_tmpcopyup(oci: Runtime) -> None:
    change = mounted(destination="/etc", type="tmpfs", source="tmpfs", options=["tmpcopyup"])
    assert oci.go("ls", "/etc", change=change).lines == ["group", "passwd"]


def test_a_tmpfs_has_the_mode_of_what_it_covers(oci: Runtime) -> None:
    bundle = oci.bundle("stat", "-c", "%a", "/odd", change=mounted(destination="/odd", type="tmpfs"), own=True)  # fmt: skip
    (bundle / "rootfs/odd").mkdir()
    (bundle / "rootfs/odd").chmod(0o712)
    assert oci("run", "--bundle", str(bundle), "one").out == "712\n"


@pytest.mark.parametrize(
    "entry",
    [
        {"type": "bind", "options": ["bind"]},
        {"type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]},
    ],
    ids=["bind", "tmpfs"],
)
def test_a_mount_upon_the_root(oci: Runtime, entry: dict[str, Any]) -> None:
    def change(spec: dict[str, Any]) -> None:
        source = {"source": str(oci.rootfs), **entry}
        spec["mounts"].insert(0, {"destination": "/", **source})

    assert oci.go("sh", "-c", "ls /etc; ls -d /proc/self/", change=change).lines == [
        "group",
        "passwd",
        "/proc/self/",
    ]


def test_idmap_of_what_is_mounted_inside(oci: Runtime) -> None:
    maps = [{"containerID": 0, "hostID": 5, "size": 10}]
    change = mounted(destination="/tmp/x", type="tmpfs", options=["idmap"], uidMappings=maps, gidMappings=maps)  # fmt: skip
    result = oci.go("stat", "-c", "%u", "/tmp/x", change=change)
    # Before Linux 6.3 a tmpfs cannot be shifted at all.
    assert result.out == "5\n" or "mount at /tmp/x: idmap: " in result.err


def test_idmap_that_the_kernel_refuses_is_an_error(oci: Runtime) -> None:
    change = mounted(destination="/tmp/x", type="bind", source="/usr", options=["bind", "idmap"])
    result = oci.go("true", change=change)
    assert result.code == 1
    assert "mount at /tmp/x: idmap: " in result.err


def test_the_hosts_sys_where_the_network_is_shared(oci: Runtime) -> None:
    def change(spec: dict[str, Any]) -> None:
        spec["linux"]["namespaces"] = [
            one for one in spec["linux"]["namespaces"] if one["type"] != "network"
        ]

    result = oci.go(*INFO, change=change)
    assert "ro" in mount_line(result, "/sys")[5].split(",")
    below = [line.split() for line in result.lines if line.split()[4].startswith("/sys/fs/cgroup")]
    assert all("ro" in line[5].split(",") for line in below)


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_a_link_in_the_place_of_proc(oci: Runtime, name: str) -> None:
    bundle = oci.bundle(own=True)
    (bundle / "rootfs" / name).rmdir()
    (bundle / "rootfs" / name).symlink_to("tmp")
    result = oci("run", "--bundle", str(bundle), "one")
    assert result.code == 1
    assert f"/{name} must be mounted on ordinary directory" in result.err


def test_read_only_paths_keep_the_flags_around_them(oci: Runtime) -> None:
    def change(spec: dict[str, Any]) -> None:
        spec["mounts"][0]["options"] = ["nosuid", "noexec", "nodev"]
        linux(readonlyPaths=["/proc/bus", "/nonesuch"], maskedPaths=["/proc/keys", "/gone"])(spec)

    result = oci.go("sh", "-c", "cat /proc/self/mountinfo; wc -c < /proc/keys", change=change)
    assert mount_line_of(result.out, "/proc/bus")[5] == "ro,nosuid,nodev,noexec,relatime"
    assert result.lines[-1] == "0"


def mount_line_of(text: str, target: str) -> list[str]:
    return next(
        line.split() for line in text.splitlines() if f" {target} " in line
    )  # fmt: skip


@pytest.mark.parametrize(("options", "words"), [(["src-nofollow"], "readlink"), ([], "cat")])
def test_mounts_of_links_themselves(oci: Runtime, options: list[str], words: str) -> None:
    (oci.folder / "linked").write_text("the file's words")
    link = oci.folder / f"to-{words}"
    link.symlink_to(oci.folder / "linked")
    options = ["bind", "dest-nofollow", *options]
    change = mounted(destination="/target", type="bind", source=str(link), options=options)
    bundle = oci.bundle(words, "/target", change=change, own=True)
    (bundle / "rootfs/target").symlink_to("nowhere")
    expected = "the file's words" if words == "cat" else f"{oci.folder}/linked\n"
    assert oci("run", "--bundle", str(bundle), "one").out == expected


# the process


def test_names_of_the_machine(oci: Runtime) -> None:
    def change(spec: dict[str, Any]) -> None:
        spec.update(hostname="box", domainname="example")

    script = "hostname; cat /proc/sys/kernel/domainname"
    assert oci.go("sh", "-c", script, change=change).lines == ["box", "example"]


def test_clocks(oci: Runtime) -> None:
    def change(spec: dict[str, Any]) -> None:
        spec["linux"]["namespaces"].append({"type": "time"})
        linux(timeOffsets={"boottime": {"secs": 1000000000, "nanosecs": 5}})(spec)

    assert float(oci.go("cat", "/proc/uptime", change=change).out.split()[0]) > 1e9


def test_the_working_directory_is_made(oci: Runtime) -> None:
    assert oci.go("sh", "-c", "pwd", change=process(cwd="/tmp/not/there")).out == "/tmp/not/there\n"  # fmt: skip


def test_the_working_directory_is_made_before_the_root_is_read_only(oci: Runtime) -> None:
    def change(spec: dict[str, Any]) -> None:
        spec["root"]["readonly"] = True
        spec["process"]["cwd"] = "/not/there"

    bundle = oci.bundle("sh", "-c", "pwd; touch x", change=change, own=True)
    result = oci("run", "--bundle", str(bundle), "one")
    assert (result.out, "Read-only file system" in result.err) == ("/not/there\n", True)


def test_capabilities_that_are_not_permitted_are_left_out_with_a_warning(oci: Runtime) -> None:
    sets = {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_CHOWN"]}
    result = oci.go("grep", "CapPrm", "/proc/self/status", change=process(capabilities=sets))
    assert (result.code, result.out) == (0, "CapPrm:\t0000000000000020\n")
    assert "process.capabilities.effective: CAP_CHOWN is left out" in result.err


def test_unknown_capabilities_are_left_out_with_a_warning(oci: Runtime) -> None:
    names = ["CAP_KILL", "CAP_NONESUCH"]
    change = process(capabilities={"bounding": names, "effective": names, "permitted": names})
    result = oci.go("sed", "-n", "s/^CapEff:.//p", "/proc/self/status", change=change)
    assert result.out == "0000000000000020\n"
    assert "CAP_NONESUCH" in result.err


@pytest.mark.parametrize(("uid", "home"), [(0, "/root"), (1000, "/home/app"), (4242, "/")])
@pytest.mark.needs("subids")
def test_home_comes_from_the_containers_passwd(oci: Runtime, uid: int, home: str) -> None:
    result = oci.go("sh", "-c", "echo $HOME; id -u", change=process(user={"uid": uid, "gid": 0}))
    assert result.lines == [home, str(uid)]


def test_socket_activation(oci: Runtime) -> None:
    result = oci.go("sh", "-c", "echo $LISTEN_FDS $LISTEN_PID", env={"LISTEN_FDS": "2"})
    assert result.out == "2 1\n"


def test_preserved_descriptors(oci: Runtime) -> None:
    script = "echo more >&5; ls /proc/self/fd"
    words = [*oci.program, "run", "--preserve-fds", "30", "--bundle"]
    words += [str(oci.bundle("sh", "-c", script)), "one"]
    shell = ["sh", "-c", 'exec 5>"$0"; exec "$@"', str(oci.folder / "five"), *words]
    result = subprocess.run(shell, env=oci.env, capture_output=True, text=True, check=True)
    assert "5" in result.stdout.split()
    assert (oci.folder / "five").read_text() == "more\n"
    none = oci.go("true", flags=("--preserve-fds", "1"))
    assert (none.code, "preserved-fd 0" in none.err) == (1, True)
    plain = oci.go("ls", "/proc/self/fd")
    assert {int(name) for name in plain.lines} <= {0, 1, 2, 3}


@pytest.mark.parametrize(("word", "level"), [("IDLE", "3"), ("BE", "2")])
def test_io_priority(oci: Runtime, word: str, level: str) -> None:
    change = process(ioPriority={"class": f"IOPRIO_CLASS_{word}", "priority": 4})
    name = oci.start(change=change)
    import ctypes

    libc = ctypes.CDLL(None)
    got = libc.syscall(252, 1, oci.state(name)["pid"])
    assert (got >> 13, got & 7) == (int(level), 4)


def test_io_priority_that_is_refused(oci: Runtime) -> None:
    result = oci.go("true", change=process(ioPriority={"class": "IOPRIO_CLASS_RT", "priority": 0}))
    assert result.code == 1
    assert "process.ioPriority IOPRIO_CLASS_RT: operation not permitted" in result.err


@pytest.mark.parametrize(
    ("scheduler", "policy"),
    [
        ({"policy": "SCHED_BATCH"}, os.SCHED_BATCH),
        ({"policy": "SCHED_IDLE"}, os.SCHED_IDLE),
        ({"policy": "SCHED_OTHER", "nice": 7}, os.SCHED_OTHER),
    ],
)
def test_scheduler(oci: Runtime, scheduler: dict[str, Any], policy: int) -> None:
    pid = oci.state(oci.start(change=process(scheduler=scheduler)))["pid"]
    assert os.sched_getscheduler(pid) == policy
    assert os.getpriority(os.PRIO_PROCESS, pid) == scheduler.get("nice", 0)


@pytest.mark.parametrize(
    ("scheduler", "said"),
    [
        ({"policy": "SCHED_FIFO", "priority": 5}, "SCHED_FIFO: operation not permitted"),
        ({"policy": "SCHED_DEADLINE", "deadline": 5}, "SCHED_DEADLINE needs runtime"),
        ({"policy": "SCHED_DEADLINE", "runtime": 5}, "SCHED_DEADLINE needs deadline"),
        ({"policy": "SCHED_DEADLINE", "runtime": 6, "deadline": 5}, "runtime <= deadline"),
        ({"policy": "SCHED_NONE"}, 'unknown policy "SCHED_NONE"'),
    ],
)
def test_scheduler_that_cannot_be(oci: Runtime, scheduler: dict[str, Any], said: str) -> None:
    result = oci.go("true", change=process(scheduler=scheduler))
    assert result.code == 1
    assert "process.scheduler" in result.err
    assert said in result.err


def test_what_is_said_of_the_process(oci: Runtime) -> None:
    change = process(
        noNewPrivileges=True,
        oomScoreAdj=500,
        rlimits=[{"type": "RLIMIT_NOFILE", "soft": 40, "hard": 50}],
        user={"uid": 0, "gid": 0, "umask": 0o77},
    )
    script = "umask; ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; grep NoNew /proc/self/status"  # fmt: skip
    assert oci.go("sh", "-c", script, change=change).lines == [
        "0077",
        "40",
        "50",
        "500",
        "NoNewPrivs:\t1",
    ]


# what is refused


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (process(rlimits=[{"type": "RLIMIT_X", "soft": 1, "hard": 1}]), "process.rlimits[0].type"),
        (linux(namespaces=[{"type": "nonesuch"}]), "linux.namespaces[0].type"),
        (linux(sysctl={"kernel.panic": "1"}), "linux.sysctl.kernel.panic"),
        (linux(sysctl={"kernel.hostname": "x"}), "linux.sysctl.kernel.hostname"),
        (linux(intelRdt={"closID": "x"}), "linux.intelRdt"),
        (linux(netDevices={"eth0": {}}), "linux.netDevices"),
        (lambda spec: spec.update(ociVersion="2.0.0"), "ociVersion"),
        (lambda spec: spec.update(root={"path": "nonesuch"}), "root.path"),
        (process(args=[]), "process.args"),
        (process(args=[""]), "process.args[0]"),
        (process(cwd="relative"), "process.cwd"),
        (
            linux(resources={"memory": {"limit": 1 << 20}}, cgroupsPath="/nonesuch"),
            "linux.resources.memory: cannot set memory limit: ",
        ),
    ],
)
def test_what_cannot_be_given_is_named(oci: Runtime, change: Change, said: str) -> None:
    result = oci.go("true", change=change)
    assert result.code == 1
    assert said in result.err, result
    assert len(result.err.splitlines()) == 1


def test_a_config_that_is_no_json(oci: Runtime) -> None:
    bundle = oci.bundle()
    (bundle / "config.json").write_text("{ nothing }")
    result = oci("run", "--bundle", str(bundle), "one")
    assert result.code == 1
    assert "not valid JSON" in result.err


@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.1.0", "1.2.0", "1.3.0"])
def test_versions_and_unknown_fields(oci: Runtime, version: str) -> None:
    def change(spec: dict[str, Any]) -> None:
        spec.update(ociVersion=version, unknown={"a": 1})
        spec["process"]["unknown"] = 1

    assert oci.go("true", change=change).code == 0


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        (["HOME=/mine"], "HOME=/mine"),
        (["HOME="], "HOME=/root"),
        (["HOME=/mine", "HOME="], "HOME=/root"),
        (["ONE=two", "ONE=three", "HOME=/"], "ONE=three"),
        (["ONE=two", "ONE="], "ONE="),
        (["LINES=a\nb"], "LINES=a"),
    ],
)
def test_the_environment(oci: Runtime, env: list[str], expected: str) -> None:
    result = oci.go("env", change=process(env=["PATH=/bin", *env]))
    assert expected in result.lines
    names = [line.partition("=")[0] for line in result.lines if "=" in line]
    assert len(names) == len(set(names))


def test_personality(oci: Runtime) -> None:
    rule = {"names": ["personality"], "action": "SCMP_ACT_ERRNO"}
    change = linux(
        personality={"domain": "LINUX32", "flags": []},
        seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]},
    )
    name = oci.start("sh", "-c", "uname -m > /tmp/machine; sleep 1000", change=change)
    machine = os.uname().machine
    wanted = {"x86_64": "i686", "aarch64": "armv8l"}.get(machine, machine)
    assert oci("exec", name, "busybox", "uname", "-m").out.strip() == wanted


def without_dev(spec: dict[str, Any]) -> None:
    spec["mounts"] = [one for one in spec["mounts"] if not one["destination"].startswith("/dev")]


def test_devices_where_nothing_is_mounted_at_dev(oci: Runtime) -> None:
    """config-linux.md, "Default Devices": they are supplied whatever the document mounts, upon the root's own files."""
    names = "null zero full random urandom tty"
    script = f"for one in {names}; do test -c /dev/$one || echo $one; done; readlink /dev/ptmx; readlink /dev/fd"
    bundle = oci.bundle("sh", "-c", script, change=without_dev, own=True)
    result = oci("run", "--bundle", str(bundle), "one")
    assert (result.code, result.lines) == (0, ["pts/ptmx", "/proc/self/fd"])
    assert all((bundle / "rootfs/dev" / name).read_bytes() == b"" for name in names.split())


def test_many_containers_make_the_same_file_at_once(oci: Runtime) -> None:
    def change(spec: dict[str, Any]) -> None:
        without_dev(spec)
        for number in range(20):
            spec["mounts"].append({"destination": f"/tmp/new/file{number}", "type": "bind", "source": "/etc/hostname", "options": ["bind"]})  # fmt: skip

    bundle = str(oci.bundle("sh", "-c", "[ -s /tmp/new/file19 ]", change=change, own=True))
    runs = [
        oci.popen("run", "--bundle", bundle, f"at-once-{number}", stderr=-1) for number in range(6)
    ]
    assert [(one.wait(60), one.communicate()[1]) for one in runs] == [(0, b"")] * 6


@pytest.mark.needs("no-cgroup2")
def test_the_hosts_cgroups_of_version_1_can_be_looked_at(oci: Runtime) -> None:
    """Without a namespace of them, as runc and crun show them; in one of its own a user cannot mount any."""
    entry = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}

    def change(spec: dict[str, Any]) -> None:
        spec["mounts"].append(entry)

    script = "ls /sys/fs/cgroup; for one in /sys/fs/cgroup /sys/fs/cgroup/*; do ! mkdir $one/evil 2>/dev/null || echo made; done"  # fmt: skip
    result = oci.go("sh", "-c", script, change=change)
    assert (result.code, result.lines) == (0, sorted(os.listdir("/sys/fs/cgroup"))), result

    def alone(spec: dict[str, Any]) -> None:
        change(spec)
        spec["linux"]["namespaces"].append({"type": "cgroup"})

    result = oci.go("ls", "/sys/fs/cgroup", change=alone)
    assert (result.code, result.lines) == (0, [])


def test_devices_that_every_container_has_are_its_own(oci: Runtime) -> None:
    """Named again in the document, /dev/ptmx is still that of the container's own devpts, not of the host's."""
    names = {"ptmx": (5, 2), "tty": (5, 0), "console": (5, 1), "null": (1, 3)}
    entries = [{"type": "c", "path": f"/dev/{name}", "major": major, "minor": minor} for name, (major, minor) in names.items()]  # fmt: skip
    result = oci.go("readlink", "/dev/ptmx", change=linux(devices=entries))
    assert (result.code, result.out) == (0, "pts/ptmx\n"), result


def test_a_fifo_is_made(oci: Runtime) -> None:
    entry = {"type": "p", "path": "/dev/fifo", "fileMode": 0o620}
    result = oci.go("stat", "-c", "%F %a %u", "/dev/fifo", change=linux(devices=[entry]))
    assert (result.code, result.out) == (0, "fifo 620 0\n"), result


@pytest.mark.parametrize("options", [["ro"], ["ro", "mode=755"]])
def test_a_read_only_dev_still_has_its_devices(oci: Runtime, options: list[str]) -> None:
    def change(spec: dict[str, Any]) -> None:
        spec["mounts"][1]["options"] += options
        spec["mounts"].append({"destination": "/mnt", "type": "tmpfs", "options": ["ro"]})
        spec["mounts"].append({"destination": "/mnt/in/it", "type": "tmpfs"})

    script = "cat /proc/self/mountinfo; echo x > /dev/null && touch /mnt/in/it/x && ! touch /dev/x"
    result = oci.go("sh", "-c", script, change=change)
    assert result.code == 0, result
    for target in ("/dev", "/mnt"):
        assert mount_line(result, target)[5].startswith("ro")


def test_masked_folders_are_empty_to_whoever_looks(oci: Runtime) -> None:
    """Without CAP_DAC_OVERRIDE, as runc's own example of a configuration has it."""
    bundle = oci.bundle("sh", "-c", "ls /etc && ! touch /etc/x && ! cat /root/secret", change=linux(maskedPaths=["/etc", "/root"]), own=True)  # fmt: skip
    result = oci("run", "--bundle", str(bundle), "one")
    assert (result.code, result.out) == (0, "")
    assert "Read-only file system" in result.err


@pytest.mark.parametrize("kind", ["maskedPaths", "readonlyPaths"])
def test_masks_that_cannot_be(oci: Runtime, kind: str) -> None:
    result = oci.go("true", change=linux(**{kind: ["relative"]}))
    assert result.code == 1
    assert f"linux.{kind}[0]" in result.err
    bundle = oci.bundle(change=linux(**{kind: ["/loop"]}), own=True)
    (bundle / "rootfs/loop").symlink_to("../loop")
    assert oci("run", "--bundle", str(bundle), "one").code == 1


def test_sources_below_the_bundle(oci: Runtime) -> None:
    bundle = oci.bundle("ls", "/tmp/b/config.json", change=mounted(destination="/tmp/b", source=".", options=["bind"]))  # fmt: skip
    assert oci("run", "--bundle", str(bundle), "one", cwd="/").out == "/tmp/b/config.json\n"


def test_a_root_that_is_the_bundle(oci: Runtime) -> None:
    bundle = oci.bundle("ls", "/config.json", own=True, change=lambda spec: spec.update(root={"path": "."}))  # fmt: skip
    (bundle / "config.json").rename(bundle / "rootfs/config.json")
    assert oci("run", "--bundle", str(bundle / "rootfs"), "one").out == "/config.json\n"


def test_no_pivot(oci: Runtime) -> None:
    result = oci.go("sh", "-c", "ls /; cat /proc/self/mountinfo", flags=("--no-pivot",))
    assert result.code == 0, result
    assert "root" in result.lines
    assert "home" not in result.lines


def test_no_pivot_shows_no_whole_proc(oci: Runtime) -> None:
    """CVE-2019-16884's kin: with the host's in sight, a user namespace in the container could mount one without its masks."""

    def change(spec: dict[str, Any]) -> None:
        spec["process"]["capabilities"] = {
            kind: ["CAP_SETFCAP", "CAP_SYS_ADMIN"]
            for kind in ("bounding", "effective", "permitted")
        }
        spec["linux"]["maskedPaths"] = ["/proc/keys", "/proc/timer_list"]

    script = "busybox unshare -Urmpf busybox mount -t proc none /proc"
    result = oci.go("sh", "-c", script, change=change, flags=("--no-pivot",))
    assert result.code != 0
    assert "ermission denied" in result.err or "not permitted" in result.err


def test_original_groups(oci: Runtime) -> None:
    groups = [group for group in os.getgroups() if group != os.getgid()]
    change: Change = lambda spec: spec.update(annotations={"run.oci.keep_original_groups": "1"})  # noqa: E731
    result = oci.go("sed", "-n", "s/^Groups:.//p", "/proc/self/status", change=change)
    assert len(result.out.split()) == len(os.getgroups()), (result, groups)
    plain = oci.go("sed", "-n", "s/^Groups:.//p", "/proc/self/status")
    assert plain.out.split() == []


def test_without_a_mount_namespace(oci: Runtime) -> None:
    def change(spec: dict[str, Any]) -> None:
        spec["linux"]["namespaces"] = [{"type": "pid"}]

    result = oci.go("true", change=change)
    assert result.code == 1
    assert "linux.namespaces: a mount namespace is missing" in result.err


@pytest.mark.parametrize("how", ["--pidfd-socket", "annotation"])
def test_a_pidfd_for_the_caller(oci: Runtime, how: str) -> None:
    path = str(oci.folder / f"pidfd{len(how)}")
    change: Change = lambda spec: spec.update(annotations={"run.oci.pidfd_receiver": path})  # noqa: E731
    bundle = oci.bundle("sleep", "1000", change=change if how == "annotation" else None)
    flags = ("--pidfd-socket", path) if how != "annotation" else ()
    with agent(path) as server:
        oci.quiet("run", "--detach", *flags, "--bundle", str(bundle), "one")
        with server.accept()[0] as end:
            _, fds, _, _ = socket.recv_fds(end, 100, 4)
    assert len(fds) == 1
    signal.pidfd_send_signal(fds[0], signal.SIGKILL)
    os.close(fds[0])
    oci.wait_for("one", "stopped")


# user namespaces


def test_a_user_namespace_without_maps(oci: Runtime) -> None:
    change: Change = lambda spec: spec["linux"]["namespaces"].append({"type": "user"})  # noqa: E731
    result = oci.go("sh", "-c", "id -u; cat /proc/self/uid_map", change=change)
    assert result.lines[0] == "0"
    assert result.lines[1].split()[1] == str(os.getuid())


def test_one_id(oci: Runtime) -> None:
    def change(spec: dict[str, Any]) -> None:
        spec["linux"]["namespaces"].append({"type": "user"})
        for key, own in (("uidMappings", os.getuid()), ("gidMappings", os.getgid())):
            spec["linux"][key] = [{"containerID": 7, "hostID": own, "size": 1}]
        spec["process"]["user"] = {"uid": 7, "gid": 7}

    assert oci.go("sh", "-c", "id -u; id -g", change=change).lines == ["7", "7"]


def test_namespaces_of_another_container(oci: Runtime) -> None:
    def named(spec: dict[str, Any]) -> None:
        spec["hostname"] = "first"
        spec["linux"]["namespaces"] += [{"type": "time"}, {"type": "cgroup"}]
        spec["linux"]["timeOffsets"] = {"boottime": {"secs": 1000}}

    first = oci.start(change=named)
    pid = oci.state(first)["pid"]

    def change(spec: dict[str, Any]) -> None:
        kinds = {
            "user": "user", "uts": "uts", "ipc": "ipc", "network": "net", "pid": "pid", "cgroup": "cgroup", "time": "time",
        }  # fmt: skip
        spec["linux"]["namespaces"] = [
            *({"type": kind, "path": f"/proc/{pid}/ns/{file}"} for kind, file in kinds.items()),
            {"type": "mount", "path": ""},
        ]
        spec["mounts"].append({"destination": "/tmp/x", "source": "/tmp", "options": ["rbind"]})

    result = oci.go("sh", "-c", "hostname; cat /proc/self/timens_offsets; ps", change=change)
    assert result.lines[0] == "first"
    assert result.lines[2].split() == ["boottime", "1000", "0"]
    assert any("sleep 1000" in line for line in result.lines)


def test_a_namespace_that_is_not_there(oci: Runtime) -> None:
    def change(spec: dict[str, Any]) -> None:
        spec["linux"]["namespaces"] = [
            *(one for one in spec["linux"]["namespaces"] if one["type"] != "network"),
            {"type": "network", "path": "/proc/99999999/ns/net"},
        ]

    result = oci.go("true", change=change)
    assert result.code == 1
    assert "cannot join the network namespace /proc/99999999/ns/net" in result.err


# seccomp


def agent(path: str) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(1)
    server.settimeout(30)
    return server


@pytest.mark.parametrize("how", ["run", "start", "exec"])
def test_seccomps_listener_goes_to_its_agent(oci: Runtime, tmp_path: Path, how: str) -> None:
    path = str(oci.folder / f"agent-{how}")
    section = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": path,
        "listenerMetadata": "some words",
    }
    change = linux(seccomp=section)
    with agent(path) as server:
        if how == "run":
            name = oci.name()
            bundle = oci.bundle("sleep", "1000", change=change)
            oci.quiet("run", "--detach", "--bundle", str(bundle), name)
        else:
            name = oci.start(change=change)
        with server.accept()[0] as end:
            data, fds, _, _ = socket.recv_fds(end, 4096, 4)
        message = json.loads(data)
        assert len(fds) == len(message["fds"]) == 1
        os.close(fds[0])
        assert message["metadata"] == "some words"
        state = oci.state(name)
        assert message["pid"] == state["pid"]
        assert message["state"]["status"] == "creating"
        assert (message["state"]["id"], message["state"]["bundle"]) == (name, state["bundle"])
        if how == "exec":
            assert oci("exec", name, "true").code == 0
            with server.accept()[0] as end:
                data, fds, _, _ = socket.recv_fds(end, 4096, 4)
            os.close(fds[0])
            assert json.loads(data)["state"]["status"] == "running"


def test_seccomp_refuses_a_call(oci: Runtime) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}
    change = linux(seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    result = oci.go("mkdir", "/tmp/x", change=change)
    assert result.code == 1
    assert "No space left on device" in result.err


@pytest.mark.parametrize("no_new_privileges", [False, True])
def test_seccomp_does_not_hinder_what_comes_before_the_program(
    oci: Runtime, no_new_privileges: bool
) -> None:
    names = [
        "chdir",
        "close_range",
        "dup2",
        "dup3",
        "fcntl",
        "getcwd",
        "openat",
        "openat2",
        "setrlimit",
    ]
    rule = {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    filtering = linux(seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})

    def change(spec: dict[str, Any]) -> None:
        filtering(spec)
        limit = {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}
        process(noNewPrivileges=no_new_privileges, cwd="/tmp", rlimits=[limit])(spec)

    assert oci.go("echo", "words", change=change).out == "words\n"
