"""The runtime-spec document of a container: what the kernel is told.

`make_spec` is pure: what was asked (CreateOptions), what the image says (its OCI config), and the facts of this host
(HostFacts) go in, a config.json of runtime-spec 1.2 comes out that any OCI runtime understands. Two things that the spec
has no words for go beside it: a `user` that is a name waits in `process.user.username` until init can read the image's
account files, and a mount may carry a property `rootless` (runtime/volumes.py), which other runtimes pass over.
Lean: on `run`'s path.
"""

from __future__ import annotations

import os

from rootless.container import env as environment
from rootless.container.mounts import destination
from rootless.container.quantities import parse_signal
from rootless.container.spec_mounts import (
    INIT_PATH,
    hidden_paths,
    make_mounts,
    owns_network,
    root_propagation,
)
from rootless.container.spec_resources import resources
from rootless.container.sysctls import parse_sysctl, sysctl_namespace
from rootless.errors import RootlessError, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from rootless.container.mounts import Mount
    from rootless.container.options import CreateOptions
    from rootless.container.user import User

    Range = tuple[int, int, int]
    OciMount = dict[str, Any]
    ImageConfig = Mapping[str, Any]

OCI_VERSION = "1.2.0"
_UNLIMITED = 18446744073709551615
_SIGTERM, _SIGRTMIN_3 = 15, 37

_SYSTEMD_COMMANDS = (
    "/sbin/init",
    "/usr/sbin/init",
    "/usr/local/sbin/init",
    "init",
    "systemd",
    "/usr/lib/systemd/systemd",
    "/lib/systemd/systemd",
)


class HostFacts:
    """What `make_spec` has to know of this host and of what was made for the container. The caller fills it in."""

    __slots__ = (
        "apparmor",
        "cgroup_version",
        "cgroups_path",
        "console_size",
        "default_capabilities",
        "default_env",
        "default_sysctls",
        "devices",
        "env",
        "files",
        "hostname",
        "id",
        "image_layers",
        "image_mounts",
        "init_path",
        "keep_id",
        "localtime",
        "mounts",
        "name",
        "namespaces",
        "node",
        "pids_limit",
        "rlimits",
        "rootfs",
        "scratch",
        "seccomp",
        "selinux",
        "shm_fd",
        "gids",
        "has_mqueue",
        "uids",
        "user",
    )

    def __init__(self, identity: str = "", *, rootfs: str = "") -> None:
        self.id = identity
        self.name = ""
        #: `root.path`
        self.rootfs = rootfs
        #: The user namespace's mapping: (in the container, on the host, size)
        self.uids: list[Range] = [(0, os.geteuid(), 1)]
        self.gids: list[Range] = [(0, os.getegid(), 1)]
        #: The uid and gid that the caller has inside with --userns keep-id
        self.keep_id: tuple[int, int] | None = None
        #: The user, where the image's account files could be read beforehand; else init resolves it
        self.user: User | None = None
        #: Paths of namespaces to join, by the spec's names: user, network, pid, ipc, uts, cgroup. Needed for every
        #: mode `container:ID` and `ns:PATH`; a prepared network namespace goes here, too.
        self.namespaces: dict[str, str] = {}
        #: uname's nodename of this host, and the container's hostname where it is neither given nor its short id
        self.node = ""
        self.hostname = ""
        #: 2, 1 (or hybrid), or 0 for none; `linux.cgroupsPath`; the pids limit where none is asked for (0: none)
        self.cgroup_version = 2
        self.cgroups_path = ""
        self.pids_limit = 0
        #: Files made for the container by their place in it: /etc/hosts, /run/.containerenv, … -> path on the host
        self.files: dict[str, str] = {}
        #: A detached copy of /dev/shm when the IPC namespace is another container's
        self.shm_fd = -1
        #: catatonit, for --init
        self.init_path = ""
        #: The host's environment, for --env-host and --http-proxy
        self.env: Mapping[str, str] = {}
        #: The caller's own limits by spec name without RLIMIT_, lower case: nofile -> (soft, hard); -1 is none
        self.rlimits: dict[str, tuple[int, int]] = {}
        #: `mounts.plan` of the container, with `path` set by `volume.resolve`
        self.mounts: list[Mount] = []
        #: Mounts that belong to the image: the `host` image's /usr and /opt
        self.image_mounts: list[OciMount] = []
        #: For `--mount type=image`: image -> its layers' folders, the topmost first
        self.image_layers: dict[str, list[str]] = {}
        #: Folder of the container's own for the upper and work folders of overlay volumes
        self.scratch = ""
        #: containers.conf's variables, capabilities and sysctls in place of the engine's own
        self.default_env: Mapping[str, str] = {}
        self.default_capabilities: Sequence[str] | None = None
        self.default_sysctls: Sequence[str] = ("net.ipv4.ping_group_range=0 0",)
        #: Device nodes of the host that --privileged gives
        self.devices: list[str] = []
        #: The seccomp profile to apply (the engine's or the file of --security-opt), read
        self.seccomp: Mapping[str, Any] | None = None
        #: Whether /dev/mqueue is there to be shared with --ipc=host
        self.has_mqueue = os.path.isdir("/dev/mqueue")
        self.apparmor = False
        self.selinux = False
        #: What --tz=local is
        self.localtime = "/etc/localtime"
        #: (width, height) of the terminal
        self.console_size: tuple[int, int] | None = None


def arguments(options: CreateOptions, config: ImageConfig) -> list[str]:
    """The command line of the process, without an init before it."""
    if options.entrypoint is not None:
        words = [*options.entrypoint, *options.command]
    else:
        command = options.command or config.get("Cmd") or []
        words = [*(config.get("Entrypoint") or []), *command]
    if not words:
        raise Usage("no command or entrypoint provided, and no CMD or ENTRYPOINT from image")
    return words


def effective_user(options: CreateOptions, config: ImageConfig, host: HostFacts) -> str:
    """The user as written: `--user`, else keep-id's, else the image's."""
    if options.user:
        return options.user
    if host.keep_id is not None:
        return f"{host.keep_id[0]}:{host.keep_id[1]}"
    return config.get("User") or ""


def extra_groups_of(options: CreateOptions, kept: tuple[int, int] | None) -> list[str]:
    """The groups to add to those of the image's account files; `kept` are the caller's ids under keep-id."""
    words = list(options.group_add)
    if kept is not None and options.user:
        # Another user under keep-id may still use the files of the caller's group.
        words.append(str(kept[1]))
    return words


def is_systemd(options: CreateOptions, config: ImageConfig) -> bool:
    """Whether the process is systemd, or is to be treated as if it were."""
    if options.systemd == "always":
        return True
    if options.systemd == "false":
        return False
    return arguments(options, config)[0] in _SYSTEMD_COMMANDS


def stop_signal(options: CreateOptions, config: ImageConfig) -> int:
    """The signal that stops the container."""
    if options.stop_signal is not None:
        return options.stop_signal
    if config.get("StopSignal"):
        return parse_signal(config["StopSignal"])
    return _SIGRTMIN_3 if is_systemd(options, config) else _SIGTERM


def hostname(options: CreateOptions, host: HostFacts) -> str:
    """The container's hostname."""
    if options.uts == "host":
        return host.node
    # On the host's network the host's name is the one that can be looked up.
    usual = host.node if options.network == "host" else host.id[:12]
    return options.hostname or host.hostname or usual


def make_spec(options: CreateOptions, config: ImageConfig, host: HostFacts) -> dict[str, Any]:
    """Make the runtime-spec document. Raises Usage for what this host cannot do."""
    systemd = is_systemd(options, config) and (
        host.cgroup_version == 2 or options.systemd == "always"
    )
    if systemd and host.cgroup_version != 2:
        raise Usage(
            "--systemd=always: systemd needs a cgroup of its own, and this host has no cgroup v2",
            hint="boot with systemd.unified_cgroup_hierarchy=1",
        )
    namespaces = _namespaces(options, host)
    new = {entry["type"] for entry in namespaces if "path" not in entry}
    process = _process(options, config, host, systemd=systemd)
    mounts = make_mounts(options, host, new, systemd=systemd)
    linux: dict[str, Any] = {"namespaces": namespaces}
    if "user" in new:
        linux["uidMappings"] = _mappings(host.uids)
        linux["gidMappings"] = _mappings(host.gids)
    sysctl = _sysctl(options, host, new)
    if sysctl:
        linux["sysctl"] = sysctl
    limits = resources(options, host.pids_limit)
    if limits:
        linux["resources"] = limits
    if host.cgroups_path and options.cgroups != "disabled":
        linux["cgroupsPath"] = host.cgroups_path
    masked, readonly = hidden_paths(options, own_sys=owns_network(host, new))
    if masked:
        linux["maskedPaths"] = masked
    if readonly:
        linux["readonlyPaths"] = readonly
    propagation = root_propagation(mounts)
    if propagation:
        linux["rootfsPropagation"] = propagation
    if options.personality:
        linux["personality"] = {"domain": options.personality}
    seccomp = _seccomp(options, host, process["capabilities"]["bounding"])
    if seccomp is not None:
        linux["seccomp"] = seccomp
    document: dict[str, Any] = {
        "ociVersion": OCI_VERSION,
        "process": process,
        "root": {"path": host.rootfs, "readonly": options.read_only},
        "mounts": mounts,
        "annotations": _annotations(options, config),
        "linux": linux,
    }
    if "uts" in new:
        document["hostname"] = hostname(options, host)
    return document


# process


def _process(
    options: CreateOptions, config: ImageConfig, host: HostFacts, *, systemd: bool
) -> dict[str, Any]:
    args = arguments(options, config)
    if options.init and host.init_path:
        args = [INIT_PATH, "--", *args]
    user, is_root = _user(options, config, host)
    process: dict[str, Any] = {
        "terminal": options.tty,
        "user": user,
        "args": args,
        "env": _environment(options, config, host, systemd=systemd),
        "cwd": working_dir(options, config),
        "capabilities": _capabilities(options, host, is_root),
        "rlimits": _rlimits(options, host),
        "noNewPrivileges": options.no_new_privileges,
    }
    if options.tty and host.console_size:
        process["consoleSize"] = {"width": host.console_size[0], "height": host.console_size[1]}
    if options.oom_score_adj is not None:
        process["oomScoreAdj"] = options.oom_score_adj
    if (options.apparmor and options.apparmor != "unconfined") or (
        options.apparmor and host.apparmor
    ):
        if not host.apparmor:
            raise Usage(
                f'apparmor profile "{options.apparmor}" specified, but Apparmor is not enabled on this system'
            )
        process["apparmorProfile"] = options.apparmor
    labels = [word for word in options.label_options if word not in ("disable", "nested")]
    if labels and not host.selinux:
        raise Usage(
            f"--security-opt label={labels[0]}: SELinux is not enabled on this system",
            hint="leave it out, or give label=disable",
        )
    if labels and "disable" not in options.label_options:
        process["selinuxLabel"] = _selinux_label(labels)
    return process


def working_dir(options: CreateOptions, config: ImageConfig) -> str:
    """The working directory. Only the image's own is made when it is missing; `--workdir` has to be there."""
    path = options.workdir or config.get("WorkingDir") or "/"
    if not path.startswith("/"):
        if options.workdir:
            raise Usage(f'workdir "{path}" must be an absolute path', exit_code=126)
        path = "/" + path  # image-spec says nothing; Docker and Podman take it from the root
    return destination(path)


def _user(
    options: CreateOptions, config: ImageConfig, host: HostFacts
) -> tuple[dict[str, Any], bool]:
    """`process.user`, and whether it is root as far as that is known."""
    user: dict[str, Any] = {"uid": 0, "gid": 0, "umask": int(options.umask, 8)}
    if host.user is not None:
        user.update(uid=host.user.uid, gid=host.user.gid)
        if not options.keep_groups:
            user["additionalGids"] = list(host.user.groups)
        return user, host.user.uid == 0
    word = effective_user(options, config, host)
    name, _, group = word.partition(":")
    if name.isascii() and name.isdigit():
        user["uid"] = int(name)
        if group.isascii() and group.isdigit():
            user["gid"] = int(group)
    # Even for a number: its group, its other groups and its home are the image's to say.
    user["username"] = word
    return user, name in ("", "root") or (name.isdigit() and int(name) == 0)


def _environment(
    options: CreateOptions, config: ImageConfig, host: HostFacts, *, systemd: bool
) -> list[str]:
    variables = environment.combine(
        image=environment.image_variables(config.get("Env")),
        host=host.env,
        given=options.env,
        merge=options.env_merge,
        unset=options.unsetenv,
        unset_all=options.unsetenv_all,
        env_host=options.env_host,
        http_proxy=options.http_proxy,
        terminal=options.tty,
        default=host.default_env,
    )
    variables.setdefault("HOSTNAME", hostname(options, host))
    if systemd:
        variables.setdefault("container_uuid", host.id[:32])
    # Where init resolves the user, it sets HOME unless it is here.
    if host.user is not None:
        variables.setdefault("HOME", host.user.home)
    return [f"{name}={value}" for name, value in variables.items()]


def _capabilities(options: CreateOptions, host: HostFacts, is_root: bool) -> dict[str, list[str]]:
    from rootless.runtime import capabilities

    base = host.default_capabilities
    return capabilities.process_sets(
        capabilities.DEFAULT if base is None else base,
        options.cap_add,
        options.cap_drop,
        privileged=options.privileged,
        is_root=is_root,
    )


def _rlimits(options: CreateOptions, host: HostFacts) -> list[dict[str, Any]]:
    limits: dict[str, tuple[int, int]] = {}
    if not options.ulimit_host:
        for name in ("nofile", "nproc"):
            if name in host.rlimits:
                # Programs in containers count on more than the shell's soft limit.
                hard = host.rlimits[name][1]
                limits[name] = (hard, hard)
    for name, soft, hard in options.ulimits:
        # "No limit" can be no more than the caller's own.
        most = host.rlimits.get(name, (-1, -1))[1]
        limits[name] = (most if soft == -1 else soft, most if hard == -1 else hard)
    return [
        {
            "type": f"RLIMIT_{name.upper()}",
            "soft": _UNLIMITED if soft == -1 else soft,
            "hard": _UNLIMITED if hard == -1 else hard,
        }
        for name, (soft, hard) in limits.items()
    ]


def _selinux_label(labels: Sequence[str]) -> str:
    parts = {
        "user": "system_u",
        "role": "system_r",
        "type": "container_t",
        "level": "s0",
    }
    for label in labels:
        name, _, value = label.partition(":")
        parts[name] = value
    return ":".join((parts["user"], parts["role"], parts["type"], parts["level"]))


def _seccomp(
    options: CreateOptions, host: HostFacts, bounding: Sequence[str]
) -> dict[str, Any] | None:
    if options.seccomp == "unconfined" or (options.privileged and not options.seccomp):
        return None
    if host.seccomp is None:
        return None
    from rootless.runtime.seccomp import profile

    return profile(dict(host.seccomp), bounding)


# namespaces


def _namespaces(options: CreateOptions, host: HostFacts) -> list[dict[str, str]]:
    modes = {
        "user": options.userns,
        "mount": "",
        "pid": options.pid,
        "network": options.network,
        "ipc": options.ipc,
        "uts": options.uts,
        "cgroup": options.cgroupns or ("private" if host.cgroup_version == 2 else "host"),
    }
    found = []
    for kind, mode in modes.items():
        joins = mode.startswith(("container:", "ns:"))
        if kind in host.namespaces:
            found.append({"type": kind, "path": host.namespaces[kind]})
        elif joins:
            if mode.startswith("container:"):
                # The caller knows containers; here is only what it found.
                raise RootlessError(f"no {kind} namespace to join for {mode}")
            found.append({"type": kind, "path": mode.removeprefix("ns:")})
        elif mode != "host" or kind == "user":
            # --userns=host is the engine's own mapping: a container always has a user namespace.
            found.append({"type": kind})
    return found


def _mappings(ranges: Sequence[Range]) -> list[dict[str, int]]:
    return [
        {"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in ranges
    ]


def _sysctl(options: CreateOptions, host: HostFacts, new: set[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for word in host.default_sysctls:
        name, value = parse_sysctl(word)
        if name == "net.ipv4.ping_group_range" and all(gid for gid, _, _ in host.gids):
            continue  # the kernel takes no group that the namespace does not have
        if sysctl_namespace(name) in new:
            values[name] = value
    for name, value in options.sysctl.items():
        kind = sysctl_namespace(name)
        if kind not in new:
            raise Usage(f"sysctl {name}={value}: the container has no {kind} namespace of its own")
        values[name] = value
    return values


def _annotations(options: CreateOptions, config: ImageConfig) -> dict[str, str]:
    # Only the command line's: an image's labels never steer anything on the host (security case 36).
    found = dict(options.annotations)
    found["io.container.manager"] = "rootless"
    found["org.opencontainers.image.stopSignal"] = str(stop_signal(options, config))
    if options.keep_groups:
        found["run.oci.keep_original_groups"] = "1"
    return found
