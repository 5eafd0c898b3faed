"""A forked child inside a container's file system, which answers questions about it and moves files by descriptors.

    running    one setns on a pidfd into its user and mount namespaces: what its processes see, with all mounts
    stopped    user and mount namespaces of our own with its root and volumes mounted in them; the container's lock is
               held meanwhile, so that it cannot be started on the same overlay

A link of the container is resolved by the kernel inside its root (openat2, RESOLVE_IN_ROOT, no magic links), whatever is
swapped meanwhile; nothing of its files is ever opened from the host's side (security cases 13, 14). The child cannot be
traced from inside and, once there, imports nothing (case 12): every module it uses is loaded before the fork.
"""

from __future__ import annotations

import errno
import os
import socket
import stat

from rootless import quickjson
from rootless.container import transfer
from rootless.container.filesystem import binds_of, idmap_of, own_root
from rootless.container.inside import read_in_root
from rootless.container.lifecycle import wait_monitor
from rootless.container.options import CreateOptions
from rootless.container.status import STOPPING, check_access, settle, status_of
from rootless.container.user import resolve_user
from rootless.errors import NotFound, RootlessError
from rootless.linux import fs
from rootless.linux import mount as m
from rootless.linux.prctl import PR_SET_DUMPABLE, PR_SET_PDEATHSIG, prctl
from rootless.linux.process import open_pidfd
from rootless.linux.sched import CLONE_NEWNS, CLONE_NEWUSER, setns
from rootless.linux.userns import become_root, decode_error, encode_error, fork_in_userns
from rootless.runtime import mounts
from rootless.state import process_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.container.engine import Engine
    from rootless.container.status import Status
    from rootless.files import Lock
    from rootless.linux.idmap import IdMap

    Answer = dict[str, Any]

_MAX = 1 << 17
_LINKS = 40  # as the kernel: more are a circle
_KILL = 9


class Guest:
    """The parent's end. Close it: then the child ends and, with it, its mounts."""

    __slots__ = ("_channel", "_child", "_lock", "_root", "idmap", "record")

    def __init__(self, engine: Engine, identity: str) -> None:
        self._lock: Lock | None = None
        self._root: Any = None
        status = self._hold(engine, identity)
        self.record = status.record
        self.idmap = idmap_of(engine, status.record)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = ours
        try:
            if status.pid:
                self._child = self._join(status, theirs)
            else:
                self._child = self._mount(engine, theirs)
        except BaseException:
            self._let_go()
            raise
        finally:
            theirs.close()

    def _hold(self, engine: Engine, identity: str) -> Status:
        """The status, with the lock held where the container does not run."""
        table = engine.containers
        while True:
            status = status_of(engine, identity)
            if status.pid:
                return status
            if status.word == STOPPING:
                wait_monitor(engine, identity, status.live)
            lock = table.lock(identity)
            lock.acquire()
            try:
                settle(engine, identity)
                status = status_of(engine, identity)
            except BaseException:
                lock.release()
                raise
            if not status.pid and status.word != STOPPING:
                self._lock = lock
                return status
            lock.release()

    def _join(self, status: Status, theirs: socket.socket) -> int:
        assert status.live is not None
        check_access(status)
        init = process_of(status.live, "init")
        assert init is not None
        try:
            pidfd = open_pidfd(init.pid, init.started)
        except ProcessLookupError:
            raise NotFound(f"container {status.name} has ended meanwhile: try again") from None
        parent = os.getpid()
        # Its links name paths as we see them then: below the container's root.
        host_proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            try:
                self._channel.close()
                prctl(PR_SET_DUMPABLE, 0)
                setns(pidfd, CLONE_NEWUSER | CLONE_NEWNS)
                become_root(self.idmap)
                prctl(PR_SET_PDEATHSIG, _KILL)
                if os.getppid() == parent:
                    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                    _Server(theirs, root, host_proc).serve()
            except BaseException as error:
                _tell(theirs, error)
            finally:
                os._exit(0)
        os.close(pidfd)
        os.close(host_proc)
        return pid

    def _mount(self, engine: Engine, theirs: socket.socket) -> int:
        """The child of a stopped container: its root and its binds and volumes, for this child alone."""
        root = self._root = own_root(engine, self.record)
        binds = binds_of(engine, self.record)
        host_proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        sources: list[tuple[str, int]] = []

        def prepare() -> None:
            # Still with our own ids: the root of its namespace may not reach our home.
            root.open()
            sources.extend((entry["destination"], mounts.open_source(entry)) for entry in binds)

        def body() -> None:
            try:
                self._channel.close()  # or our own end would keep us from seeing the parent's close
                prctl(PR_SET_DUMPABLE, 0)
                top = _make_root(root, sources)
                os.fchdir(top)
                os.chroot(".")
                _Server(theirs, top, host_proc).serve()
            except BaseException as error:
                _tell(theirs, error)

        child = fork_in_userns(self.idmap, body, prepare=prepare, mapped=root.start)
        os.close(host_proc)
        return child.pid

    def ask(self, operation: str, fds: tuple[int, ...] = (), **parameters: Any) -> Answer:
        """Have one thing done; raises what the child met."""
        self.send(operation, fds, **parameters)
        return self.answer()

    def send(self, operation: str, fds: tuple[int, ...] = (), **parameters: Any) -> None:
        message = quickjson.dumps({"do": operation, **parameters}).encode()
        socket.send_fds(self._channel, [message], list(fds))

    def answer(self) -> Answer:
        data = self._channel.recv(_MAX)
        if not data:
            raise RootlessError(f"container {self.record['name']}: the helper inside it has died")
        answer: Answer = quickjson.loads(data)
        if "error" in answer:
            raise decode_error(answer["error"].encode())
        return answer

    def close(self) -> None:
        self._channel.close()
        try:
            os.waitpid(self._child, 0)
        except ChildProcessError:
            pass
        self._let_go()

    def _let_go(self) -> None:
        if self._root is not None:
            self._root.close()
            self._root = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _make_root(root: Any, sources: list[tuple[str, int]]) -> int:
    """Mount the root over our own `/` and the sources on it; a descriptor of it."""
    host = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    m.mount_setattr(host, propagation=m.MS_PRIVATE, recursive=True)
    made: int = root.mount()
    m.mount_setattr(made, propagation=m.MS_PRIVATE, recursive=True)
    m.move_mount(made, host)
    for destination, source in sources:
        target = mounts.open_target(made, destination, directory=mounts.is_directory(source))
        mounts.attach(source, target)
        os.close(target)
        os.close(source)
    os.close(host)
    return fs.open_in_root(made, "/", os.O_RDONLY | os.O_DIRECTORY)


def _tell(channel: socket.socket, error: BaseException) -> None:
    try:
        channel.send(quickjson.dumps({"error": encode_error(error).decode()}).encode())
    except OSError:
        pass


class _Server:
    """The child's end: one request at a time, until the parent has closed."""

    __slots__ = ("channel", "root", "proc", "_packing")

    def __init__(self, channel: socket.socket, root: int, proc: int) -> None:
        self.channel = channel
        self.root = root
        self.proc = proc
        self._packing: tuple[int, int] | None = None

    def serve(self) -> None:
        operations: dict[str, Callable[[Answer, list[int]], Answer]] = {
            "look": self._look,
            "owner": self._owner,
            "pack": self._pack,
            "packed": self._packed,
            "unpack": self._unpack,
        }
        while True:
            data, fds, _, _ = socket.recv_fds(self.channel, _MAX, 4)
            if not data:
                return
            request = quickjson.loads(data)
            try:
                answer = operations[request["do"]](request, fds)
            except BaseException as error:
                _tell(self.channel, error)
            else:
                self.channel.send(quickjson.dumps(answer).encode())
            finally:
                for fd in fds:
                    os.close(fd)

    def _open(self, path: str, flags: int) -> int:
        return fs.open_in_root(self.root, path, flags)

    def _path_of(self, fd: int) -> str:
        return os.readlink(f"self/fd/{fd}", dir_fd=self.proc)

    def _look(self, request: Answer, fds: list[int]) -> Answer:
        """Where a path leads: to something, or to a name that could be made (a dangling link's target, too)."""
        path = request["path"]
        for _ in range(_LINKS):
            try:
                fd = self._open(path, os.O_PATH)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                    raise
            else:
                try:
                    folder = stat.S_ISDIR(os.fstat(fd).st_mode)
                    return {"found": True, "folder": folder, "path": self._path_of(fd)}
                finally:
                    os.close(fd)
            above, _, name = path.rstrip("/").rpartition("/")
            try:
                parent = self._open(above or "/", os.O_PATH | os.O_DIRECTORY)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                    raise
                return {"found": False, "parent": "", "name": name}
            try:
                real = self._path_of(parent)
                target = os.readlink(name, dir_fd=parent)
            except OSError:
                return {"found": False, "parent": real, "name": name}
            finally:
                os.close(parent)
            path = target if target.startswith("/") else f"{real}/{target}"
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), request["path"])

    def _owner(self, request: Answer, fds: list[int]) -> Answer:
        """The ids of the container's user, by its own account files."""
        user = resolve_user(
            request["user"], read_in_root("/etc/passwd"), read_in_root("/etc/group")
        )
        return {"uid": user.uid, "gid": user.gid}

    def _pack(self, request: Answer, fds: list[int]) -> Answer:
        """Begin to write an archive, in a process of its own: the same container may be unpacking it."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            try:
                prctl(PR_SET_PDEATHSIG, _KILL)
                owner = request.get("owner")
                packer = transfer.Packer(
                    fds[0], owner=tuple(owner) if owner else None, skip_unreadable=True
                )
                transfer.pack_path(
                    packer, self._open, request["path"], request["name"],
                    contents=request["contents"], skip=tuple(request["skip"]),
                )  # fmt: skip
            except BrokenPipeError:
                pass  # the other side has had enough, and says why
            except BaseException as error:
                os.write(writer, encode_error(error))
            finally:
                os._exit(0)
        os.close(writer)
        self._packing = (pid, reader)
        return {}

    def _packed(self, request: Answer, fds: list[int]) -> Answer:
        assert self._packing is not None
        pid, reader = self._packing
        data = b""
        while chunk := os.read(reader, _MAX):
            data += chunk
        os.close(reader)
        os.waitpid(pid, 0)
        if data:
            raise decode_error(data)
        return {}

    def _unpack(self, request: Answer, fds: list[int]) -> Answer:
        """Unpack an archive into a folder."""
        folder = self._open(request["path"], os.O_RDONLY | os.O_DIRECTORY)
        try:
            owner = request.get("owner")
            transfer.Unpacker(
                folder, owner=tuple(owner) if owner else None, keep_owner=not owner, overwrite=request["overwrite"],
            ).run(lambda: os.read(fds[0], transfer.PIECE))  # fmt: skip
        finally:
            os.close(folder)
        return {}


def workdir_of(engine: Engine, record: dict[str, Any]) -> str:
    """The folder that relative paths of a container start at."""
    from rootless.container.facts import image_of
    from rootless.container.spec import working_dir

    return working_dir(CreateOptions.from_json(record["options"]), image_of(engine, record)[1])


def user_of(engine: Engine, record: dict[str, Any]) -> str:
    """The container's user as it was written."""
    from rootless.container.facts import image_of

    options = CreateOptions.from_json(record["options"])
    if options.userns.startswith("keep-id") and not options.user:
        from rootless.container.userns import keep_ids

        kept = keep_ids(options, os.geteuid(), os.getegid())
        if kept is not None:
            return f"{kept[0]}:{kept[1]}"
    return options.user or image_of(engine, record)[1].get("User") or ""


def host_owner(idmap: IdMap, uid: int, gid: int) -> tuple[int, int]:
    """The host's ids behind a container's."""
    from rootless.linux.idmap import to_host

    return (
        next((one for one in (to_host(idmap.uids, uid),) if one is not None), os.getuid()),
        next((one for one in (to_host(idmap.gids, gid),) if one is not None), os.getgid()),
    )
