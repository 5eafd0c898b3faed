"""config.json, the document of the runtime-spec, and the check that names the field which breaks it.

Versions 1.0 to 1.2 (and what later ones add in the same major version). As the specification wants it, unknown fields
are left alone and invalid ones refused. What a field asks for is not judged here, but for what can never be given to an
unprivileged container. On the path of every start: the checks are plain functions over plain dicts, below 1 ms.
"""

from __future__ import annotations

from rootless.oci.checks import (
    Invalid,
    absolute,
    absolute_or_empty,
    array,
    boolean,
    every,
    int32,
    int64,
    integer,
    mapping_of,
    never,
    not_empty,
    one_of,
    parsed,
    record,
    run,
    string,
    strings,
    texts,
    uint16,
    uint32,
    uint64,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.oci.spec_types import Process, Resources, Spec


def parse_spec(
    data: bytes, what: str = "config.json", first: Callable[[Any], None] | None = None
) -> Spec:
    """Read and check a bundle's configuration, after a look of the caller's `first`; `what` names it in errors."""
    document: Spec = parsed(data, every(first, _check_spec) if first else _check_spec, what)
    return document


def parse_process(data: bytes, what: str = "process") -> Process:
    """Read and check the document of `exec --process`."""
    document: Process = parsed(data, _process, what)
    return document


def parse_resources(data: bytes, what: str = "resources") -> Resources:
    """Read and check the document of `update --resources`."""
    document: Resources = parsed(data, _resources, what)
    return document


def validate(document: Any, what: str = "config.json") -> None:
    """Raise BadDocument, which names the field, where a configuration breaks the specification."""
    run(_check_spec, document, what)


# rules that one field alone does not show


def _version(value: Any) -> None:
    string(value)
    parts = value.split("-")[0].split("+")[0].split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise Invalid(f'"{value}" is not a version')
    if parts[0] != "1":
        raise Invalid(f'version "{value}" of the runtime-spec is not supported, only 1.x')


def _cpu_list(value: Any) -> None:
    """The kernel's list format, cpuset(7): numbers and ranges between commas."""
    string(value)
    for part in value.replace(" ", "").strip(",\n").split(",") if value.strip() else ():
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not (last.isdecimal() and int(first) <= int(last))):
            raise Invalid(f'"{value}" is not a list of numbers and ranges')


def _args(value: Any) -> None:
    strings(value)
    if not value:
        raise Invalid("is empty")


def _rlimit(value: Any) -> None:
    if value["soft"] > value["hard"]:
        raise Invalid(f"{value['soft']} is above the hard limit {value['hard']}", "soft")


def _device(value: Any) -> None:
    if value["type"] != "p":
        for key in ("major", "minor"):
            if value.get(key) is None:
                raise Invalid("is missing", key)


def _hugepage_size(value: Any) -> None:
    string(value)
    if value[-2:] not in ("KB", "MB", "GB") or not value[:-2].isdecimal() or value[0] == "0":
        raise Invalid(f'"{value}" is not a size of pages, such as 2MB')


def _unified_key(value: Any) -> None:
    texts(value)
    for key in value:
        if "/" in key or "." not in key:
            raise Invalid(f'"{key}" is not the name of a control file', key)


def _access(value: Any) -> None:
    string(value)
    if value.strip("rwm"):
        raise Invalid(f'"{value}" is not made of r, w and m')


# The id 2^32-1 is the kernel's "unchanged", so no id (security case 22).
_id = integer(0, 2**32 - 2)
_weight = integer(0, 1000)
_device_number = {"major": int64, "minor": int64}
_throttle = array(record({**_device_number, "rate": uint64}, "major", "minor", "rate"))
_resources = record(
    {
        "devices": array(
            record(
                {
                    "allow": boolean,
                    "type": one_of("type of devices", ("", "a", "b", "c")),
                    "major": int64,
                    "minor": int64,
                    "access": _access,
                },
                "allow",
            )
        ),
        "memory": record(
            {
                "limit": int64,
                "reservation": int64,
                "swap": int64,
                "kernel": int64,
                "kernelTCP": int64,
                "swappiness": integer(0, 100),
                "disableOOMKiller": boolean,
                "useHierarchy": boolean,
                "checkBeforeUpdate": boolean,
            }
        ),
        "cpu": record(
            {
                "shares": uint64,
                "quota": int64,
                "burst": uint64,
                "period": uint64,
                "realtimeRuntime": int64,
                "realtimePeriod": uint64,
                "cpus": _cpu_list,
                "mems": _cpu_list,
                "idle": integer(0, 1),
            }
        ),
        "pids": record({"limit": int64}),
        "blockIO": record(
            {
                "weight": _weight,
                "leafWeight": _weight,
                "weightDevice": array(
                    record(
                        {**_device_number, "weight": _weight, "leafWeight": _weight},
                        "major",
                        "minor",
                    )
                ),
                "throttleReadBpsDevice": _throttle,
                "throttleWriteBpsDevice": _throttle,
                "throttleReadIOPSDevice": _throttle,
                "throttleWriteIOPSDevice": _throttle,
            }
        ),
        "hugepageLimits": array(
            record({"pageSize": _hugepage_size, "limit": uint64}, "pageSize", "limit"),
            unique="pageSize",
        ),
        "network": record(
            {
                "classID": uint32,
                "priorities": array(
                    record({"name": string, "priority": uint32}, "name", "priority")
                ),
            }
        ),
        "rdma": mapping_of(record({"hcaHandles": uint32, "hcaObjects": uint32})),
        "unified": _unified_key,
    }
)

_ACTIONS = (
    "ALLOW",
    "ERRNO",
    "KILL",
    "KILL_PROCESS",
    "KILL_THREAD",
    "LOG",
    "NOTIFY",
    "TRACE",
    "TRAP",
)
_action = one_of("action", _ACTIONS, "SCMP_ACT_")
_seccomp = record(
    {
        "defaultAction": _action,
        "defaultErrnoRet": uint16,
        "architectures": strings,
        "flags": array(
            one_of(
                "flag", ("TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"), "SECCOMP_FILTER_FLAG_"
            )
        ),
        "listenerPath": absolute_or_empty,
        "listenerMetadata": string,
        "syscalls": array(
            record(
                {
                    "names": _args,
                    "action": _action,
                    "errnoRet": uint16,
                    "args": array(
                        record(
                            {
                                "index": integer(0, 5),
                                "value": uint64,
                                "valueTwo": uint64,
                                "op": one_of(
                                    "operator",
                                    ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"),
                                    "SCMP_CMP_",
                                ),
                            },
                            "index",
                            "value",
                            "op",
                        )
                    ),
                },
                "names",
                "action",
            )
        ),
    },
    "defaultAction",
)

_mapping = record(
    {"containerID": _id, "hostID": _id, "size": integer(1, 2**32 - 1)},
    "containerID",
    "hostID",
    "size",
)
_mappings = array(_mapping)
NAMESPACES = ("cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts")
_PROPAGATION = (
    "",
    "private",
    "rprivate",
    "rshared",
    "rslave",
    "runbindable",
    "shared",
    "slave",
    "unbindable",
)
_linux = record(
    {
        "namespaces": array(
            record({"type": one_of("namespace", NAMESPACES), "path": string}, "type"),
            unique="type",
        ),
        "uidMappings": _mappings,
        "gidMappings": _mappings,
        "timeOffsets": mapping_of(record({"secs": int64, "nanosecs": integer(0, 999_999_999)})),
        "devices": array(
            every(
                record(
                    {
                        "type": one_of("type of device", ("b", "c", "p", "u")),
                        "path": absolute,
                        "major": int64,
                        "minor": int64,
                        "fileMode": integer(0, 0o177777),
                        "uid": _id,
                        "gid": _id,
                    },
                    "type",
                    "path",
                ),
                _device,
            )
        ),
        "cgroupsPath": string,
        "resources": _resources,
        "rootfsPropagation": one_of("propagation", _PROPAGATION),
        "seccomp": _seccomp,
        "sysctl": texts,
        "maskedPaths": array(absolute),
        "readonlyPaths": array(absolute),
        "mountLabel": string,
        "personality": record(
            {
                "domain": one_of("execution domain", ("LINUX", "LINUX32")),
                "flags": never("flags are not supported, as the specification names none"),
            },
            "domain",
        ),
        "intelRdt": never("resctrl is for the host's root alone"),
        "netDevices": never("moving a device of the host's network is for the host's root alone"),
    }
)

_environment = array(string)
_RLIMITS = (
    *(
        "AS",
        "CORE",
        "CPU",
        "DATA",
        "FSIZE",
        "LOCKS",
        "MEMLOCK",
        "MSGQUEUE",
        "NICE",
        "NOFILE",
        "NPROC",
        "RSS",
    ),
    *("RTPRIO", "RTTIME", "SIGPENDING", "STACK"),
)
_process = record(
    {
        "terminal": boolean,
        "consoleSize": record({"height": uint64, "width": uint64}, "height", "width"),
        "user": record(
            {
                "uid": _id,
                "gid": _id,
                "umask": integer(0, 0o777),
                "additionalGids": array(_id),
                "username": string,
            }
        ),
        "args": _args,
        "env": _environment,
        "cwd": absolute,
        "capabilities": record(
            dict.fromkeys(("bounding", "effective", "permitted", "inheritable", "ambient"), strings)
        ),
        "rlimits": array(
            every(
                record(
                    {
                        "type": one_of("limit", _RLIMITS, "RLIMIT_"),
                        "soft": uint64,
                        "hard": uint64,
                    },
                    "type",
                    "soft",
                    "hard",
                ),
                _rlimit,
            ),
            unique="type",
        ),
        "noNewPrivileges": boolean,
        "apparmorProfile": string,
        "selinuxLabel": string,
        "oomScoreAdj": integer(-1000, 1000),
        "scheduler": record(
            {
                "policy": one_of(
                    "policy", ("OTHER", "FIFO", "RR", "BATCH", "ISO", "IDLE", "DEADLINE"), "SCHED_"
                ),
                "nice": integer(-20, 19),
                "priority": int32,
                "flags": array(
                    one_of(
                        "flag",
                        (
                            "RESET_ON_FORK",
                            "RECLAIM",
                            "DL_OVERRUN",
                            "KEEP_POLICY",
                            "KEEP_PARAMS",
                            "UTIL_CLAMP_MIN",
                            "UTIL_CLAMP_MAX",
                        ),
                        "SCHED_FLAG_",
                    )
                ),
                "runtime": uint64,
                "deadline": uint64,
                "period": uint64,
            },
            "policy",
        ),
        "ioPriority": record(
            {
                "class": one_of("class", ("RT", "BE", "IDLE"), "IOPRIO_CLASS_"),
                "priority": integer(0, 7),
            },
            "class",
        ),
        "execCPUAffinity": record({"initial": _cpu_list, "final": _cpu_list}),
    },
    "args",
    "cwd",
)

_hooks = array(
    record(
        {
            "path": absolute,
            "args": strings,
            "env": _environment,
            "timeout": integer(1, 2**31 - 1),
        },
        "path",
    )
)
_spec = record(
    {
        "ociVersion": _version,
        "root": record({"path": not_empty, "readonly": boolean}, "path"),
        "process": _process,
        "mounts": array(
            record(
                {
                    "destination": not_empty,
                    "type": string,
                    "source": string,
                    "options": strings,
                    "uidMappings": _mappings,
                    "gidMappings": _mappings,
                },
                "destination",
            )
        ),
        "hostname": string,
        "domainname": string,
        "hooks": record(
            dict.fromkeys(
                (
                    "prestart",
                    "createRuntime",
                    "createContainer",
                    "startContainer",
                    "poststart",
                    "poststop",
                ),
                _hooks,
            )
        ),
        "annotations": texts,
        "linux": _linux,
    },
    "ociVersion",
    "root",
)


def _check_spec(document: Any) -> None:
    _spec(document)
    linux = document.get("linux") or {}
    own = {entry["type"] for entry in linux.get("namespaces") or ()}
    if "uts" not in own:
        for key in ("hostname", "domainname"):
            if document.get(key):
                raise Invalid("needs a uts namespace, or it would be the host's", key)
    if linux.get("timeOffsets") and "time" not in own:
        raise Invalid("needs a time namespace", "linux", "timeOffsets")
    for clock in linux.get("timeOffsets") or ():
        if clock not in ("monotonic", "boottime"):
            raise Invalid(f'unknown clock "{clock}"', "linux", "timeOffsets", clock)
    for key, value in (linux.get("sysctl") or {}).items():
        reason = _sysctl_reason(key, value, own)
        if reason:
            raise Invalid(reason, "linux", "sysctl", key)


_IPC_SYSCTLS = frozenset(
    f"kernel.{name}"
    for name in (
        *("auto_msgmni", "msg_next_id", "msgmax", "msgmnb", "msgmni", "sem", "sem_next_id"),
        *("shm_next_id", "shm_rmid_forced", "shmall", "shmmax", "shmmni"),
    )
)


def _sysctl_reason(key: str, value: str, own: set[str]) -> str:
    """Why a sysctl may not be set, or nothing: only those of the container's own namespaces (security case 24)."""
    # sysctl(8) takes both separators, the first one deciding; a name stays below /proc/sys in either.
    name = key
    if "/" in key and ("." not in key or key.index("/") < key.index(".")):
        name = key.translate({ord("/"): ".", ord("."): "/"})
    for part in name.split("."):
        if (
            not part
            or part in (".", "..", "/")
            or part.startswith("/")
            or part.endswith("/")
            or "/../" in part
        ):
            return "is not the name of a sysctl"
    if not all(character.isalnum() or character in "._-/:" for character in name):
        return "is not the name of a sysctl"
    if "\n" in value:
        return "its value is more than one line"
    if name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
        needed = "ipc"
    elif name.startswith("net."):
        needed = "network"
    elif name == "kernel.domainname":
        needed = "uts"
    elif name == "kernel.hostname":
        return "is set by hostname"
    elif name.startswith("user."):
        needed = "user"
    else:
        return "is the whole host's, and no namespace has its own"
    return "" if needed in own else f"needs a {needed} namespace, or it would be the host's"
