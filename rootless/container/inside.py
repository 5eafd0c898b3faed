"""What the engine has to do inside a container's finished root, before its program runs.

init calls `prepare` after it has left the host's root: the image's account files are read there, by descriptors that
no link leads out of. Nothing here imports: every module is loaded before the fork.
"""

from __future__ import annotations

import errno
import os
import stat

from rootless.container import user as accounts
from rootless.linux import fs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.container.options import CreateOptions

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
    """The function that init calls in the root with the process document."""

    def prepare(process: dict[str, Any]) -> None:
        resolve_user(process, options.group_add, keep_groups=options.keep_groups)

    return prepare


def resolve_user(process: dict[str, Any], group_add: list[str], *, keep_groups: bool = False) -> None:
    """Turn the user as written into ids, groups and a home, by the root's own account files."""
    user = process["user"]
    written = user.pop("username", None)
    if written is None:
        return
    passwd = read_in_root("/etc/passwd")
    group = read_in_root("/etc/group")
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
        sets["effective"] = [one for one in sets.get("effective") or [] if one in (sets.get("ambient") or [])]
        sets["permitted"] = [one for one in sets.get("permitted") or [] if one in (sets.get("ambient") or [])]


