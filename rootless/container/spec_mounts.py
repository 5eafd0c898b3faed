"""The mounts of a container's runtime-spec document, and what of /proc and /sys is hidden. Pure, as spec.py."""

from __future__ import annotations

from rootless.container.mounts import check_options
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from rootless.container.mounts import Mount
    from rootless.container.options import CreateOptions
    from rootless.container.spec import HostFacts, OciMount

INIT_PATH = "/run/podman-init"

# Podman's lists, for the same containers to see the same.
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
)
READONLY_PATHS = (
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)


def owns_network(host: HostFacts, new: set[str]) -> bool:
    """Whether a sysfs, which shows its network namespace's devices, can be mounted: by that one's owner only."""
    return "network" in new or {"network", "user"} <= set(host.namespaces)


def make_mounts(
    options: CreateOptions, host: HostFacts, new: set[str], *, systemd: bool
) -> list[OciMount]:
    """All mounts of a container, in the order in which they are made: a parent before what lies in it."""
    found: dict[str, OciMount] = {}
    _add_kernels(found, options, host, new, systemd=systemd)
    for entry in host.image_mounts:
        found[entry["destination"]] = dict(entry)
    _add_files(found, options, host)
    _add_writable(found, options, systemd=systemd)
    _add_devices(found, options, host)
    overlays = 0
    for mount in host.mounts:
        entry, overlays = _user_mount(mount, host, overlays)
        found[entry["destination"]] = entry
    # A mount must not hide one that was made before it below.
    return sorted(found.values(), key=lambda entry: _depth(entry["destination"]))


def _add(found: dict[str, OciMount], place: str, kind: str, source: str, *words: str) -> None:
    found[place] = {
        "destination": place,
        "type": kind,
        "source": source,
        "options": list(words),
    }


def _add_kernels(
    found: dict[str, OciMount],
    options: CreateOptions,
    host: HostFacts,
    new: set[str],
    *,
    systemd: bool,
) -> None:
    """The file systems by which the kernel shows itself, and memory."""
    read_write = "rw" if options.privileged else "ro"
    if "pid" in new or options.pid != "host":
        _add(found, "/proc", "proc", "proc", "nosuid", "noexec", "nodev", *options.proc_options)
    else:
        # The host's pid namespace is not ours: a new proc of it cannot be mounted.
        words = ("rbind", "rw", "rprivate", "nosuid", "noexec", "nodev")
        _add(found, "/proc", "bind", "/proc", *words)
    _add(found, "/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k")
    safe = ("nosuid", "noexec", "nodev")
    if owns_network(host, new):
        private = ("rprivate",) if options.privileged else ()
        _add(found, "/sys", "sysfs", "sysfs", *private, *safe, read_write)
    else:
        _add(found, "/sys", "bind", "/sys", "rprivate", *safe, read_write, "rbind")
    gid5 = any(inside <= 5 < inside + size for inside, _, size in host.gids)
    terminal = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    _add(found, "/dev/pts", "devpts", "devpts", *terminal, *(["gid=5"] if gid5 else []))
    if options.ipc != "host":
        _add(found, "/dev/mqueue", "mqueue", "mqueue", *safe)
    elif host.has_mqueue:
        _add(found, "/dev/mqueue", "bind", "/dev/mqueue", "bind", *safe)
    _add_shm(found, options, host)
    if options.cgroups != "disabled" or "cgroup" in new:
        writable = (
            (options.privileged or systemd or _is_unmasked("/sys/fs/cgroup", options.unmask))
            and "cgroup" in new
            and host.cgroup_version == 2
        )
        words = ("rprivate", *safe, "relatime", "rw" if writable else "ro")
        _add(found, "/sys/fs/cgroup", "cgroup", "cgroup", *words)


def _add_files(found: dict[str, OciMount], options: CreateOptions, host: HostFacts) -> None:
    """Files that the engine has made for this container, or takes from the host."""
    guard = ("ro", "nosuid", "noexec", "nodev") if options.read_only else ()
    for place, source in host.files.items():
        _add(found, place, "bind", source, "bind", "rprivate", *guard)
        if place.startswith("/etc/"):
            for root in options.chrootdirs:
                _add(found, root.rstrip("/") + place, "bind", source, "bind", "rprivate", *guard)
    if options.tz:
        source = host.localtime if options.tz == "local" else f"/usr/share/zoneinfo/{options.tz}"
        _add(found, "/etc/localtime", "bind", source, "bind", "ro", "rprivate")
    if options.init and host.init_path:
        _add(found, INIT_PATH, "bind", host.init_path, "bind", "ro", "private")


def _add_writable(found: dict[str, OciMount], options: CreateOptions, *, systemd: bool) -> None:
    """What stays writable under --read-only, and what systemd wants to be memory."""
    words = ("rw", "rprivate", "nosuid", "nodev", "tmpcopyup")
    if options.read_only and options.read_only_tmpfs:
        for place in ("/run", "/tmp", "/var/tmp"):
            _add(found, place, "tmpfs", "tmpfs", *words)
    if systemd:
        size = [f"size={options.shm_size_systemd}"] if options.shm_size_systemd is not None else []
        for place in ("/run", "/run/lock", "/tmp", "/var/log/journal"):
            more = size if place.startswith("/run") else []
            _add(found, place, "tmpfs", "tmpfs", *words, *more)


def _add_devices(found: dict[str, OciMount], options: CreateOptions, host: HostFacts) -> None:
    words = ("slave", "nosuid", "noexec", "rw", "rbind")
    for device in options.devices:
        _add(found, device["path"], "bind", device["source"], *words)
    if options.privileged:
        for path in host.devices:
            if path not in found:
                _add(found, path, "bind", path, *words)


def _depth(path: str) -> int:
    return path.count("/") if path != "/" else 0


def _add_shm(found: dict[str, OciMount], options: CreateOptions, host: HostFacts) -> None:
    if options.ipc == "none":
        return
    place = "/dev/shm"
    guard = ["nosuid", "noexec", "nodev"]
    entry: dict[str, Any]
    if options.ipc == "host":
        entry = {"type": "bind", "source": place, "options": ["bind", "rprivate", *guard]}
    elif host.shm_fd >= 0:
        entry = {
            "type": "bind",
            "source": place,
            "options": ["bind", "rprivate", *guard],
            "rootless": {"detached": host.shm_fd},
        }
    else:
        words = [*guard, "mode=1777"]
        if options.shm_size:
            words.append(f"size={options.shm_size}")
        if options.read_only and not options.read_only_tmpfs:
            words.append("ro")
        entry = {"type": "tmpfs", "source": "shm", "options": words}
    found[place] = {"destination": place, **entry}


def overlay_folders(mounts: Sequence[Mount], scratch: str) -> list[tuple[Mount, str]]:
    """The overlays among the mounts that write to folders of the container's own, `upper` and `work` in the one named.

    They have to be there before `make_spec`'s document is used.
    """
    folders = []
    number = 0
    for mount in mounts:
        if _is_overlay(mount):
            if not any(o.startswith("upperdir=") for o in mount["options"]):
                folders.append((mount, f"{scratch}/overlay/{number}"))
            number += 1
    return folders


def _is_overlay(mount: Mount) -> bool:
    return (
        mount["type"] == "overlay"
        or (mount["type"] == "volume" and "O" in mount["options"])
        or (mount["type"] == "image" and "rw" in mount["options"])
    )


def _user_mount(mount: Mount, host: HostFacts, overlays: int) -> tuple[OciMount, int]:
    """One mount of the user's or the image's, and how many overlays there are by now."""
    kind, words, place = mount["type"], mount["options"], mount["destination"]
    extra: dict[str, Any] = {}
    if kind in ("tmpfs", "ramfs", "devpts"):
        entry: OciMount = {
            "destination": place,
            "type": kind,
            "source": kind,
            "options": list(words) if kind == "devpts" else _memory_options(words, kind),
        }
    elif _is_overlay(mount):
        lowers = _image_layers(mount, host) if kind == "image" else [_path(mount)]
        entry = _overlay(place, lowers, words, f"{host.scratch}/overlay/{overlays}")
        overlays += 1
    elif kind == "image":
        lowers = _image_layers(mount, host)
        if len(lowers) == 1:
            entry = {
                "destination": place,
                "type": "bind",
                "source": lowers[0],
                "options": ["rbind", "ro", "rprivate", "nosuid", "nodev"],
            }
        else:
            # Without an upper folder an overlay is read-only.
            entry = {
                "destination": place,
                "type": "overlay",
                "source": "overlay",
                "options": ["ro", "nosuid", "nodev", "userxattr", _lowerdir(lowers)],
            }
    else:
        entry = {
            "destination": place,
            "type": "bind",
            "source": _path(mount),
            "options": _bind_options(words, is_volume=kind == "volume"),
        }
        if "first_use" in mount:
            extra["firstUse"] = mount["first_use"]
            extra["copyUp"] = "nocopy" not in words
    if "U" in words:
        extra["chown"] = True
    if mount.get("subpath"):
        extra["subpath"] = mount["subpath"]
    if extra:
        entry["rootless"] = extra
    return entry, overlays


def _path(mount: Mount) -> str:
    path = mount.get("path") or (mount["source"] if mount["type"] != "volume" else "")
    if not path:
        raise RootlessError(f"volume {mount['source']} at {mount['destination']}: not resolved")
    return path


def _image_layers(mount: Mount, host: HostFacts) -> list[str]:
    layers = host.image_layers.get(mount["source"])
    if not layers:
        raise RootlessError(
            f'creating image volume "{mount["source"]}":"{mount["destination"]}": '
            f"{mount['source']}: image not known"
        )
    return layers


def _lowerdir(lowers: Sequence[str]) -> str:
    # overlayfs: a colon separates, a backslash keeps it.
    return "lowerdir=" + ":".join(low.replace("\\", "\\\\").replace(":", "\\:") for low in lowers)


def _overlay(place: str, lowers: Sequence[str], words: Sequence[str], folder: str) -> OciMount:
    given = [word for word in words if word.startswith(("upperdir=", "workdir="))]
    options = [word for word in words if word in ("nosuid", "nodev", "noexec", "ro")]
    options += ["userxattr", _lowerdir(lowers)]
    options += given or [f"upperdir={folder}/upper", f"workdir={folder}/work"]
    return {"destination": place, "type": "overlay", "source": "overlay", "options": options}


def _memory_options(words: Sequence[str], kind: str) -> list[str]:
    check_options(words, is_tmpfs=True)
    options = [word for word in words if word not in ("U", "notmpcopyup", "consistency")]
    given = set(options)
    if not given & {"rw", "ro"}:
        options.append("rw")
    if not given & {"private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"}:  # fmt: skip
        options.append("rprivate")
    if not given & {"suid", "nosuid"}:
        options.append("nosuid")
    if not given & {"dev", "nodev"}:
        options.append("nodev")
    if kind == "tmpfs" and not {"tmpcopyup", "notmpcopyup"} & set(words):
        options.append("tmpcopyup")
    return options


def _bind_options(words: Sequence[str], *, is_volume: bool) -> list[str]:
    """A bind's options as the kernel takes them; relabelling means nothing without SELinux."""
    options = []
    for word in words:
        if word == "no-dereference":
            options.append("copy-symlink")
        elif word not in ("z", "Z", "U", "O", "copy", "nocopy", "consistency") and not word.startswith(("volume-opt", "upperdir=", "workdir=")):  # fmt: skip
            options.append(word)
    given = set(options)
    if not given & {"rw", "ro"}:
        options.append("rw")
    recursive = "bind" not in given
    if not given & {"private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"}:  # fmt: skip
        options.append("rprivate" if recursive else "private")
    if is_volume:
        if not given & {"suid", "nosuid"}:
            options.append("nosuid")
        if not given & {"dev", "nodev"}:
            options.append("nodev")
    if recursive and "rbind" not in given:
        options.append("rbind")
    return options


def root_propagation(mounts: Sequence[OciMount]) -> str:
    """The root's propagation, so that what a mount shares can reach it."""
    found = ""
    for entry in mounts:
        for word in entry["options"]:
            if word in ("shared", "rshared"):
                return "shared"
            if word in ("slave", "rslave"):
                found = "rslave"
    return found


# what is hidden


def _is_unmasked(path: str, patterns: Sequence[str]) -> bool:
    for pattern in patterns:
        if pattern in ("ALL", path) or pattern.rstrip("/") == path:
            return True
        if "*" in pattern or "?" in pattern or "[" in pattern:
            from fnmatch import fnmatchcase

            # As filepath.Match: a star does not cross a slash.
            if pattern.count("/") == path.count("/") and fnmatchcase(path, pattern):
                return True
    return False


def hidden_paths(options: CreateOptions, *, own_sys: bool) -> tuple[list[str], list[str]]:
    """Masked and read-only paths."""
    masked: list[str] = []
    readonly: list[str] = []
    if not options.privileged:
        masked = [path for path in MASKED_PATHS if not _is_unmasked(path, options.unmask)]
        if not own_sys and not _is_unmasked("/sys/kernel", options.unmask):
            masked.append("/sys/kernel")
        readonly = [path for path in READONLY_PATHS if not _is_unmasked(path, options.unmask)]
    masked += [path for path in options.mask if path not in masked]
    if options.read_only and not options.read_only_tmpfs:
        readonly.append("/dev")
    return masked, readonly
