"""spec: a config.json to begin with: a shell on a terminal, with runc's mounts, masks and few capabilities."""

from __future__ import annotations

import os

from rootless import quickjson as json
from rootless.errors import RootlessError
from rootless.files import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.ocicli.commandline import Given

_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]


def run(settings: Given, given: Given) -> int:
    """The command."""
    path = os.path.join(given.text("bundle") or ".", "config.json")
    document = example(rootless=given.switch("rootless"))
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise RootlessError(f"{path}: exists, and is not written over") from None
    try:
        write_all(fd, (json.dumps(document, indent="\t") + "\n").encode())
    finally:
        os.close(fd)
    return 0


def example(*, rootless: bool) -> dict[str, Any]:
    """The document; with `rootless` one that any user can run, in a user namespace and the host's network."""
    namespaces = ["pid", "ipc", "uts", "mount", *([] if rootless else ["network"]), "cgroup"]
    linux: dict[str, Any] = {}
    if rootless:
        namespaces.append("user")
        linux["uidMappings"] = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
    else:
        linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    linux["namespaces"] = [{"type": kind} for kind in namespaces]
    linux["maskedPaths"] = [
        "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
        "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
    ]  # fmt: skip
    linux["readonlyPaths"] = [
        "/proc/bus",
        "/proc/fs",
        "/proc/irq",
        "/proc/sys",
        "/proc/sysrq-trigger",
    ]
    return {
        "ociVersion": "1.2.0",
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ],
            "cwd": "/",
            "capabilities": {
                kind: list(_CAPABILITIES) for kind in ("bounding", "effective", "permitted")
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "container",
        "mounts": _mounts(rootless),
        "linux": linux,
    }


def _mounts(rootless: bool) -> list[dict[str, Any]]:
    gid = [] if rootless else ["gid=5"]
    plain = ["nosuid", "noexec", "nodev"]
    sys = (
        {
            "destination": "/sys",
            "type": "none",
            "source": "/sys",
            "options": ["rbind", "nosuid", "noexec", "nodev", "ro"],
        }
        if rootless
        else {
            "destination": "/sys",
            "type": "sysfs",
            "source": "sysfs",
            "options": [*plain, "ro"],
        }
    )
    return [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", *gid],
        },
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": [*plain, "mode=1777", "size=65536k"],
        },
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": plain},
        sys,
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup",
            "source": "cgroup",
            "options": [*plain, "relatime", "ro"],
        },
    ]
