"""A look at the host as an administrator would take it: what works, what does not, and the remedy.

Each check asks the kernel or the host itself and repeats nobody's belief. A check that fails in itself is a finding, too;
none of them changes anything but the store's own caches.
"""

from __future__ import annotations

import os
import stat

from rootless import paths
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from rootless.container.engine import Engine

    Span = tuple[int, int]

GOOD, NOTE, BAD = "ok", "warning", "failed"
_WANTED_IDS = 65536
_GIB = 1 << 30
_REGISTRY_S = 4.0


class Finding:
    """One line: what was looked at, how it is, and what to do about it."""

    __slots__ = ("subject", "state", "text", "remedy")

    def __init__(self, subject: str, state: str, text: str, remedy: str = "") -> None:
        self.subject = subject
        self.state = state
        self.text = text
        self.remedy = remedy

    def to_json(self) -> dict[str, Any]:
        return {
            "subject": self.subject,
            "state": self.state,
            "text": self.text,
            "remedy": self.remedy,
        }


def examine(engine: Engine, *, offline: bool = False) -> Iterator[Finding]:
    """All findings, in the order in which they should be mended."""
    checks: list[tuple[str, Callable[[Engine], Iterator[Finding]]]] = [
        ("kernel", _kernel),
        ("user namespaces", _namespaces),
        ("subordinate ids", _subordinate),
        ("id map helpers", _id_helpers),
        ("store", _store),
        ("root file systems", _overlay),
        ("network", _network),
        ("cgroups", _cgroups),
        ("session", _session),
        ("seccomp", _seccomp),
        ("settings", _settings),
    ]
    if not offline:
        checks.append(("registries", _registries))
    for subject, check in checks:
        try:
            yield from check(engine)
        except RootlessError as error:
            yield Finding(subject, BAD, error.message, error.hint)
        except OSError as error:
            yield Finding(
                subject,
                BAD,
                f"{error.filename or subject}: {(error.strerror or str(error)).lower()}",
            )


def works(findings: list[Finding]) -> bool:
    """Whether containers can be run."""
    return all(one.state != BAD for one in findings)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _kernel(engine: Engine) -> Iterator[Finding]:
    release = os.uname().release
    major, _, rest = release.partition(".")
    minor = rest.partition(".")[0]
    number = (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)
    if number >= (5, 13):
        yield Finding("kernel", GOOD, release)
    else:
        text = f"{release}: overlays without root came with 5.11, and work under SELinux from 5.13"
        yield Finding(
            "kernel", NOTE, text, "a newer kernel; until then fuse-overlayfs or copies are used"
        )


def _namespaces(engine: Engine) -> Iterator[Finding]:
    from rootless.linux.userns import fork_in_userns

    limit = _read("/proc/sys/user/max_user_namespaces")
    fork_in_userns(engine.idmap, lambda: None).wait()
    yield Finding(
        "user namespaces", GOOD, f"can be made and mapped; at most {limit or 'as many as wanted'}"
    )
    if _read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        yield Finding(
            "user namespaces", NOTE, "AppArmor restricts them; this command is allowed by its profile",
            "a copy of it elsewhere (in a home, a virtual environment) needs a profile of its own",
        )  # fmt: skip


def _subordinate(engine: Engine) -> Iterator[Finding]:
    from rootless.runtime.idmap import single_id_remedy, subordinate_spans, user_name

    uid = os.geteuid()
    name = user_name(uid) if uid else "containers"
    uids, gids = subordinate_spans(name, uid)
    if not uid and not (uids and gids):
        uids, gids = subordinate_spans("root", 0)
    for kind, spans, file in (("uid", uids, "/etc/subuid"), ("gid", gids, "/etc/subgid")):
        subject = f"subordinate {kind}s"
        count = sum(size for _, size in spans)
        text = ", ".join(f"{start}-{start + size - 1}" for start, size in spans)
        if not spans:
            remedy = (
                f"`usermod --add-sub{kind}s FIRST-LAST {name}` by root, with {_WANTED_IDS} free ids"
            )
            yield Finding(subject, NOTE, f"{name} has none: {single_id_remedy()}", remedy)
        elif count < _WANTED_IDS:
            remedy = f"`usermod --add-sub{kind}s FIRST-LAST {name}` by root, for {_WANTED_IDS} altogether"
            yield Finding(
                subject, NOTE, f"{text}: {count} only, while images use up to {_WANTED_IDS}", remedy
            )
        else:
            yield Finding(subject, GOOD, f"{text}: {count}")
        for other, start, size in foreign(_read(file), (name, str(uid)), spans):
            yield Finding(
                subject, NOTE, f"{file}: {other} has ids of {name}'s ({start}-{start + size - 1}): each can reach the other's files",
                f"root gives one of them a range of its own in {file}",
            )  # fmt: skip


def foreign(text: str, own: tuple[str, ...], spans: list[Span]) -> list[tuple[str, int, int]]:
    """Ranges of others that share ids with these."""
    found = []
    for line in text.splitlines():
        parts = line.strip().split(":")
        if len(parts) != 3 or parts[0] in own or not (parts[1].isdigit() and parts[2].isdigit()):
            continue
        start, size = int(parts[1]), int(parts[2])
        if any(start < first + many and first < start + size for first, many in spans):
            found.append((parts[0], start, size))
    return found


def _id_helpers(engine: Engine) -> Iterator[Finding]:
    from rootless.linux.idmap import find_trusted

    if sum(size for _, _, size in engine.idmap.uids) == 1:
        return  # a single id needs none
    for name in ("newuidmap", "newgidmap"):
        path = find_trusted(name)
        if path is None:
            yield Finding(
                name,
                BAD,
                "is not installed, and subordinate ids cannot be mapped",
                "install the package uidmap (shadow-utils)",
            )
            continue
        status = os.stat(path)
        how = ""
        if status.st_mode & stat.S_ISUID and status.st_uid == 0:
            how = "set-uid root"
        else:
            try:
                os.getxattr(path, "security.capability")
                how = "with file capabilities"
            except OSError:
                pass
        if how:
            yield Finding(name, GOOD, f"{path}, {how}")
        else:
            remedy = f"`chmod u+s {path}` by root, or reinstall its package: a copy or an archive has lost the bit"
            yield Finding(name, BAD, f"{path} has neither the set-uid bit nor capabilities", remedy)
        if os.statvfs(path).f_flag & os.ST_NOSUID:
            yield Finding(
                name, BAD, f"{path} is on a file system mounted nosuid", "mount it without nosuid"
            )


def _store(engine: Engine) -> Iterator[Finding]:
    from rootless.files import make_private_dir

    make_private_dir(engine.paths.data)
    make_private_dir(engine.paths.run)
    disk = os.statvfs(engine.paths.data)
    free = disk.f_bavail * disk.f_frsize
    text = f"{engine.paths.data}: {free / _GIB:.1f} GiB free"
    if free < 2 * _GIB:
        yield Finding(
            "store",
            NOTE,
            text,
            "`rootless system prune` frees what nothing uses; or give --root on a larger disk",
        )
    else:
        yield Finding("store", GOOD, text)
    if disk.f_files and disk.f_favail < 100_000:
        yield Finding(
            "store",
            NOTE,
            f"{disk.f_favail} inodes are left, and an image has tens of thousands",
            "a file system with more inodes",
        )
    if paths.is_network_fs(engine.paths.data):
        remedy = "give --root on a local disk; containers are kept apart by node here"
        yield Finding("store", NOTE, f"{engine.paths.data} is on a network file system", remedy)
    if disk.f_flag & os.ST_NOEXEC:
        yield Finding(
            "store",
            BAD,
            f"{engine.paths.data} is mounted noexec: no program of an image can run",
            "give --root elsewhere",
        )
    for place, options in quotas(_read("/proc/self/mounts"), engine.paths.data):
        yield Finding(
            "quota",
            NOTE,
            f"{place} has quotas ({options}): files of subordinate ids count as those ids'",
            "`quota -s` shows this user's",
        )
    try:
        probe = f"{engine.paths.run}/doctor"
        with open(probe, "wb") as file:
            file.write(b"x")
        os.unlink(probe)
    except OSError as error:
        yield Finding(
            "run folder",
            BAD,
            f"{engine.paths.run}: {(error.strerror or '').lower()}",
            "give --runroot elsewhere",
        )


def quotas(mounts: str, path: str) -> list[tuple[str, str]]:
    """The mount that holds `path`, where its options tell of quotas."""
    best: tuple[str, str] = ("", "")
    for line in mounts.splitlines():
        parts = line.split()
        if len(parts) < 4:
            continue
        place = parts[1].replace("\\040", " ")
        if (path == place or path.startswith(place.rstrip("/") + "/")) and len(place) >= len(
            best[0]
        ):
            best = (place, parts[3])
    names = [one for one in best[1].split(",") if "quota" in one and one != "noquota"]
    return [(best[0], ",".join(names))] if names else []


def _overlay(engine: Engine) -> Iterator[Finding]:
    from rootless.container import roots
    from rootless.container.options import CreateOptions

    refusal = roots.native_refusal(engine)
    kind = roots.choose(engine, CreateOptions(), None)
    if not refusal:
        yield Finding("overlay", GOOD, "the kernel mounts it on the store's file system")
    elif kind == roots.FUSE:
        yield Finding(
            "overlay",
            NOTE,
            f"the kernel's is refused ({refusal}); fuse-overlayfs is used",
            "a store on ext4, xfs or btrfs with a kernel from 5.11",
        )
    else:
        yield Finding(
            "overlay", NOTE, f"the kernel's is refused ({refusal}), and there is no fuse-overlayfs: images are copied",
            "install fuse-overlayfs, or put the store on ext4, xfs or btrfs",
        )  # fmt: skip
    if os.access("/dev/fuse", os.R_OK | os.W_OK):
        yield Finding("/dev/fuse", GOOD, "can be opened")
    else:
        yield Finding(
            "/dev/fuse",
            NOTE,
            "cannot be opened: no fuse-overlayfs",
            "`modprobe fuse` and mode 0666 by root",
        )


def _network(engine: Engine) -> Iterator[Finding]:
    from rootless.container.hostinfo import _version_of
    from rootless.linux.idmap import find_trusted

    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
        yield Finding("/dev/net/tun", GOOD, "can be opened")
    except OSError as error:
        remedy = "`modprobe tun` by root, and mode 0666; until then --network host or none"
        yield Finding(
            "/dev/net/tun",
            NOTE,
            f"cannot be opened ({(error.strerror or '').lower()}): no network of one's own",
            remedy,
        )
    found = []
    for name in ("pasta", "slirp4netns"):
        path = find_trusted(name)
        if path is not None:
            version = (_version_of(path).splitlines() or [""])[0]
            found.append(name)
            yield Finding(name, GOOD, f"{path} {version}".strip())
    if not found:
        remedy = "install passt (or slirp4netns); until then --network host or none"
        yield Finding("network helper", NOTE, "neither pasta nor slirp4netns is installed", remedy)
    start = _read("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if start.isdigit() and int(start) > 80:
        remedy = "`sysctl net.ipv4.ip_unprivileged_port_start=80` by root, or a socket unit that passes the port on"
        yield Finding("ports", NOTE, f"ports below {start} cannot be published", remedy)


def _cgroups(engine: Engine) -> Iterator[Finding]:
    from rootless.runtime import cgroup

    host = cgroup.detect()
    if host.reason:
        remedy = (
            "boot with systemd.unified_cgroup_hierarchy=1, and log in through PAM (ssh, a console)"
        )
        yield Finding(
            "cgroups",
            NOTE,
            f"{host.reason}: containers run without a cgroup, and limits are refused",
            remedy,
        )
        return
    if host.batch:
        yield Finding(
            "cgroups", NOTE, f"this is a job of {host.batch}: containers stay in the job's cgroup"
        )
        return
    controllers = cgroup.delegated_controllers()
    missing = [one for one in ("cpu", "cpuset", "io", "memory", "pids") if one not in controllers]
    yield Finding("cgroups", GOOD, f"version 2; delegated: {', '.join(controllers) or 'none'}")
    if missing:
        remedy = (
            "by root: /etc/systemd/system/user@.service.d/delegate.conf with [Service] Delegate=cpu cpuset io memory pids, "
            "then `systemctl daemon-reload` and a new log-in"
        )
        yield Finding(
            "cgroups",
            NOTE,
            f"not delegated: {', '.join(missing)}; their limits are refused",
            remedy,
        )


def _session(engine: Engine) -> Iterator[Finding]:
    from rootless.runtime import scope
    from rootless.runtime.idmap import user_name

    uid = os.geteuid()
    if not uid:
        return
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    usual = f"/run/user/{uid}"
    if runtime and paths._is_own_private(runtime):
        yield Finding("$XDG_RUNTIME_DIR", GOOD, runtime)
    else:
        why = f"{runtime} is missing, or not this user's alone" if runtime else "is not set"
        remedy = (
            f"`export XDG_RUNTIME_DIR={usual}`"
            if os.path.isdir(usual)
            else "log in through PAM, or `loginctl enable-linger`"
        )
        yield Finding("$XDG_RUNTIME_DIR", NOTE, f"{why}: {engine.paths.run} is used", remedy)
    try:
        scope.connect().close()
        answers = True
    except (OSError, RootlessError):
        answers = False
    if answers:
        yield Finding("D-Bus", GOOD, "the user's systemd manager answers")
    else:
        remedy = "`loginctl enable-linger`, install dbus-user-session, and log in anew"
        yield Finding("D-Bus", NOTE, "no systemd manager of this user: no units, no scopes", remedy)
    name = user_name(uid)
    if os.path.exists(f"/var/lib/systemd/linger/{name}"):
        yield Finding(
            "linger", GOOD, f"on: {name}'s containers outlive the log-in and start at boot"
        )
    elif os.path.isdir("/run/systemd/system"):
        yield Finding(
            "linger",
            NOTE,
            f"off: {name}'s containers end with the last log-out",
            "`loginctl enable-linger`",
        )


def _seccomp(engine: Engine) -> Iterator[Finding]:
    from rootless.container.facts import seccomp_profile
    from rootless.runtime import seccomp

    if "errno" not in _read("/proc/sys/kernel/seccomp/actions_avail"):
        yield Finding(
            "seccomp",
            BAD,
            "the kernel has no filters",
            "a kernel with CONFIG_SECCOMP_FILTER; or --security-opt seccomp=unconfined",
        )
        return
    document = seccomp_profile(engine, "")
    section = seccomp.profile(document, [])
    size = len(seccomp.compile(section, engine.paths.cache)) // 8
    yield Finding("seccomp", GOOD, f"the profile is a filter of {size} instructions")


def _settings(engine: Engine) -> Iterator[Finding]:
    from rootless.config import sources

    read = [path for path in sources() if os.path.exists(path)]
    engine.config.text("containers", "log_driver")
    yield Finding("settings", GOOD, f"read from {', '.join(read)}" if read else "the shipped ones")


def _registries(engine: Engine) -> Iterator[Finding]:
    import socket

    from rootless.image import registries

    config = registries.load()
    for name in [*config.search][:4] or ["docker.io"]:
        host = "registry-1.docker.io" if name == "docker.io" else name.partition("/")[0]
        place, _, port = host.partition(":")
        if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
            yield Finding(
                "registry", GOOD, f"{name} is reached through a proxy, which is not asked"
            )
            continue
        try:
            socket.create_connection((place, int(port or 443)), timeout=_REGISTRY_S).close()
            yield Finding("registry", GOOD, f"{name} can be reached")
        except (OSError, ValueError) as error:
            why = (getattr(error, "strerror", None) or str(error)).lower()
            yield Finding(
                "registry",
                NOTE,
                f"{name} cannot be reached: {why}",
                "look to name service and firewall; or set HTTPS_PROXY",
            )
