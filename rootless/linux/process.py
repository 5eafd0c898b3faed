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


def boot_id() -> str:
    return read_file("/proc/sys/kernel/random/boot_id").decode().strip()
