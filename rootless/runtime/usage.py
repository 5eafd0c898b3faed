"""What processes use, for a container without a cgroup that would have counted it."""

from __future__ import annotations

import os

from rootless.linux.process import read_file
from rootless.runtime.cgroup import Stats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def of_processes(pids: Iterable[int]) -> Stats:
    """The sum over the processes there are: what one has used that has ended counts where its parent waited for it."""
    stats = Stats()
    stats.pids = stats.memory_bytes = stats.block_read = stats.block_written = 0
    for pid in pids:
        try:
            fields = read_file(f"/proc/{pid}/stat").rpartition(b")")[2].split()
            memory = read_file(f"/proc/{pid}/statm").split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        user, system, user_children, system_children = (int(word) for word in fields[11:15])
        stats.user_ns += (user + user_children) * _TICK_NS
        stats.system_ns += (system + system_children) * _TICK_NS
        stats.pids += int(fields[17])  # threads, which is what a pids controller counts
        stats.memory_bytes += (
            int(memory[1]) - int(memory[2])
        ) * _PAGE_BYTES  # without shared pages
        try:
            for line in read_file(f"/proc/{pid}/io").decode("ascii").splitlines():
                key, _, value = line.partition(": ")
                if key == "read_bytes":
                    stats.block_read += int(value)
                elif key == "write_bytes":
                    stats.block_written += int(value)
        except OSError:
            continue
    stats.cpu_ns = stats.user_ns + stats.system_ns
    return stats
