"""What was asked of a container: every option of `create` and `run`, read, checked and kept.

One of the three forms of a container: this is what the user said, the record says what is kept, `spec` makes what the
kernel is told. Every attribute is a plain JSON value, and a container's record holds those that differ from the default.
Words of errors are Podman's; the exit status is 125. Lean: on `run`'s path.
"""

from __future__ import annotations

import os
import sys

from rootless.container import env as environment
from rootless.container import mounts as mount_options
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from rootless.cli.table import Invocation
    from rootless.container.mounts import Mount

#: Options that cannot be honoured yet or here: option -> reason and remedy. Work that makes one possible takes its line
#: away. An option with an empty or false value passes.
UNSUPPORTED: dict[str, str] = {
    "pod": "pods are not available in this version",
    "pod_id_file": "pods are not available in this version",
    "init_ctr": "pods are not available in this version",
    "secret": "secrets are not available in this version; mount a file with -v FILE:/run/secrets/NAME:ro",
    "decryption_key": "encrypted images are not available in this version",
    "rdt_class": "cache allocation (resctrl) needs host root; run as root with another engine",
    "seccomp_policy=image": "a profile from an image is not trusted; give the file with --security-opt seccomp=FILE",
    "cpu_rt_period": "realtime CPU limits exist with cgroup v1 only, which cannot be delegated to a user",
    "cpu_rt_runtime": "realtime CPU limits exist with cgroup v1 only, which cannot be delegated to a user",
    "oom_kill_disable": "cgroup v2 has no such switch; leave it out, or raise --memory",
    "memory_swappiness": "swappiness exists with cgroup v1 only, which cannot be delegated to a user",
    "device_cgroup_rule": "device cgroup rules are not supported in rootless mode or in a user namespace",
    "gpus": "CDI devices are not available in this version; give the nodes with --device",
}

_HEALTH_NS = 30 * 10**9
_HEALTH_RETRIES = 3
_MODES = ("host", "private")
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_UNITS = {
    "ns": 1,
    "us": 1000,
    "µs": 1000,
    "μs": 1000,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
ULIMITS = (
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
)  # fmt: skip


def parse_size(text: str) -> int:
    """Read a number of bytes: 10m, 1.5g, 64KiB; units are powers of 1024."""
    rest = text.lower().strip()
    digits = rest.rstrip("bikmgtp ")
    unit = rest[len(digits) :].lstrip(" ")
    unit = unit.removesuffix("b").removesuffix("i") if unit != "i" else "?"
    try:
        plain = digits.replace(".", "", 1)
        if not plain.isascii() or not plain.isdigit() or digits.startswith("."):
            raise KeyError
        return int(float(digits) * _SIZES[unit])
    except KeyError:
        raise Usage(f"invalid size: '{text}'") from None


def parse_duration(text: str) -> int:
    """Read a duration of Go's, in nanoseconds: 30s, 1m30s, 1.5h."""
    rest, total = text, 0.0
    negative = rest[:1] == "-"
    rest = rest.lstrip("+-") if rest[:1] in ("+", "-") else rest
    if rest == "0":
        return 0
    if not rest:
        raise Usage(f'time: invalid duration "{text}"')
    while rest:
        digits = 0
        while digits < len(rest) and (rest[digits] in "0123456789."):
            digits += 1
        letters = digits
        while letters < len(rest) and rest[letters] not in "0123456789.":
            letters += 1
        number, unit = rest[:digits], rest[digits:letters]
        if not number.strip(".") or number.count(".") > 1:
            raise Usage(f'time: invalid duration "{text}"')
        if not unit:
            raise Usage(f'time: missing unit in duration "{text}"')
        if unit not in _UNITS:
            raise Usage(f'time: unknown unit "{unit}" in duration "{text}"')
        total += float(number) * _UNITS[unit]
        rest = rest[letters:]
    return int(-total if negative else total)


def parse_signal(text: str) -> int:
    """Read a signal: a number, TERM, SIGTERM, RTMIN+3."""
    from rootless.linux import signals

    return signals.parse(text)


def parse_uint(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise Usage(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    return int(text)


def parse_restart(text: str) -> tuple[str, int]:
    """Read `--restart POLICY[:TRIES]`."""
    policy, colon, tries = text.partition(":")
    if policy not in ("", "no", "never", "always", "on-failure", "unless-stopped"):
        raise Usage(
            f'running container create option: "{policy}" is not a valid restart policy: invalid argument'
        )
    if not colon:
        return ("no" if policy in ("", "never") else policy), 0
    if policy != "on-failure":
        raise Usage("restart policy retries can only be specified with on-failure restart policy")
    if not tries.isascii() or not tries.isdigit():
        raise Usage(
            f'parsing restart policy retry count: strconv.Atoi: parsing "{tries}": invalid syntax'
        )
    return policy, int(tries)


def parse_ulimit(text: str) -> tuple[str, int, int]:
    """Read `--ulimit NAME=SOFT[:HARD]`; -1 is no limit."""

    def wrong(why: str) -> Usage:
        return Usage(f'ulimit option "{text}" requires name=SOFT:HARD, failed to be parsed: {why}')

    name, equals, rest = text.partition("=")
    if not equals:
        raise wrong(f"invalid ulimit argument: {text}")
    name = name.lower().removeprefix("rlimit_")
    if name not in ULIMITS:
        raise wrong(f"invalid ulimit type: {text.partition('=')[0]}")
    parts = rest.split(":")
    if len(parts) > 2:
        raise wrong(
            f"too many limit value arguments - {rest}, can only have up to two, `soft[:hard]`"
        )
    values = []
    for part in parts:
        if part != "-1" and not (part.isascii() and part.isdigit()):
            raise wrong(f'strconv.ParseInt: parsing "{part}": invalid syntax')
        values.append(int(part))
    soft, hard = values[0], values[-1]
    if hard != -1 and (soft > hard or soft == -1):
        raise wrong(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return name, soft, hard


def _port_range(text: str, what: str) -> tuple[int, int]:
    """The first port and how many, of `80` or `80-89`."""
    first, dash, last = text.partition("-")
    numbers = []
    for word in (first, last) if dash else (first,):
        digits = word[1:] if word[:1] in ("-", "+") else word
        if not digits.isascii() or not digits.isdigit():
            raise Usage(
                f'parsing {what} port: invalid port number: strconv.Atoi: parsing "{word}": invalid syntax'
            )
        value = int(word)
        if not 0 < value < 65536:
            raise Usage(
                f"parsing {what} port: port numbers must be between 1 and 65535 (inclusive), got {value}"
            )
        numbers.append(value)
    if dash and numbers[1] < numbers[0]:
        raise Usage(
            f"parsing {what} port: end port {numbers[1]} is less than start port {numbers[0]}"
        )
    return numbers[0], numbers[-1] - numbers[0] + 1


def _protocols(text: str) -> list[str]:
    found = []
    for word in text.split(","):
        if word.lower() not in ("tcp", "udp", "sctp"):
            raise Usage(f'unrecognized protocol "{word}" in port mapping')
        found.append(word.lower())
    return found


def is_address(text: str, *, allow_v6: bool = True) -> bool:
    """Whether it is an IP address."""
    import _socket

    for family in (_socket.AF_INET, _socket.AF_INET6) if allow_v6 else (_socket.AF_INET,):
        try:
            _socket.inet_pton(family, text)
            return True
        except (OSError, ValueError):
            continue
    return False


def parse_publish(text: str) -> list[dict[str, Any]]:
    """Read `-p [[IP:][HOSTPORT]:]PORT[/PROTOCOL]`; a host port of 0 is to be chosen."""
    body, slash, kinds = text.partition("/")
    protocols = _protocols(kinds) if slash else ["tcp"]
    address = host = ""
    if body.startswith("["):
        address, bracket, body = body[1:].partition("]")
        if not bracket or not body.startswith(":"):
            raise Usage("invalid port format - format is [[hostIP:]hostPort:]containerPort")
        parts = body[1:].split(":")
        if len(parts) not in (1, 2):
            raise Usage("invalid port format - format is [[hostIP:]hostPort:]containerPort")
        host, container = (parts[0], parts[1]) if len(parts) == 2 else ("", parts[0])
    else:
        parts = body.split(":")
        if len(parts) > 3:
            raise Usage("invalid port format - format is [[hostIP:]hostPort:]containerPort")
        container = parts[-1]
        host = parts[-2] if len(parts) > 1 else ""
        address = parts[0] if len(parts) == 3 else ""
    if address and not is_address(address):
        raise Usage(f'cannot parse "{address}" as an IP address')
    first, count = _port_range(container, "container")
    host_first = 0
    if host and host != "0":
        host_first, host_count = _port_range(host, "host")
        if host_count != count:
            raise Usage(
                f"host and container port ranges have different lengths: {host_count} vs {count}"
            )
    return [
        {
            "host_ip": address,
            "host_port": host_first,
            "container_port": first,
            "range": count,
            "protocol": protocol,
        }
        for protocol in protocols
    ]


def parse_expose(text: str) -> list[str]:
    """Read `--expose PORT[-PORT][/PROTOCOL]` as the image's ExposedPorts are written: 80/tcp."""
    body, slash, kind = text.partition("/")
    first, dash, last = body.partition("-")
    ends = []
    for word in (first, last) if dash else (first,):
        if not word.isascii() or not word.isdigit():
            raise Usage(
                f'invalid range format for --expose: {body}: strconv.ParseUint: parsing "{word}": invalid syntax'
            )
        if not 0 < int(word) < 65536:
            raise Usage(f"invalid range format for --expose: {body}: port out of range")
        ends.append(int(word))
    if ends[-1] < ends[0]:
        raise Usage(f"invalid range format for --expose: {body}")
    if slash and kind.lower() not in ("tcp", "udp", "sctp"):
        raise Usage(
            f'validating protocols for exposed port {ends[0]}: unrecognized protocol "{kind}" in port mapping'
        )
    return [f"{port}/{kind.lower() or 'tcp'}" for port in range(ends[0], ends[-1] + 1)]


def _namespace(text: str, *, also: tuple[str, ...] = ()) -> str:
    """Check a namespace mode: host, private, container:NAME, ns:PATH, and what else this one has."""
    if text in ("", "default"):
        return ""
    kind, colon, value = text.partition(":")
    if not colon and text in (*_MODES, *also):
        return text
    if not colon and kind == "pod":
        raise Usage(f"cannot join the namespaces of a pod: {UNSUPPORTED['pod']}")
    if kind in ("container", "ns") and colon:
        if not value:
            raise Usage(f"invalid config provided: namespace mode {kind} requires a value")
        return text
    raise Usage(f"unrecognized namespace mode {text} passed")


def _userns(text: str) -> str:
    """Check `--userns`: host, nomap, keep-id[:…], auto[:…], private, container:NAME, ns:PATH."""
    kind, colon, rest = text.partition(":")
    if kind == "keep-id" and colon:
        for word in rest.split(","):
            name, _, value = word.partition("=")
            if name not in ("uid", "gid", "size"):
                raise Usage(f'unknown option specified: "{name}"')
            parse_uint(value)
        return text
    if kind == "auto" and colon:
        for word in rest.split(","):
            name, _, value = word.partition("=")
            if name == "size":
                parse_uint(value)
            elif name not in ("uidmapping", "gidmapping"):
                raise Usage(f'unknown option specified: "{name}"')
        return text
    return _namespace(text, also=("keep-id", "nomap", "auto"))


def keep_id(userns: str) -> dict[str, int]:
    """The uid, gid and size that `--userns keep-id:…` names."""
    found = {}
    for word in userns.partition(":")[2].split(","):
        name, _, value = word.partition("=")
        if name:
            found[name] = int(value)
    return found


_NETWORK_MODES = ("host", "none", "private", "bridge", "pasta", "slirp4netns", "default")


def parse_networks(words: list[str]) -> tuple[str, list[str], dict[str, dict[str, str]]]:
    """Read `--network`: the mode, the helper's options, and the networks of mode bridge with their options."""
    mode, helper, networks = "", [], {}
    for position, word in enumerate(words):
        kind, colon, rest = word.partition(":")
        if word == "" or kind in _NETWORK_MODES or kind in ("ns", "container"):
            if position:
                if mode != "bridge":
                    raise Usage(
                        "cannot set multiple networks without bridge network mode, "
                        f"selected mode {mode or 'private'}: invalid argument"
                    )
                raise Usage(
                    f"can only set extra network names, selected mode {kind} conflicts with bridge: invalid argument"
                )
            if kind in ("host", "none", "private", "default") and colon:
                raise Usage(f'network mode "{kind}" takes no options')
            if kind in ("ns", "container"):
                mode = _namespace(word)
            elif kind == "bridge":
                mode = "bridge"
                if colon:
                    networks["default"] = _network_options(rest)
            else:
                mode = "" if kind in ("private", "default") else kind
                helper = rest.split(",") if colon and rest else []
            continue
        if position and mode != "bridge":
            raise Usage(
                "cannot set multiple networks without bridge network mode, "
                f"selected mode {mode or 'private'}: invalid argument"
            )
        mode = "bridge"
        if colon:
            networks[_network_name(kind)] = _network_options(rest)
        else:
            for name in word.split(","):
                networks[_network_name(name)] = {}
    return mode, helper, networks


def _network_name(name: str) -> str:
    if not mount_options.is_name(name):
        raise Usage(f"unable to find network with name or ID {name}: network not found")
    return name


def _network_options(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in text.split(","):
        name, equals, value = word.partition("=")
        if name in ("ip", "ip6"):
            if not is_address(value):
                raise Usage(f"invalid ip address {value}")
        elif name == "mac":
            _mac(value)
        elif name not in ("alias", "interface_name", "host_interface_name"):
            if not equals or not name:
                raise Usage(f'invalid network option "{word}"')
        if name == "alias" and "alias" in found:
            found[name] += "," + value
        else:
            found[name] = value
    return found


def _mac(text: str) -> str:
    parts = text.replace("-", ":").split(":")
    if len(parts) != 6 or any(
        len(p) != 2 or any(c not in "0123456789abcdefABCDEF" for c in p) for p in parts
    ):
        raise Usage(f"address {text}: invalid MAC address")
    return ":".join(parts).lower()


# Not from `stat`, whose import costs more than this.
_S_IFMT, _S_IFCHR, _S_IFBLK, _S_IFDIR = 0o170000, 0o020000, 0o060000, 0o040000
_DEVICE_CHARACTERS = frozenset("rwm")


def parse_device(text: str) -> dict[str, str]:
    """Read `--device HOST[:CONTAINER[:PERMISSIONS]]`."""
    parts = text.split(":")
    if len(parts) > 3:
        raise Usage(f"invalid device specification: {text}")
    source = parts[0]
    target, permissions = source, "rwm"
    if len(parts) == 3:
        target, permissions = parts[1] or source, parts[2]
    elif len(parts) == 2:
        if parts[1].startswith("/"):
            target = parts[1]
        else:
            permissions = parts[1]
    if (
        not permissions
        or not _DEVICE_CHARACTERS.issuperset(permissions)
        or len(set(permissions)) != len(permissions)
    ):
        raise Usage(f"invalid device mode: {permissions}")
    return {"source": source, "path": os.path.normpath(target), "permissions": permissions}


def _device_nodes(device: dict[str, str]) -> list[dict[str, str]]:
    """The device itself, or all those in a folder of devices."""
    source, target = device["source"], device["path"]
    try:
        mode = os.stat(source).st_mode
    except OSError as error:
        raise Usage(f"stat {source}: {(error.strerror or '').lower()}") from None
    if not target.startswith("/"):
        raise Usage(f"invalid device path in the container: {target}")
    if "w" not in device["permissions"] or "r" not in device["permissions"]:
        # There is no cgroup of devices to enforce it, and Podman would give both.
        raise Usage(
            f"--device {source}: access cannot be restricted to {device['permissions']} for a user's container",
            hint="give rwm, or a node whose own mode restricts you",
        )
    if mode & _S_IFMT != _S_IFDIR:
        if mode & _S_IFMT not in (_S_IFCHR, _S_IFBLK):
            raise Usage(f"{source}: not a device node")
        return [device]
    found = []
    for folder, _, names in os.walk(source):
        for name in sorted(names):
            path = f"{folder}/{name}"
            try:
                mode = os.stat(path).st_mode
            except OSError:
                continue
            if mode & _S_IFMT in (_S_IFCHR, _S_IFBLK):
                place = os.path.normpath(target + path[len(source) :])
                found.append({**device, "source": path, "path": place})
    if not found:
        raise Usage(f"{source}: no device nodes in it")
    return found


def is_cdi_device(text: str) -> bool:
    """Whether it is a CDI name: vendor.com/class=device."""
    vendor, slash, rest = text.partition("/")
    return bool(vendor and slash and "=" in rest and not text.startswith("/") and ":" not in vendor)


def _device_rate(text: str, *, is_size: bool) -> tuple[str, int]:
    """Read `/dev/x:RATE`."""
    path, colon, rate = text.partition(":")
    if not colon or not path:
        raise Usage(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise Usage(f"bad format for device path: {text}")
    unit = "<number>[<unit>]" if is_size else "<number>"
    wrong = f"invalid rate for device: {text}. The correct format is <device-path>:{unit}. Number must be a positive integer"
    if is_size:
        wrong += ". Unit is optional and can be kb, mb, or gb"
        try:
            value = parse_size(rate)
        except Usage:
            raise Usage(wrong) from None
    elif rate.isascii() and rate.isdigit():
        value = int(rate)
    else:
        raise Usage(wrong)
    return path, value


# Sysctls that belong to a namespace, and which (sysctl(8), namespaces(7)); anything else would be the host's.
_IPC_SYSCTLS = (
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
)
_UTS_SYSCTLS = ("kernel.domainname",)  # the other one is --hostname
_SYSCTL_CHARACTERS = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:"
)


def sysctl_namespace(name: str) -> str:
    """The kind of namespace that a sysctl belongs to, "" where it is the host's."""
    if name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
        return "ipc"
    if name in _UTS_SYSCTLS:
        return "uts"
    if name.startswith("net.") and len(name) > 4:
        return "network"
    return ""


def parse_sysctl(text: str) -> tuple[str, str]:
    """Read `--sysctl NAME=VALUE`; only what a namespace owns, and one setting only (security case 24)."""
    name, equals, value = text.partition("=")
    name, value = name.strip(), value.strip()
    if not equals:
        raise Usage(f"{text} is invalid, sysctl values must be in the form of KEY=VALUE")
    # sysctl(8) takes both separators; with slashes first, dots are part of a name: net/ipv4/conf/eth0.1/forwarding.
    if "/" in name and ("." not in name or name.index("/") < name.index(".")):
        name = name.replace(".", "\0").replace("/", ".").replace("\0", "/")
    if (
        not _SYSCTL_CHARACTERS.issuperset(name)
        or ".." in name
        or "//" in name
        or not sysctl_namespace(name)
    ):
        raise Usage(f"sysctl '{name}' is not allowed")
    if any(ord(c) < 32 and c != "\t" for c in value) or "+" in value:
        raise Usage(f"sysctl '{name}' is not allowed: bad character in its value")
    return name, value


PERSONALITIES = ("LINUX", "LINUX32")


_DEFAULTS: dict[str, Any] = {
    # what to run
    "image": "", "rootfs": False, "rootfs_overlay": False, "command": [], "entrypoint": None, "create_command": [],
    "create_folder": "",
    "arch": "", "os": "", "variant": "", "pull": "missing", "authfile": "", "tls_verify": None, "quiet": False,
    "retry": None, "retry_delay": "", "decryption_key": [],
    # names and records
    "name": "", "replace": False, "labels": {}, "annotations": {}, "cidfile": "", "pidfile": "", "conmon_pidfile": "",
    "requires": [], "pod": "", "rm": False, "rmi": False, "init_ctr": "",
    # process
    "env": {}, "env_host": False, "env_merge": {}, "unsetenv": [], "unsetenv_all": False, "http_proxy": True,
    "user": "", "group_add": [], "keep_groups": False, "passwd": True, "passwd_entry": "", "group_entry": "",
    "hostuser": [], "workdir": "", "umask": "0022", "ulimits": [], "ulimit_host": False, "oom_score_adj": None,
    "personality": "", "init": False, "init_path": "", "systemd": "true", "tz": "", "stop_signal": None,
    "stop_timeout": 10, "timeout": 0, "preserve_fds": 0, "preserve_fd": [], "chrootdirs": [], "sdnotify": "container",
    # terminal
    "tty": False, "interactive": False, "attach": [], "detach": False, "detach_keys": None, "sig_proxy": True,
    # security
    "privileged": False, "cap_add": [], "cap_drop": [], "seccomp": "", "no_new_privileges": False, "apparmor": "",
    "label_options": [], "mask": [], "unmask": [], "proc_options": [], "security_opt": [], "seccomp_policy": "default",
    # namespaces
    "pid": "", "ipc": "", "uts": "", "cgroupns": "", "userns": "", "uidmap": [], "gidmap": [], "subuidname": "",
    "subgidname": "", "hostname": "", "no_hostname": False, "sysctl": {},
    # network
    "network": "", "network_options": [], "networks": {}, "network_alias": [], "publish": [], "publish_all": False,
    "expose": [], "ip": "", "ip6": "", "mac_address": "", "dns": [], "dns_option": [], "dns_search": [],
    "add_host": [], "no_hosts": False, "hosts_file": "",
    # files
    "mounts": [], "volumes_from": [], "image_volume": "anonymous", "devices": [], "cdi_devices": [],
    "read_only": False, "read_only_tmpfs": True, "shm_size": 65536000, "shm_size_systemd": None,
    # limits
    "cgroups": "enabled", "cgroup_parent": "", "cgroup_conf": {}, "memory": 0, "memory_reservation": 0,
    "memory_swap": None, "pids_limit": None, "cpu_shares": 0, "cpu_period": 0, "cpu_quota": 0, "cpus": 0.0,
    "cpuset_cpus": "", "cpuset_mems": "", "blkio_weight": 0, "blkio_weight_device": {}, "device_read_bps": {},
    "device_read_iops": {}, "device_write_bps": {}, "device_write_iops": {},
    # life
    "restart": "no", "restart_tries": 0, "log_driver": "", "log_path": "", "log_size": 0,
    "log_tag": "", "health": None, "health_startup": None, "health_on_failure": "none",
    "health_log_destination": "local", "health_max_log_count": 5, "health_max_log_size": 500,
}  # fmt: skip


class CreateOptions:
    """All that `create` and `run` can say about a container. Attributes not given hold Podman's defaults."""

    __slots__ = (*_DEFAULTS, "given")

    #: The options that were given, as against left to their defaults; known only while a command line is at hand
    given: frozenset[str]

    image: str
    rootfs: bool
    rootfs_overlay: bool
    command: list[str]
    entrypoint: list[str] | None
    create_command: list[str]
    create_folder: str
    arch: str
    os: str
    variant: str
    pull: str
    authfile: str
    tls_verify: bool | None
    quiet: bool
    retry: int | None
    retry_delay: str
    decryption_key: list[str]

    name: str
    replace: bool
    labels: dict[str, str]
    annotations: dict[str, str]
    cidfile: str
    pidfile: str
    conmon_pidfile: str
    requires: list[str]
    pod: str
    rm: bool
    rmi: bool
    init_ctr: str

    env: dict[str, str]
    env_host: bool
    env_merge: dict[str, str]
    unsetenv: list[str]
    unsetenv_all: bool
    http_proxy: bool
    user: str
    group_add: list[str]
    keep_groups: bool
    passwd: bool
    passwd_entry: str
    group_entry: str
    hostuser: list[str]
    workdir: str
    umask: str
    #: (name, soft, hard), -1 for no limit
    ulimits: list[tuple[str, int, int]]
    ulimit_host: bool
    oom_score_adj: int | None
    personality: str
    init: bool
    init_path: str
    systemd: str
    tz: str
    stop_signal: int | None
    stop_timeout: int
    timeout: int
    preserve_fds: int
    preserve_fd: list[int]
    chrootdirs: list[str]
    sdnotify: str

    tty: bool
    interactive: bool
    attach: list[str]
    detach: bool
    detach_keys: str | None
    sig_proxy: bool

    privileged: bool
    cap_add: list[str]
    cap_drop: list[str]
    #: "" is the engine's profile, else "unconfined" or a file
    seccomp: str
    no_new_privileges: bool
    apparmor: str
    label_options: list[str]
    mask: list[str]
    unmask: list[str]
    proc_options: list[str]
    security_opt: list[str]
    seccomp_policy: str

    #: namespace modes: "" is the default, else host, private, container:NAME, ns:PATH …
    pid: str
    ipc: str
    uts: str
    cgroupns: str
    userns: str
    uidmap: list[str]
    gidmap: list[str]
    subuidname: str
    subgidname: str
    hostname: str
    no_hostname: bool
    sysctl: dict[str, str]

    #: "" is the default (pasta), else host, none, bridge, pasta, slirp4netns, container:NAME, ns:PATH
    network: str
    network_options: list[str]
    networks: dict[str, dict[str, str]]
    network_alias: list[str]
    publish: list[dict[str, Any]]
    publish_all: bool
    expose: list[str]
    ip: str
    ip6: str
    mac_address: str
    dns: list[str]
    dns_option: list[str]
    dns_search: list[str]
    add_host: list[str]
    no_hosts: bool
    hosts_file: str

    mounts: list[Mount]
    volumes_from: list[tuple[str, list[str]]]
    image_volume: str
    devices: list[dict[str, str]]
    cdi_devices: list[str]
    read_only: bool
    read_only_tmpfs: bool
    shm_size: int
    shm_size_systemd: int | None

    cgroups: str
    cgroup_parent: str
    cgroup_conf: dict[str, str]
    memory: int
    memory_reservation: int
    memory_swap: int | None
    pids_limit: int | None
    cpu_shares: int
    cpu_period: int
    cpu_quota: int
    cpus: float
    cpuset_cpus: str
    cpuset_mems: str
    blkio_weight: int
    blkio_weight_device: dict[str, int]
    device_read_bps: dict[str, int]
    device_read_iops: dict[str, int]
    device_write_bps: dict[str, int]
    device_write_iops: dict[str, int]

    restart: str
    restart_tries: int
    log_driver: str
    log_path: str
    log_size: int
    log_tag: str
    #: image-spec's Healthcheck, durations in nanoseconds; None leaves the image's
    health: dict[str, Any] | None
    health_startup: dict[str, Any] | None
    health_on_failure: str
    health_log_destination: str
    health_max_log_count: int
    health_max_log_size: int

    def __init__(self) -> None:
        self.given = frozenset()
        for name, value in _DEFAULTS.items():
            kind = type(value)
            setattr(self, name, value.copy() if kind is list or kind is dict else value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CreateOptions) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return id(self)

    def to_json(self) -> dict[str, Any]:
        """What differs from the defaults."""
        found = {}
        for name, default in _DEFAULTS.items():
            value = getattr(self, name)
            if value != default:
                found[name] = value
        return found

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> CreateOptions:
        """Read a record; a name that this version does not know is passed over."""
        options = cls()
        for name, value in document.items():
            if name in _DEFAULTS:
                setattr(options, name, value)
        options.ulimits = [(name, soft, hard) for name, soft, hard in options.ulimits]
        options.volumes_from = [(name, words) for name, words in options.volumes_from]
        return options

    @classmethod
    def from_invocation(cls, invocation: Invocation) -> CreateOptions:
        """Read a command line. Only what was given counts: the defaults are this module's."""
        flags = {n: v for n, v in invocation.options.items() if invocation.given(n)}
        options = cls.from_flags(flags, invocation.args)
        options.create_command = ["rootless", *sys.argv[1:]]
        try:
            options.create_folder = os.getcwd()
        except FileNotFoundError:
            pass  # removed; then nothing relative was meant from it
        return options

    @classmethod
    def from_flags(
        cls,
        flags: Mapping[str, Any],
        args: list[str],
        *,
        host_env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> CreateOptions:
        """Read the options that were given, by long name, and IMAGE [COMMAND [ARG...]]."""
        return _Reader(
            {name.replace("-", "_"): value for name, value in flags.items()},
            os.environ if host_env is None else host_env,
            os.getcwd if cwd is None else lambda: cwd,
        ).read(cls(), args)


def _refuse(name: str, reason: str) -> Usage:
    option, equals, value = name.partition("=")
    return Usage(f"--{option.replace('_', '-')}{equals}{value}: {reason}")


class _Reader:
    """One command line being read into one CreateOptions."""

    __slots__ = ("cwd", "flags", "host_env", "options")

    def __init__(
        self, flags: dict[str, Any], host_env: Mapping[str, str], cwd: Callable[[], str]
    ) -> None:
        self.flags = flags
        self.host_env = host_env
        self.cwd = cwd

    def text(self, name: str) -> str:
        value: str = self.flags.get(name) or ""
        return value

    def words(self, name: str) -> list[str]:
        value = self.flags.get(name) or []
        return [value] if isinstance(value, str) else list(value)

    def pairs(self, name: str, wrong: str) -> dict[str, str]:
        found = {}
        for word in self.words(name):
            key, equals, value = word.partition("=")
            if not equals:
                raise Usage(wrong.replace("WORD", word))
            found[key] = value
        return found

    def read(self, o: CreateOptions, args: list[str]) -> CreateOptions:
        flags = self.flags
        self.options = o
        o.given = frozenset(flags)
        for name in _PLAIN:
            if name in flags and flags[name] is not None:
                setattr(o, name, flags[name])
        for name in _WORDS:
            if flags.get(name):
                setattr(o, name, self.words(name))
        if args:
            o.image, o.command = args[0], list(args[1:])
        self._process(o)
        self._security(o)
        self._namespaces(o)
        self._network(o)
        self._files(o)
        self._limits(o)
        self._life(o)
        self._refuse()
        return o

    def _refuse(self) -> None:
        """Refuse what cannot be honoured; last, so that a mistake is told as one."""
        for name, value in self.flags.items():
            if not value or value == -1:  # --memory-swappiness=-1 asks for nothing
                continue
            reason = UNSUPPORTED.get(name)
            if reason is None and isinstance(value, str):
                name = f"{name}={value}"
                reason = UNSUPPORTED.get(name)
            if reason is not None:
                raise _refuse(name, reason)

    def _process(self, o: CreateOptions) -> None:
        text, flags = self.text, self.flags
        if o.rootfs and o.image.endswith(":O"):
            o.image, o.rootfs_overlay = o.image[:-2], True
        if o.rootfs and o.image:
            o.image = os.path.normpath(os.path.join(self.cwd(), o.image))
            try:
                os.stat(o.image)
            except OSError as error:
                raise Usage(
                    f"running container create option: faccessat {o.image}: {(error.strerror or '').lower()}"
                ) from None
        platform = text("platform")
        if platform:
            if o.arch or o.os or o.variant:
                raise Usage("--platform option can not be specified with --arch or --os")
            parts = platform.split("/")
            if len(parts) > 3:
                raise Usage(f'invalid platform syntax for "{platform}" (use OS/ARCH[/VARIANT])')
            o.os, o.arch, o.variant = (*parts, "", "")[:3]
        if o.pull:
            o.pull = o.pull.lower()
            o.pull = {"true": "missing", "false": "never"}.get(o.pull, o.pull)
            if o.pull not in ("always", "missing", "never", "newer"):
                raise Usage(f'unsupported pull policy "{o.pull}"')
        if o.name:
            o.name = o.name.removeprefix("/")
            if not mount_options.is_name(o.name):
                raise Usage(
                    "running container create option: names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument"
                )
        elif o.replace:
            raise Usage("cannot replace container without --name being set")
        o.labels = environment.parse_labels(self.words("label_file"), self.words("label"))
        o.annotations = self.pairs("annotation", "annotations must be formatted KEY=VALUE")

        for path in self.words("env_file"):
            o.env.update(environment.read_env_file(path, self.host_env))
        o.env.update(environment.parse_variables(self.words("env"), self.host_env))
        o.env_merge = self.pairs("env_merge", 'invalid variable: "WORD"')

        if flags.get("entrypoint") is not None:
            o.entrypoint = _entrypoint(flags["entrypoint"])
        if "keep-groups" in o.group_add:
            if len(o.group_add) > 1:
                raise Usage(
                    "the '--group-add keep-groups' option is not allowed with any other --group-add options"
                )
            o.group_add, o.keep_groups = [], True
        umask = o.umask
        if len(umask) > 4 or not umask or any(c not in "01234567" for c in umask):
            raise Usage(
                f"running container create option: invalid umask string {umask}: invalid argument"
            )
        o.umask = umask.rjust(4, "0")
        for word in self.words("ulimit"):
            if word == "host":
                o.ulimit_host = True
            else:
                name, soft, hard = parse_ulimit(word)
                o.ulimits = [u for u in o.ulimits if u[0] != name]
                o.ulimits.append((name, soft, hard))
        if o.oom_score_adj is not None and not -1000 <= o.oom_score_adj <= 1000:
            raise Usage(f"invalid oom-score-adj {o.oom_score_adj}: must be between -1000 and 1000")
        if o.personality and o.personality not in PERSONALITIES:
            raise Usage(f'unknown personality "{o.personality}": must be LINUX or LINUX32')
        if o.tz and o.tz != "local" and not _is_timezone(o.tz):
            raise Usage(
                f"running container create option: finding timezone: unknown time zone {o.tz}"
            )
        o.systemd = o.systemd.lower()
        if o.systemd not in ("true", "false", "always"):
            raise Usage(
                'invalid config provided: --systemd values must be one of "true, false, always": invalid configuration'
            )
        if o.init and o.systemd == "always":
            raise Usage("cannot use --init with --systemd=always")
        if o.sdnotify not in ("conmon", "container", "healthy", "ignore"):
            raise Usage(
                f'invalid config provided: invalid argument: invalid sdnotify value "{o.sdnotify}": '
                "must be conmon, container, healthy or ignore"
            )
        if text("stop_signal"):
            o.stop_signal = parse_signal(text("stop_signal"))
        o.attach = [word.lower() for word in o.attach]
        for stream, word in zip(o.attach, self.words("attach"), strict=True):
            if stream not in ("stdin", "stdout", "stderr"):
                raise Usage(
                    f'invalid stream "{word}" for --attach - must be one of stdin, stdout, or stderr: invalid argument'
                )
        o.preserve_fd = [int(fd) for fd in o.preserve_fd]
        if o.preserve_fd or o.preserve_fds:
            passed_descriptors(o.preserve_fds, o.preserve_fd)

    def _security(self, o: CreateOptions) -> None:
        if o.cap_add or o.cap_drop:
            from rootless.runtime.capabilities import normalize

            o.cap_add, o.cap_drop = normalize(o.cap_add), normalize(o.cap_drop)
        if "ALL" in o.cap_add and "ALL" in o.cap_drop:
            raise Usage("adding all caps and removing all caps not allowed")
        for name in o.cap_add:
            if name in o.cap_drop:
                raise Usage(f'capability "{name}" cannot be dropped and added')
        for word in o.security_opt:
            name, equals, value = word.partition("=")
            if not equals:
                # Docker's older spelling, which Podman takes for this one only.
                name, equals, value = word.partition(":")
            if name == "no-new-privileges" and (not equals or value in ("true", "false")):
                o.no_new_privileges = value != "false"
            elif not equals:
                raise Usage(f'invalid --security-opt 1: "{word}"')
            elif name == "seccomp":
                o.seccomp = self._seccomp(value)
            elif name == "apparmor":
                o.apparmor = value
            elif name == "label":
                if value not in ("disable", "nested") and value.partition(":")[0] not in (
                    "user",
                    "role",
                    "type",
                    "level",
                    "filetype",
                ):
                    raise Usage(f'invalid --security-opt 2: "{word}"')
                o.label_options.append(value)
            elif name == "mask":
                o.mask += [_masked(word, path) for path in value.split(":")]
            elif name == "unmask":
                o.unmask += ["ALL" if path.upper() == "ALL" else path for path in value.split(":")]
            elif name == "systempaths":
                if value != "unconfined":
                    raise Usage(
                        f'invalid systempaths option "{value}", only `unconfined` is supported'
                    )
                o.unmask.append("ALL")
            elif name == "proc-opts":
                o.proc_options = value.split(",")
            else:
                raise Usage(f'invalid --security-opt 2: "{word}"')
        if o.seccomp_policy not in ("", "default", "image"):
            raise Usage(
                f'invalid seccomp policy "{o.seccomp_policy}": valid policies are ["default" "image"]'
            )

    def _seccomp(self, value: str) -> str:
        if value == "unconfined":
            return value
        path = os.path.join(self.cwd(), value)
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            raise Usage(
                f"opening seccomp profile failed: open {value}: {(error.strerror or '').lower()}"
            ) from None
        return path

    def _namespaces(self, o: CreateOptions) -> None:
        o.pid = _namespace(o.pid)
        o.ipc = _namespace(o.ipc, also=("none", "shareable"))
        o.uts = _namespace(o.uts)
        o.cgroupns = _namespace(o.cgroupns)
        if o.userns and (o.uidmap or o.gidmap or o.subuidname or o.subgidname):
            raise Usage(
                "--userns and --uidmap/--gidmap/--subuidname/--subgidname are mutually exclusive"
            )
        o.userns = _userns(o.userns)
        for name, words in (("UID", o.uidmap), ("GID", o.gidmap)):
            for word in words:
                _check_idmap(name, word, words)
        if o.uts == "host" and o.hostname:
            raise Usage(
                "invalid config provided: cannot set hostname when running in the host UTS namespace: "
                "invalid configuration"
            )
        if o.hostname and (
            len(o.hostname.encode()) > 64 or any(c.isspace() or ord(c) < 32 for c in o.hostname)
        ):
            # Podman creates the container, and the kernel refuses at its start.
            raise Usage(f'invalid hostname "{o.hostname}": at most 64 bytes without white space')
        for word in self.words("sysctl"):
            name, value = parse_sysctl(word)
            o.sysctl[name] = value

    def _network(self, o: CreateOptions) -> None:
        o.network, o.network_options, o.networks = parse_networks(self.words("network"))
        for name in o.sysctl:
            kind = sysctl_namespace(name)
            mode = {"network": o.network, "ipc": o.ipc, "uts": o.uts}.get(kind, "")
            if mode == "host":
                title = {"network": "Network", "ipc": "IPC", "uts": "UTS"}[kind]
                raise Usage(
                    f"sysctl {name}={o.sysctl[name]} can't be set since {title} Namespace set to host: invalid argument"
                )
        seen = []
        for word in self.words("publish"):
            for mapping in parse_publish(word):
                if mapping not in seen:
                    seen.append(mapping)
        o.publish = seen
        o.expose = list(
            dict.fromkeys(port for word in self.words("expose") for port in parse_expose(word))
        )
        o.dns = [str(word) for word in self.words("dns")]
        for word in o.dns:
            if word == "none":
                if len(o.dns) > 1:
                    raise Usage("none is not allowed to be specified with other DNS ip addresses")
            elif not is_address(word):
                raise Usage(f"{word} is not an ip address")
        if o.network in ("none",) or o.network.startswith("container:"):
            for name in ("dns", "dns_option", "dns_search"):
                if getattr(o, name):
                    raise Usage(
                        f"conflicting options: {name.replace('_', '-')} and the network mode: {o.network}"
                    )
        for word in o.dns_option:
            if any(ord(c) <= 32 for c in word):
                raise Usage(f'invalid dns option "{word}"')
        for word in o.dns_search:
            if any(ord(c) <= 32 for c in word):
                raise Usage(f'invalid dns search domain "{word}"')
        for name in ("ip", "ip6"):
            value = getattr(o, name)
            if value and not is_address(value):
                raise Usage(f'"{value}" is not an ip address')
        if o.mac_address:
            o.mac_address = _mac(o.mac_address)
        if (o.ip or o.ip6 or o.mac_address) and o.network != "bridge":
            raise Usage(
                "invalid config provided: networks and static ip/mac address can only be used with Bridge mode networking"
            )
        if o.network_alias and o.network != "bridge":
            if o.network:
                raise Usage(
                    "--network-alias can only be set when the network mode is bridge: invalid argument"
                )
            raise Usage(
                "invalid config provided: networks and static ip/mac address can only be used with Bridge mode networking"
            )
        for word in o.add_host:
            _check_host(word)
        if o.no_hosts:
            for name in ("add_host", "hosts_file"):
                if getattr(o, name):
                    raise Usage(f"--no-hosts and --{name.replace('_', '-')} cannot be set together")

    def _files(self, o: CreateOptions) -> None:
        volumes, mounts, tmpfs = self.words("volume"), self.words("mount"), self.words("tmpfs")
        if volumes or mounts or tmpfs:
            o.mounts = mount_options.parse(volumes, mounts, tmpfs, self.cwd())
            mount_options.check_sources(o.mounts)
        o.chrootdirs = [mount_options.destination(path) for path in o.chrootdirs]
        o.volumes_from = mount_options.parse_volumes_from(self.words("volumes_from"))
        mode = self.text("image_volume") or "anonymous"
        if mode not in ("bind", "anonymous", "tmpfs", "ignore"):
            raise Usage(
                f'invalid image volume mode "{mode}" required value: anonymous, tmpfs, ignore'
            )
        o.image_volume = "anonymous" if mode == "bind" else mode
        for word in self.words("device"):
            if is_cdi_device(word):
                raise Usage(f"--device {word}: {UNSUPPORTED['gpus']}")
            o.devices += _device_nodes(parse_device(word))
        size = self.text("shm_size")
        if size:
            if o.ipc == "host":
                raise Usage(
                    "invalid config provided: cannot set shmsize when running in the {host } IPC Namespace"
                )
            try:
                o.shm_size = parse_size(size)
            except Usage as error:
                raise Usage(f"unable to translate --shm-size: {error}") from None
        if self.text("shm_size_systemd"):
            try:
                o.shm_size_systemd = parse_size(self.text("shm_size_systemd"))
            except Usage as error:
                raise Usage(f"unable to translate --shm-size-systemd: {error}") from None

    def _limits(self, o: CreateOptions) -> None:
        if o.cgroups not in ("enabled", "disabled", "no-conmon", "split"):
            raise Usage(
                f'running container create option: invalid cgroup mode "{o.cgroups}": invalid argument'
            )
        o.cgroup_conf = self.pairs("cgroup_conf", "--cgroup-conf must be formatted KEY=VALUE")
        for key in o.cgroup_conf:
            if "/" in key or key in ("", ".", ".."):
                raise Usage(f'invalid cgroup file name "{key}"')
        for name in ("memory", "memory_reservation"):
            setattr(o, name, self._memory(name))
        swap = self.text("memory_swap")
        if swap:
            o.memory_swap = -1 if swap == "-1" else self._memory("memory_swap")
        if o.memory_swap is not None and o.memory_swap >= 0 and o.memory_swap < o.memory:
            raise Usage(
                "memory-swap counts memory and swap together and must not be below --memory"
            )
        if o.memory_swap is not None and not o.memory:
            raise Usage("--memory-swap needs --memory")
        if o.cpus:
            for name in ("cpu_period", "cpu_quota"):
                if getattr(o, name):
                    raise Usage(f"--{name.replace('_', '-')} and --cpus cannot be set together")
        for name in ("cpuset_cpus", "cpuset_mems"):
            _check_cpuset(name, getattr(o, name))
        weight = self.text("blkio_weight")
        if weight:
            try:
                o.blkio_weight = parse_uint(weight)
            except Usage as error:
                raise Usage(f"invalid value for blkio-weight: {error}") from None
            if not 10 <= o.blkio_weight <= 1000:
                raise Usage(f"invalid value for blkio-weight: {weight} is not between 10 and 1000")
        for word in self.words("blkio_weight_device"):
            path, colon, rest = word.partition(":")
            if not colon or not path:
                raise Usage(f"bad format: {word}")
            if not path.startswith("/dev/"):
                raise Usage(f"bad format for device path: {word}")
            if not rest.isdigit() or not 10 <= int(rest) <= 1000:
                raise Usage(f"invalid weight for device: {word}")
            o.blkio_weight_device[path] = int(rest)
        for name in (
            "device_read_bps",
            "device_write_bps",
            "device_read_iops",
            "device_write_iops",
        ):
            rates = getattr(o, name)
            for word in self.words(name):
                path, rate = _device_rate(word, is_size=name.endswith("bps"))
                rates[path] = rate

    def _memory(self, name: str) -> int:
        text = self.text(name)
        try:
            return parse_size(text) if text else 0
        except Usage as error:
            raise Usage(f"invalid value for memory: {error}") from None

    def _life(self, o: CreateOptions) -> None:
        o.restart, o.restart_tries = parse_restart(self.text("restart"))
        if o.rm and o.restart in ("always", "unless-stopped"):
            raise Usage(
                'the --rm option conflicts with --restart, when the restartPolicy is not "" and "no"'
            )
        if o.rmi and self.flags.get("rm") is False:
            raise Usage("the --rmi option does not work without --rm")
        o.rm = o.rm or o.rmi
        if o.log_driver not in (
            "", "k8s-file", "json-file", "none", "journald", "passthrough", "passthrough-tty",
        ):  # fmt: skip
            raise Usage("running container create option: invalid log driver: invalid argument")
        if o.tty and o.log_driver.startswith("passthrough"):
            raise Usage(
                f"--log-driver {o.log_driver} and --tty cannot be used together: the container gets the caller's own streams"
            )
        for word in self.words("log_opt"):
            name, equals, value = word.partition("=")
            if not equals:
                raise Usage(f'invalid log option "{word}"')
            if name == "max-size":
                o.log_size = parse_size(value)
            elif name == "path":
                o.log_path = os.path.join(self.cwd(), value)
            elif name == "tag":
                o.log_tag = value
            else:
                raise Usage(
                    f"--log-opt {name}: unknown option; there are path=, max-size= and tag="
                )
        self._health(o)

    def _health(self, o: CreateOptions) -> None:
        text, flags = self.text, self.flags
        command = text("health_cmd")
        if flags.get("no_healthcheck"):
            if command:
                raise Usage("cannot specify both --no-healthcheck and --health-cmd")
            o.health = {"Test": ["NONE"]}
        elif command:
            o.health = _health_test(command)
            o.health.update(
                Interval=_HEALTH_NS, Retries=_HEALTH_RETRIES, Timeout=_HEALTH_NS, StartPeriod=0
            )
        if not flags.get("no_healthcheck"):
            self._health_times(o)
        startup = text("health_startup_cmd")
        if startup:
            if not command:
                raise Usage("startup healthcheck requires a healthcheck: give --health-cmd")
            o.health_startup = _health_test(startup)
            o.health_startup["Interval"] = self._health_interval(
                "health_startup_interval", "startup healthcheck interval"
            )
            o.health_startup["Timeout"] = self._duration(
                "health_startup_timeout", "startup healthcheck timeout", "30s"
            )
            o.health_startup["Retries"] = flags.get("health_startup_retries") or 0
            o.health_startup["Successes"] = flags.get("health_startup_success") or 0
        if o.health_on_failure not in ("none", "kill", "restart", "stop"):
            raise Usage(
                f'invalid on-failure action "{o.health_on_failure}" for health check: '
                "supported actions are none,kill,restart,stop"
            )
        if (
            o.health_on_failure != "none"
            and o.health is not None
            and o.health.get("Test") == ["NONE"]
        ):
            raise Usage(
                f"cannot set on-failure action to {o.health_on_failure} without a health check"
            )
        if o.health_log_destination not in ("", "local", "events_logger"):
            place = o.health_log_destination
            if not os.path.isabs(place) or not os.path.isdir(place):
                raise Usage(
                    f"HealthCheck Log '{place}' destination error: must be an existing folder, local or events_logger"
                )

    def _health_times(self, o: CreateOptions) -> None:
        """Times given without a command are for the image's HEALTHCHECK."""
        flags = self.flags
        given: dict[str, int] = {}
        if flags.get("health_interval"):
            given["Interval"] = self._health_interval("health_interval", "healthcheck-interval")
        if flags.get("health_retries") is not None:
            given["Retries"] = flags["health_retries"]
            if given["Retries"] < 1:
                raise Usage("healthcheck-retries must be greater than 0")
        if flags.get("health_timeout"):
            given["Timeout"] = self._duration("health_timeout", "healthcheck-timeout", "30s")
            if given["Timeout"] < 10**9:
                raise Usage("healthcheck-timeout must be at least 1 second")
        if flags.get("health_start_period"):
            given["StartPeriod"] = self._duration(
                "health_start_period", "healthcheck-start-period", "0s"
            )
            if given["StartPeriod"] < 0:
                raise Usage("healthcheck-start-period must be 0 seconds or greater")
        if given:
            o.health = {**(o.health or {}), **given}

    def _duration(self, name: str, said: str, default: str) -> int:
        value = self.flags.get(name)
        if isinstance(value, int):
            return value
        try:
            return parse_duration(value or default)
        except Usage as error:
            raise Usage(f"invalid {said}: {error}") from None

    def _health_interval(self, name: str, said: str) -> int:
        if self.text(name) == "disable":
            return 0
        return self._duration(name, said, "30s")


def passed_descriptors(count: int, single: Iterable[int]) -> list[int]:
    """The descriptors of --preserve-fds and --preserve-fd, all of which the caller has to have handed over."""
    numbers = dict.fromkeys(range(3, 3 + count), "preserve-fds")
    for fd in single:
        if fd < 3:
            raise Usage(
                f"cannot preserve FD {fd}, consider using the passthrough log-driver "
                "to pass STDIO streams into the container: invalid argument",
                exit_code=126,
            )
        numbers[fd] = "preserve-fd"
    for fd, option in numbers.items():
        try:
            # The engine's own are not inheritable: one that is was handed over by the caller.
            passed = os.get_inheritable(fd)
        except OSError:
            passed = False
        if not passed:
            raise Usage(
                f"file descriptor {fd} is not available - the {option} option requires that file descriptors must be passed"
            )
    return list(numbers)


def _entrypoint(value: str | list[str]) -> list[str]:
    """`--entrypoint`: words as JSON, else one word; "" is none and drops the image's."""
    if not isinstance(value, str):
        return list(value)
    if value.startswith("["):
        import json

        try:
            words = json.loads(value)
        except ValueError:
            return [value]
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return words
    return [value] if value else []


def _masked(word: str, path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise Usage(f'invalid --security-opt 2: "{word}"')
    return os.path.normpath(path)


def _is_timezone(name: str) -> bool:
    if name.startswith("/") or ".." in name.split("/"):
        return False
    return os.path.isfile(f"/usr/share/zoneinfo/{name}")


def _check_idmap(name: str, word: str, words: Iterable[str]) -> None:
    parts = word.split(":")
    first = parts[0].lstrip("+ug")
    numbers = (first, *(part.removeprefix("@") for part in parts[1:]))
    if not 2 <= len(parts) <= 3 or any(
        not number.isascii() or not number.isdigit() or int(number) > 0xFFFFFFFF
        for number in numbers
    ):
        listed = " ".join(f'"{w}"' for w in words)
        raise Usage(
            f"initializing ID mappings: {name} setting is malformed expected "
            f'["[+ug]uint32:[@]uint32[:uint32]"] : [{listed}]'
        )


def _check_host(word: str) -> None:
    names, colon, address = word.partition(":")
    if not colon or not names:
        raise Usage(f'bad format for add-host: "{word}"')
    if any(c.isspace() for c in names):
        raise Usage(f'bad format for add-host: "{word}"')
    if address != "host-gateway" and not is_address(address.strip("[]")):
        raise Usage(f'invalid IP address in add-host: "{address}"')


def _check_cpuset(name: str, text: str) -> None:
    for part in text.split(",") if text else ():
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and (not last.isdigit() or int(last) < int(first))):
            raise Usage(f'invalid value "{text}" for --{name.replace("_", "-")}')


def _health_test(command: str) -> dict[str, Any]:
    """`--health-cmd`: CMD and CMD-SHELL as in a Containerfile, a JSON list, `none`, else a shell's line."""
    words: list[str]
    if command.startswith("["):
        import json

        try:
            parsed = json.loads(command)
        except ValueError:
            parsed = None
        if isinstance(parsed, list) and parsed and all(isinstance(word, str) for word in parsed):
            words = parsed if parsed[0] in ("CMD", "CMD-SHELL", "NONE") else ["CMD", *parsed]
        else:
            words = ["CMD-SHELL", command]
    elif command.strip().lower() == "none":
        words = ["NONE"]
    else:
        first, _, rest = command.strip().partition(" ")
        if first == "CMD" and rest:
            words = ["CMD", *rest.split()]
        elif first == "CMD-SHELL" and rest:
            words = ["CMD-SHELL", rest]
        else:
            words = ["CMD-SHELL", command]
    return {"Test": words}


# Options whose value is kept as it is read from the command line.
_PLAIN = (
    "arch", "authfile", "cgroup_parent", "cgroupns", "cgroups", "cidfile", "conmon_pidfile", "cpu_period", "cpu_quota",
    "cpu_shares", "cpus", "cpuset_cpus", "cpuset_mems", "detach", "detach_keys", "env_host", "group_entry",
    "health_log_destination", "health_max_log_count", "health_max_log_size", "health_on_failure", "hostname",
    "hosts_file", "http_proxy", "init", "init_path", "interactive", "ip", "ip6", "ipc", "log_driver", "mac_address",
    "name", "no_hostname", "no_hosts", "oom_score_adj", "os", "passwd", "passwd_entry", "personality", "pid", "pidfile",
    "pids_limit", "preserve_fds", "privileged", "publish_all", "pull", "quiet", "read_only", "read_only_tmpfs",
    "replace", "retry", "retry_delay", "rm", "rmi", "rootfs", "sdnotify", "seccomp_policy", "sig_proxy", "stop_timeout",
    "subgidname", "subuidname", "systemd", "timeout", "tls_verify", "tty", "tz", "umask", "unsetenv_all", "user",
    "userns", "uts", "variant", "workdir",
)  # fmt: skip
_WORDS = (
    "add_host", "attach", "cap_add", "cap_drop", "chrootdirs", "dns_option", "dns_search", "gidmap", "group_add", "hostuser",
    "network_alias", "preserve_fd", "requires", "security_opt", "uidmap", "unsetenv",
)  # fmt: skip
