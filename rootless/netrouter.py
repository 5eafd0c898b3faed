"""Make the process that holds the user's networks (netserve.py): nobody's child, in its own two namespaces.

    command                                    router
    fork ──────────────────────────────────►   unshare(user, network)
          ◄── "unshared" ───────────────────
    writes both id maps
          ─── "mapped" ─────────────────────►  becomes root of its namespace, forks again and lets its parent end
                                             execve netserve.py
          ◄── "serving", or an error ───────

With descriptors of both namespaces it joins them instead: the containers of a router that was killed are still there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys

from rootless import quickjson as json
from rootless.errors import SetupError
from rootless.interpreter import command
from rootless.linux import signal
from rootless.linux import sockets as socket
from rootless.linux.fs import close_range
from rootless.linux.idmap import IdMap, write_id_maps
from rootless.linux.sched import CLONE_NEWNET, CLONE_NEWUSER, setns, unshare
from rootless.linux.userns import refused
from rootless.runtime.idmap import default_idmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless.paths import Paths


def router_idmap() -> IdMap:
    """Every id that a container of this user can have, below ourselves as root."""
    wanted = default_idmap()
    uid, gid = os.geteuid(), os.getegid()

    def below(ranges: list[tuple[int, int, int]], own: int) -> list[tuple[int, int, int]]:
        found = [(0, own, 1)]
        following = 1
        for _, host, size in ranges:
            if host == own:
                continue
            found.append((following, host, size))
            following += size
        return found

    return IdMap(below(wanted.uids, uid), below(wanted.gids, gid))


def fork(
    paths: Paths, listener: socket.socket, programs: Sequence[str], userns: int, netns: int
) -> None:
    """Start the router as nobody's child; returns when it serves, raises what kept it from it.

    :param programs: what netserve.py takes after the folder
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    pid = os.fork()
    if not pid:
        try:
            ours.close()
            _become_router(paths, listener, programs, userns, netns, theirs)
        except BaseException as error:
            _tell(theirs.fileno(), error)
        finally:
            os._exit(1)
    theirs.close()
    with ours:
        try:
            message = ours.recv(4096)
            if message == b"unshared":
                write_id_maps(pid, router_idmap())
                ours.send(b"mapped")
                message = ours.recv(4096)
        finally:
            # First: where this is interrupted, the child waits for what will not come.
            ours.close()
            os.waitpid(pid, 0)
        if message == b"serving":
            return
        failure = json.loads(message) if message else {"errno": 0, "text": "it died"}
    if failure["errno"] in (errno.EPERM, errno.ENOSPC, errno.EUSERS):
        raise refused(OSError(failure["errno"], ""))
    raise SetupError(f"cannot start the networks' router: {failure['text']}", stage="network")


_ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "ROOTLESS_SETTLE_S": os.environ.get("ROOTLESS_SETTLE_S", "60"),
}


def _become_router(
    paths: Paths,
    listener: socket.socket,
    programs: Sequence[str],
    userns: int,
    netns: int,
    channel: socket.socket,
) -> None:
    os.setsid()
    if userns >= 0:
        # After the death of the one before: in its namespaces, where the containers still are.
        setns(userns, CLONE_NEWUSER)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        setns(netns, CLONE_NEWNET)
    else:
        unshare(CLONE_NEWUSER | CLONE_NEWNET)
        channel.send(b"unshared")
        if channel.recv(64) != b"mapped":
            os._exit(1)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    if os.fork():
        os._exit(0)
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGCHLD,
        signal.SIGPIPE,
    ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # Standard descriptors, then what netserve.py finds under its numbers; the caller's locks and lines are not ours.
    null = os.open("/dev/null", os.O_RDWR)
    namespaces = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in ("user", "net")]
    wanted = [null, null, null, listener.fileno(), *namespaces, channel.fileno()]
    aside = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, len(wanted)) for fd in wanted]
    for place, fd in enumerate(aside):
        os.dup2(fd, place)
    close_range(len(wanted), flags=4)  # CLOSE_RANGE_CLOEXEC
    os.chdir("/")
    arguments = [*command("rootless.netserve"), paths.run_networks, *programs]
    try:
        os.execve(sys.executable, arguments, _ENVIRONMENT)
    except OSError as error:
        _tell(len(wanted) - 1, error)
        os._exit(1)


def _tell(channel: int, error: BaseException) -> None:
    """What kept the router from serving, for whoever waits for it."""
    number = error.errno if isinstance(error, OSError) else 0
    failure = {"errno": number, "text": f"{type(error).__name__}: {error}"}
    os.write(channel, json.dumps(failure).encode())
