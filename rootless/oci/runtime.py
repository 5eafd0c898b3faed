"""config.json, the document of the runtime-spec: its types, and the check that names the field which breaks it.

Versions 1.0 to 1.2 (and what later ones add in the same major version). As the specification wants it, unknown fields
are left alone and invalid ones refused. What a field asks for is not judged here, but for what can never be given to an
unprivileged container. On the path of every start: the checks are plain functions over plain dicts, below 1 ms.
"""

from __future__ import annotations

from rootless import quickjson as json
from rootless.oci.document import BadDocument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NotRequired, TypedDict

    Check = Callable[[Any], None]

    class IDMapping(TypedDict):
        containerID: int
        hostID: int
        size: int

    class Root(TypedDict):
        path: str
        readonly: NotRequired[bool]

    class Mount(TypedDict):
        destination: str
        type: NotRequired[str]
        source: NotRequired[str]
        options: NotRequired[list[str]]
        uidMappings: NotRequired[list[IDMapping]]
        gidMappings: NotRequired[list[IDMapping]]

    class ConsoleSize(TypedDict):
        height: int
        width: int

    class User(TypedDict, total=False):
        uid: int
        gid: int
        umask: int
        additionalGids: list[int]
        username: str

    class Capabilities(TypedDict, total=False):
        bounding: list[str]
        effective: list[str]
        permitted: list[str]
        inheritable: list[str]
        ambient: list[str]

    class Rlimit(TypedDict):
        type: str
        soft: int
        hard: int

    class Scheduler(TypedDict):
        policy: str
        nice: NotRequired[int]
        priority: NotRequired[int]
        flags: NotRequired[list[str]]
        runtime: NotRequired[int]
        deadline: NotRequired[int]
        period: NotRequired[int]

    IOPriority = TypedDict("IOPriority", {"class": str, "priority": NotRequired[int]})

    class Process(TypedDict, total=False):
        terminal: bool
        consoleSize: ConsoleSize
        user: User
        args: list[str]
        env: list[str]
        cwd: str
        capabilities: Capabilities
        rlimits: list[Rlimit]
        noNewPrivileges: bool
        apparmorProfile: str
        selinuxLabel: str
        oomScoreAdj: int
        scheduler: Scheduler
        ioPriority: IOPriority
        execCPUAffinity: dict[str, str]

    class Hook(TypedDict):
        path: str
        args: NotRequired[list[str]]
        env: NotRequired[list[str]]
        timeout: NotRequired[int]

    class Hooks(TypedDict, total=False):
        prestart: list[Hook]
        createRuntime: list[Hook]
        createContainer: list[Hook]
        startContainer: list[Hook]
        poststart: list[Hook]
        poststop: list[Hook]

    class Namespace(TypedDict):
        type: str
        path: NotRequired[str]

    class Device(TypedDict):
        type: str
        path: str
        major: NotRequired[int]
        minor: NotRequired[int]
        fileMode: NotRequired[int]
        uid: NotRequired[int]
        gid: NotRequired[int]

    class Memory(TypedDict, total=False):
        limit: int
        reservation: int
        swap: int
        kernel: int
        kernelTCP: int
        swappiness: int
        disableOOMKiller: bool
        useHierarchy: bool
        checkBeforeUpdate: bool

    class CPU(TypedDict, total=False):
        shares: int
        quota: int
        burst: int
        period: int
        realtimeRuntime: int
        realtimePeriod: int
        cpus: str
        mems: str
        idle: int

    class BlockIO(TypedDict, total=False):
        weight: int
        leafWeight: int
        weightDevice: list[dict[str, int]]
        throttleReadBpsDevice: list[dict[str, int]]
        throttleWriteBpsDevice: list[dict[str, int]]
        throttleReadIOPSDevice: list[dict[str, int]]
        throttleWriteIOPSDevice: list[dict[str, int]]

    class Resources(TypedDict, total=False):
        devices: list[dict[str, Any]]
        memory: Memory
        cpu: CPU
        pids: dict[str, int]
        blockIO: BlockIO
        hugepageLimits: list[dict[str, Any]]
        network: dict[str, Any]
        rdma: dict[str, dict[str, int]]
        unified: dict[str, str]

    class Linux(TypedDict, total=False):
        namespaces: list[Namespace]
        uidMappings: list[IDMapping]
        gidMappings: list[IDMapping]
        timeOffsets: dict[str, dict[str, int]]
        devices: list[Device]
        cgroupsPath: str
        resources: Resources
        rootfsPropagation: str
        seccomp: dict[str, Any]
        sysctl: dict[str, str]
        maskedPaths: list[str]
        readonlyPaths: list[str]
        mountLabel: str
        personality: dict[str, Any]
        intelRdt: dict[str, Any]

    class Spec(TypedDict):
        ociVersion: str
        root: Root
        process: NotRequired[Process]
        mounts: NotRequired[list[Mount]]
        hostname: NotRequired[str]
        domainname: NotRequired[str]
        hooks: NotRequired[Hooks]
        annotations: NotRequired[dict[str, str]]
        linux: NotRequired[Linux]


class _Invalid(Exception):
    """A broken rule on its way up; each level puts its own key before the path."""

    def __init__(self, reason: str, *path: str | int) -> None:
        self.reason = reason
        self.path = list(path)


def parse_spec(data: bytes, what: str = "config.json") -> Spec:
    """Read and check a bundle's configuration; `what` names it in errors."""
    document: Spec = _parsed(data, _check_spec, what)
    return document


def parse_process(data: bytes, what: str = "process") -> Process:
    """Read and check the document of `exec --process`."""
    document: Process = _parsed(data, _process, what)
    return document


def parse_resources(data: bytes, what: str = "resources") -> Resources:
    """Read and check the document of `update --resources`."""
    document: Resources = _parsed(data, _resources, what)
    return document


def validate(document: Any, what: str = "config.json") -> None:
    """Raise BadDocument, which names the field, where a configuration breaks the specification."""
    _run(_check_spec, document, what)


def _parsed(data: bytes, check: Check, what: str) -> Any:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadDocument(f"{what}: not valid JSON: {error}") from None
    _run(check, document, what)
    return document


def _run(check: Check, document: Any, what: str) -> None:
    try:
        check(document)
    except _Invalid as error:
        path = ""
        for key in error.path:
            path += f"[{key}]" if isinstance(key, int) else f".{key}" if path else key
        raise BadDocument(": ".join(filter(None, (what, path, error.reason)))) from None


# kinds of values


def _kind(value: Any) -> str:
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        type(None): "null",
    }
    return names.get(type(value), "a number")


def _string(value: Any) -> None:
    if not isinstance(value, str):
        raise _Invalid(f"must be a string, not {_kind(value)}")
    if "\0" in value:
        raise _Invalid("contains a null byte, which the kernel cannot be given")


def _boolean(value: Any) -> None:
    if not isinstance(value, bool):
        raise _Invalid(f"must be a boolean, not {_kind(value)}")


def _absolute(value: Any) -> None:
    _string(value)
    if not value.startswith("/"):
        raise _Invalid(f'"{value}" is not an absolute path')


def _absolute_or_empty(value: Any) -> None:
    if value != "":
        _absolute(value)


def _not_empty(value: Any) -> None:
    _string(value)
    if not value:
        raise _Invalid("is empty")


def _integer(low: int, high: int) -> Check:
    def check(value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _Invalid(f"must be an integer, not {_kind(value)}")
        if not low <= value <= high:
            raise _Invalid(f"{value} is not between {low} and {high}")

    return check


def _one_of(thing: str, words: Sequence[str], prefix: str = "") -> Check:
    allowed = frozenset(prefix + word for word in words)

    def check(value: Any) -> None:
        _string(value)
        if value not in allowed:
            raise _Invalid(f'unknown {thing} "{value}"')

    return check


def _array(item: Check, *, unique: str = "") -> Check:
    """An array of `item`; with `unique`, no two of its objects agree in that field."""

    def check(value: Any) -> None:
        if not isinstance(value, list):
            raise _Invalid(f"must be an array, not {_kind(value)}")
        for index, entry in enumerate(value):
            try:
                item(entry)
            except _Invalid as error:
                error.path.insert(0, index)
                raise
        if unique:
            seen = set()
            for index, entry in enumerate(value):
                if entry[unique] in seen:
                    raise _Invalid(f'"{entry[unique]}" occurs twice', index, unique)
                seen.add(entry[unique])

    return check


def _strings(value: Any) -> None:
    # The long ones are seccomp's lists of names: one pass, and the slow way only to say what is wrong.
    if isinstance(value, list):
        for entry in value:
            if type(entry) is not str or "\0" in entry:
                break
        else:
            return
    _slow_strings(value)


def _map(item: Check) -> Check:
    def check(value: Any) -> None:
        if not isinstance(value, dict):
            raise _Invalid(f"must be an object, not {_kind(value)}")
        for key, entry in value.items():
            if not key:
                raise _Invalid("has an empty key")
            try:
                item(entry)
            except _Invalid as error:
                error.path.insert(0, key)
                raise

    return check


def _object(fields: dict[str, Check], *required: str) -> Check:
    """An object whose known fields are checked; null stands for a field that is not there, as in Go."""

    def check(value: Any) -> None:
        if not isinstance(value, dict):
            raise _Invalid(f"must be an object, not {_kind(value)}")
        for key in required:
            if value.get(key) is None:
                raise _Invalid("is missing", key)
        for key, entry in value.items():
            if entry is not None and key in fields:
                try:
                    fields[key](entry)
                except _Invalid as error:
                    error.path.insert(0, key)
                    raise

    return check


def _all(*checks: Check) -> Check:
    def check(value: Any) -> None:
        for one in checks:
            one(value)

    return check


_slow_strings = _array(_string)
_int32 = _integer(-(2**31), 2**31 - 1)
_int64 = _integer(-(2**63), 2**63 - 1)
_uint16 = _integer(0, 2**16 - 1)
_uint32 = _integer(0, 2**32 - 1)
_uint64 = _integer(0, 2**64 - 1)
# The id 2^32-1 is the kernel's "unchanged", so no id (security case 22).
_id = _integer(0, 2**32 - 2)
_texts = _map(_string)


# rules that one field alone does not show


def _version(value: Any) -> None:
    _string(value)
    parts = value.split("-")[0].split("+")[0].split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise _Invalid(f'"{value}" is not a version')
    if parts[0] != "1":
        raise _Invalid(f'version "{value}" of the runtime-spec is not supported, only 1.x')


def _cpu_list(value: Any) -> None:
    """The kernel's list format, cpuset(7): numbers and ranges between commas."""
    _string(value)
    for part in value.replace(" ", "").strip(",\n").split(",") if value.strip() else ():
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not (last.isdecimal() and int(first) <= int(last))):
            raise _Invalid(f'"{value}" is not a list of numbers and ranges')


def _args(value: Any) -> None:
    _strings(value)
    if not value:
        raise _Invalid("is empty")


def _rlimit(value: Any) -> None:
    if value["soft"] > value["hard"]:
        raise _Invalid(f"{value['soft']} is above the hard limit {value['hard']}", "soft")


def _device(value: Any) -> None:
    if value["type"] != "p":
        for key in ("major", "minor"):
            if value.get(key) is None:
                raise _Invalid("is missing", key)


def _hugepage_size(value: Any) -> None:
    _string(value)
    if value[-2:] not in ("KB", "MB", "GB") or not value[:-2].isdecimal() or value[0] == "0":
        raise _Invalid(f'"{value}" is not a size of pages, such as 2MB')


def _unified_key(value: Any) -> None:
    _texts(value)
    for key in value:
        if "/" in key or "." not in key:
            raise _Invalid(f'"{key}" is not the name of a control file', key)


def _access(value: Any) -> None:
    _string(value)
    if value.strip("rwm"):
        raise _Invalid(f'"{value}" is not made of r, w and m')


def _not_for_us(reason: str) -> Check:
    def check(value: Any) -> None:
        if value:
            raise _Invalid(reason)

    return check


_weight = _integer(0, 1000)
_device_number = {"major": _int64, "minor": _int64}
_throttle = _array(_object({**_device_number, "rate": _uint64}, "major", "minor", "rate"))
_resources = _object(
    {
        "devices": _array(
            _object(
                {
                    "allow": _boolean,
                    "type": _one_of("type of devices", ("", "a", "b", "c")),
                    "major": _int64,
                    "minor": _int64,
                    "access": _access,
                },
                "allow",
            )
        ),
        "memory": _object(
            {
                "limit": _int64,
                "reservation": _int64,
                "swap": _int64,
                "kernel": _int64,
                "kernelTCP": _int64,
                "swappiness": _integer(0, 100),
                "disableOOMKiller": _boolean,
                "useHierarchy": _boolean,
                "checkBeforeUpdate": _boolean,
            }
        ),
        "cpu": _object(
            {
                "shares": _uint64,
                "quota": _int64,
                "burst": _uint64,
                "period": _uint64,
                "realtimeRuntime": _int64,
                "realtimePeriod": _uint64,
                "cpus": _cpu_list,
                "mems": _cpu_list,
                "idle": _integer(0, 1),
            }
        ),
        "pids": _object({"limit": _int64}),
        "blockIO": _object(
            {
                "weight": _weight,
                "leafWeight": _weight,
                "weightDevice": _array(
                    _object(
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
        "hugepageLimits": _array(
            _object({"pageSize": _hugepage_size, "limit": _uint64}, "pageSize", "limit"),
            unique="pageSize",
        ),
        "network": _object(
            {
                "classID": _uint32,
                "priorities": _array(
                    _object({"name": _string, "priority": _uint32}, "name", "priority")
                ),
            }
        ),
        "rdma": _map(_object({"hcaHandles": _uint32, "hcaObjects": _uint32})),
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
_action = _one_of("action", _ACTIONS, "SCMP_ACT_")
_seccomp = _object(
    {
        "defaultAction": _action,
        "defaultErrnoRet": _uint16,
        "architectures": _strings,
        "flags": _array(
            _one_of(
                "flag", ("TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"), "SECCOMP_FILTER_FLAG_"
            )
        ),
        "listenerPath": _absolute_or_empty,
        "listenerMetadata": _string,
        "syscalls": _array(
            _object(
                {
                    "names": _args,
                    "action": _action,
                    "errnoRet": _uint16,
                    "args": _array(
                        _object(
                            {
                                "index": _integer(0, 5),
                                "value": _uint64,
                                "valueTwo": _uint64,
                                "op": _one_of(
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

_mapping = _object(
    {"containerID": _id, "hostID": _id, "size": _integer(1, 2**32 - 1)},
    "containerID",
    "hostID",
    "size",
)
_mappings = _array(_mapping)
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
_linux = _object(
    {
        "namespaces": _array(
            _object({"type": _one_of("namespace", NAMESPACES), "path": _string}, "type"),
            unique="type",
        ),
        "uidMappings": _mappings,
        "gidMappings": _mappings,
        "timeOffsets": _map(_object({"secs": _int64, "nanosecs": _integer(0, 999_999_999)})),
        "devices": _array(
            _all(
                _object(
                    {
                        "type": _one_of("type of device", ("b", "c", "p", "u")),
                        "path": _absolute,
                        "major": _int64,
                        "minor": _int64,
                        "fileMode": _integer(0, 0o177777),
                        "uid": _id,
                        "gid": _id,
                    },
                    "type",
                    "path",
                ),
                _device,
            )
        ),
        "cgroupsPath": _string,
        "resources": _resources,
        "rootfsPropagation": _one_of("propagation", _PROPAGATION),
        "seccomp": _seccomp,
        "sysctl": _texts,
        "maskedPaths": _array(_absolute),
        "readonlyPaths": _array(_absolute),
        "mountLabel": _string,
        "personality": _object(
            {
                "domain": _one_of("execution domain", ("LINUX", "LINUX32")),
                "flags": _not_for_us("flags are not supported, as the specification names none"),
            },
            "domain",
        ),
        "intelRdt": _not_for_us("resctrl is for the host's root alone"),
        "netDevices": _not_for_us(
            "moving a device of the host's network is for the host's root alone"
        ),
    }
)

_environment = _array(_string)
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
_process = _object(
    {
        "terminal": _boolean,
        "consoleSize": _object({"height": _uint64, "width": _uint64}, "height", "width"),
        "user": _object(
            {
                "uid": _id,
                "gid": _id,
                "umask": _integer(0, 0o777),
                "additionalGids": _array(_id),
                "username": _string,
            }
        ),
        "args": _args,
        "env": _environment,
        "cwd": _absolute,
        "capabilities": _object(
            dict.fromkeys(
                ("bounding", "effective", "permitted", "inheritable", "ambient"), _strings
            )
        ),
        "rlimits": _array(
            _all(
                _object(
                    {
                        "type": _one_of("limit", _RLIMITS, "RLIMIT_"),
                        "soft": _uint64,
                        "hard": _uint64,
                    },
                    "type",
                    "soft",
                    "hard",
                ),
                _rlimit,
            ),
            unique="type",
        ),
        "noNewPrivileges": _boolean,
        "apparmorProfile": _string,
        "selinuxLabel": _string,
        "oomScoreAdj": _integer(-1000, 1000),
        "scheduler": _object(
            {
                "policy": _one_of(
                    "policy", ("OTHER", "FIFO", "RR", "BATCH", "ISO", "IDLE", "DEADLINE"), "SCHED_"
                ),
                "nice": _integer(-20, 19),
                "priority": _int32,
                "flags": _array(
                    _one_of(
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
                "runtime": _uint64,
                "deadline": _uint64,
                "period": _uint64,
            },
            "policy",
        ),
        "ioPriority": _object(
            {
                "class": _one_of("class", ("RT", "BE", "IDLE"), "IOPRIO_CLASS_"),
                "priority": _integer(0, 7),
            },
            "class",
        ),
        "execCPUAffinity": _object({"initial": _cpu_list, "final": _cpu_list}),
    },
    "args",
    "cwd",
)

_hooks = _array(
    _object(
        {
            "path": _absolute,
            "args": _strings,
            "env": _environment,
            "timeout": _integer(1, 2**31 - 1),
        },
        "path",
    )
)
_spec = _object(
    {
        "ociVersion": _version,
        "root": _object({"path": _not_empty, "readonly": _boolean}, "path"),
        "process": _process,
        "mounts": _array(
            _object(
                {
                    "destination": _not_empty,
                    "type": _string,
                    "source": _string,
                    "options": _strings,
                    "uidMappings": _mappings,
                    "gidMappings": _mappings,
                },
                "destination",
            )
        ),
        "hostname": _string,
        "domainname": _string,
        "hooks": _object(
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
        "annotations": _texts,
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
                raise _Invalid("needs a uts namespace, or it would be the host's", key)
    if linux.get("timeOffsets") and "time" not in own:
        raise _Invalid("needs a time namespace", "linux", "timeOffsets")
    for clock in linux.get("timeOffsets") or ():
        if clock not in ("monotonic", "boottime"):
            raise _Invalid(f'unknown clock "{clock}"', "linux", "timeOffsets", clock)
    for key, value in (linux.get("sysctl") or {}).items():
        reason = _sysctl_reason(key, value, own)
        if reason:
            raise _Invalid(reason, "linux", "sysctl", key)


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
