"""The caller's terminal joined to the container's, for as long as a process in the foreground runs."""

from __future__ import annotations

import os
import select

from rootless.linux import signal
from rootless.runtime import terminal

_CHUNK = 65536


def serve(master: int, pid: int) -> int:
    """Copy both ways until the process has ended and its output is written; its wait status."""
    pidfd = os.pidfd_open(pid)
    pass_size(master)
    signal.signal(signal.SIGWINCH, lambda *_: pass_size(master))
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(master, select.POLLIN)
    poll.register(0, select.POLLIN)
    with terminal.Raw(0):
        ended = False
        while True:
            ready = poll.poll(0 if ended else None)
            if ended and not any(fd == master for fd, _ in ready):
                break
            for fd, _ in ready:
                if fd == pidfd:
                    poll.unregister(pidfd)
                    ended = True
                elif not _copy(fd, 1 if fd == master else master):
                    poll.unregister(fd)
                    if fd == 0 and not os.isatty(0):
                        _end_input(master)
    os.close(pidfd)
    return os.waitpid(pid, 0)[1]


def pass_size(master: int) -> None:
    size = terminal.get_size(0)
    if size is not None:
        terminal.set_size(master, *size)


def _copy(source: int, target: int) -> bool:
    """Move what is there; False at its end, which a terminal's master tells by EIO."""
    try:
        data = os.read(source, _CHUNK)
        while data:
            data = data[os.write(target, data) :]
            if not data:
                return True
    except OSError:
        pass
    return False


def _end_input(master: int) -> None:
    """The end of a pipe is ^D to whoever reads the terminal."""
    try:
        os.write(master, b"\x04")
    except OSError:
        pass
