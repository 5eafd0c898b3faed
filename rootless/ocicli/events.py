"""events: what a container uses, now or every few seconds, and when it runs out of memory."""

from __future__ import annotations

import os
import time

from rootless import durations
from rootless import quickjson as json
from rootless.errors import InvalidState, Usage
from rootless.files import write_all
from rootless.ocicli import records
from rootless.ocicli.members import members
from rootless.runtime.cgroup import Cgroup, Stats
from rootless.runtime.usage import of_processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.ocicli.commandline import Given


_NO_LIMIT = 2**64 - 1  # as runc has it


def run(settings: Given, given: Given) -> int:
    """The command."""
    interval_s = seconds(given.text("interval") or "5s")
    record = records.load(settings, given.words[0])
    if record.status() == records.STOPPED:
        raise InvalidState(f"container `{record.identity}` is not running")
    if given.switch("stats"):
        say(record, "stats", document(read(record)))
        return 0
    follow(record, interval_s)
    return 0


def read(record: records.Record) -> Stats:
    """What its cgroup has counted; without one, as on a host that gives a user none, what its processes say."""
    path = record.data.get("cgroup")
    return Cgroup(path).stats() if path else of_processes(members(record))


def follow(record: records.Record, interval_s: float) -> None:
    """Tell until the container's end, which its pidfd tells."""
    import select

    from rootless.linux.process import open_pidfd

    try:
        pidfd = open_pidfd(record.pid, record.data["start_time"])
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    kills = read(record).oom_kills or 0
    while not poll.poll(int(interval_s * 1000)):
        stats = read(record)
        say(record, "stats", document(stats))
        if (stats.oom_kills or 0) > kills:
            kills = stats.oom_kills or 0
            say(record, "oom", None)
    os.close(pidfd)


def say(record: records.Record, kind: str, data: Any) -> None:
    """Write an event as one line of JSON, as runc does."""
    event = {"type": kind, "id": record.identity}
    if data is not None:
        event["data"] = data
    write_all(1, (json.dumps(event, separators=(",", ":")) + "\n").encode())


def document(stats: Stats) -> dict[str, Any]:
    """A reading in runc's form."""
    memory: dict[str, Any] = {}
    if stats.memory_bytes is not None:
        memory["usage"] = {
            "usage": stats.memory_bytes,
            "limit": _NO_LIMIT if stats.memory_limit is None else stats.memory_limit,
            "max": stats.memory_peak or 0,
            "failcnt": stats.oom_kills or 0,
        }
    return {
        "cpu": {
            "usage": {
                "total": stats.cpu_ns,
                "kernel": stats.system_ns,
                "user": stats.user_ns,
            },
            "throttling": {"throttledTime": stats.throttled_ns},
        },
        "memory": memory,
        "pids": {"current": stats.pids or 0, "limit": stats.pids_limit or 0},
        "blkio": {
            "ioServiceBytesRecursive": [
                {"op": "Read", "value": stats.block_read or 0},
                {"op": "Write", "value": stats.block_written or 0},
            ]
        },
        "time": time.time_ns(),
    }


def seconds(text: str) -> float:
    """An interval that --interval gives as a duration: 5s, 100ms, 1m30s."""
    try:
        span = durations.parse(text)
    except ValueError:
        span = 0
    if span <= 0:
        raise Usage(f"--interval {text}: is no duration above zero, such as 5s")
    return span / durations.SECOND
