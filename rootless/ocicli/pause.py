"""pause and resume: the cgroup's freezer, or signals to every process where there is none."""

from __future__ import annotations

from rootless.errors import InvalidState
from rootless.ocicli import records
from rootless.runtime import freezer
from rootless.runtime.cgroup import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.ocicli.commandline import Given


def run(settings: Given, given: Given) -> int:
    """The command `pause`."""
    record = records.load(settings, given.words[0])
    with record.lock():
        status = record.status()
        if status not in (records.RUNNING, records.CREATED):
            raise InvalidState(f"cannot pause container `{record.identity}`: it is {status}")
        if record.data.get("cgroup"):
            Cgroup(record.data["cgroup"]).freeze()
        else:
            freezer.stop_all(record.pid, f"container {record.identity}")
            record.data["paused"] = True
            record.write()
    return 0


def resume(settings: Given, given: Given) -> int:
    """The command `resume`."""
    record = records.load(settings, given.words[0])
    with record.lock():
        status = record.status()
        if status != records.PAUSED:
            raise InvalidState(f"cannot resume container `{record.identity}`: it is {status}")
        if record.data.get("cgroup"):
            Cgroup(record.data["cgroup"]).thaw()
        else:
            freezer.continue_all(record.pid, f"container {record.identity}")
            del record.data["paused"]
            record.write()
    return 0
