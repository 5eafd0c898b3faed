"""`make_spec`: options, an image's configuration and facts of the host in, a runtime-spec document out."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from typing import Any

import pytest

from rootless.container import mounts, spec, spec_mounts
from rootless.container.options import CreateOptions
from rootless.container.spec import HostFacts, make_spec
from rootless.container.user import User
from rootless.errors import RootlessError, Usage

CONFIG: dict[str, Any] = {"Cmd": ["sh"], "Env": ["PATH=/bin"]}


def facts(**more: Any) -> HostFacts:
    host = HostFacts("0123456789ab" + "c" * 52, rootfs="/root")
    host.uids = host.gids = [(0, 1000, 1), (1, 100000, 65536)]
    host.node = "node"
    host.has_mqueue = True
    for name, value in more.items():
        setattr(host, name, value)
    return host


def options(**flags: Any) -> CreateOptions:
    return CreateOptions.from_flags(flags, ["image", *flags.pop("args", [])], host_env={}, cwd="/")


def made(
    config: dict[str, Any] | None = None, host: HostFacts | None = None, **flags: Any
) -> dict[str, Any]:
    return make_spec(options(**flags), CONFIG if config is None else config, host or facts())


def mount(document: dict[str, Any], place: str) -> dict[str, Any]:
    (found,) = [m for m in document["mounts"] if m["destination"] == place]
    return dict(found)


def with_mounts(*planned: Any, **more: Any) -> dict[str, Any]:
    return made(host=facts(mounts=list(planned), scratch="/scratch", **more))


# arguments


@pytest.mark.parametrize(
    ("config", "flags", "expected"),
    [
        ({"Cmd": ["c"]}, {}, ["c"]),
        ({"Entrypoint": ["e"], "Cmd": ["c"]}, {}, ["e", "c"]),
        ({"Entrypoint": ["e"], "Cmd": ["c"]}, {"args": ["a"]}, ["e", "a"]),
        ({"Entrypoint": ["e"]}, {}, ["e"]),
        ({"Entrypoint": ["e"], "Cmd": ["c"]}, {"entrypoint": "x"}, ["x"]),
        ({"Entrypoint": ["e"], "Cmd": ["c"]}, {"entrypoint": "", "args": ["a"]}, ["a"]),
        ({"Entrypoint": ["e"], "Cmd": ["c"]}, {"entrypoint": '["x","y"]', "args": ["a"]}, ["x", "y", "a"]),
        ({"Entrypoint": None, "Cmd": None}, {"args": ["a"]}, ["a"]),
    ],
)  # fmt: skip
def test_arguments(config: dict[str, Any], flags: dict[str, Any], expected: list[str]) -> None:
    assert made(config, **flags)["process"]["args"] == expected


@pytest.mark.parametrize("config", [{}, {"Cmd": []}, {"Entrypoint": None, "Cmd": None}])
def test_nothing_to_run(config: dict[str, Any]) -> None:
    with pytest.raises(
        Usage, match="^no command or entrypoint provided, and no CMD or ENTRYPOINT from image$"
    ):
        made(config)


def test_init() -> None:
    document = made(host=facts(init_path="/usr/bin/catatonit"), init=True)
    assert document["process"]["args"] == ["/run/podman-init", "--", "sh"]
    assert mount(document, "/run/podman-init")["source"] == "/usr/bin/catatonit"


# user


def test_user_waits_for_the_image() -> None:
    assert made(user="alice:wheel")["process"]["user"] == {
        "uid": 0,
        "gid": 0,
        "umask": 0o22,
        "username": "alice:wheel",
    }
    assert made(user="5")["process"]["user"]["uid"] == 5
    assert made({"Cmd": ["x"], "User": "bob"})["process"]["user"]["username"] == "bob"
    assert made({"Cmd": ["x"], "User": "bob"}, user="carl")["process"]["user"]["username"] == "carl"
    assert made()["process"]["user"]["username"] == ""


def test_user_that_is_known() -> None:
    host = facts(user=User(5, 6, [6, 7], "/h", "x"))
    process = made(host=host, user="x")["process"]
    assert process["user"] == {"uid": 5, "gid": 6, "umask": 0o22, "additionalGids": [6, 7]}
    assert "HOME=/h" in process["env"]
    assert "additionalGids" not in made(host=host, group_add=["keep-groups"])["process"]["user"]


def test_keep_id_is_over_the_images_user() -> None:
    host = facts(keep_id=(1000, 1001))
    assert made({"Cmd": ["x"], "User": "bob"}, host)["process"]["user"]["username"] == "1000:1001"
    assert made(host=host, user="x")["process"]["user"]["username"] == "x"
    assert spec.extra_groups_of(options(user="x", group_add=["a"]), host.keep_id) == ["a", "1001"]


def test_case_20_capabilities_of_who_is_not_root() -> None:
    for user in ("5", "alice", "5:0"):
        sets = made(user=user, cap_add=["net_raw"])["process"]["capabilities"]
        assert sets["effective"] == sets["ambient"] == ["CAP_NET_RAW"]
        assert "CAP_CHOWN" in sets["bounding"]
        assert made(user=user)["process"]["capabilities"]["effective"] == []
        assert made(user=user, privileged=True)["process"]["capabilities"]["effective"] == []


def test_case_19_no_inheritable_capabilities() -> None:
    for flags in ({}, {"user": "5"}, {"privileged": True}, {"cap_add": ["all"]}):
        assert made(**flags)["process"]["capabilities"]["inheritable"] == []


# environment and limits


def test_environment() -> None:
    env = made(tty=True, env=["A=b"])["process"]["env"]
    assert env == ["PATH=/bin", "TERM=xterm", "container=podman", "A=b", "HOSTNAME=0123456789ab"]


def test_case_18_image_environment() -> None:
    host = facts(env={"SECRET": "s", "A": "b"})
    env = made({"Cmd": ["x"], "Env": ["SECRET", "*", "A*", "B=c"]}, host)["process"]["env"]
    assert [entry.partition("=")[0] for entry in env] == ["PATH", "container", "B", "HOSTNAME"]


def test_rlimits() -> None:
    host = facts(rlimits={"nofile": (1024, 4096), "nproc": (10, -1)})
    assert made(host=host)["process"]["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "soft": 4096, "hard": 4096},
        {"type": "RLIMIT_NPROC", "soft": 2**64 - 1, "hard": 2**64 - 1},
    ]
    found = made(host=host, ulimit=["nofile=-1", "core=0:-1", "nproc=5"])["process"]["rlimits"]
    assert found[0] == {"type": "RLIMIT_NOFILE", "soft": 4096, "hard": 4096}
    assert found[2] == {"type": "RLIMIT_CORE", "soft": 0, "hard": 2**64 - 1}
    assert made(host=host, ulimit=["host"])["process"]["rlimits"] == []


def test_working_directory() -> None:
    assert made()["process"]["cwd"] == "/"
    assert made({"Cmd": ["x"], "WorkingDir": "/a/../b"})["process"]["cwd"] == "/b"
    assert made({"Cmd": ["x"], "WorkingDir": "rel"})["process"]["cwd"] == "/rel"
    assert made({"Cmd": ["x"], "WorkingDir": "/a"}, workdir="/c")["process"]["cwd"] == "/c"
    with pytest.raises(Usage, match='workdir "rel" must be an absolute path'):
        made(workdir="rel")


# namespaces


@pytest.mark.parametrize(
    ("flags", "more", "expected"),
    [
        ({}, {}, "user mount pid network ipc uts cgroup"),
        ({}, {"cgroup_version": 1}, "user mount pid network ipc uts"),
        ({"pid": "host", "ipc": "host", "uts": "host", "network": ["host"], "cgroupns": "host"}, {}, "user mount"),
        ({"userns": "host"}, {}, "user mount pid network ipc uts cgroup"),
        ({"network": ["none"]}, {}, "user mount pid network ipc uts cgroup"),
        ({"network": ["ns:/x"]}, {}, "user mount pid network=/x ipc uts cgroup"),
        ({"pid": "container:a"}, {"namespaces": {"pid": "/proc/5/ns/pid"}}, "user mount pid=/proc/5/ns/pid network ipc uts cgroup"),
        ({}, {"namespaces": {"network": "/net"}}, "user mount pid network=/net ipc uts cgroup"),
    ],
)  # fmt: skip
def test_namespaces(flags: dict[str, Any], more: dict[str, Any], expected: str) -> None:
    found = made(host=facts(**more), **flags)["linux"]["namespaces"]
    assert " ".join(n["type"] + ("=" + n["path"] if "path" in n else "") for n in found) == expected


def test_container_that_was_not_found() -> None:
    with pytest.raises(RootlessError, match="no pid namespace to join for container:a"):
        made(pid="container:a")


def test_id_mappings() -> None:
    linux = made()["linux"]
    assert linux["uidMappings"] == [
        {"containerID": 0, "hostID": 1000, "size": 1},
        {"containerID": 1, "hostID": 100000, "size": 65536},
    ]
    joined = made(host=facts(namespaces={"user": "/u"}), userns="container:a")["linux"]
    assert "uidMappings" not in joined


def test_hostname() -> None:
    assert made()["hostname"] == "0123456789ab"
    assert made(hostname="x")["hostname"] == "x"
    assert made(network=["host"])["hostname"] == "node"
    assert "hostname" not in made(uts="host")


def test_sysctls_need_their_namespace() -> None:
    assert made(sysctl=["kernel.shmmax=5"])["linux"]["sysctl"]["kernel.shmmax"] == "5"
    with pytest.raises(Usage, match="the container has no network namespace of its own"):
        made(network=["container:a"], sysctl=["net.x=1"], host=facts(namespaces={"network": "/n"}))


# mounts


def test_order_is_by_depth() -> None:
    document = with_mounts(
        *mounts.parse(["/tmp:/z/y/x", "/tmp:/a", "/tmp:/z", "/tmp:/"], [], ["/z/y"], "/")
    )
    places = [m["destination"] for m in document["mounts"]]
    assert places[0] == "/"
    for above, below in (
        ("/z", "/z/y"),
        ("/z/y", "/z/y/x"),
        ("/dev", "/dev/pts"),
        ("/sys", "/sys/fs/cgroup"),
    ):
        assert places.index(above) < places.index(below)


def test_a_users_mount_takes_the_place_of_a_default_one() -> None:
    document = with_mounts(
        *mounts.parse(["/tmp:/dev/shm", "/tmp:/etc/hosts"], [], [], "/"), files={"/etc/hosts": "/x"}
    )
    assert mount(document, "/dev/shm")["source"] == "/tmp"
    assert mount(document, "/etc/hosts")["source"] == "/tmp"


def test_volume() -> None:
    (plain,) = mounts.parse(["v:/y:z,noexec"], [], [], "/")
    entry = mount(with_mounts({**plain, "path": "/vol"}), "/y")
    assert entry == {
        "destination": "/y",
        "type": "bind",
        "source": "/vol",
        "options": ["noexec", "rw", "rprivate", "nosuid", "nodev", "rbind"],
    }
    with pytest.raises(RootlessError, match="volume v at /y: not resolved"):
        with_mounts(plain)


def test_wishes_of_a_volume() -> None:
    (plain,) = mounts.parse([], ["type=volume,src=v,dst=/y,subpath=a,U"], [], "/")
    entry = mount(with_mounts({**plain, "path": "/vol", "first_use": "/f"}), "/y")
    assert entry["rootless"] == {"firstUse": "/f", "copyUp": True, "chown": True, "subpath": "a"}
    (plain,) = mounts.parse(["v:/y:nocopy"], [], [], "/")
    assert (
        mount(with_mounts({**plain, "path": "/v", "first_use": "/f"}), "/y")["rootless"]["copyUp"]
        is False
    )


def test_overlays() -> None:
    planned = mounts.parse(["/a:/x:O", "v:/y:O,ro", "/c:/z:O,upperdir=/u,workdir=/w"], [], [], "/")
    planned[1]["path"] = "/vol:1"
    document = with_mounts(*planned)
    tail = "upperdir=/scratch/overlay/{0}/upper workdir=/scratch/overlay/{0}/work"
    assert mount(document, "/x")["options"] == ["userxattr", "lowerdir=/a", *tail.format(0).split()]
    assert mount(document, "/y")["options"] == [
        "ro",
        "userxattr",
        "lowerdir=/vol\\:1",
        *tail.format(1).split(),
    ]
    assert mount(document, "/z")["options"] == [
        "userxattr",
        "lowerdir=/c",
        "upperdir=/u",
        "workdir=/w",
    ]
    assert [folder for _, folder in spec_mounts.overlay_folders(planned, "/s")] == [
        "/s/overlay/0",
        "/s/overlay/1",
    ]


def test_image_mounts() -> None:
    one, two, three = mounts.parse(
        [],
        [f"type=image,src={i},dst=/{i}" for i in "ab"] + ["type=image,src=b,dst=/c,rw=true"],
        [],
        "/",
    )
    document = with_mounts(one, two, three, image_layers={"a": ["/l1"], "b": ["/l2", "/l1"]})
    assert mount(document, "/a")["options"] == ["rbind", "ro", "rprivate", "nosuid", "nodev"]
    assert mount(document, "/b")["options"] == [
        "ro",
        "nosuid",
        "nodev",
        "userxattr",
        "lowerdir=/l2:/l1",
    ]
    assert "upperdir=/scratch/overlay/0/upper" in mount(document, "/c")["options"]
    with pytest.raises(RootlessError, match='creating image volume "a":"/a": a: image not known'):
        with_mounts(one)


def test_shared_memory() -> None:
    assert mount(made(), "/dev/shm")["options"][-1] == "size=65536000"
    assert mount(made(shm_size="1m"), "/dev/shm")["options"][-1] == "size=1048576"
    assert mount(made(shm_size="0"), "/dev/shm")["options"][-1] == "mode=1777"
    joined = made(host=facts(namespaces={"ipc": "/i"}, shm_fd=7), ipc="container:a")
    assert mount(joined, "/dev/shm")["rootless"] == {"detached": 7}
    assert [m for m in made(ipc="none")["mounts"] if m["destination"] == "/dev/shm"] == []


def test_group_of_terminals_only_where_it_is_mapped() -> None:
    assert "gid=5" in mount(made(), "/dev/pts")["options"]
    assert "gid=5" not in mount(made(host=facts(gids=[(0, 1000, 1)])), "/dev/pts")["options"]


def test_sys_of_a_network_that_is_not_ours() -> None:
    entry = mount(made(network=["host"]), "/sys")
    assert (entry["type"], entry["source"]) == ("bind", "/sys") and "ro" in entry["options"]
    assert "/sys/kernel" in made(network=["host"])["linux"]["maskedPaths"]


def test_case_23_cgroups_are_written_in_a_namespace_only() -> None:
    place = "/sys/fs/cgroup"
    assert "ro" in mount(made(), place)["options"]
    unmask: dict[str, Any] = {"security_opt": ["unmask=/sys/fs/cgroup"]}
    assert "rw" in mount(made(**unmask), place)["options"]
    assert "ro" in mount(made(cgroupns="host", **unmask), place)["options"]
    assert (
        "ro"
        in mount(made(host=facts(cgroup_version=1), cgroupns="private", privileged=True), place)[
            "options"
        ]
    )


def test_read_only() -> None:
    document = made(read_only=True)
    assert document["root"]["readonly"] is True
    assert {"/run", "/tmp", "/var/tmp"} <= {m["destination"] for m in document["mounts"]}
    document = made(read_only=True, read_only_tmpfs=False)
    assert "/tmp" not in {m["destination"] for m in document["mounts"]}
    assert document["linux"]["readonlyPaths"][-1] == "/dev"


def test_further_roots_get_the_files_too() -> None:
    document = made(
        host=facts(files={"/etc/hosts": "/h", "/run/.containerenv": "/c"}), chrootdirs=["/x/", "/y"]
    )
    assert (
        mount(document, "/x/etc/hosts")["source"]
        == mount(document, "/y/etc/hosts")["source"]
        == "/h"
    )
    assert "/x/run/.containerenv" not in {m["destination"] for m in document["mounts"]}


def test_propagation_of_the_root() -> None:
    for option, expected in (("rshared", "shared"), ("slave", "rslave"), ("rprivate", None)):
        (one,) = mounts.parse([f"/tmp:/y:{option}"], [], [], "/")
        assert with_mounts(one)["linux"].get("rootfsPropagation") == expected


# what is hidden, limits, the rest


def test_masks() -> None:
    linux = made(security_opt=["unmask=/proc/*:/sys/firmware", "mask=/x"])["linux"]
    assert not any(path.startswith("/proc/") for path in linux["maskedPaths"])
    assert "/sys/firmware" not in linux["maskedPaths"] and linux["maskedPaths"][-1] == "/x"
    assert "readonlyPaths" not in linux
    linux = made(privileged=True)["linux"]
    assert "maskedPaths" not in linux and "readonlyPaths" not in linux and "seccomp" not in linux


def test_seccomp() -> None:
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}
    assert (
        made(host=facts(seccomp=profile))["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ALLOW"
    )
    assert (
        "seccomp"
        not in made(host=facts(seccomp=profile), security_opt=["seccomp=unconfined"])["linux"]
    )
    assert "seccomp" not in made(host=facts(seccomp=profile), privileged=True)["linux"]


def test_resources() -> None:
    found = made(
        memory="10m",
        cpus=1.5,
        cpu_shares=5,
        pids_limit=7,
        cpuset_cpus="0-1",
        cgroup_conf=["memory.high=1"],
    )
    assert found["linux"]["resources"] == {
        "memory": {"limit": 10 << 20, "swap": 20 << 20},
        "cpu": {"period": 100000, "quota": 150000, "shares": 5, "cpus": "0-1"},
        "pids": {"limit": 7},
        "unified": {"memory.high": "1"},
    }
    assert "resources" not in made()["linux"]
    assert made(host=facts(pids_limit=2048))["linux"]["resources"] == {"pids": {"limit": 2048}}
    assert "resources" not in made(host=facts(pids_limit=2048), pids_limit=-1)["linux"]


def test_labels_of_hosts_without_them() -> None:
    with pytest.raises(Usage, match="Apparmor is not enabled"):
        made(security_opt=["apparmor=x"])
    assert (
        made(host=facts(apparmor=True), security_opt=["apparmor=x"])["process"]["apparmorProfile"]
        == "x"
    )
    with pytest.raises(Usage, match="SELinux is not enabled"):
        made(security_opt=["label=type:x_t"])
    made(security_opt=["label=disable"])
    label = made(host=facts(selinux=True), security_opt=["label=type:x_t", "label=level:s0:c1"])
    assert label["process"]["selinuxLabel"] == "system_u:system_r:x_t:s0:c1"


def test_systemd() -> None:
    document = made({"Cmd": ["/sbin/init"]})
    assert {"/run", "/run/lock", "/tmp", "/var/log/journal"} <= {
        m["destination"] for m in document["mounts"]
    }
    assert "rw" in mount(document, "/sys/fs/cgroup")["options"]
    assert spec.stop_signal(options(), {"Cmd": ["/sbin/init"]}) == 37
    assert spec.stop_signal(options(systemd="false"), {"Cmd": ["/sbin/init"]}) == 15
    assert "/run/lock" not in str(made({"Cmd": ["/sbin/init"]}, systemd="false")["mounts"])
    with pytest.raises(Usage, match="this host has no cgroup v2"):
        made(host=facts(cgroup_version=1), systemd="always")


def test_stop_signal() -> None:
    assert spec.stop_signal(options(), {"Cmd": ["x"]}) == 15
    assert spec.stop_signal(options(), {"Cmd": ["x"], "StopSignal": "SIGQUIT"}) == 3
    assert spec.stop_signal(options(stop_signal="9"), {"Cmd": ["x"], "StopSignal": "SIGQUIT"}) == 9


def test_case_36_labels_of_an_image_are_no_annotations() -> None:
    config = {"Cmd": ["x"], "Labels": {"io.evil": "x", "run.oci.hooks": "x"}}
    assert made(config, annotation=["a=b"])["annotations"] == {
        "a": "b",
        "io.container.manager": "rootless",
        "org.opencontainers.image.stopSignal": "15",
    }


def test_make_spec_is_pure() -> None:
    asked, host = (
        options(volume=["/tmp:/y"], env=["A=b"], read_only=True),
        facts(seccomp={"defaultAction": "x"}),
    )
    host.mounts = mounts.plan(asked.mounts, {"/data": {}}, "tmpfs")
    before = copy.deepcopy((asked.to_json(), host.mounts, CONFIG))
    first = make_spec(asked, CONFIG, host)
    assert make_spec(asked, CONFIG, host) == first
    assert (asked.to_json(), host.mounts, CONFIG) == before
    assert json.loads(json.dumps(first)) == first


def test_start_up() -> None:
    """What importing options and spec loads: they are on `run`'s path."""
    script = (
        "import sys; before = set(sys.modules); import rootless.container.read_options, rootless.container.spec; "
        "print(*sorted(set(sys.modules) - before))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == [
        "__future__",
        "rootless",
        "rootless.container",
        "rootless.container.env",
        "rootless.container.mounts",
        "rootless.container.options",
        "rootless.container.quantities",
        "rootless.container.read_limits",
        "rootless.container.read_network",
        "rootless.container.read_options",
        "rootless.container.read_security",
        "rootless.container.spec",
        "rootless.container.spec_mounts",
        "rootless.container.spec_resources",
        "rootless.container.sysctls",
        "rootless.errors",
    ]
