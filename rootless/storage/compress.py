"""Compressed streams: told apart by their first bytes, inflated in bounded blocks, deflated the same way each time.

Nothing here trusts a media type or a file name, and no block is larger than BLOCK_SIZE whatever a bomb holds
(security case 32). isal inflates two and a half times as fast as zlib and is used where it is installed.
"""

from __future__ import annotations

from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

BLOCK_SIZE = 1 << 19
# xz allows dictionaries of 4 GiB; `xz -9` needs 65 MiB to decompress.
_XZ_MEMORY = 256 << 20
_ZSTD_WINDOW_LOG = 27

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
)


class CompressionError(RootlessError):
    """The compressed bytes are damaged, cut off or of a kind that cannot be read here."""


def sniff(head: bytes) -> str:
    """Name the compression of a stream that starts with these bytes: "", gzip, zstd, xz or bzip2."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    # A zstd stream may begin with a skippable frame.
    if len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F:
        return "zstd"
    return ""


def inflate(read: Callable[[], bytes], kind: str | None = None) -> Iterator[bytes]:
    """Yield the plain bytes of what `read` returns, in blocks of at most about BLOCK_SIZE."""
    first = b""
    if kind is None:
        while len(first) < 6 and (more := read()):
            first += more
        kind = sniff(first)
    if kind == "":
        return _plain(first, read)
    if kind == "gzip":
        return _gzip(first, read)
    if kind == "zstd":
        return _zstd(first, read)
    return _lzma_or_bz2(first, read, kind)


def _plain(first: bytes, read: Callable[[], bytes]) -> Iterator[bytes]:
    if first:
        yield first
    while block := read():
        yield block


_zlib: Any = None


def zlib_module() -> Any:
    """isal's zlib, or Python's own where it is not installed; looked for once, as even a search in vain takes time."""
    global _zlib
    if _zlib is None:
        try:
            from isal import isal_zlib

            _zlib = isal_zlib
        except ImportError:
            import zlib

            _zlib = zlib
    return _zlib


def _gzip(data: bytes, read: Callable[[], bytes]) -> Iterator[bytes]:
    """Inflate one or more gzip members."""
    zlib = zlib_module()
    errors: tuple[type[Exception], ...] = (zlib.error,)
    stream = zlib.decompressobj(wbits=31)
    while True:
        data = data or read()
        try:
            # Without input left, what the decompressor still holds back.
            block: bytes = stream.decompress(data, BLOCK_SIZE)
        except errors as error:
            raise CompressionError(f"damaged gzip data: {error}") from error
        if block:
            yield block
        if not stream.eof:
            if not data and not block:
                raise CompressionError("the gzip data is cut off")
            data = stream.unconsumed_tail
            continue
        data = stream.unused_data
        while len(data) < 2 and (more := read()):
            data += more
        if data[:2] != b"\x1f\x8b":
            # Like gzip(1), accept zeros that pad to a tape's block.
            while data:
                if data.strip(b"\0"):
                    raise CompressionError("garbage after the gzip data")
                data = read()
            return
        stream = zlib.decompressobj(wbits=31)


def _zstd(data: bytes, read: Callable[[], bytes]) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError:
        raise CompressionError(
            "cannot read zstd data: the Python module zstandard is missing",
            hint="install python3-zstandard",
        ) from None

    class Source:
        def __init__(self, first: bytes) -> None:
            self.rest = first

        def read(self, size: int) -> bytes:
            data = self.rest or read()
            self.rest = data[size:]
            return data[:size]

    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << _ZSTD_WINDOW_LOG)
    source: Any = Source(data)  # all it needs of a file
    reader = decompressor.stream_reader(
        source, read_size=1 << 17, read_across_frames=True, closefd=False
    )
    try:
        while block := reader.read(BLOCK_SIZE):
            yield block
    except zstandard.ZstdError as error:
        raise CompressionError(f"damaged zstd data: {error}") from error


def _lzma_or_bz2(data: bytes, read: Callable[[], bytes], kind: str) -> Iterator[bytes]:
    def make() -> Any:
        if kind == "xz":
            import lzma

            return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
        import bz2

        return bz2.BZ2Decompressor()

    stream = make()
    magic = b"\xfd7zXZ" if kind == "xz" else b"BZh"
    try:
        while True:
            if stream.needs_input and not data:
                data = read()
                if not data:
                    raise CompressionError(f"the {kind} data is cut off")
            block = stream.decompress(data, BLOCK_SIZE)
            data = b""
            if block:
                yield block
            if stream.eof:
                data = stream.unused_data
                while len(data) < 6 and (more := read()):
                    data += more
                if not data.strip(b"\0"):
                    return
                if not data.startswith(magic):
                    raise CompressionError(f"garbage after the {kind} data")
                stream = make()
    except (OSError, EOFError, ValueError, MemoryError) as error:
        raise CompressionError(f"damaged {kind} data: {error}") from error
    except Exception as error:
        if type(error).__name__ == "LZMAError":
            raise CompressionError(f"damaged {kind} data: {error}") from error
        raise


class Deflater:
    """A compressor with `compress` and `flush`: gzip without name and time, zstd, or none."""

    __slots__ = ("_stream", "kind")

    def __init__(self, kind: str, level: int | None = None) -> None:
        self.kind = kind
        if kind == "gzip":
            self._stream: Any = _gzip_writer(level)
        elif kind == "zstd":
            try:
                import zstandard
            except ImportError:
                raise CompressionError(
                    "cannot write zstd data: the Python module zstandard is missing",
                    hint="install python3-zstandard",
                ) from None
            self._stream = zstandard.ZstdCompressor(
                level=3 if level is None else level, write_checksum=True
            ).compressobj()
        elif kind == "":
            self._stream = None
        else:
            raise CompressionError(f"cannot compress as {kind!r}: gzip, zstd or none are known")

    def compress(self, data: bytes) -> bytes:
        return data if self._stream is None else bytes(self._stream.compress(data))

    def flush(self) -> bytes:
        return b"" if self._stream is None else bytes(self._stream.flush())


def _gzip_writer(level: int | None) -> Any:
    """isal's levels are 0 to 3; a level above them, asked for, is zlib's."""
    zlib = zlib_module()
    if zlib.__name__ == "zlib":
        return zlib.compressobj(5 if level is None else level, zlib.DEFLATED, 31)
    if level is None or level <= 3:
        return zlib.compressobj(2 if level is None else max(level, 0), zlib.DEFLATED, 31)
    import zlib as standard

    return standard.compressobj(level, standard.DEFLATED, 31)
