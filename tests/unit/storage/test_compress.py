"""Inflating what is whole, refusing what is not, and never more than a block at once."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable

import pytest
import zstandard

from rootless.storage.compress import BLOCK_SIZE, CompressionError, Deflater, inflate, sniff

DATA = bytes(range(256)) * 9000 + b"\0" * 3_000_000


def zstd(data: bytes) -> bytes:
    return bytes(zstandard.ZstdCompressor().compress(data))


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstd,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "": lambda data: data,
}


def reader(data: bytes, step: int = 1000) -> Callable[[], bytes]:
    pieces = iter([data[start : start + step] for start in range(0, len(data), step)])
    return lambda: next(pieces, b"")


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("step", [1, 1000, 1 << 20])
def test_inflates_every_kind_in_pieces(kind: str, step: int) -> None:
    data = DATA if step > 1 else DATA[:5000]
    packed = PACKERS[kind](data)
    assert sniff(packed) == kind
    assert b"".join(inflate(reader(packed, step))) == data


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
def test_inflates_members_one_after_the_other(kind: str) -> None:
    packed = PACKERS[kind](b"one") + PACKERS[kind](DATA) + PACKERS[kind](b"two")
    assert b"".join(inflate(reader(packed, 777))) == b"one" + DATA + b"two"


@pytest.mark.parametrize("kind", ["gzip", "xz", "bzip2"])
def test_refuses_what_is_cut_off_or_followed_by_garbage(kind: str) -> None:
    packed = PACKERS[kind](DATA)
    with pytest.raises(CompressionError):
        list(inflate(reader(packed[:-9])))
    with pytest.raises(CompressionError):
        list(inflate(reader(packed + b"garbage")))
    damaged = packed[: len(packed) // 2] + b"\xaa" * 8 + packed[len(packed) // 2 + 8 :]
    with pytest.raises(CompressionError):
        list(inflate(reader(damaged)))


def test_gzip_may_be_padded_with_zeros() -> None:
    assert b"".join(inflate(reader(gzip.compress(b"x") + bytes(600)))) == b"x"


def test_empty_input_is_empty() -> None:
    assert list(inflate(reader(b""))) == []
    with pytest.raises(CompressionError, match="cut off"):
        list(inflate(reader(b""), "gzip"))


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
def test_case_32_a_bomb_comes_in_blocks(kind: str) -> None:
    packed = PACKERS[kind](bytes(64 << 20))
    largest = total = 0
    for block in inflate(reader(packed, 1 << 20)):
        largest = max(largest, len(block))
        total += len(block)
    assert total == 64 << 20
    assert largest <= 2 * BLOCK_SIZE


@pytest.mark.parametrize("kind", ["gzip", "zstd", ""])
def test_deflates_the_same_way_each_time(kind: str) -> None:
    results = set()
    for _ in range(2):
        stream = Deflater(kind)
        results.add(b"".join((stream.compress(DATA), stream.flush())))
    assert len(results) == 1
    assert b"".join(inflate(reader(results.pop()))) == DATA


def test_a_level_beyond_isal_is_zlibs() -> None:
    stream = Deflater("gzip", 9)
    assert gzip.decompress(stream.compress(DATA) + stream.flush()) == DATA
    with pytest.raises(CompressionError, match="lz4"):
        Deflater("lz4")
