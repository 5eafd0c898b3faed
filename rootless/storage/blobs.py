"""Blobs by digest: `blobs/ALGORITHM/HEX`, written aside, verified while they stream, renamed when right.

Invariant: what stands under a digest's name has that digest. A blob is fetched once, by whichever process came first:
the file that is still growing carries an flock, which a crash frees, and keeps what it holds for a later resume.
"""

from __future__ import annotations

import errno
import fcntl
import os
from _thread import get_native_id

from rootless.errors import RootlessError
from rootless.files import make_dirs, read_bytes, write_atomic
from rootless.oci.digest import hasher, is_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# A blob whose size nobody said is not read for ever.
UNKNOWN_MAX = 256 << 30


class BlobError(RootlessError):
    """A blob is not what its digest or size says."""


class DiskFull(RootlessError):
    """The file system of the store has no room left, or the user's quota is used up."""


def check(digest: object) -> str:
    """Return a digest that may become part of a path; anything else is refused (CVE-2024-3727)."""
    if not isinstance(digest, str) or not is_digest(digest):
        shown = repr(digest)
        raise BlobError(f"not a valid digest: {shown if len(shown) < 200 else shown[:200] + '…'}")
    return digest


class BlobStore:
    """The blobs below one folder, and read-only ones of additional stores."""

    __slots__ = ("_fallbacks", "_partial", "_root", "mode", "sync")

    def __init__(self, root: str, partial: str, fallbacks: tuple[str, ...] = ()) -> None:
        self._root = root
        self._partial = partial
        self._fallbacks = fallbacks
        self.sync = False
        self.mode = 0o600

    def _folder_for(self, path: str) -> None:
        make_dirs(os.path.dirname(path), 0o755 if self.mode & 0o004 else 0o700)

    def path(self, digest: str) -> str:
        """Where a blob is, or would be put."""
        algorithm, _, value = check(digest).partition(":")
        own = f"{self._root}/{algorithm}/{value}"
        if self._fallbacks and not os.path.exists(own):
            for root in self._fallbacks:
                path = f"{root}/{algorithm}/{value}"
                if os.path.exists(path):
                    return path
        return own

    def own_path(self, digest: str) -> str:
        algorithm, _, value = check(digest).partition(":")
        return f"{self._root}/{algorithm}/{value}"

    def has(self, digest: str) -> bool:
        return os.path.exists(self.path(digest))

    def size(self, digest: str) -> int | None:
        try:
            return os.stat(self.path(digest)).st_size
        except FileNotFoundError:
            return None

    def read(self, digest: str) -> bytes:
        """Read a small blob whole."""
        return read_bytes(self.path(digest))

    def open(self, digest: str) -> int:
        return os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)

    def put(self, data: bytes, digest: str | None = None) -> str:
        """Store a small blob; return its digest."""
        kind = check(digest) if digest is not None else "sha256:" + "0" * 64
        hash = hasher(kind)
        hash.update(data)
        actual = f"{kind.partition(':')[0]}:{hash.hexdigest()}"
        if digest is not None and actual != digest:
            raise BlobError(f"expected digest {digest}, but the data has {actual}")
        path = self.own_path(actual)
        if not os.path.exists(path):
            self._folder_for(path)
            write_atomic(path, data, self.mode, sync=self.sync)
        return actual

    def writer(self, digest: str, size: int | None = None) -> BlobWriter | None:
        """Return where to stream a blob to, or None where it is (or, after waiting, has come) there.

        `writer.offset` says how much an interrupted fetch has left: ask the registry for the rest.
        """
        path = self._partial_path(digest)
        make_dirs(self._partial)
        while True:
            if self.has(digest):
                return None
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                try:
                    there = os.stat(path)
                except FileNotFoundError:
                    there = None
                ours = os.fstat(fd)
                if there is not None and there.st_ino == ours.st_ino:
                    target = self.own_path(digest)
                    self._folder_for(target)
                    if self.mode != 0o600:
                        os.fchmod(fd, self.mode)
                    writer = BlobWriter(fd, path, target, digest, size, self.sync)
                    fd = -1
                    return writer
            finally:
                if fd >= 0:
                    os.close(fd)

    def sweep(self) -> None:
        """Remove what broken fetches have left, unless somebody goes on with it."""
        try:
            names = os.listdir(self._partial)
        except FileNotFoundError:
            return
        for name in names:
            if name.startswith("blob-"):
                self._drop_partial(f"{self._partial}/{name}")

    def forget_partial(self, digest: str) -> None:
        """Remove what a broken fetch of one blob has left, unless somebody goes on with it."""
        self._drop_partial(self._partial_path(digest))

    def _drop_partial(self, path: str) -> None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # As in writer(): whoever waits for the lock finds that the file is gone.
            os.unlink(path)
        except (BlockingIOError, FileNotFoundError):
            pass
        finally:
            os.close(fd)

    def _partial_path(self, digest: str) -> str:
        return f"{self._partial}/blob-{check(digest).replace(':', '-')}"

    def nameless(self) -> int:
        """Return a file of no name for what is on its way through."""
        make_dirs(self._partial)
        try:
            return os.open(self._partial, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        except OSError as error:
            # NFS, Lustre and FUSE know no such files (open(2)).
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
                raise explain_full(error, self._root) from error
        # Called as a part of a blob, it goes with those should this process be killed right here.
        path = (
            f"{self._partial}/blob-nameless-{os.uname().nodename}-{os.getpid()}-{get_native_id()}"
        )
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        os.unlink(path)
        return fd

    def remove(self, digest: str) -> int:
        """Remove a blob; return the bytes that this frees."""
        path = self.own_path(digest)
        try:
            size = os.stat(path).st_size
            os.unlink(path)
        except FileNotFoundError:
            return 0
        return size

    def all(self) -> Iterator[str]:
        """Yield the digests of the store's own blobs."""
        for algorithm in ("sha256", "sha384", "sha512"):
            try:
                names = os.listdir(f"{self._root}/{algorithm}")
            except FileNotFoundError:
                continue
            for name in names:
                digest = f"{algorithm}:{name}"
                if is_digest(digest):
                    yield digest

    def is_intact(self, digest: str) -> bool:
        """Read a blob again and compare."""
        hash = hasher(check(digest))
        fd = self.open(digest)
        try:
            while data := os.read(fd, 1 << 20):
                hash.update(data)
        finally:
            os.close(fd)
        return hash.hexdigest() == digest.partition(":")[2]


class BlobWriter:
    """One blob on its way in. Holds the blob's lock until commit, keep or discard."""

    __slots__ = ("_expected", "_fd", "_hash", "_path", "_sync", "_target", "digest", "offset")

    def __init__(
        self, fd: int, path: str, target: str, digest: str, size: int | None, sync: bool
    ) -> None:
        self._fd = fd
        self._path = path
        self._target = target
        self._expected = size
        self._sync = sync
        self._hash = hasher(digest)
        self.digest = digest
        self.offset = 0
        length = os.fstat(fd).st_size
        if length and (size is None or length > size):
            os.ftruncate(fd, 0)
        else:
            while data := os.read(fd, 1 << 20):
                self._hash.update(data)
                self.offset += len(data)

    def fileno(self) -> int:
        """The growing file, for a reader that follows the writer."""
        return self._fd

    def write(self, data: bytes | memoryview) -> None:
        limit = UNKNOWN_MAX if self._expected is None else self._expected
        if self.offset + len(data) > limit:
            self.discard()
            raise BlobError(f"blob {self.digest}: more than the expected {limit} bytes arrived")
        try:
            done = os.write(self._fd, data)
            while done < len(data):
                done += os.write(self._fd, memoryview(data)[done:])
        except OSError as error:
            raise explain_full(error, os.path.dirname(self._target)) from error
        self._hash.update(data)
        self.offset += len(data)

    def restart(self) -> None:
        """Start anew, where the other end cannot resume."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._hash = hasher(self.digest)
        self.offset = 0

    def verify(self) -> None:
        """Compare size and digest; wrong bytes are thrown away, too few are kept for a resume."""
        if self._expected is not None and self.offset != self._expected:
            short = self.offset
            self.keep()
            raise BlobError(f"blob {self.digest}: cut off after {short} of {self._expected} bytes")
        actual = self._hash.hexdigest()
        if actual != self.digest.partition(":")[2]:
            self.discard()
            raise BlobError(
                f"blob {self.digest}: the received bytes have digest {self._hash.name}:{actual}"
            )

    def commit(self) -> None:
        """Verify, then let the blob appear under its name."""
        self.verify()
        if self._sync:
            os.fdatasync(self._fd)
        os.rename(self._path, self._target)
        self._close()

    def discard(self) -> None:
        """Give up and leave nothing."""
        if self._fd >= 0:
            try:
                os.unlink(self._path)
            except FileNotFoundError:
                pass
            self._close()

    def keep(self) -> None:
        """Give up, and leave what came for a later resume."""
        if self._fd >= 0:
            if self.offset == 0:
                self.discard()
            self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.keep()


def is_full(error: BaseException | None) -> bool:
    """Whether something failed for want of room."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, DiskFull)


def explain_full(error: OSError, place: str) -> OSError | RootlessError:
    """Say that a disk or quota is full, and what to do; any other error stays what it is."""
    if error.errno == errno.EDQUOT:
        message = f"{place}: your disk quota is used up"
    elif error.errno == errno.ENOSPC:
        message = f"{place}: no space left on the file system"
    else:
        return error
    return DiskFull(
        message,
        hint="`rootless image prune` frees unused images; --root or storage.conf puts the store elsewhere",
    )
