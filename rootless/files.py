"""Whole-file replacement, locks and private folders.

Invariant: a reader sees a file as it was before or after a change, never between the two. A lock is an flock, so a
crash frees it. Lean: this module is on every hot command's path.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from _thread import get_native_id

from rootless import quickjson as json
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MEND = "`rootless system check --repair` removes what cannot be mended"


def write_atomic(path: str, data: bytes, mode: int = 0o600, *, sync: bool = False) -> None:
    """Replace `path` with `data` by rename, synced to the disk first with `sync`."""
    temporary = f"{path}.{get_native_id()}.tmp"  # threads write the same file as well
    how = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(temporary, how, mode)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException as error:
        try:
            os.unlink(temporary)
        except OSError:
            pass
        if isinstance(error, OSError):
            error.filename = path  # not the temporary one; write(2) names none at all
        raise


def write_json(path: str, value: object, mode: int = 0o600, *, sync: bool = False) -> None:
    """Put a document in the place of a file, compact, as one step."""
    write_atomic(path, json.dumps(value, separators=(",", ":")).encode(), mode, sync=sync)


def read_bytes(path: str) -> bytes:
    """A whole file; one of /proc, whose size is unknown, too."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        data = os.read(fd, size + 1)
        if len(data) <= size and size:
            return data
        chunks = [data]
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        os.close(fd)


def read_json(path: str) -> Any:
    """Parse a JSON file of ours, which holds an object; a damaged one is an error that names it."""
    data = read_bytes(path)
    try:
        value = json.loads(data)
    except ValueError as error:
        raise RootlessError(f"{path}: damaged record: {error}", hint=MEND) from error
    if not isinstance(value, dict):
        raise RootlessError(f"{path}: damaged record: it is no JSON object", hint=MEND)
    return value


def read_record(path: str, shape: Mapping[str, type]) -> dict[str, Any]:
    """A JSON file that holds an object with these members; one whose name ends with ? may be missing or null."""
    value: dict[str, Any] = read_json(path)
    for key, kind in shape.items():
        name = key.rstrip("?")
        member = value.get(name)
        # True and False are numbers to Python, and to no record.
        if isinstance(member, kind) and (kind is bool or not isinstance(member, bool)):
            continue
        if member is not None or name == key:
            raise RootlessError(
                f"{path}: damaged record: {name} is {'no ' + kind.__name__ if name in value else 'missing'}",
                hint=MEND,
            )
    return value


# The descriptors of locks that this process has taken.
_held: set[int] = set()


def close_locks() -> None:
    """In a forked child: let go of what it has inherited, or its parent's locks would be held until its end."""
    for fd in _held:
        try:
            os.close(fd)
        except OSError:
            continue
    _held.clear()


class Lock:
    """An flock on a file, made where missing; used with `with`.

    The file is checked after locking: where another process removed or replaced it meanwhile, the lock is taken again
    on the file that stands there now.
    """

    __slots__ = ("path", "shared", "block", "make_folder", "fd")

    def __init__(
        self, path: str, *, shared: bool = False, block: bool = True, make_folder: bool = True
    ) -> None:
        """Without `make_folder`, FileNotFoundError where the folder has been removed: it is what the lock was for."""
        self.path = path
        self.shared = shared
        self.block = block
        self.make_folder = make_folder
        self.fd = -1

    def acquire(self) -> bool:
        """Take the lock; False where it is held and `block` is off."""
        how = (fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX) | (
            0 if self.block else fcntl.LOCK_NB
        )
        while True:
            try:
                fd = os.open(
                    self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
                )
            except FileNotFoundError:
                if not self.make_folder:
                    raise
                # The folder was removed with what the lock was for; whoever comes now finds that out under it.
                make_private_dir(os.path.dirname(self.path))
                continue
            try:
                fcntl.flock(fd, how)
                ours = os.fstat(fd)
                try:
                    there = os.stat(self.path)
                except FileNotFoundError:
                    there = None
            except BlockingIOError:
                os.close(fd)
                return False
            except BaseException as error:
                os.close(fd)
                if isinstance(error, OSError):
                    error.filename = self.path  # flock(2) names none
                raise
            if there is not None and (ours.st_ino, ours.st_dev) == (there.st_ino, there.st_dev):
                self.fd = fd
                _held.add(fd)
                return True
            os.close(fd)

    def release(self) -> None:
        if self.fd >= 0:
            _held.discard(self.fd)
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Lock:
        if not self.acquire():
            raise BlockingIOError(errno.EWOULDBLOCK, "locked by another process", self.path)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def make_private_dir(path: str) -> None:
    """Make `path` (and parents) with mode 0700; refuse one that is not a folder of our own (security case 47)."""
    try:
        os.mkdir(path, 0o700)
        return
    except FileNotFoundError:
        parent = os.path.dirname(path)
        if parent in ("", path):
            raise
        make_private_dir(parent)
        try:
            os.mkdir(path, 0o700)
            return
        except FileExistsError:
            pass  # by another command meanwhile
    except FileExistsError:
        pass
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        raise RootlessError(f"{path}: is not a folder", hint="move it away")
    if status.st_uid != os.geteuid():
        raise RootlessError(
            f"{path}: belongs to uid {status.st_uid}, not to uid {os.geteuid()}",
            hint="--root, --runroot or storage.conf name folders of your own",
        )


def make_dirs(path: str, mode: int = 0o700) -> None:
    """Make a folder and its parents; one that is there is left as it is."""
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        pass
    except FileNotFoundError:
        parent = os.path.dirname(path)
        if parent in ("", path) or os.path.isdir(parent):
            raise  # there is a parent, which takes no folders: /proc
        make_dirs(parent, mode)
        try:
            os.mkdir(path, mode)
        except FileExistsError:
            pass


def write_all(fd: int, data: bytes) -> None:
    """Write it all, in as many write(2) as that takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
