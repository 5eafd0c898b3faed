"""`mount` inside `unshare`: a stopped container's root at its folder, in the mount namespace of that shell alone.

What is mounted is read from that namespace's /proc/self/mountinfo and kept nowhere: with the shell it is gone.
"""

from __future__ import annotations

import os

from rootless.container.filesystem import own_root
from rootless.container.roots import COPY, FOLDER, OVERLAY
from rootless.container.status import STOPPING, settle, status_of
from rootless.errors import InvalidState, RootlessError
from rootless.linux import mount as m
from rootless.paths import UNSHARED_DATA

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.container.engine import Engine


def check_unshared(command: str) -> None:
    """Refuse where this is no command of `unshare`'s, with which a mount would be gone at once."""
    if UNSHARED_DATA not in os.environ or os.geteuid() != 0:
        raise RootlessError(
            f'cannot run command "rootless {command}" in rootless mode, must execute `rootless unshare` first'
        )


def place_of(engine: Engine, record: dict[str, Any]) -> str:
    """Where the root is to be seen."""
    if (record.get("root") or OVERLAY) == FOLDER:
        path: str = record["options"]["image"]
        return path
    return f"{engine.containers.path(record['id'])}/rootfs"


def is_mounted(engine: Engine, record: dict[str, Any]) -> bool:
    """Whether `mount` has mounted the container's root in this mount namespace."""
    return (record.get("root") or OVERLAY) == OVERLAY and place_of(engine, record) in mount_points()


def mount_points() -> set[str]:
    """This namespace's mounts, as proc_pid_mountinfo(5) lists them."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        fields = [line.split(" ", 5)[4] for line in file]
    return {
        field.encode("latin-1", "backslashreplace").decode("unicode_escape")
        if "\\" in field
        else field
        for field in fields
    }


def mount(engine: Engine, identity: str) -> str:
    """Mount the root of a container that does not run; its path."""
    with engine.containers.lock(identity):
        settle(engine, identity)
        status = status_of(engine, identity)
        record = status.record
        place = place_of(engine, record)
        kind = record.get("root") or OVERLAY
        if kind in (FOLDER, COPY) or is_mounted(engine, record):
            return place
        if status.pid or status.word == STOPPING:
            raise InvalidState(
                f"container {status.name} is running: its root is mounted in its own namespace only",
                hint=f"`rootless cp`, or `rootless exec {status.name}`, or stop it first",
            )
        if kind != OVERLAY:
            raise RootlessError(
                f"container {status.name}: its root is made by fuse-overlayfs, which a shell cannot keep mounted",
                hint="`rootless cp` reads and writes its files",
            )
        root = own_root(engine, record)
        root.open()
        made = root.mount()
        m.attach(made, place)
        return place


def unmount(engine: Engine, identity: str) -> bool:
    """Whether there was something to unmount."""
    record = engine.containers.read(identity)
    if not is_mounted(engine, record):
        return False
    m.umount2(place_of(engine, record), 0)
    return True
