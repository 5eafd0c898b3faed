"""The check of config.json: what it lets through, and how it names what it does not."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from rootless.oci.document import BadDocument
from rootless.oci.runtime import parse_process, parse_resources, parse_spec, validate

SPEC: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "root": {"path": "rootfs", "readonly": True},
    "process": {
        "terminal": False,
        "user": {"uid": 0, "gid": 0, "umask": 18, "additionalGids": [5]},
        "args": ["sh"],
        "env": ["PATH=/bin", "ODD"],
        "cwd": "/",
        "capabilities": {"bounding": ["CAP_KILL", "CAP_UNKNOWN_TO_US"], "effective": None},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 18446744073709551615}],
        "noNewPrivileges": True,
        "oomScoreAdj": -5,
        "scheduler": {"policy": "SCHED_BATCH", "nice": 5, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
        "execCPUAffinity": {"initial": "0-3,7", "final": "0"},
        "futureField": {"x": 1},
    },
    "hostname": "h",
    "domainname": "d",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "data", "type": "none", "source": "/d", "options": ["bind", "ro"]},
    ],
    "hooks": {"prestart": [{"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 1}]},
    "annotations": {"org.example": ""},
    "linux": {
        "namespaces": [
            {"type": kind} for kind in ("user", "mount", "pid", "ipc", "uts", "cgroup", "time")
        ]
        + [{"type": "network", "path": "/run/netns/x"}],
        "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
        "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
        "timeOffsets": {"monotonic": {"secs": -5, "nanosecs": 3}, "boottime": {"secs": 7}},
        "devices": [
            {
                "type": "c",
                "path": "/dev/fuse",
                "major": 10,
                "minor": 229,
                "fileMode": 438,
                "uid": 0,
            },
            {"type": "p", "path": "/dev/pipe"},
        ],
        "cgroupsPath": "user.slice:rootless:abc",
        "resources": {
            "devices": [{"allow": False, "access": "rwm"}],
            "memory": {"limit": 1 << 30, "swap": -1, "swappiness": 60},
            "cpu": {
                "shares": 512,
                "quota": -1,
                "period": 100000,
                "cpus": "0-1,3",
                "mems": "",
                "idle": 1,
            },
            "pids": {"limit": -1},
            "blockIO": {
                "weight": 100,
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
            },
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4096}],
            "unified": {"memory.high": "1G"},
            "rdma": {"mlx5_1": {"hcaHandles": 3}},
        },
        "rootfsPropagation": "rprivate",
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 38,
            "architectures": ["SCMP_ARCH_X86_64"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "syscalls": [
                {
                    "names": ["read"],
                    "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}],
                }
            ],
        },
        "sysctl": {"net.ipv4.ip_forward": "1", "kernel.shmmax": "1", "fs.mqueue.msg_max": "9"},
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
        "personality": {"domain": "LINUX32"},
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """SPEC with the value at a dotted path replaced, or added where the last part is new."""
    document = copy.deepcopy(SPEC)
    target: Any = document
    *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    for part in parents:
        target = target[part]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return document


def test_a_full_document_passes_and_comes_back_whole() -> None:
    assert parse_spec(json.dumps(SPEC).encode()) == SPEC


@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.1.0+dev", "1.2.1", "1.3.0"])
def test_versions_of_the_same_major(version: str) -> None:
    validate(changed("ociVersion", version))


@pytest.mark.parametrize(
    "field", ["process", "hostname", "mounts", "linux", "hooks", "annotations"]
)
def test_what_is_optional_may_be_absent_or_null(field: str) -> None:
    for value in (..., None):
        document = changed(field, value)
        if field == "linux":
            del document["hostname"], document["domainname"]
        validate(document)


CASES = [
    ("ociVersion", ..., "ociVersion: is missing"),
    ("ociVersion", "2.0.0", 'ociVersion: version "2.0.0" of the runtime-spec is not supported, only 1.x'),
    ("ociVersion", "1.2", 'ociVersion: "1.2" is not a version'),
    ("ociVersion", 1, "ociVersion: must be a string, not a number"),
    ("root", ..., "root: is missing"),
    ("root/path", "", "root.path: is empty"),
    ("process/args", [], "process.args: is empty"),
    ("process/args", ..., "process.args: is missing"),
    ("process/args", ["a", 3], "process.args[1]: must be a string, not a number"),
    ("process/args", ["a\0b"], "process.args[0]: contains a null byte, which the kernel cannot be given"),
    ("process/cwd", "tmp", 'process.cwd: "tmp" is not an absolute path'),
    ("process/env", "A=b", "process.env: must be an array, not a string"),
    ("process/terminal", 1, "process.terminal: must be a boolean, not a number"),
    ("process/user/uid", -1, "process.user.uid: -1 is not between 0 and 4294967294"),
    ("process/user/uid", 4294967295, "process.user.uid: 4294967295 is not between 0 and 4294967294"),
    ("process/user/uid", True, "process.user.uid: must be an integer, not a boolean"),
    ("process/rlimits/0/type", "RLIMIT_FOO", 'process.rlimits[0].type: unknown limit "RLIMIT_FOO"'),
    ("process/rlimits/0/hard", 5, "process.rlimits[0].soft: 1024 is above the hard limit 5"),
    ("process/oomScoreAdj", 1001, "process.oomScoreAdj: 1001 is not between -1000 and 1000"),
    ("process/scheduler/policy", "FAST", 'process.scheduler.policy: unknown policy "FAST"'),
    ("process/ioPriority/class", "X", 'process.ioPriority.class: unknown class "X"'),
    ("process/execCPUAffinity/initial", "3-1", 'process.execCPUAffinity.initial: "3-1" is not a list of numbers and ranges'),
    ("mounts/1/destination", ..., "mounts[1].destination: is missing"),
    ("mounts/0/options", "ro", "mounts[0].options: must be an array, not a string"),
    ("hooks/prestart/0/path", "true", 'hooks.prestart[0].path: "true" is not an absolute path'),
    ("hooks/prestart/0/timeout", 0, "hooks.prestart[0].timeout: 0 is not between 1 and 2147483647"),
    ("annotations", {"": "x"}, "annotations: has an empty key"),
    ("annotations", {"a": 1}, "annotations.a: must be a string, not a number"),
    ("linux/namespaces/2/type", "foo", 'linux.namespaces[2].type: unknown namespace "foo"'),
    ("linux/namespaces/2/type", "user", 'linux.namespaces[2].type: "user" occurs twice'),
    ("linux/namespaces/4", {"type": "network2"}, 'linux.namespaces[4].type: unknown namespace "network2"'),
    ("linux/uidMappings/0/size", 0, "linux.uidMappings[0].size: 0 is not between 1 and 4294967295"),
    ("linux/uidMappings/0/hostID", ..., "linux.uidMappings[0].hostID: is missing"),
    ("linux/timeOffsets", {"realtime": {"secs": 1}}, 'linux.timeOffsets.realtime: unknown clock "realtime"'),
    ("linux/devices/0/type", "x", 'linux.devices[0].type: unknown type of device "x"'),
    ("linux/devices/0/minor", ..., "linux.devices[0].minor: is missing"),
    ("linux/devices/0/path", "dev/x", 'linux.devices[0].path: "dev/x" is not an absolute path'),
    ("linux/resources/memory/swappiness", 101, "linux.resources.memory.swappiness: 101 is not between 0 and 100"),
    ("linux/resources/cpu/cpus", "a", 'linux.resources.cpu.cpus: "a" is not a list of numbers and ranges'),
    ("linux/resources/pids/limit", "max", "linux.resources.pids.limit: must be an integer, not a string"),
    ("linux/resources/unified", {"../memory.max": "1"}, 'linux.resources.unified.../memory.max: "../memory.max" is not the name of a control file'),
    ("linux/resources/hugepageLimits/0/pageSize", "2M", 'linux.resources.hugepageLimits[0].pageSize: "2M" is not a size of pages, such as 2MB'),
    ("linux/resources/devices/0/access", "rx", 'linux.resources.devices[0].access: "rx" is not made of r, w and m'),
    ("linux/rootfsPropagation", "public", 'linux.rootfsPropagation: unknown propagation "public"'),
    ("linux/seccomp/defaultAction", ..., "linux.seccomp.defaultAction: is missing"),
    ("linux/seccomp/defaultAction", "ALLOW", 'linux.seccomp.defaultAction: unknown action "ALLOW"'),
    ("linux/seccomp/flags", ["X"], 'linux.seccomp.flags[0]: unknown flag "X"'),
    ("linux/seccomp/syscalls/0/names", [], "linux.seccomp.syscalls[0].names: is empty"),
    ("linux/seccomp/syscalls/0/args/0/op", "EQ", 'linux.seccomp.syscalls[0].args[0].op: unknown operator "EQ"'),
    ("linux/seccomp/syscalls/0/args/0/index", 6, "linux.seccomp.syscalls[0].args[0].index: 6 is not between 0 and 5"),
    ("linux/maskedPaths", ["proc"], 'linux.maskedPaths[0]: "proc" is not an absolute path'),
    ("linux/personality/domain", "BSD", 'linux.personality.domain: unknown execution domain "BSD"'),
    ("linux/intelRdt", {"closID": "x"}, "linux.intelRdt: resctrl is for the host's root alone"),
    ("linux", [], "linux: must be an object, not an array"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), CASES, ids=[case[2][:60] for case in CASES])
def test_errors_name_the_field(path: str, value: Any, message: str) -> None:
    with pytest.raises(BadDocument) as caught:
        validate(changed(path, value))
    assert str(caught.value) == f"config.json: {message}"


@pytest.mark.parametrize(
    ("field", "kind", "message"),
    [
        ("hostname", "uts", "hostname: needs a uts namespace, or it would be the host's"),
        ("timeOffsets", "time", "linux.timeOffsets: needs a time namespace"),
        ("net", "network", "linux.sysctl.net.ipv4.ip_forward: needs a network namespace, or it would be the host's"),
        ("ipc", "ipc", "linux.sysctl.kernel.shmmax: needs a ipc namespace, or it would be the host's"),
    ],
)  # fmt: skip
def test_what_needs_a_namespace_of_its_own(field: str, kind: str, message: str) -> None:
    document = copy.deepcopy(SPEC)
    namespaces = document["linux"]["namespaces"]
    namespaces[:] = [entry for entry in namespaces if entry["type"] != kind]
    with pytest.raises(BadDocument) as caught:
        validate(document)
    assert str(caught.value) == f"config.json: {message}"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kernel.core_pattern", "|/evil"),
        ("kernel.shm_rmid_forced+kernel.core_pattern", "1"),
        ("net/../kernel/core_pattern", "|/evil"),
        ("net.ipv4/../../kernel/core_pattern", "|/evil"),
        ("net.ipv4.ip_forward", "1\n+kernel.core_pattern=|/evil"),
        ("net..ipv4", "1"),
        ("/net/ipv4/ip_forward", "1"),
        ("net.ipv4.ip forward", "1"),
        ("kernel.hostname", "x"),
        ("vm.overcommit_memory", "1"),
    ],
)
def test_case_24_sysctls_of_the_host_are_refused(key: str, value: str) -> None:
    with pytest.raises(BadDocument, match=r"linux\.sysctl\."):
        validate(changed("linux/sysctl", {key: value}))


@pytest.mark.parametrize(
    "key",
    [
        "net.ipv4.ip_forward",
        "net/ipv4/conf/eth0.1/forwarding",
        "net.ipv4.conf.eth0/1.forwarding",
        "kernel.domainname",
    ],
)
def test_namespaced_sysctls_pass(key: str) -> None:
    validate(changed("linux/sysctl", {key: "1"}))


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_not_json(data: bytes) -> None:
    with pytest.raises(BadDocument, match=r"^config.json: not valid JSON"):
        parse_spec(data)


def test_a_document_that_is_no_object() -> None:
    with pytest.raises(BadDocument, match=r"^config.json: must be an object, not an array$"):
        parse_spec(b"[]")


def test_the_documents_of_exec_and_update() -> None:
    assert parse_process(b'{"args":["sh"],"cwd":"/"}')["args"] == ["sh"]
    with pytest.raises(BadDocument, match=r"^p.json: cwd: is missing$"):
        parse_process(b'{"args":["sh"]}', "p.json")
    assert parse_resources(b'{"pids":{"limit":5}}') == {"pids": {"limit": 5}}
    with pytest.raises(BadDocument, match=r"^resources: memory.limit: must be an integer"):
        parse_resources(b'{"memory":{"limit":"5"}}')
