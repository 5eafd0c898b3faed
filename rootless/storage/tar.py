"""The tar format as container layers use it: ustar, PAX and GNU, read from a stream of blocks and written back.

Layers are hostile input (security cases 31, 32): every number and length is checked here, names stay bytes, and
nothing is opened or created. Go's archive/tar is the measure of what a well-formed layer may hold, because that is
what made most of them. pax(1), tar(5), GNU tar's manual, "Storing Sparse Files".
"""

from __future__ import annotations

import struct
from zlib import adler32

from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK = 512
_PATH_MAX = (
    4095  # without the NUL: longer ones no system call takes, and hardly a reader of archives
)
REGULAR = b"0"
HARDLINK = b"1"
SYMLINK = b"2"
CHAR = b"3"
BLOCKDEV = b"4"
DIRECTORY = b"5"
FIFO = b"6"

# As Go does: a PAX or GNU long-name record above this is an attack, not a name.
META_MAX = 1 << 20
_NUMBER_MAX = 1 << 63
# A sparse map of more pieces than this costs more than it saves.
SPARSE_MAX = 1 << 16

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_ZEROS = bytes(BLOCK)
_EXTENSIONS = frozenset((b"L", b"K", b"x", b"X", b"g", b"V"))
_REGULAR_TYPES = frozenset((b"0", b"\0", b"7", b"S"))
_HEADER_ONLY = frozenset((HARDLINK, SYMLINK, CHAR, BLOCKDEV, DIRECTORY, FIFO))


class TarError(RootlessError):
    """The bytes are not a tar archive that may be unpacked."""


class Input:
    """Blocks of bytes of any size, taken in pieces of the wanted size without copying where that is possible."""

    __slots__ = ("_block", "_end", "_next", "_pos", "consumed")

    def __init__(self, next_block: Callable[[], bytes]) -> None:
        self._next = next_block
        self._block = memoryview(b"")
        self._pos = 0
        self._end = 0
        self.consumed = 0  # bytes of the blocks before the present one

    @property
    def offset(self) -> int:
        return self.consumed + self._pos

    def _advance(self) -> bool:
        block = self._next()
        if not block:
            return False
        self.consumed += self._end
        self._block = memoryview(block)
        self._pos = 0
        self._end = len(block)
        return True

    def take(self, count: int) -> bytes:
        """Return exactly `count` bytes, or b"" at a clean end, or what is left where the stream ends within."""
        pos = self._pos
        end = pos + count
        if end <= self._end:
            self._pos = end
            return bytes(self._block[pos:end])
        parts = []
        while count:
            if self._pos == self._end and not self._advance():
                break
            piece = bytes(self._block[self._pos : self._pos + count])
            self._pos += len(piece)
            count -= len(piece)
            parts.append(piece)
        return b"".join(parts)

    def pieces(self, count: int) -> Iterator[memoryview]:
        """Yield exactly `count` bytes as views into the blocks."""
        while count:
            if self._pos == self._end and not self._advance():
                raise TarError("the archive ends in the middle of a file")
            piece = self._block[self._pos : self._pos + count]
            self._pos += len(piece)
            count -= len(piece)
            yield piece

    def rest(self) -> Iterator[memoryview]:
        """Yield everything up to the end."""
        while True:
            if self._pos < self._end:
                piece = self._block[self._pos :]
                self._pos = self._end
                yield piece
            if not self._advance():
                return


class Entry:
    """One member. `size` is what the archive holds, `real_size` what the file is to have (they differ if sparse)."""

    __slots__ = (
        "gid",
        "linkname",
        "major",
        "minor",
        "mode",
        "mtime",
        "name",
        "real_size",
        "size",
        "sparse",
        "type",
        "uid",
        "xattrs",
    )

    def __init__(self, name: bytes, type: bytes = REGULAR) -> None:
        self.name = name
        self.type = type
        self.mode = 0o644
        self.uid = 0
        self.gid = 0
        self.size = 0
        self.real_size = 0
        self.mtime = 0  # in ns
        self.linkname = b""
        self.major = 0
        self.minor = 0
        self.xattrs: dict[bytes, bytes] | None = None
        self.sparse: list[tuple[int, int]] | None = None


def number(field: bytes) -> int:
    """Read a header's number: octal, or base 256 where its first bit is set."""
    if field[0] & 0x80:
        if field[0] == 0xFF or field[0] & 0x40:
            value = int.from_bytes(bytes([field[0] | 0x80]) + field[1:], "big", signed=True)
        else:
            value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        # As Go does: no size, time or id of any file system is beyond.
        if not -_NUMBER_MAX <= value < _NUMBER_MAX:
            raise TarError(f"too large a number in a tar header: {value}")
        return value
    text = field.strip(b" \0")
    if not text:
        return 0
    # int() would accept "0o7", "+7" and "1_0".
    if not text.isdigit():
        raise TarError(f"not a number in a tar header: {text[:16]!r}")
    try:
        return int(text, 8)
    except ValueError:
        raise TarError(f"not an octal number in a tar header: {text[:16]!r}") from None


_seen: dict[bytes, int] = {}


def _repeated(field: bytes) -> int:
    """number() for fields that are the same in most headers."""
    value = _seen.get(field)
    if value is None:
        value = number(field)
        if len(_seen) < 4096:
            _seen[field] = value
    return value


def _cstring(field: bytes) -> bytes:
    end = field.find(b"\0")
    return field if end < 0 else field[:end]


def pax_time(value: bytes) -> int:
    """Turn a PAX time in seconds, with any number of decimals, into ns."""
    whole, _, fraction = value.partition(b".")
    negative = whole.startswith(b"-")
    digits = whole[1:] if negative else whole
    if not (digits.isdigit() and (not fraction or fraction.isdigit())) or len(digits) > 12:
        raise TarError(f"bad time in a PAX record: {value[:32]!r}")
    nanoseconds = int(digits) * 1_000_000_000 + int((fraction + b"000000000")[:9])
    return -nanoseconds if negative else nanoseconds


def pax_records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of each `LENGTH KEY=VALUE\\n`."""
    pos = 0
    end = len(data)
    while pos < end:
        space = data.find(b" ", pos, pos + 9)
        length = data[pos:space] if space > 0 else b""
        if not length.isdigit():
            # Some writers pad the last block's records with zeros.
            if not data[pos:].strip(b"\0"):
                return
            raise TarError("bad length of a PAX record")
        stop = pos + int(length)
        if stop > end or stop <= space + 1 or data[stop - 1] != 0x0A:
            raise TarError("bad length of a PAX record")
        key, equals, value = data[space + 1 : stop - 1].partition(b"=")
        if not equals or not key:
            raise TarError("a PAX record without a key")
        yield key, value
        pos = stop


def _pax_number(value: bytes) -> int:
    if not value.isdigit() or len(value) > 20 or int(value) >= _NUMBER_MAX:
        raise TarError(f"bad number in a PAX record: {value[:32]!r}")
    return int(value)


class _Extended:
    """What the headers before an entry say about it."""

    __slots__ = ("link", "name", "pax", "sparse_numbers")

    def __init__(self) -> None:
        self.name: bytes | None = None
        self.link: bytes | None = None
        self.pax: dict[bytes, bytes] | None = None
        self.sparse_numbers: list[bytes] = []

    def apply(self, entry: Entry) -> None:
        if self.name is not None:
            entry.name = self.name
        if self.link is not None:
            entry.linkname = self.link
        if self.pax is not None:
            _apply_pax(entry, self.pax)

    def is_sparse(self) -> bool:
        return bool(self.sparse_numbers) or any(
            key.startswith(b"GNU.sparse.") for key in self.pax or ()
        )


def _checked_size(block: bytes, fields: tuple[bytes, ...]) -> int:
    """The size that a header gives, if its checksum is right."""
    checksum = fields[6]
    # Adler-32's lower half is one more than the sum of the bytes, modulo 65521; sum() takes 20 times as long.
    if checksum.strip(b" 01234567\0"):
        raise TarError("no tar archive: there is text in the place of a checksum")
    want = number(checksum)
    total = (adler32(block) & 0xFFFF) - (adler32(checksum) & 0xFFFF) + 256
    if (total - want) % 65521 and not _signed_sum_is(block, want):
        raise TarError("bad checksum of a tar header: this is not a tar archive, or it is damaged")
    length = number(fields[4])
    if length < 0:
        raise TarError("negative size in a tar header")
    return length


def _entry(fields: tuple[bytes, ...], length: int) -> Entry:
    """What a header says by itself."""
    name, mode, uid, gid, _, mtime, _, kind, linkname, magic, _, _, major, minor, prefix = fields
    entry = Entry(_cstring(name), kind)
    if magic[:6] == b"ustar\0":
        prefix = _cstring(prefix)
        if prefix:
            entry.name = prefix + b"/" + entry.name
    entry.mode = _repeated(mode) & 0o7777
    entry.uid = _repeated(uid)
    entry.gid = _repeated(gid)
    entry.mtime = number(mtime) * 1_000_000_000
    entry.linkname = _cstring(linkname)
    entry.size = length
    if kind in (CHAR, BLOCKDEV):
        entry.major = number(major)
        entry.minor = number(minor)
    return entry


class Reader:
    """Reads entries one by one; the caller consumes `entry.size` bytes and the padding between two of them.

    With `raw`, everything that is no file content is handed to it, byte for byte, so that the archive can be put
    together again (recipe.py).
    """

    __slots__ = ("_padding", "_raw", "input")

    def __init__(self, source: Input, raw: Callable[[bytes], object] | None = None) -> None:
        self.input = source
        self._raw = raw
        self._padding = 0

    def _block(self, count: int = BLOCK) -> bytes:
        data = self.input.take(count)
        if data and self._raw is not None:
            self._raw(data)
        if len(data) != count:
            if not data:
                return b""
            raise TarError("the archive ends in the middle of a header")
        return data

    def _meta(self, size: int, what: str) -> bytes:
        if not 0 <= size <= META_MAX:
            raise TarError(
                f"a {what} of {size} bytes in a tar header; at most {META_MAX} are accepted"
            )
        data = self._block(-size % BLOCK + size) if size else b""
        if size and not data:
            raise TarError("the archive ends in the middle of a header")
        return data[:size]

    def next(self) -> Entry | None:
        """Return the next entry, or None at the end of the archive."""
        if self._padding:
            if not self._block(self._padding):
                # A writer may leave out the last padding.
                return None
            self._padding = 0
        extended: _Extended | None = None
        while True:
            block = self._block()
            if not block or block == _ZEROS:
                if extended is not None:
                    raise TarError("the archive ends after an extended header")
                return None
            fields = _HEADER.unpack(block)
            length = _checked_size(block, fields)
            kind = fields[7]
            if kind not in _EXTENSIONS:
                break
            extended = self._extend(extended, kind, length)
        entry = _entry(fields, length)
        if extended is not None:
            extended.apply(entry)
        if kind in _REGULAR_TYPES:
            self._settle_regular(entry, block, extended)
        elif kind in _HEADER_ONLY:
            entry.size = 0
        elif kind == b"D":
            entry.type = DIRECTORY
        else:
            raise TarError(f"{entry.name!r}: a tar entry of unknown type {kind!r}")
        if entry.sparse is None:
            entry.real_size = entry.size
        if b"\0" in entry.name or b"\0" in entry.linkname:
            raise TarError("a zero byte in a name in the archive")
        self._padding = -entry.size % BLOCK
        return entry

    def _extend(self, extended: _Extended | None, kind: bytes, length: int) -> _Extended | None:
        """Read a header that is about the entry that follows."""
        if kind == b"g":
            # Global records are for the archive's maker; Go-made layers never rely on them.
            self._meta(length, "PAX header")
            return extended
        if kind == b"V":
            self._meta(length, "volume label")
            return extended
        extended = extended or _Extended()
        if kind == b"L":
            extended.name = _cstring(self._meta(length, "long name"))
        elif kind == b"K":
            extended.link = _cstring(self._meta(length, "long link name"))
        else:
            extended.pax = {}
            for key, value in pax_records(self._meta(length, "PAX header")):
                if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
                    extended.sparse_numbers.append(value)
                else:
                    extended.pax[key] = value
        return extended

    def _settle_regular(self, entry: Entry, block: bytes, extended: _Extended | None) -> None:
        kind, entry.type = entry.type, REGULAR
        if kind == b"\0" and entry.name.endswith(b"/"):
            entry.type = DIRECTORY
            entry.size = 0
        elif kind == b"S":
            self._old_sparse(entry, block)
        elif extended is not None and extended.is_sparse():
            self._pax_sparse(entry, extended.pax or {}, extended.sparse_numbers)

    def finish(self) -> None:
        """Consume what follows the end of the archive, so that a digest covers it."""
        for piece in self.input.rest():
            if self._raw is not None:
                self._raw(bytes(piece))

    def _old_sparse(self, entry: Entry, block: bytes) -> None:
        pieces: list[tuple[int, int]] = []
        real_size = number(block[483:495])
        extended = block[482]
        _sparse_pairs(block[386:482], pieces)
        while extended:
            more = self._block()
            if not more:
                raise TarError("the archive ends in the middle of a sparse map")
            _sparse_pairs(more[:504], pieces)
            extended = more[504]
        _set_sparse(entry, pieces, real_size, entry.size)

    def _pax_sparse(self, entry: Entry, pax: dict[bytes, bytes], numbers: list[bytes]) -> None:
        name = pax.get(b"GNU.sparse.name")
        if name:
            entry.name = name
        real = pax.get(b"GNU.sparse.realsize", pax.get(b"GNU.sparse.size", b""))
        if not real:
            return
        real_size = _pax_number(real)
        if pax.get(b"GNU.sparse.major") == b"1":
            self._sparse_in_data(entry, real_size)
            return
        if b"GNU.sparse.map" in pax:
            numbers = pax[b"GNU.sparse.map"].split(b",")
        _set_sparse(entry, _pairs([_pax_number(n) for n in numbers if n]), real_size, entry.size)

    def _sparse_in_data(self, entry: Entry, real_size: int) -> None:
        """Format 1.0: the map stands, in decimal lines, in front of the data."""
        text = b""
        numbers: list[int] | None = None
        while True:
            if len(text) > META_MAX or len(text) + BLOCK > entry.size:
                raise TarError("bad sparse map in the archive")
            text += self._block()
            lines = text.split(b"\n")
            complete = lines[:-1]
            if not complete:
                continue
            count = _pax_number(complete[0])
            if count > SPARSE_MAX:
                raise TarError("bad sparse map in the archive")
            if len(complete) >= 1 + 2 * count:
                numbers = [_pax_number(line) for line in complete[1 : 1 + 2 * count]]
                break
        entry.size -= len(text)
        _set_sparse(entry, _pairs(numbers), real_size, entry.size)


def _signed_sum_is(block: bytes, want: int) -> bool:
    """Some old tars summed signed characters."""
    data = block[:148] + b"        " + block[156:]
    return sum(byte - 256 if byte > 127 else byte for byte in data) == want


def _apply_pax(entry: Entry, pax: dict[bytes, bytes]) -> None:
    for key, value in pax.items():
        if key.startswith(b"SCHILY.xattr."):
            if entry.xattrs is None:
                entry.xattrs = {}
            entry.xattrs[key[13:]] = value
        elif not value:
            # pax(1): an empty value undoes the record.
            continue
        elif key == b"path":
            entry.name = value
        elif key == b"linkpath":
            entry.linkname = value
        elif key == b"size":
            entry.size = _pax_number(value)
        elif key == b"uid":
            entry.uid = _pax_number(value)
        elif key == b"gid":
            entry.gid = _pax_number(value)
        elif key == b"mtime":
            entry.mtime = pax_time(value)


def _sparse_pairs(data: bytes, pieces: list[tuple[int, int]]) -> None:
    for start in range(0, len(data) - 23, 24):
        offset = data[start : start + 12]
        if not offset.strip(b"\0"):
            return
        if len(pieces) >= SPARSE_MAX:
            raise TarError("a sparse map with too many pieces")
        pieces.append((number(offset), number(data[start + 12 : start + 24])))


def _pairs(numbers: list[int]) -> list[tuple[int, int]]:
    if len(numbers) % 2 or len(numbers) > 2 * SPARSE_MAX:
        raise TarError("bad sparse map in the archive")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _set_sparse(entry: Entry, pieces: list[tuple[int, int]], real_size: int, stored: int) -> None:
    last = total = 0
    for offset, length in pieces:
        if offset < last or length < 0 or offset + length > real_size:
            raise TarError(f"{entry.name!r}: bad sparse map in the archive")
        last = offset + length
        total += length
    if total != stored:
        raise TarError(f"{entry.name!r}: bad sparse map in the archive")
    entry.sparse = pieces
    entry.real_size = real_size


# Writing


def _octal(value: int, width: int) -> bytes | None:
    text = b"%0*o" % (width - 1, value) if value >= 0 else b""
    return text + b"\0" if 0 < len(text) < width else None


def header(entry: Entry) -> bytes:
    """Return an entry's header: ustar where it fits, with a PAX header in front where it does not.

    The same entry always gives the same bytes.
    """
    pax: dict[bytes, bytes] = {}
    name, prefix = entry.name, b""
    if len(name) > 100 or not name.isascii():
        if len(name.rstrip(b"/")) > _PATH_MAX:
            raise RootlessError(
                f"{name[:60].decode(errors='replace')}...: path too long for an archive: {len(name)} bytes, of at most "
                f"{_PATH_MAX}",
                hint="move or remove what lies so deep",
            )
        cut = name.rfind(b"/", 0, 156)
        if name.isascii() and cut > 0 and 0 < len(name) - cut - 1 <= 100:
            prefix, name = name[:cut], name[cut + 1 :]
        else:
            pax[b"path"] = entry.name
            name = _ascii(name)[:100]
    link = entry.linkname
    if len(link) > 100 or not link.isascii():
        pax[b"linkpath"] = link
        link = _ascii(link)[:100]
    seconds, rest = divmod(entry.mtime, 1_000_000_000)
    when = _octal(seconds, 12)
    if rest or when is None:
        pax[b"mtime"] = _time(entry.mtime)
        when = when or b"%011o\0" % 0
    fields = []
    for key, value, width in (
        (b"uid", entry.uid, 8),
        (b"gid", entry.gid, 8),
        (b"size", entry.size, 12),
    ):
        text = _octal(value, width)
        if text is None:
            pax[key] = b"%d" % value
            text = b"%0*o\0" % (width - 1, 0)
        fields.append(text)
    for attribute, content in (entry.xattrs or {}).items():
        pax[b"SCHILY.xattr." + attribute] = content
    block = _pack(
        name, entry.mode, fields, when, entry.type, link, prefix, entry.major, entry.minor
    )
    if not pax:
        return block
    body = b"".join(_record(key, pax[key]) for key in sorted(pax))
    zero = [b"%07o\0" % 0, b"%07o\0" % 0, b"%011o\0" % len(body)]
    base = _ascii(entry.name.rstrip(b"/").rpartition(b"/")[2])[:80]
    head = _pack(b"PaxHeaders.0/" + base, 0o644, zero, b"%011o\0" % 0, b"x", b"", b"", 0, 0)
    return head + body + bytes(-len(body) % BLOCK) + block


def _ascii(name: bytes) -> bytes:
    return name if name.isascii() else bytes(byte for byte in name if byte < 128)


def _time(ns: int) -> bytes:
    sign = b"-" if ns < 0 else b""
    seconds, rest = divmod(abs(ns), 1_000_000_000)
    return sign + (b"%d.%09d" % (seconds, rest)).rstrip(b"0").rstrip(b".")


def _record(key: bytes, value: bytes) -> bytes:
    body = len(key) + len(value) + 3
    length = body + len(str(body))
    if len(str(length)) != len(str(body)):
        length = body + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _pack(
    name: bytes,
    mode: int,
    fields: list[bytes],
    when: bytes,
    kind: bytes,
    link: bytes,
    prefix: bytes,
    major: int,
    minor: int,
) -> bytes:
    uid, gid, size = fields
    block = _HEADER.pack(
        name,
        b"%07o\0" % mode,
        uid,
        gid,
        size,
        when,
        b"        ",
        kind,
        link,
        b"ustar\x0000",
        b"",
        b"",
        b"%07o\0" % major,
        b"%07o\0" % minor,
        prefix,
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


END = bytes(2 * BLOCK)
