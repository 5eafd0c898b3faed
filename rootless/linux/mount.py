"""Mounts: mount(2), the descriptor-based mount API (fsopen(2) and its kin), mount_setattr(2), pivot_root(2)."""

from __future__ import annotations

import errno
import os

from rootless.linux import libc

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_BIND = 0x1000
MS_REC = 0x4000
MS_UNBINDABLE = 0x20000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MNT_DETACH = 2

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x00
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

_mount = libc.function(
    "mount", libc.c_int, libc.c_char_p, libc.c_char_p, libc.c_char_p, libc.c_ulong, libc.c_char_p
)
_umount2 = libc.function("umount2", libc.c_int, libc.c_char_p, libc.c_int)
_pivot_root = libc.function("pivot_root", libc.c_int, libc.c_char_p, libc.c_char_p)
_open_tree = libc.function(
    "syscall", libc.c_long, libc.c_long, libc.c_int, libc.c_char_p, libc.c_uint
)
_move_mount = libc.function(
    "syscall",
    libc.c_long,
    libc.c_long,
    libc.c_int,
    libc.c_char_p,
    libc.c_int,
    libc.c_char_p,
    libc.c_uint,
)
_fsopen = libc.function("syscall", libc.c_long, libc.c_long, libc.c_char_p, libc.c_uint)
_fsconfig = libc.function(
    "syscall",
    libc.c_long,
    libc.c_long,
    libc.c_int,
    libc.c_uint,
    libc.c_char_p,
    libc.c_char_p,
    libc.c_int,
)
_fsmount = libc.function("syscall", libc.c_long, libc.c_long, libc.c_int, libc.c_uint, libc.c_uint)
_mount_setattr = libc.function(
    "syscall",
    libc.c_long,
    libc.c_long,
    libc.c_int,
    libc.c_char_p,
    libc.c_uint,
    libc.c_void_p,
    libc.c_size_t,
)


def mount(
    source: str | None, target: str, fstype: str | None, flags: int = 0, data: str | None = None
) -> None:
    """mount(2)"""
    arguments = [
        None if part is None else os.fsencode(part) for part in (source, target, fstype, data)
    ]
    if _mount(arguments[0], arguments[1], arguments[2], flags, arguments[3]) < 0:
        libc.fail(source or target, target)


def umount2(target: str, flags: int = 0) -> None:
    """umount2(2)"""
    if _umount2(os.fsencode(target), flags) < 0:
        libc.fail(target)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)"""
    if _pivot_root(os.fsencode(new_root), os.fsencode(put_old)) < 0:
        libc.fail(new_root)


def open_tree(dirfd: int, path: str, flags: int) -> int:
    """open_tree(2): a descriptor of a mount, with OPEN_TREE_CLONE of a detached copy."""
    fd: int = _open_tree(libc.SYS_open_tree, dirfd, os.fsencode(path), flags | OPEN_TREE_CLOEXEC)
    if fd < 0:
        libc.fail(path)
    return fd


def attach(fd: int, place: str) -> None:
    """Attach a detached mount at a folder which is no link, and close it."""
    target = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    move_mount(fd, target)
    os.close(target)
    os.close(fd)


def move_mount(from_fd: int, to_fd: int, to_path: str = "", flags: int = 0) -> None:
    """Attach the mount behind `from_fd` at `to_path` below `to_fd`, or on `to_fd` itself where the path is empty."""
    flags |= MOVE_MOUNT_F_EMPTY_PATH
    if not to_path:
        flags |= MOVE_MOUNT_T_EMPTY_PATH
    if _move_mount(libc.SYS_move_mount, from_fd, b"", to_fd, os.fsencode(to_path), flags) < 0:
        libc.fail(to_path or None)


def fsopen(fstype: str) -> int:
    """fsopen(2): the context of a file system to be configured."""
    fd: int = _fsopen(libc.SYS_fsopen, fstype.encode(), FSOPEN_CLOEXEC)
    if fd < 0:
        libc.fail(fstype)
    return fd


def fs_log(fs: int) -> str:
    """What the kernel noted about a failing file system context (one message a read)."""
    lines = []
    try:
        while True:
            line = os.read(fs, 4096).decode("utf-8", "replace").strip()
            lines.append(line[2:] if line[1:2] == " " else line)  # without its level: e, w or i
    except OSError:
        return "; ".join(lines)


def fsconfig(fs: int, key: str, value: str | None = None) -> None:
    """Set one option: a flag where `value` is None, else a string."""
    command = FSCONFIG_SET_FLAG if value is None else FSCONFIG_SET_STRING
    encoded = None if value is None else os.fsencode(value)
    if _fsconfig(libc.SYS_fsconfig, fs, command, key.encode(), encoded, 0) < 0:
        libc.fail(key if value is None else f"{key}={value}")


def fsmount(fs: int, attributes: int = 0) -> int:
    """Make the file system and a detached mount of it."""
    if _fsconfig(libc.SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, None, None, 0) < 0:
        libc.fail()
    fd: int = _fsmount(libc.SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes)
    if fd < 0:
        libc.fail()
    return fd


def mount_setattr(
    fd: int,
    set_: int = 0,
    clear: int = 0,
    *,
    propagation: int = 0,
    recursive: bool = False,
    userns_fd: int = -1,
) -> None:
    """mount_setattr(2), for the mount that a descriptor stands for."""
    # struct mount_attr
    attributes = libc.words(set_, clear, propagation, userns_fd if userns_fd >= 0 else 0)
    flags = libc.AT_EMPTY_PATH | (libc.AT_RECURSIVE if recursive else 0)
    if (
        _mount_setattr(
            libc.SYS_mount_setattr,
            fd,
            b"",
            flags,
            attributes,
            len(attributes),
        )
        < 0
    ):
        libc.fail()


def new_filesystem(fstype: str, options: list[tuple[str, str | None]], attributes: int = 0) -> int:
    """A detached mount of a new file system instance with its options."""
    fs = fsopen(fstype)
    try:
        for key, value in options:
            fsconfig(fs, key, value)
        return fsmount(fs, attributes)
    except OSError as error:
        detail = fs_log(fs)
        if detail:
            raise OSError(
                error.errno or errno.EINVAL, f"{os.strerror(error.errno or 0)}: {detail}", fstype
            ) from error
        raise
    finally:
        os.close(fs)
