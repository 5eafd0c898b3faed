"""Work done inside a user namespace by a forked child: what sub-id-owned files need.

parent                         child
fork ───────────────────────►  unshare(user, mount…)
       ◄── "unshared" ───────
writes both id maps
       ─── "mapped" ───────►   becomes uid 0, gid 0 of the namespace, body(), _exit
       ◄── error as JSON, or end of file
"""

from __future__ import annotations

import errno
import os

from rootless import quickjson as json
from rootless.errors import RootlessError, SetupError
from rootless.linux import sockets as socket
from rootless.linux.idmap import IdMap, write_id_maps
from rootless.linux.prctl import PR_SET_PDEATHSIG, prctl
from rootless.linux.sched import CLONE_NEWNS, CLONE_NEWUSER, unshare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Child:
    """A child at work in a namespace of its own."""

    __slots__ = ("pid", "_channel")

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self._channel = channel

    def wait(self) -> None:
        """Wait for the end; raise what the child raised, as SetupError or OSError, or how it died."""
        status = self.wait_status()
        if status:
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            raise RootlessError(f"helper in the user namespace {how}")

    def wait_status(self) -> int:
        """Wait for the end of a child that has become another program; raise what kept it from that.

        Its exit status, or the negative number of the signal that killed it.
        """
        data = b""
        while chunk := self._channel.recv(65536):
            data += chunk
        self._channel.close()
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if data:
            raise decode_error(data)
        return status


def encode_error(error: BaseException) -> bytes:
    """An error as data for the other end of a socket; nobody parses message text."""
    if isinstance(error, RootlessError):
        value: dict[str, object] = {
            "message": error.message,
            "hint": error.hint,
            "exit_code": error.exit_code,
        }
        cause = error.__cause__
        value["reason"] = (cause.errno or 0) if isinstance(cause, OSError) else 0
        if isinstance(error, SetupError):
            value["stage"], value["reason"] = error.stage, error.errno or value["reason"]
    elif isinstance(error, OSError):
        value = {
            "errno": error.errno,
            "message": error.strerror or str(error),
            "path": _text(error.filename),
        }
    else:
        value = {"message": f"{type(error).__name__}: {error}"}
    return json.dumps(value).encode()


def _text(path: object) -> str | None:
    if path is None or isinstance(path, int):
        return None
    return os.fsdecode(path) if isinstance(path, (str, bytes)) else str(path)


def decode_error(data: bytes) -> Exception:
    """The error that `encode_error` has written, as one of its class."""
    value = json.loads(data)
    if value.get("errno"):
        error: Exception = OSError(value["errno"], value["message"], value.get("path"))
        return error
    if "stage" in value:
        return SetupError(
            value["message"],
            stage=value["stage"],
            errno=value["reason"],
            hint=value.get("hint", ""),
        )
    failure = RootlessError(
        value["message"], hint=value.get("hint", ""), exit_code=value.get("exit_code")
    )
    if value.get("reason"):
        failure.__cause__ = OSError(value["reason"], os.strerror(value["reason"]))
    return failure


def unshare_user(flags: int) -> None:
    """unshare(2) with the host's usual reasons for refusing put into words."""
    try:
        unshare(flags | CLONE_NEWUSER)
    except OSError as error:
        raise refused(error) from error


def refused(error: OSError) -> SetupError:
    """Why the kernel refuses user namespaces on this host, and the remedy."""
    number = error.errno or 0
    hint, kind = "", "user"
    if number in (errno.ENOSPC, errno.EUSERS):
        kind = _used_up()
        hint = f"user.max_{kind}_namespaces is 0 or used up: ask for `sysctl user.max_{kind}_namespaces=15000`"
    elif number in (errno.EPERM, errno.EACCES):
        for path, off, text in (
            (
                "/proc/sys/kernel/unprivileged_userns_clone",
                "0",
                "sysctl kernel.unprivileged_userns_clone=1",
            ),
            (
                "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
                "1",
                "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile that grants userns",
            ),
        ):
            try:
                with open(path) as file:
                    if file.read().strip() == off:
                        hint = f"{os.path.basename(path)} is {off}: ask for `{text}`"
            except OSError:
                continue
        hint = hint or "a seccomp filter or security module around this process forbids them"
    return SetupError(
        f"{kind} namespaces are forbidden here: {os.strerror(number).lower()}",
        stage="user namespace",
        errno=number,
        hint=hint,
    )


def _used_up() -> str:
    """Which kind of namespace a user may have no more of (namespaces(7))."""
    kind = "user"
    for other in ("mnt", "pid", "net", "ipc", "uts", "cgroup", "time"):
        try:
            with open(f"/proc/sys/user/max_{other}_namespaces") as file:
                if file.read().strip() == "0":
                    kind = other
        except OSError:
            continue
    return kind


def fork_in_userns(
    idmap: IdMap,
    body: Callable[[], object],
    *,
    flags: int = CLONE_NEWNS,
    prepare: Callable[[], object] | None = None,
    mapped: Callable[[int], object] | None = None,
) -> Child:
    """Run `body` in a forked child that is root of a new user namespace (and of the namespaces in `flags`).

    `prepare` comes before it, when the namespaces are there but the ids are still the caller's: for opening what the
    namespace's root may not reach. `mapped` is called here with the child's pid, once its ids are mapped and before it
    takes them, after which its namespaces could not be opened any more. Raises SetupError where the host forbids it. The
    child dies with its parent.
    """
    parent = os.getpid()

    def inside(channel: socket.socket) -> None:
        prctl(PR_SET_PDEATHSIG, 9)
        if os.getppid() != parent:
            os._exit(1)
        unshare_user(flags)
        if prepare is not None:
            prepare()
        channel.send(b"unshared")
        if channel.recv(16) != b"mapped":
            os._exit(1)
        become_root(idmap)
        body()

    pid, ours = _fork(inside)
    try:
        said = ours.recv(65536)
        if said != b"unshared":
            raise (
                decode_error(said)
                if said
                else RootlessError("helper in the user namespace died at its start")
            )
        write_id_maps(pid, idmap)
        if mapped is not None:
            mapped(pid)
        ours.send(b"mapped")
    except BaseException:
        ours.close()
        os.waitpid(pid, 0)
        raise
    return Child(pid, ours)


def fork_reporting(body: Callable[[], object]) -> Child:
    """Run `body` in a forked child whose error comes back as `fork_in_userns` brings it."""
    return Child(*_fork(lambda channel: body()))


def _fork(body: Callable[[socket.socket], object]) -> tuple[int, socket.socket]:
    """A child, which runs `body` with one end of a channel and puts its error into it, and the other end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            ours.close()
            body(theirs)
            status = 0
        except BaseException as error:
            try:
                theirs.send(encode_error(error))
            except OSError:
                pass
        finally:
            os._exit(status)
    theirs.close()
    return pid, ours


def become_root(idmap: IdMap, *, keep_groups: bool = False) -> None:
    """Take uid and gid 0 of the namespace (or its only id) and, where the map allows it, no other group.

    With `keep_groups` the caller's supplementary groups stay, though the namespace has no names for them.
    """
    gid = 0 if _has(idmap.gids, 0) else idmap.gids[0][0]
    uid = 0 if _has(idmap.uids, 0) else idmap.uids[0][0]
    try:
        if not keep_groups:
            os.setgroups([])
    except PermissionError:
        pass  # a map of one id comes with setgroups denied
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    prctl(PR_SET_PDEATHSIG, 9)  # the change of ids has cleared it


def _has(ranges: list[tuple[int, int, int]], identity: int) -> bool:
    return any(start <= identity < start + size for start, _, size in ranges)
