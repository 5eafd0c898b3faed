"""The mounts of a container: from runtime-spec entries to detached mounts, attached inside the root.

Invariant: a target is found with openat2(RESOLVE_IN_ROOT, no magic links) and mounted on by descriptor, so that no
link of an image leads out of the root and none can be swapped in between (security cases 6 to 8 and 10). Bind sources
are opened by `open_source` before the root is left, with the caller's groups.
"""

from __future__ import annotations

import errno
import os
import stat

from rootless import log
from rootless.errors import SetupError
from rootless.linux import fs, libc
from rootless.linux import mount as m
from rootless.runtime.folders import dangling, make_dirs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_RO, _NOSUID, _NODEV, _NOEXEC = (
    m.MOUNT_ATTR_RDONLY,
    m.MOUNT_ATTR_NOSUID,
    m.MOUNT_ATTR_NODEV,
    m.MOUNT_ATTR_NOEXEC,
)

# option → (attributes to set, attributes to clear)
_ATTRIBUTES = {
    "ro": (_RO, 0),
    "rw": (0, _RO),
    "nosuid": (_NOSUID, 0),
    "suid": (0, _NOSUID),
    "nodev": (_NODEV, 0),
    "dev": (0, _NODEV),
    "noexec": (_NOEXEC, 0),
    "exec": (0, _NOEXEC),
    "noatime": (m.MOUNT_ATTR_NOATIME, m.MOUNT_ATTR__ATIME),
    "atime": (m.MOUNT_ATTR_RELATIME, m.MOUNT_ATTR__ATIME),
    "relatime": (m.MOUNT_ATTR_RELATIME, m.MOUNT_ATTR__ATIME),
    "norelatime": (0, 0),
    "strictatime": (m.MOUNT_ATTR_STRICTATIME, m.MOUNT_ATTR__ATIME),
    "nostrictatime": (m.MOUNT_ATTR_RELATIME, m.MOUNT_ATTR__ATIME),
    "nodiratime": (m.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, m.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (m.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, m.MOUNT_ATTR_NOSYMFOLLOW),
}
_PROPAGATION = {
    "private": m.MS_PRIVATE,
    "shared": m.MS_SHARED,
    "slave": m.MS_SLAVE,
    "unbindable": m.MS_UNBINDABLE,
}
# Accepted for fstab's sake; they mean nothing for these mounts.
_WITHOUT_MEANING = {
    "defaults", "async", "mand", "nomand", "iversion", "noiversion", "silent", "loud", "nolazytime", "remount",
}  # fmt: skip
# Of a file system rather than of a mount: a bind mount has those of its source.
_OF_SUPERBLOCK = {"sync", "dirsync", "lazytime"}


# Files below /proc that lxcfs and others replace; anything else mounted over /proc deceives the runtime (case 6).
_ALLOWED_IN_PROC = {
    "/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime",
    "/proc/loadavg", "/proc/slabinfo", "/proc/net/dev", "/proc/sys/kernel/ns_last_pid",
}  # fmt: skip


class Options:
    """A mount's options sorted by what carries them out."""

    __slots__ = (
        "set", "clear", "recursive_set", "recursive_clear", "propagation", "bind", "recursive", "data",
        "copy_up", "copy_symlink", "idmap", "source_link", "target_link", "superblock",
    )  # fmt: skip

    def __init__(self, words: list[str]) -> None:
        self.set = self.clear = self.recursive_set = self.recursive_clear = 0
        self.propagation: list[tuple[int, bool]] = []
        self.bind = self.recursive = self.copy_up = self.copy_symlink = False
        self.source_link = self.target_link = False  # a link itself, not what it leads to
        self.idmap = ""
        self.superblock: list[str] = []
        self.data: list[tuple[str, str | None]] = []
        for word in words:
            self._add(word)

    def is_read_only(self) -> bool:
        return bool((self.set | self.recursive_set) & _RO and not self.clear & _RO)

    def without_times(self) -> bool:
        """Take off what concerns times of access; whether there was anything of it."""
        before = (self.set, self.clear)
        times = m.MOUNT_ATTR__ATIME | m.MOUNT_ATTR_NODIRATIME
        self.set &= ~times
        self.clear &= ~times
        return before != (self.set, self.clear)

    def _add(self, word: str) -> None:
        if word in _ATTRIBUTES:
            on, off = _ATTRIBUTES[word]
            self.set = self.set & ~off | on
            self.clear = self.clear & ~on | off
        elif word[:1] == "r" and word[1:] in _PROPAGATION:
            self.propagation.append((_PROPAGATION[word[1:]], True))
        elif word in _PROPAGATION:
            self.propagation.append((_PROPAGATION[word], False))
        elif word in ("bind", "rbind"):
            self.bind = True
            self.recursive = self.recursive or word == "rbind"
        elif word[:1] == "r" and word[1:] in _ATTRIBUTES:
            on, off = _ATTRIBUTES[word[1:]]
            self.recursive_set = self.recursive_set & ~off | on
            self.recursive_clear = self.recursive_clear & ~on | off
        elif word == "tmpcopyup":
            self.copy_up = True
        elif word == "copy-symlink":
            self.copy_symlink = True
        elif word in ("idmap", "ridmap") or word.startswith(("idmap=", "ridmap=")):
            self.idmap = word
        elif word == "src-nofollow":
            self.source_link = True
        elif word == "dest-nofollow":
            self.target_link = True
        elif word in _OF_SUPERBLOCK:
            self.superblock.append(word)
        elif word in _WITHOUT_MEANING or (
            word[:1] == "r" and word[1:] in _WITHOUT_MEANING | _OF_SUPERBLOCK
        ):
            pass
        else:
            key, equals, value = word.partition("=")
            self.data.append((key, value if equals else None))


def known_options() -> list[str]:
    """Every option that a mount may have besides those of its file system."""
    words = {*_ATTRIBUTES, *_PROPAGATION, *_WITHOUT_MEANING, *_OF_SUPERBLOCK}
    words |= {f"r{word}" for word in (*_ATTRIBUTES, *_PROPAGATION)}
    words |= {"bind", "rbind", "tmpcopyup", "copy-symlink", "idmap", "ridmap"}
    words |= {"src-nofollow", "dest-nofollow"}
    return sorted(words)


def open_source(entry: dict[str, Any], *, deep_read_only: bool = True) -> int:
    """A detached copy of a bind mount's source; taken before the host's root is left, with the caller's groups.

    Raises SetupError that names both ends.
    """
    options = Options(entry.get("options") or [])
    source = entry.get("source", "")
    flags = m.OPEN_TREE_CLONE | (libc.AT_RECURSIVE if options.recursive else 0)
    if options.copy_symlink or options.source_link:
        flags |= libc.AT_SYMLINK_NOFOLLOW
    wishes = entry.get("rootless") or {}
    subpath = wishes.get("subpath")
    try:
        if "detached" in wishes:
            # Already such a copy: of a mount of another container's, which our own namespace does not show.
            fd = os.dup(wishes["detached"])
        elif subpath:
            inside = open_below(source, subpath)
            try:
                fd = m.open_tree(inside, "", flags | libc.AT_EMPTY_PATH)
            finally:
                os.close(inside)
        else:
            fd = m.open_tree(libc.AT_FDCWD, source, flags)
    except OSError as error:
        hint = ""
        if error.errno == errno.EINVAL and not options.recursive:
            hint = "something is mounted below it, which the kernel does not let a user hide: use rbind"
        raise SetupError(
            f"cannot mount {source} at {entry['destination']}: {os.strerror(error.errno or 0).lower()}",
            stage="mount",
            errno=error.errno or 0,
            hint=hint,
        ) from error
    try:
        try:
            _apply_attributes(fd, options, deep_read_only=deep_read_only)
        except PermissionError:
            if not options.without_times():
                raise
            # The host's times of access are locked for a user: crun keeps them without a word, runc fails.
            log.warn(
                f"mount at {entry['destination']}: times of access stay as the host's mount has them"
            )
            _apply_attributes(fd, options, deep_read_only=deep_read_only)
    except OSError as error:
        os.close(fd)
        raise SetupError(
            f"cannot mount {source} at {entry['destination']} with {','.join(entry.get('options') or [])}: "
            f"{os.strerror(error.errno or 0).lower()}",
            stage="mount",
            errno=error.errno or 0,
            hint="an option that the host's mount has (nosuid, nodev, noexec, ro) cannot be taken off by a user"
            if error.errno == errno.EPERM
            else "",
        ) from error
    return fd


def link_to_copy(entry: dict[str, Any]) -> str:
    """What the link says that `copy-symlink` has made in the container in the place of a mount; nothing for others."""
    if "copy-symlink" not in (entry.get("options") or ()):
        return ""
    try:
        return os.readlink(str(entry.get("source") or ""))
    except OSError:
        return ""  # no link: mounted as any other source


def wants_idmap(entry: dict[str, Any], options: Options) -> bool:
    return bool(options.idmap or entry.get("uidMappings") or entry.get("gidMappings"))


def open_below(source: str, subpath: str) -> int:
    """A descriptor of a path inside a folder, which no link leads out of; of the folder where the path is empty."""
    top = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if not subpath:
        return top
    try:
        return fs.open_in_root(top, subpath, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    finally:
        os.close(top)


def cover_with(made: int, subpath: str, target: int) -> None:
    """Mount a folder of a mount that has just been attached over that mount itself."""
    inside = fs.open_in_root(made, subpath, fs.O_PATH | os.O_DIRECTORY)
    try:
        # Only what is attached can be cloned before Linux 6.15: hence on top of it.
        copy = m.open_tree(inside, "", m.OPEN_TREE_CLONE | libc.AT_EMPTY_PATH)
    finally:
        os.close(inside)
    attach(copy, target)
    os.close(copy)


def _apply_attributes(fd: int, options: Options, *, deep_read_only: bool) -> None:
    on, off = options.set, options.clear
    # A copy of a read-write mount is read-write; where the host's is read-only it stays so.
    off &= ~_RO
    if on & _RO and options.recursive and deep_read_only:
        # Read-only means all of it: what is mounted below the source as well.
        m.mount_setattr(fd, _RO, recursive=True)
    if on or off:
        m.mount_setattr(fd, on, off)
    if options.recursive_set or options.recursive_clear:
        m.mount_setattr(fd, options.recursive_set, options.recursive_clear, recursive=True)
    for kind, recursive in options.propagation:
        m.mount_setattr(fd, propagation=kind, recursive=recursive)


def new_mount(
    entry: dict[str, Any], *, gid_mapped: bool = True, below: int = -1, writable: bool = False
) -> int:
    """A detached mount of a new file system for an entry that is no bind mount.

    A tmpfs whose mode nobody says has that of the folder that it covers, `below`. With `writable` a read-only one is
    not yet read-only.
    """
    options = Options(entry.get("options") or [])
    kind = entry.get("type") or "none"
    data = list(options.data)
    if kind == "devpts":
        # A group that the namespace does not map makes the mount fail.
        data = [(k, v) for k, v in data if k != "newinstance" and (k != "gid" or gid_mapped)]
    elif kind == "mqueue":
        data = []
    elif kind == "cgroup" and os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        kind = "cgroup2"  # the specification's word for either
    elif kind == "tmpfs" and below >= 0 and not any(key == "mode" for key, _ in data):
        data.append(("mode", f"{stat.S_IMODE(os.fstat(below).st_mode):o}"))
    data += [(word, None) for word in options.superblock]
    source = entry.get("source") or kind
    attributes = options.set | options.recursive_set & ~options.clear
    if writable:
        attributes &= ~_RO
    fd = m.new_filesystem(kind, [("source", source), *data], attributes)
    for how, recursive in options.propagation:
        m.mount_setattr(fd, propagation=how, recursive=recursive)
    return fd


def check_destination(destination: str) -> None:
    """Refuse mounts over /proc, which would let a container deceive who reads it (security case 6)."""
    clean = clean_path(destination)
    if clean.startswith("/proc/") and clean not in _ALLOWED_IN_PROC:
        raise SetupError(
            f"mount at {destination}: nothing may be mounted below /proc", stage="mount"
        )


def check_proc(fd: int) -> None:
    """Refuse anything but a proc file system at /proc."""
    if fs.fd_fs_type(fd) != fs.PROC_SUPER_MAGIC:
        raise SetupError(
            "mount at /proc: only a proc file system may be mounted there", stage="mount"
        )


def clean_path(path: str) -> str:
    """A path from the root on, without `.`, `..` and double slashes; normpath(3) keeps two at the front."""
    return "/" + os.path.normpath("/" + path).lstrip("/")


def open_target(
    root: int, destination: str, *, directory: bool, follow: bool = True, links: int = 0
) -> int:
    """The mount point in the root as an O_PATH descriptor, made where it is missing.

    A link that leads nowhere is followed inside the root, and what it names is made, as runc does: /var/run to a missing
    /run is common. `links` counts those followed so far.
    """
    clean = clean_path(destination)
    if clean in ("/proc", "/sys"):
        # CVE-2019-19921 and its kin: a link in the place of /proc or /sys.
        try:
            return fs.openat2(
                root,
                clean[1:],
                fs.O_PATH | os.O_DIRECTORY,
                0,
                fs.RESOLVE_NO_SYMLINKS | fs.RESOLVE_BENEATH,
            )
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise SetupError(
                    f"{clean} must be mounted on ordinary directory", stage="mount"
                ) from error
            if error.errno != errno.ENOENT:
                raise
    try:
        return fs.open_in_root(root, clean, fs.O_PATH | (0 if follow else os.O_NOFOLLOW))
    except FileNotFoundError:
        pass
    if directory:
        return make_dirs(root, clean)
    parent = make_dirs(root, os.path.dirname(clean))
    try:
        name = os.path.basename(clean)
        try:
            os.close(
                os.open(
                    name,
                    os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
                    0o644,
                    dir_fd=parent,
                )
            )
        except FileExistsError:
            try:  # made meanwhile by another container of the same root
                return fs.open_in_root(root, clean, fs.O_PATH | (0 if follow else os.O_NOFOLLOW))
            except FileNotFoundError:
                pass
            following = dangling(parent, name, os.path.dirname(clean), links)
            return open_target(root, following, directory=False, links=links + 1)
        return fs.open_in_root(root, clean, fs.O_PATH | os.O_NOFOLLOW)
    finally:
        os.close(parent)


def make_symlink(root: int, destination: str, to: str) -> None:
    """A link in the root, with its parents; no error where it is there already (copy-symlink)."""
    folder, name = os.path.split(clean_path(destination))
    parent = make_dirs(root, folder)
    try:
        os.symlink(to, name, dir_fd=parent)
    except FileExistsError:
        try:
            if os.readlink(name, dir_fd=parent) == to:
                return
        except OSError:
            pass
        raise
    finally:
        os.close(parent)


def attach(fd: int, target: int) -> None:
    """Attach a detached mount on an O_PATH descriptor."""
    m.move_mount(fd, target)


def is_directory(fd: int) -> bool:
    return stat.S_ISDIR(os.fstat(fd).st_mode)


def copy_up(source: int, destination: int) -> None:
    """Copy a folder's content into a new file system, by descriptors (tmpcopyup, volumes' first use).

    Owners, modes, times, links and extended attributes are kept; device nodes, which a user namespace cannot make,
    are left out.
    """
    _copy_tree(source, destination, destination, "", {})


def _copy_tree(
    source: int, destination: int, top: int, prefix: str, links: dict[tuple[int, int], str]
) -> None:
    for name in sorted(os.listdir(source)):
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            os.mkdir(name, 0o700, dir_fd=destination)
            below = os.open(
                name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source
            )
            into = os.open(
                name,
                os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
                dir_fd=destination,
            )
            try:
                _copy_tree(below, into, top, f"{prefix}{name}/", links)
                copy_attributes(below, into, status)
            finally:
                os.close(below)
                os.close(into)
            continue
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and key in links:
            os.link(links[key], name, src_dir_fd=top, dst_dir_fd=destination, follow_symlinks=False)
            continue
        if kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=destination)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=destination, follow_symlinks=False)
        elif kind == stat.S_IFREG:
            _copy_file(source, destination, name, status)
            if status.st_nlink > 1:
                links[key] = prefix + name
        elif kind == stat.S_IFIFO:
            os.mkfifo(name, status.st_mode & 0o7777, dir_fd=destination)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=destination, follow_symlinks=False)


def _copy_file(source: int, destination: int, name: str, status: os.stat_result) -> None:
    reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    try:
        writer = os.open(
            name,
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o600,
            dir_fd=destination,
        )
        try:
            remaining = status.st_size
            while remaining > 0:
                sent = os.sendfile(writer, reader, None, min(remaining, 1 << 30))
                if not sent:
                    break
                remaining -= sent
            copy_attributes(reader, writer, status)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def copy_attributes(source: int, destination: int, status: os.stat_result) -> None:
    """Owner, extended attributes, mode and times, in the order that keeps set-uid bits and capabilities."""
    os.fchown(destination, status.st_uid, status.st_gid)
    for name in os.listxattr(source):
        if name.startswith(("user.overlay.", "trusted.overlay.")):
            continue
        try:
            os.setxattr(destination, name, os.getxattr(source, name))
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise
    os.fchmod(destination, stat.S_IMODE(status.st_mode))
    os.utime(destination, ns=(status.st_atime_ns, status.st_mtime_ns))
