"""Which processes are a container's, and holding them all where there is no freezer."""

from __future__ import annotations

from rootless.ocicli import records
from rootless.runtime.cgroup import Cgroup
from rootless.runtime.freezer import in_pid_namespace


def members(record: records.Record) -> list[int]:
    """Every process of the container, by its cgroup or, without one, by its pid namespace."""
    path = record.data.get("cgroup")
    if path:
        return Cgroup(path).pids()
    if not record.is_alive():
        return []  # its pid namespace has gone with it
    return in_pid_namespace(record.pid, f"container {record.identity}")
