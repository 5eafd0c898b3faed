"""What is looked up in the container's own files, from within its root; nothing here imports."""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_BYTES = 1 << 20


def complete_process(process: dict[str, Any]) -> None:
    """Set HOME from the container's /etc/passwd where the environment does not say it, as runc and crun do."""
    environment: list[str] = list(process.get("env") or [])
    given = [entry for entry in environment if entry.startswith("HOME=")]
    if given and given[-1] != "HOME=":
        return
    environment = [entry for entry in environment if not entry.startswith("HOME=")]
    environment.append(f"HOME={home_of((process.get('user') or {}).get('uid', 0))}")
    process["env"] = environment


def home_of(uid: int) -> str:
    """The home folder of a user, `/` where the container's passwd does not know it."""
    wanted = str(uid).encode()
    for line in _read("/etc/passwd").split(b"\n"):
        fields = line.split(b":")
        if len(fields) > 5 and fields[2] == wanted:
            return fields[5].decode("utf-8", "surrogateescape") or "/"
    return "/"


def _read(path: str) -> bytes:
    try:
        # Neither a fifo nor a device of the container's may hold us up.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        return os.read(fd, _MAX_BYTES)
    except OSError:
        return b""
    finally:
        os.close(fd)
