"""delete: what a stopped container has left; with --force a running one's end first."""

from __future__ import annotations

import os

from rootless.errors import InvalidState, NotFound
from rootless.linux import signal
from rootless.linux.process import open_pidfd
from rootless.ocicli import records
from rootless.runtime import hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.ocicli.commandline import Given


def run(settings: Given, given: Given) -> int:
    """The command."""
    force = given.switch("force")
    root = records.find_root(settings)
    if given.switch("regex"):
        import re

        for identity in records.identities(root):
            if re.search(given.words[0], identity):
                delete(records.Record(root, identity), force=force)
        return 0
    delete(records.Record(root, given.words[0]), force=force)
    return 0


def delete(record: records.Record, *, force: bool) -> None:
    """Remove a container that has ended; with `force` one that runs, and what a killed create has left."""
    try:
        record.load()
    except NotFound:
        if not force:
            raise
        if os.path.isdir(record.folder):
            record.remove()  # of a create that was killed
        return
    with record.lock():
        status = record.status()
        if status not in (records.STOPPED, records.CREATED) and not force:
            raise InvalidState(
                f"cannot delete container `{record.identity}` that is not stopped: {status}"
            )
        end(record)
        forget(record)


def end(record: records.Record) -> None:
    """Kill init and all that lives with it, and wait until it is gone."""
    if record.is_alive():
        try:
            fd = open_pidfd(record.pid, record.data["start_time"])
        except ProcessLookupError:
            return
        try:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            import select

            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll(10_000)
        except ProcessLookupError:
            pass
        finally:
            os.close(fd)


def forget(record: records.Record, spec: dict[str, Any] | None = None) -> None:
    """Remove the cgroup and the record, and call poststop, whose failures are only told; `spec` is read where it is not
    given."""
    path = record.data.get("cgroup")
    if path:
        from rootless.runtime.cgroup import Cgroup

        Cgroup(path).remove()
    if spec is None:
        try:
            spec = record.spec()
        except (OSError, ValueError):
            spec = {}  # damaged: what it was is gone, and shall not keep the rest
    record.remove()
    if hooks.has(spec, "poststop"):
        state = hooks.state_document(spec, record.identity, record.data["bundle"], "stopped", 0)
        hooks.run_leniently(spec, "poststop", state)
