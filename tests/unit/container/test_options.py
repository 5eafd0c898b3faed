"""Command lines read into CreateOptions: values, and mistakes in Podman's words."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from rootless.cli.container_options import CREATE, RUN
from rootless.cli.table import Command
from rootless.container import quantities, sysctls
from rootless.container import read_options as module
from rootless.container.options import UNSUPPORTED, CreateOptions
from rootless.errors import RootlessError, Usage
from tests.support import words as command_line

ERRORS = Path(__file__).parents[2] / "data/podman/errors.txt"


def read(line: str | list[str], table: Any = RUN) -> CreateOptions:
    """A command line as `run` reads it."""
    command = Command("", lambda inv: 0, table, args=(0, None), interspersed=False)
    words = shlex.split(line) if isinstance(line, str) else line
    return CreateOptions.from_invocation(command_line.parse("run", command, words))


def _rows() -> list[Any]:
    rows = [line.split("\t") for line in ERRORS.read_text().splitlines()]
    return [pytest.param(words, message, id=words) for words, message in rows]


@pytest.mark.parametrize(("line", "message"), _rows())
def test_mistake_in_podmans_words(line: str, message: str) -> None:
    """What Podman 5.4.2 answers to the same words (recorded)."""
    with pytest.raises(RootlessError) as caught:
        read(line)
    assert caught.value.message == message.replace("CWD", str(Path.cwd()))
    assert caught.value.exit_code in (125, 126)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("bb ls -l", "command", ["ls", "-l"]),
        ("bb", "image", "bb"),
    ],
)
def test_arguments(line: str, name: str, value: object) -> None:
    assert getattr(read(line), name) == value


def port(
    container: int, host: int = 0, ip: str = "", count: int = 1, kind: str = "tcp"
) -> dict[str, Any]:
    return {
        "host_ip": ip,
        "host_port": host,
        "container_port": container,
        "range": count,
        "protocol": kind,
    }


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("-p 80", "publish", [port(80)]),
        ("-p 8080:80", "publish", [port(80, 8080)]),
        ("-p 8080:80/udp", "publish", [port(80, 8080, kind="udp")]),
        ("-p 127.0.0.1:8080:80", "publish", [port(80, 8080, "127.0.0.1")]),
        ("-p 127.0.0.1::80", "publish", [port(80, 0, "127.0.0.1")]),
        ("-p [::1]:70:70/sctp", "publish", [port(70, 70, "::1", kind="sctp")]),
        ("-p 8080-8082:80-82", "publish", [port(80, 8080, count=3)]),
        ("-p 80:80 -p 80:80", "publish", [port(80, 80)]),
        ("-p 80:80,81:81", "publish", [port(80, 80, count=2)]),
        ("--expose 80-82 --expose 5/udp", "expose", ["80/tcp", "81/tcp", "82/tcp", "5/udp"]),
        ("-m 10m", "memory", 10 << 20),
        ("-m 1.5g", "memory", 3 << 29),
        ("-m 1KiB", "memory", 1024),
        ("-m '1 k'", "memory", 1024),
        ("-m 4096", "memory", 4096),
        ("-m 1g --memory-swap -1", "memory_swap", -1),
        ("--shm-size 1k", "shm_size", 1024),
        ("", "shm_size", 65536000),
        ("--shm-size 0", "shm_size", 0),
        ("--pids-limit -1", "pids_limit", -1),
        ("", "pids_limit", None),
        ("", "oom_score_adj", None),
        ("--oom-score-adj 0", "oom_score_adj", 0),
        ("--restart on-failure:3", "restart_tries", 3),
        ("--restart on-failure:3", "restart", "on-failure"),
        ("--restart never", "restart", "no"),
        ("--stop-signal RTMIN+3", "stop_signal", 37),
        ("--stop-signal sigusr1", "stop_signal", 10),
        ("--stop-signal 9", "stop_signal", 9),
        ("--umask 22", "umask", "0022"),
        ("--ulimit nofile=5", "ulimits", [("nofile", 5, 5)]),
        ("--ulimit RLIMIT_NOFILE=5:-1", "ulimits", [("nofile", 5, -1)]),
        ("--ulimit core=-1 --ulimit core=0", "ulimits", [("core", 0, 0)]),
        ("--ulimit host", "ulimit_host", True),
        ("--entrypoint ''", "entrypoint", []),
        ("", "entrypoint", None),
        ("--entrypoint '[\"a\", \"b\"]'", "entrypoint", ["a", "b"]),
        ("--entrypoint '[\"a'", "entrypoint", ['["a']),
        ("--entrypoint 'a b'", "entrypoint", ["a b"]),
        ("--entrypoint '[1]'", "entrypoint", ["[1]"]),
        ("--cap-add net_raw,SYS_ADMIN", "cap_add", ["CAP_NET_RAW", "CAP_SYS_ADMIN"]),
        ("--cap-drop all", "cap_drop", ["ALL"]),
        ("-l a -l b=c=d", "labels", {"a": "", "b": "c=d"}),
        ("--annotation a=b=c", "annotations", {"a": "b=c"}),
        ("--network none", "network", "none"),
        ("--network ''", "network", ""),
        ("--network private", "network", ""),
        ("--network host", "network", "host"),
        ("--net container:x", "network", "container:x"),
        ("--network pasta:--mtu,1500", "network_options", ["--mtu", "1500"]),
        ("--network slirp4netns:mtu=1500", "network", "slirp4netns"),
        ("--network a,b", "networks", {"a": {}, "b": {}}),
        ("--network a:ip=10.0.0.5,alias=x,alias=y", "networks", {"a": {"ip": "10.0.0.5", "alias": "x,y"}}),
        ("--network a --network b", "network", "bridge"),
        ("--network bridge:mac=92:d0:c6:0a:29:33", "networks", {"default": {"mac": "92:d0:c6:0a:29:33"}}),
        ("--group-add keep-groups", "keep_groups", True),
        ("--group-add a,7", "group_add", ["a", "7"]),
        ("--attach STDOUT", "attach", ["stdout"]),
        ("-a stdin,stderr", "attach", ["stdin", "stderr"]),
        ("--userns keep-id:uid=5,gid=6", "userns", "keep-id:uid=5,gid=6"),
        ("--userns default", "userns", ""),
        ("--pid private", "pid", "private"),
        ("--ipc shareable", "ipc", "shareable"),
        ("--sysctl net.ipv4.ip_forward=1", "sysctl", {"net.ipv4.ip_forward": "1"}),
        ("--sysctl net/ipv4/ip_forward=1", "sysctl", {"net.ipv4.ip_forward": "1"}),
        ("--security-opt seccomp=unconfined", "seccomp", "unconfined"),
        ("--security-opt no-new-privileges", "no_new_privileges", True),
        ("--security-opt no-new-privileges:true", "no_new_privileges", True),
        ("--security-opt no-new-privileges=false", "no_new_privileges", False),
        ("--security-opt mask=/a:/b", "mask", ["/a", "/b"]),
        ("--security-opt unmask=all", "unmask", ["ALL"]),
        ("--security-opt systempaths=unconfined", "unmask", ["ALL"]),
        ("--security-opt proc-opts=a,b", "proc_options", ["a", "b"]),
        ("--device /dev/null", "devices", [{"source": "/dev/null", "path": "/dev/null", "permissions": "rwm"}]),
        ("--device /dev/null:/dev/x:rw", "devices", [{"source": "/dev/null", "path": "/dev/x", "permissions": "rw"}]),
        ("--log-opt max-size=10k", "log_size", 10240),
        ("--log-opt path=/a", "log_path", "/a"),
        ("--log-opt tag=x", "log_tag", "x"),
        ("--platform linux/arm/v7", "variant", "v7"),
        ("--pull always", "pull", "always"),
        ("--pull=TRUE", "pull", "missing"),
        ("--volumes-from a:ro,z --volumes-from b", "volumes_from", [("a", ["ro", "z"]), ("b", [])]),
        ("--image-volume bind", "image_volume", "anonymous"),
        ("--device-read-bps /dev/sda:1mb", "device_read_bps", {"/dev/sda": 1 << 20}),
        ("--device-write-iops /dev/sda:10", "device_write_iops", {"/dev/sda": 10}),
        ("--blkio-weight 100", "blkio_weight", 100),
        ("--blkio-weight-device /dev/sda:200", "blkio_weight_device", {"/dev/sda": 200}),
        ("--cgroup-conf memory.high=1", "cgroup_conf", {"memory.high": "1"}),
        ("--tz local", "tz", "local"),
        ("--rmi", "rm", True),
        ("--detach-keys ''", "detach_keys", ""),
        ("", "detach_keys", None),
        ("--name /x", "name", "x"),
        ("--http-proxy=false", "http_proxy", False),
        ("--add-host 'a;b:1.2.3.4'", "add_host", ["a;b:1.2.3.4"]),
        ("--add-host a:::1", "add_host", ["a:::1"]),
        ("--add-host a:host-gateway", "add_host", ["a:host-gateway"]),
        ("--dns none", "dns", ["none"]),
        ("--memory-swappiness -1", "memory", 0),
        ("--no-healthcheck", "health", {"Test": ["NONE"]}),
        ("--health-retries 2", "health", {"Retries": 2}),
    ],
)  # fmt: skip
def test_value(line: str, name: str, value: object) -> None:
    assert getattr(read(line), name) == value


def test_health_checks() -> None:
    second = 10**9
    line = "--health-cmd 'a b' --health-interval 5s --health-retries 2 --health-timeout 1m40s"
    assert read(line).health == {
        "Test": ["CMD-SHELL", "a b"],
        "Interval": 5 * second,
        "Retries": 2,
        "Timeout": 100 * second,
        "StartPeriod": 0,
    }
    assert read("--health-cmd none").health == {
        "Test": ["NONE"],
        "Interval": 30 * second,
        "Retries": 3,
        "Timeout": 30 * second,
        "StartPeriod": 0,
    }
    tests = {
        "CMD-SHELL x y": ["CMD-SHELL", "x y"],
        "CMD x y": ["CMD", "x", "y"],
        '["CMD", "x"]': ["CMD", "x"],
        '["x"]': ["CMD", "x"],
    }
    for command, words in tests.items():
        health = read(["--health-cmd", command]).health
        assert health is not None and health["Test"] == words
    assert read("--health-cmd x --health-interval disable").health["Interval"] == 0  # type: ignore[index]
    startup = read(
        "--health-cmd x --health-startup-cmd y --health-startup-success 2"
    ).health_startup
    assert startup is not None and startup["Successes"] == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        # What Podman takes and then ignores, gets wrong, or leaves to a kernel that names nothing.
        ("--device /dev/null::r", "access cannot be restricted to r"),
        ("--device /etc/passwd", "not a device node"),
        ("--hostname 'a b'", "invalid hostname"),
        ("--hostname " + "a" * 65, "invalid hostname"),
        ("--personality foo", "unknown personality"),
        ("--oom-score-adj 2000", "between -1000 and 1000"),
        ("-m 10m --memory-swap 5m", "must not be below --memory"),
        ("--memory-swap 5m", "needs --memory"),
        ("--cpuset-cpus foo", "invalid value"),
        ("--blkio-weight 5", "between 10 and 1000"),
        ("--sysctl kernel.hostname=x", "is not allowed"),
        ("--sysctl net..x=1", "is not allowed"),
        ("--sysctl kernel/shmmax/../../vm/swappiness=1", "is not allowed"),
        ("--sysctl net.x=1+kernel.core_pattern=x", "bad character"),
        ("--network host:foo", "takes no options"),
        ("--network a/b", "network not found"),
        ("--security-opt mask=x", "invalid --security-opt"),
        ("--security-opt label=foo", "invalid --security-opt"),
        ("--cgroup-conf ../x=1", "invalid cgroup file name"),
        ("--health-startup-cmd x --no-healthcheck", "cannot specify both --no-healthcheck and"),
        ("--pull foo", "unsupported pull policy"),
        ("--pod x", "--pod: pods are not available"),
        ("--pod-id-file x", "--pod-id-file: pods are not available"),
        ("--pid pod", "pods are not available"),
        ("--secret x", "--secret: secrets are not available"),
        ("--gpus all", "--gpus: CDI devices"),
        ("--device nvidia.com/gpu=all", "CDI devices"),
        ("--rdt-class x", "--rdt-class: "),
        ("--log-opt foo=bar", "--log-opt foo: unknown option"),
        ("--chrootdirs rel", "must be an absolute path"),
        ("--seccomp-policy image", "--seccomp-policy=image: "),
        ("--oom-kill-disable", "--oom-kill-disable: "),
        ("--memory-swappiness 10", "--memory-swappiness: "),
        ("--cpu-rt-period 1", "--cpu-rt-period: "),
        ("--dns-search 'a b'", "invalid dns search domain"),
        ("--mount type=bind,src=/tmp,dst=/y,ro=maybe", "must be true or false"),
        ("--mount type=tmpfs,dst=/y,tmpfs-size=foo", "invalid size"),
        ("--mount type=tmpfs,dst=/y,tmpfs-mode=9", "invalid mode"),
        ("--mount type=devpts,dst=/y,uid=x", "invalid number"),
        ("-v a:/y -v a:/y:ro", "/y: duplicate mount destination"),
        ("-v /etc/passwd:/x:O", "only work for directories"),
        ("--rm=false --rmi", "does not work without --rm"),
        ("--preserve-fd 9999", "file descriptor 9999 is not available - the preserve-fd option"),
        ("--preserve-fd 2", "cannot preserve FD 2"),
        ("--preserve-fds 3", "is not available"),
    ],
)  # fmt: skip
def test_mistake_of_our_own(line: str, message: str) -> None:
    with pytest.raises(Usage) as caught:
        read(line)
    assert message in caught.value.message


def test_init_ctr_belongs_to_pods() -> None:
    with pytest.raises(Usage, match="--init-ctr: pods are not available"):
        read("--init-ctr once", CREATE)


def test_every_option_of_the_command_is_known() -> None:
    """An option that the command line takes is read here, or refused with a reason: none is dropped unseen."""
    folder = Path(module.__file__).parent
    source = "".join(path.read_text() for path in sorted(folder.glob("read_*.py")))
    #: Docker's and Podman's no-operation, and what only the command itself acts upon.
    nothing = {"disable_content_trust"}
    unknown = []
    for option in (*CREATE, *RUN):
        name = option.name.replace("-", "_")
        if name in nothing or name in UNSUPPORTED or name in (*module._PLAIN, *module._WORDS):
            continue
        if f'"{name}"' not in source:
            unknown.append(name)
    assert unknown == []


def test_defaults_are_podmans() -> None:
    """Where the command's table shows a default, it is the one that counts."""
    bare = CreateOptions()
    for option in (*CREATE, *RUN):
        name = option.name.replace("-", "_")
        if name in module._PLAIN and option.default and option.kind != "bool":
            if getattr(bare, name) is not None:
                assert getattr(bare, name) == option.default, name


def test_json_keeps_what_was_given() -> None:
    line = (
        "-it -v /tmp:/y:ro -v vv:/z -e A=b --ulimit nofile=5:6 -p 8080:80 --volumes-from x:ro --entrypoint '' "
        "--memory 10m --network a:ip=10.0.0.1 --restart always --device /dev/null bb ls"
    )
    options = read(line)
    document = json.loads(json.dumps(options.to_json()))
    assert CreateOptions.from_json(document) == options
    assert CreateOptions.from_json(document).ulimits == [("nofile", 5, 6)]
    assert "privileged" not in document


def test_json_of_another_version() -> None:
    assert CreateOptions.from_json({"name": "x", "of_the_future": 1}).name == "x"


def test_lists_are_not_shared() -> None:
    first = CreateOptions()
    first.env["A"] = "b"
    first.mask.append("/x")
    assert CreateOptions().env == {} and CreateOptions().mask == []


def test_files(tmp_path: Path) -> None:
    env, labels = tmp_path / "env", tmp_path / "labels"
    env.write_text('A=1\n#c\n  B=2 \nQ="x"\nexport E=1\n')
    labels.write_text("l1=v\n#c\nl2\n")
    options = read(["--env-file", str(env), "-e", "A=2", "--label-file", str(labels), "-l", "l1=w"])
    assert options.env == {"A": "2", "B": "2 ", "Q": '"x"', "export E": "1"}
    assert options.labels == {"l1": "w", "l2": ""}


def test_rootfs(tmp_path: Path) -> None:
    options = read(["--rootfs", f"{tmp_path}:O", "ls"])
    assert (options.image, options.rootfs_overlay) == (str(tmp_path), True)
    assert read(["--rootfs", str(tmp_path)]).rootfs_overlay is False


@pytest.mark.needs("tun")
def test_folder_of_devices() -> None:
    paths = [device["path"] for device in read("--device /dev/net:/dev/other").devices]
    assert paths and all(path.startswith("/dev/other/") for path in paths)


@pytest.mark.parametrize("text", ["", "k", "1kk", "1x", "-1", "1.2.3k", ".5k", "1ik", "1bk", "١k"])
def test_bad_size(text: str) -> None:
    with pytest.raises(Usage, match="^invalid size"):
        quantities.parse_size(text)


def test_case_24_only_sysctls_of_a_namespace() -> None:
    for name in ("kernel.core_pattern", "vm.swappiness", "kernel.shmmax.x", "fs.file-max", "net"):
        with pytest.raises(Usage, match="is not allowed"):
            sysctls.parse_sysctl(f"{name}=1")
    assert (
        sysctls.parse_sysctl("net.ipv4.conf.eth0/1.forwarding=1")[0]
        == "net.ipv4.conf.eth0/1.forwarding"
    )


def test_case_10_names() -> None:
    for name in ("../x", "a/b", "", ".", "-a", "a b", "a\n", "é"):
        with pytest.raises(Usage, match="names must match|without --name"):
            read(["--name", name, "--replace"])
