"""What the engine has to do inside a container's finished root, before its program runs.

init calls `prepare` after it has left the host's root: the image's account files are read there, by descriptors that
no link leads out of. Nothing here imports: every module is loaded before the fork.
"""

from __future__ import annotations

import errno
import os
import stat

from rootless.container import user as accounts
from rootless.errors import RootlessError
from rootless.linux import fs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.container.options import CreateOptions

_NOT_WRITABLE = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENXIO,
    errno.ETXTBSY,
)
_LIMIT = 10 << 20  # a bigger account file is no account file


def read_in_root(path: str) -> bytes:
    """A regular file of the image, at most 10 MiB; empty where it is missing or anything else (security case 16)."""
    try:
        fd = fs.open_in_root(-100, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENXIO):
            return b""
        raise
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LIMIT:
            return b""
        data = b""
        while chunk := os.read(fd, 1 << 20):
            data += chunk
            if len(data) > _LIMIT:
                return b""
        return data
    finally:
        os.close(fd)


def preparer(options: CreateOptions) -> Callable[[dict[str, Any]], None]:
    """The function that init calls in the root with the process document; what it needs of the host is read now."""
    from rootless.container.spec import extra_groups_of

    kept = None
    if options.userns:
        from rootless.container.userns import keep_ids

        kept = keep_ids(options, os.geteuid(), os.getegid())
    groups = extra_groups_of(options, kept)
    login = _login_name() if kept is not None else ""
    added = [host_user(name) for name in options.hostuser]

    def prepare(process: dict[str, Any]) -> None:
        passwd = read_in_root("/etc/passwd")
        group = read_in_root("/etc/group")
        user = resolve_user(process, groups, passwd, group, keep_groups=options.keep_groups)
        if options.workdir:
            check_folder(process["cwd"])
        if user is not None and options.passwd:
            name = login if kept is not None and user.uid == kept[0] else ""
            line = accounts.passwd_addition(
                user, passwd, options.passwd_entry, process.get("cwd", "/"), name
            )
            append_in_root("/etc/passwd", line)
            passwd += line
            append_in_root("/etc/group", accounts.group_addition(user, group, options.group_entry))
        for entry in added:
            line = accounts.host_user_addition(entry, passwd)
            append_in_root("/etc/passwd", line)
            passwd += line
        link_mtab()

    return prepare


def _login_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""


def host_user(name: str) -> bytes:
    """A user of the host as a line of passwd(5), for --hostuser."""
    import pwd

    try:
        found = pwd.getpwuid(int(name)) if name.isascii() and name.isdigit() else pwd.getpwnam(name)
    except KeyError:
        raise RootlessError(f"user: unknown user {name}", exit_code=126) from None
    fields = (found.pw_name, "*", found.pw_uid, found.pw_gid, found.pw_gecos, found.pw_dir)
    return ":".join([*map(str, fields), "/bin/sh"]).encode("utf-8", "surrogateescape")


def resolve_user(
    process: dict[str, Any],
    group_add: list[str],
    passwd: bytes,
    group: bytes,
    *,
    keep_groups: bool = False,
) -> accounts.User | None:
    """Turn the user as written into ids, groups and a home, by the root's own account files."""
    user = process["user"]
    written = user.pop("username", None)
    if written is None:
        return None
    found = accounts.resolve_user(written, passwd, group)
    if group_add:
        accounts.add_groups(found, group_add, group)
    user["uid"], user["gid"] = found.uid, found.gid
    if not keep_groups:
        # The primary group is always among them: a missing one gives rights (security case 21).
        user["additionalGids"] = sorted({found.gid, *found.groups})
    environment = process.setdefault("env", [])
    if not any(entry.startswith("HOME=") for entry in environment):
        environment.append(f"HOME={found.home or '/'}")
    sets = process.get("capabilities")
    if sets and found.uid != 0 and not process.get("keepCapabilities"):
        # A user who is not root has what was asked for by name only (security case 20).
        asked = sets.get("ambient") or []
        sets["effective"] = [one for one in sets.get("effective") or [] if one in asked]
        sets["permitted"] = [one for one in sets.get("permitted") or [] if one in asked]
    return found


def check_folder(path: str) -> None:
    """`--workdir` has to be there; only an image's own is made where it is missing."""
    try:
        os.close(fs.open_in_root(-100, path, fs.O_PATH | os.O_DIRECTORY))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise RootlessError(
                f'workdir "{path}" does not exist in the container', exit_code=126
            ) from None
        raise


def append_in_root(path: str, data: bytes) -> None:
    """Add to a regular file of the root; one that is missing, read-only or anything else is left as it is."""
    if not data:
        return
    try:
        fd = fs.open_in_root(-100, path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno in _NOT_WRITABLE:
            return
        raise
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.write(fd, data)
    finally:
        os.close(fd)


def link_mtab() -> None:
    """/etc/mtab, for programs that look there for the mounts."""
    try:
        fd = fs.open_in_root(-100, "/etc", fs.O_PATH | os.O_DIRECTORY)
    except OSError:
        return
    try:
        os.symlink("/proc/mounts", "mtab", dir_fd=fd)
    except OSError:
        pass  # it is there, or cannot be
    finally:
        os.close(fd)
