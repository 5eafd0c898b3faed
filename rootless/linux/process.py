"""What a process is, so that its number cannot be mistaken for another's: pid with start time, and pidfds."""

from __future__ import annotations

import os


def read_file(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 65536)
    finally:
        os.close(fd)


def stat_fields(pid: int | str) -> list[bytes]:
    """The fields of /proc/PID/stat from the third (state) on: the name before them may hold anything."""
    data = read_file(f"/proc/{pid}/stat")
    return data[data.rindex(b")") + 2 :].split()


def start_time(pid: int | str) -> int:
    """When a process started, in clock ticks since boot (proc_pid_stat(5), field 22)."""
    return int(stat_fields(pid)[19])


def is_alive(pid: int, started: int) -> bool:
    """Whether that very process still runs; a zombie does not."""
    if pid <= 0:
        return False
    try:
        fields = stat_fields(pid)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return int(fields[19]) == started and fields[0] not in (b"Z", b"X")


def open_pidfd(pid: int, started: int) -> int:
    """A pidfd of that very process; ProcessLookupError where it is gone (security case 46: pids are used again)."""
    fd = os.pidfd_open(pid)  # not by ctypes, which a command that only reads need not load
    try:
        if start_time(pid) != started:
            raise ProcessLookupError(3, "No such process")
    except FileNotFoundError:
        os.close(fd)
        raise ProcessLookupError(3, "No such process") from None
    except BaseException:
        os.close(fd)
        raise
    return fd


def host_uid() -> int:
    """This process's user as the host knows it: root of a user namespace (podman's) is the user who made it.

    For one namespace below the host's; further down it is the id in the namespace above.
    """
    uid = os.geteuid()
    if uid:
        return uid
    for line in read_file("/proc/self/uid_map").splitlines():
        inside, outside, size = (int(word) for word in line.split())
        if inside <= uid < inside + size:
            return outside + uid - inside
    return uid


def boot_id() -> str:
    """The kernel's name for the time since the last boot."""
    return read_file("/proc/sys/kernel/random/boot_id").decode().strip()


def set_name(name: str) -> None:
    """This process's name in ps(1) and /proc/PID/comm; 15 bytes."""
    _write_own("comm", name.encode()[:15])


def set_title(title: str) -> None:
    """Overwrite the command line that everybody on the host can read in /proc/PID/cmdline.

    It holds what was given to the command, `-e PASSWORD=…` too; the memory is ours to write (proc_pid_stat(5), fields
    48 and 49).
    """
    fields = stat_fields("self")
    start, end = int(fields[45]), int(fields[46])
    if end > start > 0:
        text = title.encode()[: end - start - 1]
        _write_own("mem", text.ljust(end - start, b"\0"), start)


def _write_own(name: str, data: bytes, offset: int = 0) -> None:
    fd = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        if offset:
            os.lseek(fd, offset, os.SEEK_SET)
        os.write(fd, data)
    finally:
        os.close(fd)
