"""Pseudo-terminals: the container's, opened through its own devpts, and the user's, set raw and always put back."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios

from rootless.errors import SetupError
from rootless.linux import fs

TIOCGPTPEER = 0x5441  # ioctl_tty(2), since Linux 4.13
TIOCSPTLCK = 0x40045431


def open_pty(devpts: int) -> tuple[int, int]:
    """(master, slave) of a new terminal in the devpts instance whose root is `devpts`.

    The slave comes from the master itself, so that no link below /dev/pts can stand in for it.
    """
    if fs.fd_fs_type(devpts) != fs.DEVPTS_SUPER_MAGIC:
        raise SetupError("terminal: /dev/pts of the container is no devpts", stage="terminal")
    master = os.open("ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=devpts)
    fcntl.ioctl(master, TIOCSPTLCK, bytes(4))
    slave: int = fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    return master, slave


def take_controlling(slave: int) -> None:
    """Make `slave` the controlling terminal of this process's new session."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


def get_size(fd: int) -> tuple[int, int] | None:
    """(rows, columns), or None where `fd` is no terminal."""
    try:
        size = memoryview(fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8))).cast("H")
    except OSError:
        return None
    return (size[0], size[1])


def set_size(fd: int, rows: int, columns: int) -> None:
    """Set a terminal's size in characters; one that is gone is left alone."""
    try:
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
    except OSError as error:
        if error.errno not in (errno.EIO, errno.ENOTTY):
            raise


def plain_newlines(fd: int) -> None:
    """Leave a line's end as it was written, where no screen wants a carriage return before it."""
    mode = termios.tcgetattr(fd)
    mode[1] &= ~termios.ONLCR
    termios.tcsetattr(fd, termios.TCSANOW, mode)


class Raw:
    """The user's terminal in raw mode, restored on leaving by whatever way."""

    __slots__ = ("fd", "saved")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.saved: list[object] | None = None

    def __enter__(self) -> Raw:
        try:
            self.saved = termios.tcgetattr(self.fd)
        except termios.error:
            return self
        mode = termios.tcgetattr(self.fd)
        mode[0] &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR
            | termios.ICRNL | termios.IXON
        )  # fmt: skip
        mode[1] &= ~termios.OPOST
        mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        mode[6][termios.VMIN] = 1
        mode[6][termios.VTIME] = 0
        termios.tcsetattr(self.fd, termios.TCSADRAIN, mode)
        return self

    def restore(self) -> None:
        if self.saved is not None:
            try:
                termios.tcsetattr(self.fd, termios.TCSADRAIN, self.saved)  # type: ignore[arg-type]
            except termios.error:
                pass  # the terminal is gone
            self.saved = None

    def __exit__(self, *_: object) -> None:
        self.restore()
