"""One command line of `create` or `run` being read into one CreateOptions. Words of errors are Podman's. Lean: on `run`'s path."""

from __future__ import annotations

import os

from rootless.container import env as environment
from rootless.container import mounts as mount_options
from rootless.container import read_limits, read_network, read_security
from rootless.container.options import UNSUPPORTED, CreateOptions
from rootless.container.quantities import parse_signal, parse_size
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any


class Reader:
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
        _image(self, o)
        _identity(self, o)
        _process(self, o)
        _systemd(o)
        read_security.read(self, o)
        read_security.read_namespaces(self, o)
        read_network.read(self, o)
        _files(self, o)
        read_limits.read(self, o)
        _life(self, o)
        _refuse_unsupported(self)
        return o


def _image(reader: Reader, o: CreateOptions) -> None:
    """What it is made of."""
    if o.rootfs and o.image.endswith(":O"):
        o.image, o.rootfs_overlay = o.image[:-2], True
    if o.rootfs and o.image:
        o.image = os.path.normpath(os.path.join(reader.cwd(), o.image))
        try:
            os.stat(o.image)
        except OSError as error:
            raise Usage(
                f"running container create option: faccessat {o.image}: {(error.strerror or '').lower()}"
            ) from None
    platform = reader.text("platform")
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


def _identity(reader: Reader, o: CreateOptions) -> None:
    if o.name:
        o.name = o.name.removeprefix("/")
        if not mount_options.is_name(o.name):
            raise Usage(
                "running container create option: names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument"
            )
    elif o.replace:
        raise Usage("cannot replace container without --name being set")
    o.labels = environment.parse_labels(reader.words("label_file"), reader.words("label"))
    o.annotations = reader.pairs("annotation", "annotations must be formatted KEY=VALUE")


def _process(reader: Reader, o: CreateOptions) -> None:
    """What runs, with which surroundings and limits."""
    for path in reader.words("env_file"):
        o.env.update(environment.read_env_file(path, reader.host_env))
    o.env.update(environment.parse_variables(reader.words("env"), reader.host_env))
    o.env_merge = reader.pairs("env_merge", 'invalid variable: "WORD"')
    if reader.flags.get("entrypoint") is not None:
        o.entrypoint = _entrypoint(reader.flags["entrypoint"])
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
    for word in reader.words("ulimit"):
        if word == "host":
            o.ulimit_host = True
        else:
            name, soft, hard = read_limits.parse_ulimit(word)
            o.ulimits = [u for u in o.ulimits if u[0] != name]
            o.ulimits.append((name, soft, hard))
    if o.oom_score_adj is not None and not -1000 <= o.oom_score_adj <= 1000:
        raise Usage(f"invalid oom-score-adj {o.oom_score_adj}: must be between -1000 and 1000")
    if o.personality and o.personality not in PERSONALITIES:
        raise Usage(f'unknown personality "{o.personality}": must be LINUX or LINUX32')
    if o.tz and o.tz != "local" and not _is_timezone(o.tz):
        raise Usage(f"running container create option: finding timezone: unknown time zone {o.tz}")
    if reader.text("stop_signal"):
        o.stop_signal = parse_signal(reader.text("stop_signal"))
    o.attach = [word.lower() for word in o.attach]
    for stream, word in zip(o.attach, reader.words("attach"), strict=True):
        if stream not in ("stdin", "stdout", "stderr"):
            raise Usage(
                f'invalid stream "{word}" for --attach - must be one of stdin, stdout, or stderr: invalid argument'
            )
    o.preserve_fd = [int(fd) for fd in o.preserve_fd]
    if o.preserve_fd or o.preserve_fds:
        passed_descriptors(o.preserve_fds, o.preserve_fd)


def _systemd(o: CreateOptions) -> None:
    """systemd inside and outside."""
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


def _files(reader: Reader, o: CreateOptions) -> None:
    volumes, mounts, tmpfs = reader.words("volume"), reader.words("mount"), reader.words("tmpfs")
    if volumes or mounts or tmpfs:
        o.mounts = mount_options.parse(volumes, mounts, tmpfs, reader.cwd())
        mount_options.check_sources(o.mounts)
    o.chrootdirs = [mount_options.destination(path) for path in o.chrootdirs]
    o.volumes_from = mount_options.parse_volumes_from(reader.words("volumes_from"))
    mode = reader.text("image_volume") or "anonymous"
    if mode not in ("bind", "anonymous", "tmpfs", "ignore"):
        raise Usage(f'invalid image volume mode "{mode}" required value: anonymous, tmpfs, ignore')
    o.image_volume = "anonymous" if mode == "bind" else mode
    if reader.words("device"):
        from rootless.container import read_devices

        for word in reader.words("device"):
            if read_devices.is_cdi_device(word):
                raise Usage(f"--device {word}: {UNSUPPORTED['gpus']}")
            o.devices += read_devices.device_nodes(read_devices.parse_device(word))
    size = reader.text("shm_size")
    if size:
        if o.ipc == "host":
            raise Usage(
                "invalid config provided: cannot set shmsize when running in the {host } IPC Namespace"
            )
        try:
            o.shm_size = parse_size(size)
        except Usage as error:
            raise Usage(f"unable to translate --shm-size: {error}") from None
    if reader.text("shm_size_systemd"):
        try:
            o.shm_size_systemd = parse_size(reader.text("shm_size_systemd"))
        except Usage as error:
            raise Usage(f"unable to translate --shm-size-systemd: {error}") from None


def _life(reader: Reader, o: CreateOptions) -> None:
    o.restart, o.restart_tries = parse_restart(reader.text("restart"))
    if o.rm and o.restart in ("always", "unless-stopped"):
        raise Usage(
            'the --rm option conflicts with --restart, when the restartPolicy is not "" and "no"'
        )
    if o.rmi and reader.flags.get("rm") is False:
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
    for word in reader.words("log_opt"):
        name, equals, value = word.partition("=")
        if not equals:
            raise Usage(f'invalid log option "{word}"')
        if name == "max-size":
            o.log_size = parse_size(value)
        elif name == "max-file":
            if not value.isascii() or not value.isdigit() or int(value) < 1:
                raise Usage(f"--log-opt max-file={value}: must be a number of at least 1")
            o.log_files = int(value)
        elif name == "path":
            o.log_path = os.path.join(reader.cwd(), value)
        elif name == "tag":
            o.log_tag = value
        else:
            raise Usage(
                f"--log-opt {name}: unknown option; there are path=, max-size=, max-file= and tag="
            )
    if any(name.startswith("health_") or name == "no_healthcheck" for name in reader.flags):
        from rootless.container import read_health

        read_health.read(reader, o)


def _refuse_unsupported(reader: Reader) -> None:
    """Refuse what cannot be honoured; last, so that a mistake is told as one."""
    for name, value in reader.flags.items():
        if not value or value == -1:  # --memory-swappiness=-1 asks for nothing
            continue
        reason = UNSUPPORTED.get(name)
        if reason is None and isinstance(value, str):
            name = f"{name}={value}"
            reason = UNSUPPORTED.get(name)
        if reason is not None:
            raise _refuse(name, reason)


def _refuse(name: str, reason: str) -> Usage:
    option, equals, value = name.partition("=")
    return Usage(f"--{option.replace('_', '-')}{equals}{value}: {reason}")


PERSONALITIES = ("LINUX", "LINUX32")


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


def _is_timezone(name: str) -> bool:
    if name.startswith("/") or ".." in name.split("/"):
        return False
    return os.path.isfile(f"/usr/share/zoneinfo/{name}")


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
