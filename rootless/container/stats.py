"""What a container uses: from its cgroup or, on a host that gives none, from its processes; and its network's counters."""

from __future__ import annotations

import os
import time

from rootless.container.freezer import members
from rootless.errors import RootlessError
from rootless.linux.process import read_file
from rootless.runtime.cgroup import Cgroup, Stats, memory_total
from rootless.runtime.usage import of_processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.container.status import Status


class Reading:
    """One container at one moment. All numbers are 0 for one that does not run, as Podman has it."""

    __slots__ = (
        "average_percent",
        "block_read",
        "block_written",
        "cpu_ns",
        "cpu_percent",
        "id",
        "memory_bytes",
        "memory_limit",
        "name",
        "net_in",
        "net_out",
        "pids",
        "system_ns",
        "time_ns",
    )

    def __init__(self, status: Status) -> None:
        self.id = status.id
        self.name = status.name
        self.time_ns = time.time_ns()
        self.cpu_ns = self.system_ns = 0
        self.cpu_percent = self.average_percent = 0.0
        self.memory_bytes = self.memory_limit = 0
        self.net_in = self.net_out = 0
        self.block_read = self.block_written = 0
        self.pids = 0

    @property
    def memory_percent(self) -> float:
        return 100 * self.memory_bytes / self.memory_limit if self.memory_limit else 0.0


def read(status: Status, before: Reading | None = None) -> Reading:
    """Read a container's numbers; the CPU's share is that since `before`, or since its start."""
    reading = Reading(status)
    if not status.is_running or status.live is None:
        return reading
    try:
        has_cgroup = bool(status.live.get("cgroup"))
        stats = _from_cgroup(status) if has_cgroup else of_processes(members(status))
    except (FileNotFoundError, ProcessLookupError):
        return reading  # it has ended in this moment
    reading.cpu_ns = stats.cpu_ns
    reading.system_ns = stats.system_ns
    reading.memory_bytes = stats.memory_bytes or 0
    reading.memory_limit = stats.memory_limit or memory_total()
    reading.block_read = stats.block_read or 0
    reading.block_written = stats.block_written or 0
    reading.pids = stats.pids or 0
    reading.net_in, reading.net_out = _network(status.pid)
    started = status.live.get("started_at") or reading.time_ns
    reading.average_percent = _share(reading.cpu_ns, reading.time_ns - started)
    reading.cpu_percent = reading.average_percent
    if before is not None and before.cpu_ns:
        reading.cpu_percent = _share(
            reading.cpu_ns - before.cpu_ns, reading.time_ns - before.time_ns
        )
    return reading


def _share(used_ns: int, passed_ns: int) -> float:
    return max(0.0, 100 * used_ns / passed_ns) if passed_ns > 0 else 0.0


def _from_cgroup(status: Status) -> Stats:
    assert status.live is not None
    try:
        return Cgroup(status.live["cgroup"]).stats()
    except RootlessError:
        raise FileNotFoundError(2, "the cgroup is gone") from None


def _network(pid: int) -> tuple[int, int]:
    """Bytes in and out over all links but the loopback; none for the host's own network."""
    try:
        if os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino:
            return 0, 0
        text = read_file(f"/proc/{pid}/net/dev").decode("ascii", "replace")
    except OSError:
        return 0, 0
    received = sent = 0
    for line in text.splitlines()[2:]:
        name, _, numbers = line.partition(":")
        if name.strip() != "lo":
            words = numbers.split()
            received += int(words[0])
            sent += int(words[8])
    return received, sent
