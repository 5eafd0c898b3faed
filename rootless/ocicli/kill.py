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
    number = signals.parse(words[1] if len(words) > 1 else given.text("signal") or "TERM")
    record = records.load(settings, words[0])
    if given.switch("all"):
        kill_all(record, number)
        return 0
    kill(record, number)
    return 0


def kill(record: records.Record, number: int) -> None:
    """Send a signal to init; InvalidState where it has ended."""
    if record.status() == records.STOPPED:
        raise InvalidState(f"container `{record.identity}` is not running")
    try:
        fd = open_pidfd(record.pid, record.data["start_time"])
    except ProcessLookupError:
        raise InvalidState(f"container `{record.identity}` is not running") from None
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        raise InvalidState(f"container `{record.identity}` is not running") from None
    finally:
        os.close(fd)


def kill_all(record: records.Record, number: int) -> None:
    """Send a signal to every process; no error where there is none left."""
    from rootless.ocicli.members import members

    for pid in members(record):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
