"""What a layer's archive held besides its files' contents, so that the very same bytes can be made again.

A recipe lies beside the unpacked layer and serves push and save after the blob was dropped. It is a deflated stream of
frames: `R` length bytes as they stood in the archive; `F` offset, length and path of a piece of a file's content,
which is read from the layer. The rebuilt archive's diff ID is compared before anything is done with it.
"""

from __future__ import annotations

import os
import struct
import zlib

from rootless.errors import RootlessError
from rootless.storage.compress import zlib_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_MAGIC = b"rootless recipe 1\n"
_RAW = struct.Struct("<cI")
_FILE = struct.Struct("<cQQI")
_FLUSH = 1 << 18
# A recipe may take this much of the disk, deflated: twenty times what 100,000 small files need. What exceeds it holds
# content that is in no file (after the archive's end, say), and its blob is kept instead.
_SIZE_MAX = 64 << 20


class Recorder:
    """Writes a recipe while a layer is unpacked."""

    __slots__ = (
        "_fd",
        "_file",
        "_frames",
        "_raw",
        "_raw_size",
        "_size",
        "_stream",
        "_waiting",
        "spoiled",
    )

    def __init__(self, fd: int) -> None:
        self._fd = fd
        # A layer of small files is mostly headers, which isal deflates five times as fast.
        self._stream: Any = zlib_module().compressobj(1)
        self._raw: list[bytes] = []
        self._raw_size = 0
        self._frames: list[bytes] = []
        self._waiting = 0
        self._size = 0
        self.spoiled = ""
        os.write(fd, _MAGIC)

    def raw(self, data: bytes) -> None:
        self._raw.append(data)
        self._raw_size += len(data)
        if self._raw_size > _FLUSH:
            self._end_raw()

    def file(self, path: bytes, offset: int, length: int) -> None:
        self._end_raw()
        if self.spoiled:
            return
        self._frames.append(_FILE.pack(b"F", offset, length, len(path)))
        self._frames.append(path)

    def spoil(self, why: str) -> None:
        """Note that the layer's files no longer hold all of the archive's contents."""
        self.spoiled = self.spoiled or why

    def _end_raw(self) -> None:
        if not self._raw_size:
            return
        if not self.spoiled:
            self._frames.append(_RAW.pack(b"R", self._raw_size))
            self._frames += self._raw
            self._waiting += self._raw_size
        self._raw = []
        self._raw_size = 0
        if self._waiting > _FLUSH:
            self._flush()

    def _flush(self) -> None:
        self._put(self._stream.compress(b"".join(self._frames)))
        self._frames = []
        self._waiting = 0

    def _put(self, data: bytes) -> None:
        _write(self._fd, data)
        self._size += len(data)
        if self._size > _SIZE_MAX:
            self.spoil("too much of the archive is no file content")

    def finish(self) -> None:
        self._end_raw()
        self._flush()
        self._put(self._stream.flush())


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _damaged(how: str = "damaged") -> RootlessError:
    return RootlessError(
        f"a layer's recipe is {how}",
        hint="call `rootless system check --repair`, or pull the image again",
    )


class _Frames:
    __slots__ = ("_at", "_buffer", "_fd", "_stream")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._stream: Any = zlib.decompressobj()
        self._buffer = b""
        self._at = 0
        if os.read(fd, len(_MAGIC)) != _MAGIC:
            raise _damaged()

    def take(self, count: int) -> bytes:
        """The next bytes, fewer only at the end."""
        while len(self._buffer) - self._at < count:
            data = self._stream.unconsumed_tail or os.read(self._fd, 1 << 16)
            if not data:
                break
            try:
                more = self._stream.decompress(data, 1 << 20)
            except zlib.error as error:
                raise _damaged(f"damaged: {error}") from error
            self._buffer = self._buffer[self._at :] + more
            self._at = 0
        start = self._at
        self._at = min(start + count, len(self._buffer))
        return self._buffer[start : self._at]

    def exactly(self, count: int) -> bytes:
        data = self.take(count)
        if len(data) != count:
            raise _damaged("cut off")
        return data


def parts(recipe_fd: int) -> Iterator[bytes | tuple[bytes, int, int]]:
    """Yield the archive's parts in order: raw bytes, or (path, offset, length) of a file's content."""
    frames = _Frames(recipe_fd)
    while kind := frames.take(1):
        if kind == b"R":
            yield frames.exactly(*struct.unpack("<I", frames.exactly(4)))
        elif kind == b"F":
            offset, length, size = struct.unpack("<QQI", frames.exactly(20))
            if size > 1 << 16:
                raise _damaged()
            yield frames.exactly(size), offset, length
        else:
            raise _damaged()


def replay(recipe_fd: int) -> Iterator[bytes]:
    """Yield the archive's bytes; the current root is the layer's folder."""
    for part in parts(recipe_fd):
        if isinstance(part, bytes):
            yield part
            continue
        path, offset, length = part
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            while length:
                data = os.pread(fd, min(length, 1 << 20), offset)
                if not data:
                    raise RootlessError(
                        "a layer's files were changed: they are shorter than its recipe says"
                    )
                yield data
                offset += len(data)
                length -= len(data)
        finally:
            os.close(fd)
