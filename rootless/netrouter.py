"""Make the process that holds the user's networks (slirp/bridge.py): nobody's child, in its own two namespaces.

    command                                    router
    fork ──────────────────────────────────►   unshare(user, network)
          ◄── "unshared" ───────────────────
    writes both id maps
          ─── "mapped" ─────────────────────►  becomes root of its namespace, forks again and lets its parent end
          ◄── "serving", or an error ───────

With descriptors of both namespaces it joins them instead: the containers of a router that was killed are still there.
"""

from __future__ import annotations

import errno
import os

from rootless import quickjson as json
from rootless.errors import SetupError
from rootless.files import Lock
from rootless.linux import signal
from rootless.linux import sockets as socket
from rootless.linux.fs import close_range
from rootless.linux.idmap import IdMap, write_id_maps
from rootless.linux.prctl import (
    PR_CAPBSET_DROP,
    PR_SET_NO_NEW_PRIVS,
    capset,
    prctl,
    set_name,
    set_title,
)
from rootless.linux.sched import CLONE_NEWNET, CLONE_NEWUSER, setns, unshare
from rootless.linux.userns import refused
from rootless.runtime.idmap import default_idmap

TYPE_CHECKING = False
if TYPE_CHECKING:
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


def fork(paths: Paths, listener: socket.socket, nft: str, userns: int, netns: int) -> None:
    """Start the router as nobody's child; returns when it serves, raises what kept it from it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    pid = os.fork()
    if not pid:
        try:
            ours.close()
            _become_router(paths, listener, nft, userns, netns, theirs)
        except BaseException as error:
            number = error.errno if isinstance(error, OSError) else 0
            theirs.send(
                json.dumps({"errno": number, "text": f"{type(error).__name__}: {error}"}).encode()
            )
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
            os.waitpid(pid, 0)
        if message == b"serving":
            return
        failure = json.loads(message) if message else {"errno": 0, "text": "it died"}
    if failure["errno"] in (errno.EPERM, errno.ENOSPC, errno.EUSERS):
        raise refused(OSError(failure["errno"], ""))
    raise SetupError(f"cannot start the networks' router: {failure['text']}", stage="network")


def _become_router(
    paths: Paths, listener: socket.socket, nft: str, userns: int, netns: int, channel: socket.socket
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
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    userns = os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    netns = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    kept = [listener.fileno(), userns, netns, channel.fileno()]
    listener = socket.socket(
        listener.family, listener.type, listener.proto, fileno=os.dup(listener.fileno())
    )
    kept.append(listener.fileno())
    _close_others(kept)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        if fd != null:
            os.dup2(null, fd)
    os.chdir("/")
    _drop_rights()
    set_name("rootless-net")
    set_title(f"rootless networks {paths.run_networks}")
    from slirp.bridge import Router

    lock = Lock(f"{paths.run_networks}/lock", block=False)
    router = Router(listener, userns, netns, nft, lock)
    channel.send(b"serving")
    channel.close()
    router.serve()
    # The lock is ours: nobody is on the way.
    os.unlink(f"{paths.run_networks}/router")
    os._exit(0)


# capabilities(7): for interfaces and rules, the name server's port, and joining a container's namespace.
_CAP_NET_BIND_SERVICE, _CAP_NET_ADMIN, _CAP_SYS_ADMIN = 10, 12, 21


def _drop_rights() -> None:
    """It reads what containers send: of the root of its namespace it keeps what it is for."""
    kept = 1 << _CAP_NET_BIND_SERVICE | 1 << _CAP_NET_ADMIN | 1 << _CAP_SYS_ADMIN
    for number in range(64):
        if not kept >> number & 1:
            try:
                prctl(PR_CAPBSET_DROP, number)
            except OSError:
                break  # the last one that this kernel knows
    capset(kept, kept, 0)
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def _close_others(kept: list[int]) -> None:
    """Every descriptor but the standard ones and these: the caller's locks and lines are not ours."""
    previous = 2
    for fd in sorted(kept):
        if fd > previous + 1:
            close_range(previous + 1, fd - 1)
        previous = max(previous, fd)
    close_range(previous + 1, 0xFFFFFFFF)
