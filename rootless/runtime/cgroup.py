"""A container's cgroup (cgroups(7), version 2) by its folder: limits, freezer, processes, readings, its end.

Where it is made, and by whom, is runtime/cgroup_plan.py's.
"""

from __future__ import annotations

import errno
import os
import time

from rootless.errors import RootlessError
from rootless.linux.process import host_uid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.runtime.limits import Setting

ROOT = "/sys/fs/cgroup"
_PATIENCE_S = 10.0


def limits_of(resources: dict[str, Any] | None) -> list[Setting]:
    """What the runtime-spec's `resources` want to have written."""
    if not resources:
        return []
    from rootless.runtime.limits import settings

    return settings(resources)


class Stats:
    """A reading; a number that the kernel does not give is None."""

    __slots__ = (
        "block_read",
        "block_written",
        "cpu_ns",
        "memory_bytes",
        "memory_limit",
        "memory_peak",
        "oom_kills",
        "pids",
        "pids_limit",
        "system_ns",
        "throttled_ns",
        "time_ns",
        "user_ns",
    )

    def __init__(self) -> None:
        self.time_ns = time.time_ns()
        self.cpu_ns = self.user_ns = self.system_ns = self.throttled_ns = 0
        self.memory_bytes: int | None = None
        self.memory_limit: int | None = None
        self.memory_peak: int | None = None
        self.block_read: int | None = None
        self.block_written: int | None = None
        self.pids: int | None = None
        self.pids_limit: int | None = None
        self.oom_kills: int | None = None


class Cgroup:
    """A container's cgroup by its folder; `unit` is the scope around it, where there is one."""

    __slots__ = ("path", "unit")

    def __init__(self, path: str, unit: str = "") -> None:
        self.path = path
        self.unit = unit

    def exists(self) -> bool:
        return os.path.isdir(self.path)

    def write(self, wanted: list[Setting]) -> None:
        for controller, file, value, label in wanted:
            path = f"{self.path}/{file}"
            try:
                write(path, value)
            except FileNotFoundError:
                if file == "memory.swap.max" or file.endswith(".rsvd.max"):
                    continue  # a kernel without swap accounting has no swap to limit
                if controller and controller not in read_words(f"{self.path}/cgroup.controllers"):
                    raise not_delegated(controller, label) from None
                if file == "io.weight" and self._write_bfq(value):
                    continue
                raise RootlessError(f"cannot set {label}: this kernel has no {file}") from None
            except OSError as error:
                reason = reason_of(error)
                if file == "io.weight" and error.errno == errno.EOPNOTSUPP:
                    reason = "the device's I/O scheduler knows no weights"
                raise RootlessError(f"cannot set {label} to {value}: {reason}") from None

    def _write_bfq(self, value: str) -> bool:
        try:
            write(f"{self.path}/io.bfq.weight", value.removeprefix("default "))
        except OSError:
            return False
        return True

    def update(self, resources: dict[str, Any]) -> None:
        """Change the limits of a running container."""
        memory = resources.get("memory") or {}
        if memory.get("checkBeforeUpdate") and (memory.get("limit") or 0) > 0:
            current = _number(f"{self.path}/memory.current")
            if current is not None and current > memory["limit"]:
                raise RootlessError(
                    f"the memory limit {memory['limit']} is below the {current} bytes in use"
                )
        wanted = limits_of(resources)
        # Swap's limit stands apart from memory's here: which of the two is raised first does not matter.
        self.write(wanted)

    def add(self, pid: int, init: int = 0) -> None:
        """Move a process in, for `exec`; beside `init` where that has made cgroups of its own (systemd does)."""
        folder = of_process(init) if init else ""
        if not folder.startswith(f"{self.path}/"):
            folder = self.path
        try:
            move(folder, [pid])
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM) and self._add_by_systemd(pid, folder):
                return
            raise RootlessError(
                f"cannot move process {pid} into {folder}: {reason_of(error)}"
            ) from error

    def _add_by_systemd(self, pid: int, folder: str) -> bool:
        """From another branch of the tree, such as a log-in session's, and into what is a container's root's: systemd may
        what we may not."""
        from rootless.runtime import scope
        from rootless.runtime.delegation import unit_of

        unit = self.unit or unit_of(self.path)
        if not unit or not scope.is_available():
            return False
        scope.attach(unit, folder[folder.rindex(f"/{unit}/") + len(unit) + 1 :], [pid])
        return True

    def pids(self) -> list[int]:
        """Every process in it and below it."""
        found: list[int] = []
        for folder in self._folders():
            found.extend(int(word) for word in read_words(f"{folder}/cgroup.procs"))
        return found

    def _folders(self) -> list[str]:
        """This folder and those below, the deepest first."""
        return [folder for folder, _, _ in os.walk(self.path, topdown=False)]

    # freezer

    def freeze(self) -> None:
        """Stop every process in it, and wait until they stand."""
        self._write_own("cgroup.freeze", "1")
        self._wait_for("frozen", "1", "freeze")

    def thaw(self) -> None:
        self._write_own("cgroup.freeze", "0")
        self._wait_for("frozen", "0", "thaw")

    def is_frozen(self) -> bool:
        return _keyed(f"{self.path}/cgroup.events").get("frozen") == 1

    def _write_own(self, file: str, value: str) -> None:
        try:
            write(f"{self.path}/{file}", value)
        except OSError as error:
            raise RootlessError(f"{self.path}/{file}: {reason_of(error)}") from error

    def _wait_for(self, key: str, value: str, what: str) -> None:
        """Wait for a word of cgroup.events, which poll(2) tells as an exception."""
        import select

        fd = os.open(f"{self.path}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        try:
            poll = select.poll()
            poll.register(fd, select.POLLPRI)
            deadline = time.monotonic() + _PATIENCE_S
            while f"{key} {value}".encode() not in os.pread(fd, 4096, 0).splitlines():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise RootlessError(
                        f"cannot {what} {self.path}: a process in it does not react"
                    )
                poll.poll(int(left * 1000) + 1)
        finally:
            os.close(fd)

    # the end

    def kill_all(self) -> None:
        """SIGKILL to everything in it at once, forks included; the processes may still be on their way out after it."""
        try:
            write(f"{self.path}/cgroup.kill", "1")
        except FileNotFoundError:  # before Linux 5.14, or the cgroup is gone
            import signal

            # Frozen first: what does not run cannot fork away from the list.
            try:
                write(f"{self.path}/cgroup.freeze", "1")
            except OSError:
                pass
            for pid in self.pids():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            try:
                write(f"{self.path}/cgroup.freeze", "0")
            except OSError:
                pass

    def oom_killed(self) -> bool:
        """Whether the kernel has killed a process of it for want of memory."""
        return _keyed(f"{self.path}/memory.events").get("oom_kill", 0) > 0

    def remove(self) -> None:
        """Remove it with what is left in it; the scope around it is systemd's."""
        if os.path.isdir(self.path):
            if self.pids():
                self.kill_all()
                self._wait_for("populated", "0", "empty")
            folders = self._folders()
            if not all(_remove(folder) for folder in folders):
                from rootless.runtime.delegation import take_back

                take_back(folders)

    # reading

    def stats(self) -> Stats:
        """A reading of it all; RootlessError where the cgroup is gone."""
        stats = Stats()
        cpu = _keyed(f"{self.path}/cpu.stat")
        if not cpu and not self.exists():
            raise RootlessError(f"{self.path}: no such cgroup")
        stats.cpu_ns = cpu.get("usage_usec", 0) * 1000
        stats.user_ns = cpu.get("user_usec", 0) * 1000
        stats.system_ns = cpu.get("system_usec", 0) * 1000
        stats.throttled_ns = cpu.get("throttled_usec", 0) * 1000
        used = _number(f"{self.path}/memory.current")
        if used is not None:
            # What the page cache would give back at once is not counted, as Podman and Docker have it.
            stats.memory_bytes = max(
                0, used - _keyed(f"{self.path}/memory.stat").get("inactive_file", 0)
            )
            stats.memory_limit = self._memory_limit()
            stats.memory_peak = _number(f"{self.path}/memory.peak")
            stats.oom_kills = _keyed(f"{self.path}/memory.events").get("oom_kill")
        stats.pids = _number(f"{self.path}/pids.current")
        stats.pids_limit = _number(f"{self.path}/pids.max")
        if stats.pids is None:
            stats.pids = len(self.pids())
        try:
            with open(f"{self.path}/io.stat", encoding="ascii") as file:
                lines = file.read().split()
        except OSError:
            return stats
        stats.block_read = sum(int(word[7:]) for word in lines if word.startswith("rbytes="))
        stats.block_written = sum(int(word[7:]) for word in lines if word.startswith("wbytes="))
        return stats

    def _memory_limit(self) -> int:
        """The least of its own limit, those around it and the machine's memory."""
        limit = memory_total()
        folder = self.path
        while folder.startswith(ROOT + "/"):
            here = _number(f"{folder}/memory.max")
            if here is not None:
                limit = min(limit, here)
            folder = os.path.dirname(folder)
        return limit


def of_process(pid: int) -> str:
    """The folder of a process's cgroup; "" where there is none to be seen."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                if line.startswith("0::"):
                    path = line[3:].rstrip("\n").removesuffix(" (deleted)")
                    return "" if path.startswith("/..") else ROOT + path.rstrip("/")
    except (FileNotFoundError, ProcessLookupError):
        pass
    return ""


def memory_total() -> int:
    """The machine's memory in bytes."""
    with open("/proc/meminfo", encoding="ascii") as file:
        return int(file.readline().split()[1]) * 1024


def _keyed(path: str) -> dict[str, int]:
    words = read_words(path)
    return {key: int(value) for key, value in zip(words[::2], words[1::2], strict=False)}


def _number(path: str) -> int | None:
    """The number in a file; None for `max`, and where there is no such file."""
    words = read_words(path)
    return int(words[0]) if words and words[0].isdigit() else None


def _remove(folder: str) -> bool:
    """Remove an empty cgroup, one whose last process is still on its way out after a moment; False where it is not ours."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            os.rmdir(folder)
            return True
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                return False
            if (
                error.errno != errno.EBUSY
                or read_words(f"{folder}/cgroup.procs")
                or time.monotonic() > deadline
            ):
                # Somebody else's process is in it, or cgroups below it: theirs to remove.
                return True
            time.sleep(0.002)


# the files of the hierarchy, and what goes wrong with them


def read_words(path: str) -> list[str]:
    """The words of a file; none where it cannot be read."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read().split()
    except OSError:
        return []


def write(path: str, text: str) -> None:
    """By one write(2); an error carries the file's name."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)


def move(folder: str, pids: list[int]) -> None:
    """Move processes into a cgroup."""
    for pid in pids:
        write(f"{folder}/cgroup.procs", str(pid))


def reason_of(error: OSError) -> str:
    """The kernel's reason in the middle of a sentence."""
    return os.strerror(error.errno or 0).lower()


def not_delegated(controller: str, label: str) -> RootlessError:
    """The error for a limit whose controller this user has not got."""
    return RootlessError(
        f"cannot set {label}: the {controller} controller is not delegated to uid {host_uid()}",
        hint="ask for /etc/systemd/system/user@.service.d/delegate.conf with the two lines `[Service]` and "
        "`Delegate=cpu cpuset io memory pids`, then `systemctl daemon-reload`, and log in again",
    )
