"""More of `doctor`: what only a try shows, and what a host limits."""

from __future__ import annotations

import os

from rootless import paths
from rootless.container.doctor_finding import BAD, GIB, GOOD, NOTE, Finding, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.container.engine import Engine

_REGISTRY_S = 4.0
_ALL_REGISTRIES_S = 8.0
#: Fewer processes or files than this hold a container with a shell in it and not much more.
_FEW_PROCESSES, _FEW_FILES = 512, 1024


def isolation(engine: Engine) -> Iterator[Finding]:
    """Make what every container needs: all namespaces, and the file systems in them."""
    from rootless.linux import mount
    from rootless.linux.idmap import IdMap
    from rootless.linux.sched import (
        CLONE_NEWIPC,
        CLONE_NEWNET,
        CLONE_NEWNS,
        CLONE_NEWPID,
        CLONE_NEWUTS,
    )
    from rootless.linux.userns import fork_in_userns

    own = IdMap([(0, os.geteuid(), 1)], [(0, os.getegid(), 1)])
    folder = "/tmp"  # in a mount namespace of its own, where it is hidden from no one else
    refused: list[tuple[str, str]] = []

    def body(kind: str) -> None:
        child = os.fork()  # CLONE_NEWPID is for children
        if not child:
            try:
                mount.mount("none", "/", None, mount.MS_REC | mount.MS_PRIVATE)
                mount.mount(kind, folder, kind, mount.MS_NOSUID | mount.MS_NODEV)
                os._exit(0)
            except OSError as error:
                os._exit(error.errno or 255)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            raise OSError(status, os.strerror(status))

    flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET
    for kind in ("proc", "sysfs", "tmpfs"):
        try:
            fork_in_userns(own, lambda kind=kind: body(kind), flags=flags).wait()  # type: ignore[misc]
        except OSError as error:
            refused.append((kind, (error.strerror or str(error)).lower()))
    if not refused:
        yield Finding("isolation", GOOD, "namespaces of every kind; proc, sysfs and tmpfs in them")
    restricted = read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1"
    for kind, why in refused:
        if restricted and kind == "tmpfs":
            remedy = "an AppArmor profile that grants userns to this command, or `sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
        else:
            remedy = (
                "this seems to be a container itself: run it with its /proc and /sys unmasked (--security-opt unmask=ALL), "
                "or give inner ones --pid host (proc), --network host (sysfs)"
            )
        yield Finding("isolation", BAD, f"{kind} cannot be mounted: {why}", remedy)


def quota(engine: Engine) -> Iterator[Finding]:
    """How much of the disk is this user's by quota."""
    from rootless.linux import quota as quotas

    found = quotas.usage(engine.paths.data, os.geteuid())
    place, options = mount_options(read("/proc/self/mounts"), engine.paths.data)
    if found is None or not (found.limit_bytes or found.limit_inodes):
        kinds = [one for one in options.split(",") if "quota" in one and one != "noquota"]
        if kinds:
            said = f"{place} has quotas ({','.join(kinds)}), and none is set for this user"
            yield Finding("quota", GOOD, said)
        return
    tight = False
    text: list[str] = []
    if found.limit_bytes:
        text.append(f"{found.used_bytes / GIB:.1f} of {found.limit_bytes / GIB:.1f} GiB")
        tight = found.limit_bytes - found.used_bytes < 2 * GIB
    if found.limit_inodes:
        text.append(f"{found.used_inodes} of {found.limit_inodes} files")
        tight = tight or found.limit_inodes - found.used_inodes < 100_000
    said = f"{place}: {' and '.join(text)} are used; files of subordinate ids count as those ids'"
    if tight:
        remedy = "`rootless system prune`; or ask for a higher quota, or give --root elsewhere"
        yield Finding("quota", NOTE, said, remedy)
    else:
        yield Finding("quota", GOOD, said)


def mount_options(mounts: str, path: str) -> tuple[str, str]:
    """The mount that holds `path`, and its options."""
    best: tuple[str, str] = ("", "")
    for line in mounts.splitlines():
        parts = line.split()
        if len(parts) < 4:
            continue
        place = parts[1].replace("\\040", " ")
        below = path == place or path.startswith(place.rstrip("/") + "/")
        if below and len(place) >= len(best[0]):
            best = (place, parts[3])
    return best


def mounted(engine: Engine) -> Iterator[Finding]:
    """How the store's file system is mounted."""
    from rootless.linux.fs import TMPFS_MAGIC, fs_type

    data = engine.paths.data
    flags = os.statvfs(data).f_flag
    if flags & os.ST_NOEXEC:
        yield Finding(
            "store",
            BAD,
            f"{data} is mounted noexec: no program of an image can run",
            "give --root on another file system, or ask for `mount -o remount,exec`",
        )
    if flags & os.ST_NOSUID:
        yield Finding(
            "store",
            NOTE,
            f"{data} is mounted nosuid: sudo, su and ping in images do not gain what they are to",
            "give --root on another file system, or ask for `mount -o remount,suid`",
        )
    if paths.is_network_fs(data):
        remedy = "give --root on a local disk; containers are kept apart by node here"
        yield Finding("store", NOTE, f"{data} is on a network file system", remedy)
    elif fs_type(data) == TMPFS_MAGIC:
        remedy = "give --root on a disk, if images are to outlive a reboot"
        yield Finding("store", NOTE, f"{data} is in memory (tmpfs)", remedy)


def modules(engine: Engine) -> Iterator[Finding]:
    """Linux security modules that have a say in containers."""
    if read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        yield Finding(
            "AppArmor", NOTE, "grants user namespaces to programs with a profile only",
            "a copy of this command elsewhere (in a home, a virtual environment) needs a profile of its own",
        )  # fmt: skip
    enforcing = read("/sys/fs/selinux/enforce")
    if enforcing:
        label = read("/proc/self/attr/current").rstrip("\0")
        text = f"{'enforcing' if enforcing == '1' else 'permissive'}; containers run as {label}"
        yield Finding("SELinux", GOOD, text)


def limits(engine: Engine) -> Iterator[Finding]:
    """What this user's processes may have."""
    import resource

    processes = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    few = []
    if processes != resource.RLIM_INFINITY and processes < _FEW_PROCESSES:
        few.append(f"{processes} processes (nproc)")
    if files != resource.RLIM_INFINITY and files < _FEW_FILES:
        few.append(f"{files} open files (nofile)")
    watches = read("/proc/sys/fs/inotify/max_user_instances")
    if watches.isdigit() and int(watches) < 16:
        yield Finding(
            "limits", NOTE, f"{watches} inotify instances for this user: `logs --follow` and `events` need one each",
            "`sysctl fs.inotify.max_user_instances=128` by root",
        )  # fmt: skip
    if few:
        remedy = "raise them in /etc/security/limits.conf, or LimitNPROC= and LimitNOFILE= of user@.service"
        yield Finding("limits", NOTE, f"this user is held to {' and '.join(few)}", remedy)
    else:
        yield Finding("limits", GOOD, "processes and open files are enough")


def pasta(engine: Engine) -> Iterator[Finding]:
    """Have pasta make a network, as it does for a container."""
    import subprocess

    from rootless.linux.idmap import find_trusted

    if not os.geteuid():
        return  # it would become nobody first, which no container's does
    try:
        done = subprocess.run(
            [find_trusted("pasta") or "pasta", "--quiet", "--config-net", "--", "true"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
        said, failed = (done.stderr.strip().splitlines() or [""])[-1], done.returncode
    except subprocess.TimeoutExpired:
        said, failed = "it does not end", 1
    if failed:
        remedy = "until then --network slirp4netns, host or none"
        yield Finding("pasta", NOTE, f"cannot make a network: {said}", remedy)


def registries(engine: Engine) -> Iterator[Finding]:
    """Whether registries answer: all at once, and no longer than a few seconds."""
    import threading
    import time

    from rootless.image import reference
    from rootless.image import registries as settings

    config = settings.load()
    names = [*config.search][:4] or ["docker.io"]
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        yield Finding("registry", GOOD, f"{', '.join(names)}: a proxy is asked, which is not tried")
        return
    answers: dict[str, str] = {}
    threads = []
    for name in names:
        insecure = config.is_insecure(reference.parse(f"{name}/x"))
        # Daemons: a name service that hangs is left behind when the time is over.
        thread = threading.Thread(target=_reach, args=(name, insecure, answers), daemon=True)
        thread.start()
        threads.append(thread)
    end = time.monotonic() + _ALL_REGISTRIES_S
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    for name in names:
        why = answers.get(name, f"no answer within {_ALL_REGISTRIES_S:.0f} seconds")
        if why:
            remedy = (
                "look to the host's clock and its CA certificates (/etc/containers/certs.d for a private one)"
                if "certificate" in why
                else "look to name service and firewall; or set HTTPS_PROXY"
            )
            yield Finding("registry", NOTE, f"{name} cannot be reached: {why}", remedy)
        else:
            yield Finding("registry", GOOD, f"{name} can be reached")


def _reach(name: str, insecure: bool, answers: dict[str, str]) -> None:
    """Connect, and shake hands by TLS unless the registry is one that is trusted without."""
    import socket
    import ssl

    host = "registry-1.docker.io" if name == "docker.io" else name.partition("/")[0]
    place, _, port = host.partition(":")
    try:
        with socket.create_connection((place, int(port or 443)), timeout=_REGISTRY_S) as raw:
            if not insecure:
                ssl.create_default_context().wrap_socket(raw, server_hostname=place).close()
        answers[name] = ""
    except ssl.SSLCertVerificationError as error:
        answers[name] = f"its certificate is not trusted: {error.verify_message}"
    except (OSError, ValueError) as error:
        answers[name] = (getattr(error, "strerror", None) or str(error)).lower()
