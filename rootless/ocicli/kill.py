"""kill: a signal to init, or to every process of the container."""

from __future__ import annotations

import os

from rootless.errors import InvalidState
from rootless.linux import signal, signals
from rootless.linux.process import open_pidfd
from rootless.ocicli import records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.ocicli.commandline import Given


def run(settings: Given, given: Given) -> int:
    """The command."""
    words = given.words
    text = words[1] if len(words) > 1 else given.text("signal") or "TERM"
    number = 0 if text == "0" else signals.parse(text)
    record = records.load(settings, words[0])
    if given.switch("all"):
        kill_all(record, number)
    else:
        kill(record, number)
    return 0


def kill(record: records.Record, number: int) -> None:
    """Send a signal to init; InvalidState where it has ended.

    Without a pid namespace of its own the end of init is not that of the others: SIGKILL is for all of them.
    """
    stopped = record.status() == records.STOPPED
    if (
        number == signal.SIGKILL
        and record.data.get("cgroup")
        and (stopped or not _owns_pids(record))
    ):
        from rootless.runtime.cgroup import Cgroup

        group = Cgroup(record.data["cgroup"])
        if group.pids():
            group.kill_all()
            return
    if stopped:
        raise _not_running(record)
    try:
        fd = open_pidfd(record.pid, record.data["start_time"])
    except ProcessLookupError:
        raise _not_running(record) from None
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        raise _not_running(record) from None
    finally:
        os.close(fd)


def _owns_pids(record: records.Record) -> bool:
    try:
        theirs = os.stat(f"/proc/{record.pid}/ns/pid").st_ino
    except FileNotFoundError:
        return True
    return theirs != os.stat("/proc/self/ns/pid").st_ino


def _not_running(record: records.Record) -> InvalidState:
    return InvalidState(f"container not running: `{record.identity}`")


def kill_all(record: records.Record, number: int) -> None:
    """Send a signal to every process; no error where there is none left."""
    from rootless.ocicli.members import members

    for pid in members(record):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
