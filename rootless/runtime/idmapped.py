"""Mounts whose owners are shown shifted: mount_setattr(2), MOUNT_ATTR_IDMAP.

The kernel gives them to whoever rules over the file system itself: in a user namespace that is what was mounted in it
(a tmpfs), not what is bound from the host.
"""

from __future__ import annotations

import errno
import os

from rootless.errors import SetupError
from rootless.linux import mount as m
from rootless.linux.idmap import IdMap, write_id_maps
from rootless.linux.prctl import PR_SET_PDEATHSIG, prctl
from rootless.linux.sched import CLONE_NEWUSER, clone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.runtime.mounts import Options

    Range = tuple[int, int, int]


def apply(fd: int, entry: dict[str, Any], options: Options) -> None:
    """Shift the owners of a mount that is not attached yet, with the entry's maps or the container's own."""
    uids, gids = _ranges(entry.get("uidMappings")), _ranges(entry.get("gidMappings"))
    _, equals, text = options.idmap.partition("=")
    if equals:
        uids, gids = parse(text)
    try:
        userns = _namespace(uids, gids)
        try:
            recursive = options.idmap.startswith("r")
            m.mount_setattr(fd, m.MOUNT_ATTR_IDMAP, userns_fd=userns, recursive=recursive)
        finally:
            os.close(userns)
    except OSError as error:
        hint = ""
        if error.errno in (errno.EPERM, errno.EINVAL):
            hint = "the kernel lets a user shift the owners only of a file system that is mounted in the container"
        raise SetupError(
            f"mount at {entry['destination']}: {options.idmap or 'uidMappings'}: "
            f"{os.strerror(error.errno or 0).lower()}",
            stage="mount",
            errno=error.errno or 0,
            hint=hint,
        ) from error


def parse(text: str) -> tuple[list[Range], list[Range]]:
    """crun's form: `uids=0-1000-10#10-2000-1;gids=…`; SetupError where it is none."""
    found: dict[str, list[Range]] = {"uids": [], "gids": []}
    for part in text.split(";"):
        key, _, ranges = part.partition("=")
        if key not in found:
            raise SetupError(f"idmap={text}: neither uids= nor gids=", stage="mount")
        for one in ranges.split("#"):
            numbers = one.lstrip("@").split("-")
            if len(numbers) != 3 or not all(number.isdigit() for number in numbers):
                raise SetupError(f"idmap={text}: {one} is not FROM-TO-SIZE", stage="mount")
            found[key].append((int(numbers[0]), int(numbers[1]), int(numbers[2])))
    return found["uids"], found["gids"]


def _ranges(entries: list[dict[str, int]] | None) -> list[Range]:
    return [(e["containerID"], e["hostID"], e["size"]) for e in entries or ()]


def _namespace(uids: list[Range], gids: list[Range]) -> int:
    """A user namespace with these maps, or the container's own where there are none."""
    if not uids and not gids:
        return os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = clone(CLONE_NEWUSER)
    if pid == 0:
        try:
            prctl(PR_SET_PDEATHSIG, 9)
            os.close(writer)
            os.read(reader, 1)
        finally:
            os._exit(0)
    os.close(reader)
    try:
        write_id_maps(pid, IdMap(uids or gids, gids or uids))
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(writer)
        os.waitpid(pid, 0)
