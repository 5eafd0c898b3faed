"""The helper in a user namespace that does what needs every mapped id: unpack, rebuild and empty layers.

    parent                          helper (root of its user namespace)      worker, one per job
    Helper(): fork ──────────────►  serve()
    run(): fds, parameters ──────►  fork ──────────────────────────────────► chroot into the layer's folder
    advance(): bytes there ────────────────────────────────────────────────► inflate + hash (thread), extract
           ◄─────────────────────────────────────────────────────────────── result or error

One namespace serves a whole pull: making it costs several milliseconds, a fork inside costs one. The helper is forked
before any thread is started, and from a thread that outlives it (PR_SET_PDEATHSIG looks at threads). Only descriptors
go in: no path of the host is looked up inside, so that the caller may be real root over a store that the namespace
could not even read. A worker whose parent dies dies with it, and leaves a folder under `tmp` for the next command.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import signal
import socket
import threading

from rootless.errors import RootlessError
from rootless.files import close_locks
from rootless.linux.prctl import PR_SET_PDEATHSIG, prctl
from rootless.linux.userns import Child, decode_error, encode_error, fork_in_userns
from rootless.storage import compress, diff, emptying, extract, recipe, tar, verify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from rootless.linux.idmap import IdMap

_READ_SIZE = 1 << 17
# Inflated blocks that wait for the extractor.
_AHEAD = 6
_SPACE_CHECK = 64 << 20
_GATHER = 1 << 18
# SCM_MAX_FD is 253.
_FDS_MAX = 252


class Helper:
    """The parent's end. Threads may share it; each job has a channel of its own."""

    def __init__(self, idmap: IdMap) -> None:
        self.idmap = idmap
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def body() -> None:
            ours.close()
            # A worker that outlives its job by a moment would keep the next command from the store.
            close_locks()
            _serve(theirs, idmap)

        try:
            self._child: Child | None = fork_in_userns(idmap, body, flags=0)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._control = ours

    def run(self, operation: str, fds: list[int], **parameters: object) -> Job:
        """Start a job; the descriptors stay the caller's."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        message = json.dumps({"operation": operation, "fds": len(fds), **parameters}).encode()
        try:
            with self._lock:
                socket.send_fds(self._control, [message], [theirs.fileno(), *fds])
        except BrokenPipeError:
            ours.close()
            self.close()
            raise RootlessError("the helper in the user namespace died") from None
        finally:
            theirs.close()
        return Job(ours)

    def close(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            self._control.close()
            child.wait()

    def __enter__(self) -> Helper:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self.close()
        except RootlessError:
            if kind is None:
                raise


class Job:
    """One job at work in the helper."""

    __slots__ = ("_channel",)

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def advance(self, size: int) -> None:
        """Tell that the source now holds `size` bytes."""
        try:
            self._channel.send(b"%d" % size)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the worker has given up; wait() says why

    def end(self, size: int) -> None:
        """Tell that the source is complete with `size` bytes."""
        try:
            self._channel.send(b"%d." % size)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def wait(self) -> dict[str, Any]:
        """Return the result, or raise what the worker raised. Interrupted, it is still at work, to be cancelled."""
        try:
            answer = self._channel.recv(1 << 17)
        except ConnectionResetError:
            # It left with messages of ours unread, which the kernel tells before its answer (unix(7)).
            answer = self._channel.recv(1 << 17)
        self._channel.close()
        if not answer:
            raise RootlessError("the helper in the user namespace died at its work")
        if answer[:1] == b"+":
            result: dict[str, Any] = json.loads(answer[1:])
            return result
        raise decode_error(answer[1:])

    def failed(self) -> bool:
        """Whether the worker has given up already."""
        try:
            return self._channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)[:1] in (b"", b"-")
        except BlockingIOError:
            return False
        except OSError:
            return True

    def cancel(self) -> None:
        """Make the worker give up, and wait until it has."""
        try:
            self._channel.shutdown(socket.SHUT_WR)
            while self._channel.recv(1 << 17):
                pass
        except OSError:
            pass
        self._channel.close()


# In the helper


def _serve(control: socket.socket, idmap: IdMap) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    me = os.getpid()
    while True:
        data, fds, _, _ = socket.recv_fds(control, 1 << 16, _FDS_MAX + 1)
        if not data:
            return
        message = json.loads(data)
        if message["operation"] == "unpack":
            compress.zlib_module()  # loaded once, and not by the worker of each layer
        if os.fork() == 0:
            try:
                prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() == me:
                    control.close()
                    _work(message, fds, idmap)
            finally:
                os._exit(0)
        for fd in fds:
            os.close(fd)


def _work(message: dict[str, Any], fds: list[int], idmap: IdMap) -> None:
    channel = socket.socket(fileno=fds[0])
    try:
        result = _OPERATIONS[message["operation"]](message, fds[1:], channel, idmap)
        answer = b"+" + json.dumps(result).encode()
    except BaseException as error:
        answer = b"-" + encode_error(error)
    try:
        channel.send(answer)
    except OSError:
        pass


def _enter(folder: int) -> None:
    os.fchdir(folder)
    os.chroot(".")
    os.close(folder)


class _Source:
    """Reads a file that may still be growing."""

    __slots__ = ("_channel", "_complete", "_fd", "_limit", "_offset", "_start")

    def __init__(
        self, fd: int, start: int, size: int, channel: socket.socket, *, follow: bool
    ) -> None:
        self._fd = fd
        self._start = start
        self._offset = 0
        self._limit = size
        self._complete = not follow
        self._channel = channel

    def read(self) -> bytes:
        while self._offset >= self._limit:
            if self._complete:
                return b""
            said = self._channel.recv(64)
            if not said:
                raise RootlessError("cancelled")
            self._complete = said.endswith(b".")
            self._limit = int(said.rstrip(b"."))
        wanted = min(_READ_SIZE, self._limit - self._offset)
        data = os.pread(self._fd, wanted, self._start + self._offset)
        if not data:
            raise tar.TarError("the layer's file is shorter than it was said to be")
        self._offset += len(data)
        return data


class _Stream:
    """Reads a pipe, or a file to its end from where it stands."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self) -> bytes:
        return os.read(self._fd, _READ_SIZE)


class _Pipeline:
    """Inflates and hashes in a thread of its own: both leave the interpreter to the extractor."""

    def __init__(
        self,
        blocks: Iterator[bytes],
        algorithm: str,
        limits: extract.Limits,
        space: Callable[[], int],
        cancelled: Callable[[], bool],
    ) -> None:
        from _queue import SimpleQueue

        self._blocks = blocks
        self._hash = hashlib.new(algorithm)
        self._limits = limits
        self._space = space
        self._cancelled = cancelled
        self._queue: SimpleQueue[bytes | BaseException] = SimpleQueue()
        self._room = threading.Semaphore(_AHEAD)
        self.size = 0
        # Imported now: after the change of root no module can be found, or should be.
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        try:
            self._thread.start()
        except RuntimeError:  # Python's word for EAGAIN
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None

    def _run(self) -> None:
        try:
            update = self._hash.update
            next_check = 0
            for block in self._blocks:
                update(block)
                self.size += len(block)
                if self.size > self._limits.max_bytes:
                    raise tar.TarError(
                        f"the layer is larger than the limit of {self._limits.max_bytes} bytes"
                    )
                if self.size > next_check:
                    if self._space() < self._limits.reserve:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    next_check = self.size + _SPACE_CHECK
                if self._cancelled():
                    raise RootlessError("cancelled")
                self._room.acquire()
                self._queue.put(block)
            self._queue.put(b"")
        except BaseException as error:
            self._queue.put(error)

    def next_block(self) -> bytes:
        block = self._queue.get()
        if isinstance(block, BaseException):
            raise block
        self._room.release()
        if not block:
            self._queue.put(b"")  # asked again, the end is still the end
        return block

    def digest(self) -> str:
        return f"{self._hash.name}:{self._hash.hexdigest()}"


def _end_when_cancelled(channel: socket.socket) -> None:
    """Let the other end's closing of the channel end this process: it may be waiting for a pipe that nobody fills."""
    fcntl.fcntl(channel, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(channel, fcntl.F_GETFL)
    fcntl.fcntl(channel, fcntl.F_SETFL, flags | os.O_ASYNC)  # by SIGIO, which is not caught
    try:
        if not channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
            os._exit(0)
    except BlockingIOError:
        pass


def _unpack(
    message: dict[str, Any], fds: list[int], channel: socket.socket, idmap: IdMap
) -> dict[str, object]:
    source_fd, folder, recipe_fd, _lock = fds
    source: _Source | _Stream
    if message["stream"]:
        source = _Stream(source_fd)
        _end_when_cancelled(channel)
    else:
        follow = bool(message["follow"])
        source = _Source(source_fd, message["start"], message["size"], channel, follow=follow)
    limits = extract.Limits(**message.get("limits", {}))
    owners = extract.Owners(
        idmap.uids,
        idmap.gids,
        idmap.is_single,
        bool(message.get("ignore_chown_errors")),
        message.get("force_mask"),
    )
    # Everything that inflating may import is imported by the first block, before the change of root.
    kind = message.get("compression")
    first = b""
    if kind is None:
        while len(first) < 6 and (more := source.read()):
            first += more
        kind = compress.sniff(first)
    blocks = _primed(compress.inflate(_with_first(first, source.read), kind))

    def free() -> int:
        status = os.fstatvfs(recipe_fd)
        return status.f_bavail * status.f_frsize

    def cancelled() -> bool:
        try:
            return not channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False

    pipeline = _Pipeline(blocks, message["algorithm"], limits, free, cancelled)
    recorder = recipe.Recorder(recipe_fd)
    _enter(folder)
    pipeline.start()
    extractor = extract.Extractor(owners, limits, recorder)
    extractor.run(tar.Reader(tar.Input(pipeline.next_block), recorder.raw))
    recorder.finish()
    while source.read():
        pass
    return {
        "diff_id": pipeline.digest(),
        "compression": kind,
        "size": pipeline.size,
        "entries": extractor.count,
        "spoiled": recorder.spoiled,
        "skipped": extractor.skipped,
    }


def _with_first(first: bytes, read: Callable[[], bytes]) -> Callable[[], bytes]:
    waiting = [first] if first else []

    def read_on() -> bytes:
        return waiting.pop() if waiting else read()

    return read_on


def _primed(blocks: Iterator[bytes]) -> Iterator[bytes]:
    import itertools

    first = next(blocks, b"")
    return itertools.chain((first,), blocks) if first else iter(())


def _empty(
    _message: dict[str, Any], fds: list[int], _channel: socket.socket, _idmap: IdMap
) -> dict[str, object]:
    """Remove everything inside a folder."""
    _enter(fds[0])
    emptying.empty(b".")
    return {}


def _rebuild(
    message: dict[str, Any], fds: list[int], _channel: socket.socket, _idmap: IdMap
) -> dict[str, object]:
    """Write a layer's archive again, to a file or a pipe."""
    folder, recipe_fd, out = fds
    digest = hashlib.new(message["algorithm"])
    _enter(folder)
    size = 0
    for block in _gathered(recipe.replay(recipe_fd)):
        digest.update(block)
        size += len(block)
        view = memoryview(block)
        while view:
            view = view[os.write(out, view) :]
    return {"diff_id": f"{digest.name}:{digest.hexdigest()}", "size": size}


def _gathered(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in larger pieces: each costs two processes a system call and a switch."""
    waiting: list[bytes] = []
    size = 0
    for block in blocks:
        waiting.append(block)
        size += len(block)
        if size >= _GATHER:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _verify(
    message: dict[str, Any], fds: list[int], _channel: socket.socket, idmap: IdMap
) -> dict[str, object]:
    """Make a layer's archive again, and compare what it says of each file with the file."""
    folder, recipe_fd = fds
    digest = hashlib.new(message["algorithm"])

    def blocks() -> Iterator[bytes]:
        for block in recipe.replay(recipe_fd):
            digest.update(block)
            yield block

    owners = None
    if message["owners"]:
        owners = extract.Owners(idmap.uids, idmap.gids, idmap.is_single, ignore=True)
    _enter(folder)
    verifier = verify.Verifier(owners)
    try:
        verifier.run(blocks())
    except tar.TarError:
        # Other bytes in a recipe give no archive: the digest says so as well.
        return {"diff_id": "", "problem": verifier.problem}
    return {"diff_id": f"{digest.name}:{digest.hexdigest()}", "problem": verifier.problem}


def _raise_file_limit() -> None:
    """A walk holds a descriptor for each layer at each depth."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _archive(
    message: dict[str, Any], fds: list[int], _channel: socket.socket, _idmap: IdMap
) -> dict[str, object]:
    """Write a layer (`raw`), what several layers show together, or how the first of them differ from the last
    `against` ones, as a tar archive."""
    *layers, out = fds
    _raise_file_limit()
    exclude = [os.fsencode(path) for path in message["exclude"]]
    total = 0

    def write(data: bytes) -> None:
        nonlocal total
        total += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(out, view) :]

    against = int(message.get("against") or 0)
    if against:
        diff.write_difference(layers[:-against], layers[-against:], write, exclude)
    elif message["raw"]:
        diff.write_layer(layers[0], write, exclude)
    else:
        diff.write_tree(layers, write, exclude)
    return {"size": total}


def _changes(
    message: dict[str, Any], fds: list[int], _channel: socket.socket, _idmap: IdMap
) -> dict[str, object]:
    """Write `KIND PATH NUL` for each change; `split` says how many of the layers are on the first side."""
    *layers, out = fds
    _raise_file_limit()
    split = message["split"]
    if message["compare"]:
        found = diff.compare(layers[:split], layers[split:])
    else:
        found = diff.changes(layers[0], layers[1:])
    buffer = b"".join(kind.encode() + b" " + path + b"\0" for kind, path in found)
    view = memoryview(buffer)
    while view:
        view = view[os.write(out, view) :]
    return {}


_OPERATIONS: dict[
    str, Callable[[dict[str, Any], list[int], socket.socket, IdMap], dict[str, object]]
] = {
    "unpack": _unpack,
    "empty": _empty,
    "rebuild": _rebuild,
    "verify": _verify,
    "archive": _archive,
    "changes": _changes,
}
