"""Settings of network namespaces."""

from __future__ import annotations

import os

from rootless.linux.sched import CLONE_NEWNET, CLONE_NEWUSER, setns


def set_sysctl(name: str, value: str) -> None:
    """Set /proc/sys/net/`name` in the namespace that we are in; a kernel without it does not need it."""
    try:
        fd = os.open(f"/proc/sys/net/{name}", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def no_address_detection(netns: int, userns: int) -> None:
    """Duplicate address detection would keep new IPv6 addresses in there from being used for a second or two."""
    pid = os.fork()
    if not pid:
        try:
            if userns >= 0:
                setns(userns, CLONE_NEWUSER)
            setns(netns, CLONE_NEWNET)
            set_sysctl("ipv6/conf/default/accept_dad", "0")
        except OSError:
            pass  # then it takes that second
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
