"""What was asked of a container: every option of `create` and `run`, read, checked and kept.

One of the three forms of a container: this is what the user said, the record says what is kept, `spec` makes what the
kernel is told. Every attribute is a plain JSON value, and a container's record holds those that differ from the default.
Words of errors are Podman's; the exit status is 125. Lean: on `run`'s path.
"""

from __future__ import annotations

import os
import sys

from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
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
    "restart": "no", "restart_tries": 0, "log_driver": "", "log_path": "", "log_size": 0, "log_files": 0,
    "log_tag": "", "health": None, "health_startup": None, "health_on_failure": "none",
    "health_log_destination": "local", "health_max_log_count": 5, "health_max_log_size": 500,
}  # fmt: skip


def _current_folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise Usage(
            "the current folder has been removed, so that a relative path names nothing",
            hint="go to another folder, or give the path from / on",
        ) from None


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
    log_files: int
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
        from rootless.container.read_options import Reader

        return Reader(
            {name.replace("-", "_"): value for name, value in flags.items()},
            os.environ if host_env is None else host_env,
            _current_folder if cwd is None else lambda: cwd,
        ).read(cls(), args)
