"""start: come to the gate at which a created container's init waits."""

from __future__ import annotations

import os

from rootless.errors import InvalidState, SetupError
from rootless.linux import sockets
from rootless.ocicli import records
from rootless.ocicli.delete import end
from rootless.runtime import hooks, sync
from rootless.runtime.process import finish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.ocicli.commandline import Given


def run(settings: Given, given: Given) -> int:
    """The command."""
    record = records.load(settings, given.words[0])
    with record.lock():
        start(record)
    return 0


def start(record: records.Record) -> None:
    """Let init, which waits since `create`, execute the container's process."""
    status = record.status()
    if status != records.CREATED:
        raise InvalidState(
            f"cannot start a container in the {status} state: container `{record.identity}`"
        )
    channel = connect(record.folder)
    ready = None
    if record.data.get("notify"):
        from rootless.ocicli import notify

        ready = notify.bind(record)
    os.unlink(f"{record.folder}/start")
    channel.send(sync.START)
    spec = record.spec()
    try:
        failure = finish(
            channel, spec, record.identity, record.data["bundle"], "creating", record.pid
        )
    except SetupError:
        end(record)
        raise
    channel.close()
    if failure:
        raise sync.decode_failure(failure)
    if hooks.has(spec, "poststart"):
        call_poststart(record, spec)
    if ready is not None:
        notify.pass_on(record, ready, until_ready=True)


def call_poststart(record: records.Record, spec: dict[str, object]) -> None:
    """Call them; one that fails ends the container (runtime.md, "Lifecycle", as runc and not as crun does it)."""
    state = {
        **hooks.state_document(spec, record.identity, record.data["bundle"], "running", record.pid)
    }
    try:
        hooks.run(spec, "poststart", state)
    except SetupError:
        end(record)
        raise


def connect(folder: str) -> sync.Channel:
    """A channel to the init that waits in this container's folder."""
    end = sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET | sockets.SOCK_CLOEXEC)
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        end.connect(f"/proc/self/fd/{fd}/start")
    except OSError as error:
        end.close()
        raise SetupError(f"init does not wait for its start: {error.strerror}") from error
    finally:
        os.close(fd)
    return sync.Channel(end)
