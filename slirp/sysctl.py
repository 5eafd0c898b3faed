"""Settings of the network namespace that the calling process is in."""

from __future__ import annotations

import os


def set_sysctl(name: str, value: str) -> None:
    """Set /proc/sys/net/`name`; a kernel without it does not need it."""
    try:
        fd = os.open(f"/proc/sys/net/{name}", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
