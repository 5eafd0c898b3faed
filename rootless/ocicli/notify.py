"""systemd's readiness for containers (sd_notify(3)): a socket in the container, and its messages passed on to the caller's.

The container gets a folder at the path of the caller's $NOTIFY_SOCKET with a socket in it, as runc and crun make it: the
caller's own socket may not be reachable by the container's ids.
"""

from __future__ import annotations

import os
import select

from rootless.files import make_dirs
from rootless.linux import sockets
from rootless.linux.process import open_pidfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.ocicli.records import Record

_CHUNK = 65536


def prepare(record: Record, spec: dict[str, Any]) -> None:
    """Add the socket to a configuration, where the caller's environment names one."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith("/"):
        return
    folder = f"{record.folder}/notify"
    make_dirs(folder, 0o755)
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    end = sockets.socket(sockets.AF_UNIX, sockets.SOCK_DGRAM)
    end.bind(f"/proc/self/fd/{fd}/notify")
    os.chmod("notify", 0o777, dir_fd=fd)
    os.close(fd)
    # Nobody listens to what is bound here: `receive` binds it again, when there is somebody to listen.
    end.close()
    spec["mounts"] = [
        *(spec.get("mounts") or []),
        {
            "destination": path,
            "type": "bind",
            "source": folder,
            "options": ["bind", "nosuid", "noexec", "nodev"],
        },
    ]
    process = spec["process"] = dict(spec["process"])
    environment = [one for one in process.get("env") or [] if not one.startswith("NOTIFY_SOCKET=")]
    process["env"] = [*environment, f"NOTIFY_SOCKET={path}/notify"]
    record.data["notify"] = path


def bind(record: Record) -> sockets.socket:
    """The container's socket with us listening, in the place of the one that was there."""
    fd = os.open(f"{record.folder}/notify", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    end = sockets.socket(sockets.AF_UNIX, sockets.SOCK_DGRAM | sockets.SOCK_CLOEXEC)
    try:
        os.unlink("notify", dir_fd=fd)
        end.bind(f"/proc/self/fd/{fd}/notify")
        os.chmod("notify", 0o777, dir_fd=fd)
    finally:
        os.close(fd)
    return end


def pass_on(record: Record, end: sockets.socket, *, until_ready: bool) -> None:
    """Pass messages on until the container has ended or, with `until_ready`, has said that it is ready."""
    try:
        pidfd = open_pidfd(record.pid, record.data["start_time"])
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(end.fileno(), select.POLLIN)
    try:
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if end.fileno() in ready:
                data = end.recv(_CHUNK)
                _send(record.data["notify"], data)
                if until_ready and b"READY=1" in data.split(b"\n"):
                    _send(record.data["notify"], f"MAINPID={record.pid}".encode())
                    return
            elif pidfd in ready:
                return
    finally:
        os.close(pidfd)
        end.close()


def pass_on_beside(record: Record, end: sockets.socket) -> None:
    """The same in a process of its own, for a container that runs in the foreground; it ends with the container."""
    if os.fork() == 0:
        try:
            pass_on(record, end, until_ready=False)
        finally:
            os._exit(0)
    end.close()


def _send(path: str, data: bytes) -> None:
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_DGRAM | sockets.SOCK_CLOEXEC) as end:
        try:
            end.connect(path)
            end.send(data)
        except OSError:
            pass  # the caller does not listen any more
