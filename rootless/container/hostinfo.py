"""What this machine can do for containers and how the engine uses it: the facts behind `info`, each with its reason.

Keys are Podman's JSON names, so that scripts find them; what an engine without conmon, netavark or a service has not is
left out. `limitations` says in whole sentences what this host keeps containers from, and the remedy.
"""

from __future__ import annotations

import os

from rootless.container import cgroup_manager, runtimes
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.container.engine import Engine

    Facts = dict[str, Any]

_FILE_SYSTEMS = {
    0xEF53: "extfs",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x01021994: "tmpfs",
    0x2FC12FC1: "zfs",
    0x794C7630: "overlayfs",
    0x6969: "nfs",
    0xF2F52010: "f2fs",
    0xCA451A4E: "bcachefs",
    0x0BD00BD0: "lustre",
    0x47504653: "gpfs",
    0x00C36400: "ceph",
    0xFF534D42: "cifs",
    0x65735546: "fuse",
}


def gather(engine: Engine) -> Facts:
    """What `info` tells, in Podman's structure."""
    limitations: list[str] = []
    facts: Facts = {
        "host": _host(engine, limitations),
        "store": _store(engine, limitations),
        "registries": _registries(),
        "plugins": {
            "volume": ["local"],
            "network": ["bridge"],
            "log": ["k8s-file", "json-file", "none"],
            "authorization": None,
        },
    }
    facts["host"]["limitations"] = limitations
    return facts


def _host(engine: Engine, limitations: list[str]) -> Facts:
    from rootless.runtime import cgroup_plan, scope
    from rootless.runtime.idmap import single_id_remedy

    name = os.uname()
    memory = _meminfo()
    groups = cgroup_plan.detect()
    controllers = cgroup_plan.delegated_controllers() if groups.version == 2 else []
    if groups.reason:
        limitations.append(
            f"{groups.reason}: containers run without a cgroup, and a limit is refused"
        )
    elif groups.batch:
        limitations.append(f"this is a job of {groups.batch}: containers stay in the job's cgroup")
    elif not scope.is_available():
        limitations.append(
            "no systemd manager of this user runs: containers run without a cgroup, and a limit is refused "
            "(log in through PAM, or `loginctl enable-linger`)"
        )
    elif missing := [one for one in ("cpu", "io", "memory", "pids") if one not in controllers]:
        limitations.append(
            f"cgroup controllers not delegated to this user: {', '.join(missing)}; their limits are refused "
            "(Delegate=yes in a drop-in of user@.service)"
        )
    facts: Facts = {
        "arch": _architecture(name.machine),
        "cgroupControllers": controllers,
        "cgroupManager": cgroup_manager.effective(engine),
        "cgroupVersion": f"v{groups.version}" if groups.version else "none",
        "cpuUtilization": _cpu_utilization(),
        "cpus": os.cpu_count() or 1,
        "databaseBackend": "files",
        "distribution": _distribution(),
        "eventLogger": engine.settings.get("events-backend")
        or engine.config.text("engine", "events_logger"),
        "hostname": name.nodename,
        "kernel": name.release,
        "logDriver": engine.config.text("containers", "log_driver"),
        "memFree": memory.get("MemFree", 0),
        "memTotal": memory.get("MemTotal", 0),
        "networkBackend": "slirp",
        "ociRuntime": _runtime(engine),
        "os": "linux",
        "remoteSocket": {"path": "", "exists": False},
        "rootlessNetworkCmd": engine.config.text("network", "default_rootless_network_cmd"),
        "security": _security(engine),
        "serviceIsRemote": False,
        "swapFree": memory.get("SwapFree", 0),
        "swapTotal": memory.get("SwapTotal", 0),
        "uptime": _uptime(),
        "variant": {"armv7l": "v7", "armv6l": "v6", "aarch64": "v8"}.get(name.machine, ""),
    }
    try:
        idmap = engine.idmap
    except RootlessError as error:
        limitations.append(f"{error.message} ({error.hint})" if error.hint else error.message)
        facts["idMappings"] = {"gidmap": [], "uidmap": []}
    else:
        facts["idMappings"] = {"gidmap": _ranges(idmap.gids), "uidmap": _ranges(idmap.uids)}
        if sum(size for _, _, size in idmap.uids) == 1:
            limitations.append(single_id_remedy())
    facts.update(_helpers(limitations))
    return facts


def _architecture(machine: str) -> str:
    return {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}.get(
        machine, machine
    )


def _runtime(engine: Engine) -> Facts:
    from rootless import __version__

    other = runtimes.choose(engine)
    if other is not None:
        return {
            "name": runtimes.name_of({"runtime": other}),
            "path": other["path"],
            "version": runtimes.version(other["path"]),
        }
    return {
        "name": "rootless",
        "path": "built in",
        "version": f"rootless version {__version__}\nspec: 1.2.0",
    }


def _meminfo() -> dict[str, int]:
    """/proc/meminfo in bytes."""
    found = {}
    with open("/proc/meminfo") as file:
        for line in file:
            key, _, value = line.partition(":")
            if value.endswith("kB\n"):
                found[key] = int(value.split()[0]) * 1024
    return found


def _cpu_utilization() -> dict[str, float]:
    """Shares of all processors' time since boot, as Podman works them out."""
    with open("/proc/stat") as file:
        times = [int(word) for word in file.readline().split()[1:]]
    user, system, idle = times[0] + times[1], times[2], times[3]
    total = sum(times[:4]) or 1
    return {
        "userPercent": round(100 * user / total, 2),
        "systemPercent": round(100 * system / total, 2),
        "idlePercent": round(100 * idle / total, 2),
    }


def _distribution() -> dict[str, str]:
    release: dict[str, str] = {}
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                for line in file:
                    key, sign, value = line.strip().partition("=")
                    if sign:
                        release[key] = value.strip("\"'")
            break
        except OSError:
            continue
    found = {
        "distribution": release.get("ID", "unknown"),
        "version": release.get("VERSION_ID", "unknown"),
    }
    for key, name in (("variant", "VARIANT_ID"), ("codename", "VERSION_CODENAME")):
        if name in release:
            found[key] = release[name]
    return found


def _uptime() -> str:
    with open("/proc/uptime") as file:
        seconds = float(file.read().split()[0])
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{int(hours)}h {int(minutes)}m {rest:.2f}s (Approximately {seconds / 86400:.2f} days)"


def _security(engine: Engine) -> Facts:
    from rootless.data import data_path
    from rootless.runtime.capabilities import DEFAULT

    return {
        "apparmorEnabled": _says("/sys/module/apparmor/parameters/enabled", "Y"),
        "capabilities": ",".join(
            engine.config.texts("containers", "default_capabilities") or DEFAULT
        ),
        "rootless": os.geteuid() != 0,
        "seccompEnabled": os.path.exists("/proc/sys/kernel/seccomp"),
        "seccompProfilePath": engine.config.text("containers", "seccomp_profile")
        or data_path("config", "seccomp.json"),
        "selinuxEnabled": os.path.exists("/sys/fs/selinux/enforce"),
    }


def _capabilities(engine: Engine) -> list[str]:
    names = engine.config.texts("containers", "default_capabilities")
    return [name if name.startswith("CAP_") else f"CAP_{name}" for name in names]


def _says(path: str, word: str) -> bool:
    try:
        with open(path) as file:
            return file.read().strip() == word
    except OSError:
        return False


def _ranges(ranges: list[tuple[int, int, int]]) -> list[dict[str, int]]:
    return [
        {"container_id": inside, "host_id": host, "size": size} for inside, host, size in ranges
    ]


_HELPERS = (
    ("pasta", "pasta", "networks that Podman's default gives are not to be had (install passt)"),
    ("slirp4netns", "slirp4netns", ""),
    ("fuseOverlayfs", "fuse-overlayfs", ""),
    ("catatonit", "catatonit", ""),
    (
        "newuidmap",
        "newuidmap",
        "containers have one id (install uidmap, the setuid tools of shadow)",
    ),
)


def _helpers(limitations: list[str]) -> Facts:
    """The programs of the host that the engine can call."""
    from rootless.linux.idmap import find_trusted

    found: Facts = {}
    for key, name, without in _HELPERS:
        path = find_trusted(name)
        if path is None:
            if without:
                limitations.append(f"{name} is not installed: {without}")
            continue
        found[key] = {"executable": path}
        version = _version_of(path) if name not in ("newuidmap", "catatonit") else ""
        if version:
            found[key]["version"] = version
    return found


def _version_of(path: str) -> str:
    import subprocess

    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=5,
            check=False,
            text=True,
        )
        said = done.stdout or _on_terminal([path, "--version"])
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return ""
    # pasta adds its licence.
    return said.partition("\nCopyright")[0].partition("\n\n")[0].strip()


def _on_terminal(command: list[str]) -> str:
    """What a program tells a terminal only: pasta of 2025 ends without writing out what it has for a pipe."""
    import subprocess

    ours, theirs = os.openpty()
    try:
        subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.DEVNULL, timeout=5, check=False
        )  # fmt: skip
        os.set_blocking(ours, False)
        return os.read(ours, 4096).decode(errors="replace").replace("\r\n", "\n")
    finally:
        os.close(theirs)
        os.close(ours)


def _store(engine: Engine, limitations: list[str]) -> Facts:
    from rootless.container import roots
    from rootless.container.options import CreateOptions
    from rootless.container.status import PAUSED, RUNNING, all_statuses
    from rootless.files import make_private_dir
    from rootless.linux.fs import fs_type

    make_private_dir(engine.paths.data)
    words = [status.word for status in all_statuses(engine)]
    kind, refusal = "none", ""
    try:
        kind = roots.choose(engine, CreateOptions(), None)
        refusal = roots.native_refusal(engine)
    except (RootlessError, OSError) as error:
        limitations.append(f"container roots: {error}")
    if refusal:
        limitations.append(
            f"native overlay is refused here ({refusal}): container roots are made by "
            + (
                "fuse-overlayfs"
                if kind == roots.FUSE
                else "copying, which is slow and large; install fuse-overlayfs"
            )
        )
    disk = os.statvfs(engine.paths.data)
    number = fs_type(engine.paths.data)
    return {
        "configFile": _storage_conf(),
        "containerStore": {
            "number": len(words),
            "paused": words.count(PAUSED),
            "running": words.count(RUNNING),
            "stopped": len(words) - words.count(PAUSED) - words.count(RUNNING),
        },
        "graphDriverName": "vfs" if kind == roots.COPY else "overlay",
        "graphOptions": {},
        "graphRoot": engine.paths.data,
        "graphRootAllocated": disk.f_blocks * disk.f_frsize,
        "graphRootUsed": (disk.f_blocks - disk.f_bfree) * disk.f_frsize,
        "graphStatus": {
            "Backing Filesystem": _FILE_SYSTEMS.get(number, f"{number:#x}"),
            "Native Overlay Diff": str(kind == roots.OVERLAY).lower(),
            "Root File System": kind,
        },
        "imageCopyTmpDir": engine.paths.tmp,
        "imageStore": {"number": len(engine.images.list())},
        "runRoot": engine.paths.run,
        "transientStore": engine.config.flag("storage", "transient_store"),
        "volumePath": engine.paths.volumes,
    }


def _storage_conf() -> str:
    from rootless.config import sources

    files = [path for path in sources() if path.endswith("storage.conf")]
    return files[-1] if files else ""


def _registries() -> Facts:
    from rootless.image import registries

    try:
        config = registries.load()
    except RootlessError:
        return {}
    search = list(config.search)
    return {"search": search} if search else {}
