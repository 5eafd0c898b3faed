"""A look at the host as an administrator would take it: what works, what does not, and the remedy.

Each check asks the kernel or the host itself and repeats nobody's belief. A check that fails in itself is a finding, too;
none of them changes anything but the store's own caches.
"""

from __future__ import annotations

import os
import stat

from rootless import causes, paths
from rootless.container import doctor_host as host
from rootless.container.doctor_finding import BAD, GIB, GOOD, NOTE, Finding, read
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rootless.container.engine import Engine

    Span = tuple[int, int]

_WANTED_IDS = 65536


def examine(engine: Engine, *, offline: bool = False) -> Iterator[Finding]:
    """All findings, in the order in which they should be mended."""
    # What it is called where it fails, the check, and whether it asks for a store that can be written to.
    checks: list[tuple[str, Callable[[Engine], Iterator[Finding]], bool]] = [
        ("kernel", _kernel, False),
        ("user namespaces", _namespaces, False),
        ("security modules", host.modules, False),
        ("subordinate ids", _subordinate, False),
        ("id maps", _id_helpers, False),
        ("isolation", host.isolation, False),
        ("store", _store, False),
        ("store", host.mounted, True),
        ("quota", host.quota, True),
        ("root file systems", _overlay, True),
        ("programs", _programs, False),
        ("network", _network, False),
        ("limits", host.limits, False),
        ("cgroups", _cgroups, False),
        ("session", _session, False),
        ("seccomp", _seccomp, False),
        ("settings", _settings, False),
    ]
    if not offline:
        checks.append(("registries", host.registries, False))
    writable, namespaces = True, True
    for subject, check, needs_store in checks:
        if (needs_store and not writable) or (check == host.isolation and not namespaces):
            continue  # the same cause again
        try:
            for finding in check(engine):
                writable = writable and (check != _store or finding.state != BAD)
                yield finding
            continue
        except RootlessError as error:
            yield Finding(subject, BAD, error.message, error.hint)
        except OSError as error:
            text = f"{error.filename or subject}: {(error.strerror or str(error)).lower()}"
            yield Finding(subject, BAD, text, causes.remedy(error, engine.paths.data))
        writable = writable and check != _store
        namespaces = namespaces and check != _namespaces


def works(findings: list[Finding]) -> bool:
    """Whether containers can be run."""
    return all(one.state != BAD for one in findings)


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
    from rootless.linux.idmap import IdMap
    from rootless.linux.userns import fork_in_userns

    limit = read("/proc/sys/user/max_user_namespaces")
    own = IdMap([(0, os.geteuid(), 1)], [(0, os.getegid(), 1)])
    fork_in_userns(own, lambda: None).wait()
    yield Finding("user namespaces", GOOD, f"can be made; at most {limit or 'as many as wanted'}")


def _subordinate(engine: Engine) -> Iterator[Finding]:
    from rootless.runtime.idmap import subordinate_spans, user_name

    uid = os.geteuid()
    name = user_name(uid) if uid else "containers"
    uids, gids = subordinate_spans(name, uid)
    if not uid and not (uids and gids):
        uids, gids = subordinate_spans("root", 0)
    for kind, spans, file in (("uid", uids, "/etc/subuid"), ("gid", gids, "/etc/subgid")):
        subject = f"subordinate {kind}s"
        count = sum(size for _, size in spans)
        text = ", ".join(f"{start}-{start + size - 1}" for start, size in spans)
        if not spans and os.path.exists(file) and not os.access(file, os.R_OK):
            text = f"{file} cannot be read: containers have one id"
            yield Finding(subject, NOTE, text, f"`chmod 644 {file}` by root")
        elif not spans:
            first, last = free_range(read(file))
            remedy = f"`usermod --add-sub{kind}s {first}-{last} {name}` by root"
            text = f"{name} has none in {file}: containers have one id, and files of other owners become its own"
            yield Finding(subject, NOTE, text, remedy)
        elif count < _WANTED_IDS:
            first, last = free_range(read(file), _WANTED_IDS - count)
            remedy = f"`usermod --add-sub{kind}s {first}-{last} {name}` by root, for {_WANTED_IDS} altogether"
            yield Finding(
                subject, NOTE, f"{text}: {count} only, while images use up to {_WANTED_IDS}", remedy
            )
        else:
            yield Finding(subject, GOOD, f"{text}: {count}")
        for other, start, size in foreign(read(file), (name, str(uid)), spans):
            yield Finding(
                subject, NOTE, f"{file}: {other} has ids of {name}'s ({start}-{start + size - 1}): each can reach the other's files",
                f"root gives one of them a range of its own in {file}",
            )  # fmt: skip


def free_range(text: str, count: int = _WANTED_IDS) -> tuple[int, int]:
    """The first range, from where `useradd` begins, that no one has: for the remedy to name."""
    taken = []
    for line in text.splitlines():
        parts = line.strip().split(":")
        if len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit():
            taken.append((int(parts[1]), int(parts[2])))
    first = 100_000
    for start, size in sorted(taken):
        if start < first + count and first < start + size:
            first = start + size
    return first, first + count - 1


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
    from rootless.linux.idmap import count, find_trusted

    if engine.idmap.is_single:
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
            return
        if os.statvfs(path).f_flag & os.ST_NOSUID:
            yield Finding(
                name, BAD, f"{path} is on a file system mounted nosuid", "mount it without nosuid"
            )
            return
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
            return
    from rootless.linux.userns import fork_in_userns

    fork_in_userns(engine.idmap, lambda: None).wait()
    yield Finding("id maps", GOOD, f"{count(engine.idmap.uids)} ids can be mapped")


def _store(engine: Engine) -> Iterator[Finding]:
    from rootless.files import make_private_dir

    for what, folder, option in (
        ("store", engine.paths.data, "--root"),
        ("run folder", engine.paths.run, "--runroot"),
    ):
        try:
            make_private_dir(folder)
            probe = f"{folder}/doctor.{os.getpid()}"
            with open(probe, "wb") as file:
                file.write(b"x")
            os.unlink(probe)
        except (OSError, RootlessError) as error:
            why = error.message if isinstance(error, RootlessError) else _reason(error)
            text = f"{folder} cannot be written to: {why}"
            yield Finding(
                what,
                BAD,
                text,
                f"give {option} elsewhere, or mend what keeps it from being written to",
            )
            return
    disk = os.statvfs(engine.paths.data)
    free = disk.f_bavail * disk.f_frsize
    text = f"{engine.paths.data}: {free / GIB:.1f} GiB free"
    remedy = "`rootless system prune` frees what nothing uses; or give --root on a larger disk"
    if free < 32 << 20:
        text = f"{engine.paths.data}: {free >> 10} KiB free, which no image fits in"
        yield Finding("store", BAD, text, remedy)
    elif free < 2 * GIB:
        yield Finding("store", NOTE, text, remedy)
    else:
        yield Finding("store", GOOD, text)
    if disk.f_files and disk.f_favail < 100_000:
        yield Finding(
            "store",
            NOTE,
            f"{disk.f_favail} inodes are left, and an image has tens of thousands",
            "`rootless system prune`, or give --root on a file system with more inodes",
        )


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _overlay(engine: Engine) -> Iterator[Finding]:
    from rootless.container import roots
    from rootless.container.options import CreateOptions

    refusal = roots.native_refusal(engine, fresh=True)
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
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
        yield Finding("/dev/fuse", GOOD, "can be opened")
    except OSError as error:
        text = f"cannot be opened ({(error.strerror or '').lower()}): no fuse-overlayfs"
        yield Finding("/dev/fuse", NOTE, text, "`modprobe fuse` and mode 0666 by root")


def _programs(engine: Engine) -> Iterator[Finding]:
    """Programs of the host without which something cannot be had."""
    from rootless.container.facts import init_path
    from rootless.container.hostinfo import _version_of
    from rootless.container.options import CreateOptions
    from rootless.linux.idmap import find_trusted

    path = find_trusted("fuse-overlayfs")
    if path is not None:
        said = _version_of(path).splitlines()
        version = next((one for one in said if one.startswith("fuse-overlayfs")), "")
        yield Finding("fuse-overlayfs", GOOD, f"{path} {version}".strip())
    try:
        init_path(engine, CreateOptions())
    except RootlessError:
        text = "is not installed: no --init"
        yield Finding("catatonit", NOTE, text, "install catatonit, or give --init-path")
    if find_trusted("gpg") is None:
        text = "is not installed: images that policy.json wants signed cannot be pulled"
        yield Finding("gpg", NOTE, text, "install gnupg, where policy.json asks for signatures")


def _network(engine: Engine) -> Iterator[Finding]:
    from rootless.container.hostinfo import _version_of
    from rootless.linux.idmap import find_trusted

    tun = False
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
        yield Finding("/dev/net/tun", GOOD, "can be opened")
        tun = True
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
    if tun and "pasta" in found:
        yield from host.pasta(engine)
    if not found:
        remedy = "install passt (or slirp4netns); until then --network host or none"
        yield Finding("network helper", NOTE, "neither pasta nor slirp4netns is installed", remedy)
    start = read("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if start.isdigit() and int(start) > 80:
        remedy = "`sysctl net.ipv4.ip_unprivileged_port_start=80` by root, or a socket unit that passes the port on"
        yield Finding("ports", NOTE, f"ports below {start} cannot be published", remedy)


def _cgroups(engine: Engine) -> Iterator[Finding]:
    from rootless.container.cgroup_manager import wanted
    from rootless.runtime import cgroup_plan

    host_group = cgroup_plan.detect()
    reason = host_group.reason
    if not reason and not host_group.batch:
        reason = cgroup_plan.plan("doctor", manager=wanted(engine)).reason
    if reason:
        if host_group.version == 2:
            remedy = "log in through PAM (ssh, a console), or `loginctl enable-linger`"
        else:
            remedy = "boot with systemd.unified_cgroup_hierarchy=1"
        yield Finding(
            "cgroups",
            NOTE,
            f"{reason}: containers run without a cgroup, and limits are refused",
            remedy,
        )
        return
    if host_group.batch:
        yield Finding(
            "cgroups",
            NOTE,
            f"this is a job of {host_group.batch}: containers stay in the job's cgroup",
        )
        return
    controllers = cgroup_plan.delegated_controllers()
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
    elif os.path.isdir("/run/systemd/system"):
        remedy = "`loginctl enable-linger`, install dbus-user-session, and log in anew"
        yield Finding("D-Bus", NOTE, "no systemd manager of this user: no units, no scopes", remedy)
    else:
        text = "systemd is not the init of this machine: no units, no scopes"
        yield Finding("D-Bus", NOTE, text, "none is needed, unless services and limits are wanted")
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

    # /proc/sys is hidden in some containers, which says nothing of the kernel.
    if "\nSeccomp:" not in read("/proc/self/status"):
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
