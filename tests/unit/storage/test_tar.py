"""Headers as tarfile and GNU tar write them, read back; and what no layer may hold."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from rootless.storage import tar
from rootless.storage.tar import Entry, Input, Reader, TarError


def blocks(data: bytes, step: int) -> Callable[[], bytes]:
    pieces = iter([data[at : at + step] for at in range(0, len(data), step)])
    return lambda: next(pieces, b"")


def read(data: bytes, step: int = 1000) -> list[tuple[Entry, bytes]]:
    raw: list[bytes] = []
    contents: list[bytes] = []
    source = Input(blocks(data, step))
    reader = Reader(source, raw.append)
    found = []
    while (entry := reader.next()) is not None:
        content = b"".join(bytes(piece) for piece in source.pieces(entry.size))
        contents.append(content)
        found.append((entry, content))
    reader.finish()
    # Headers and contents together are the whole archive.
    assert sum(map(len, raw)) + sum(map(len, contents)) == len(data)
    return found


def archive(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as file:
        for info, data in members:
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in fields.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("step", [1, 511, 512, 1 << 20])
def test_reads_every_format_in_any_pieces(form: int, step: int) -> None:
    name = "a/" * 60 + "name"
    data = archive(
        (member("dir", tarfile.DIRTYPE, mode=0o1777), b""),
        (member(name, uid=1000, gid=2000, mtime=1234567890, mode=0o4755), b"x" * 1000),
        (member("link", tarfile.SYMTYPE, linkname="b/" * 40 + "target"), b""),
        (member("hard", tarfile.LNKTYPE, linkname="dir"), b""),
        (member("fifo", tarfile.FIFOTYPE), b""),
        (member("dev", tarfile.CHRTYPE, devmajor=5, devminor=1), b""),
        form=form,
    )
    found = read(data, step)
    assert [entry.type for entry, _ in found] == [b"5", b"0", b"2", b"1", b"6", b"3"]
    (_, _), (file, content), (link, _), (hard, _), _, (device, _) = found
    assert file.name == name.encode()
    assert (file.uid, file.gid, file.mode, file.mtime) == (1000, 2000, 0o4755, 1234567890 * 10**9)
    assert content == b"x" * 1000
    assert link.linkname == b"b/" * 40 + b"target"
    assert hard.linkname == b"dir"
    assert (device.major, device.minor) == (5, 1)


def test_pax_records_override_the_header() -> None:
    info = member("short", mtime=1.5)
    info.pax_headers = {
        "path": "ünï/" + "x" * 300,
        "SCHILY.xattr.user.note": "value",
        "uid": "3000000000",
    }
    [(entry, _)] = read(archive((info, b"")))
    assert entry.name == ("ünï/" + "x" * 300).encode()
    assert entry.mtime == 1_500_000_000
    assert entry.uid == 3_000_000_000
    assert entry.xattrs == {b"user.note": b"value"}


def test_large_numbers_in_base_256() -> None:
    [(entry, _)] = read(
        archive((member("x", uid=5_000_000_000, mtime=-5), b""), form=tarfile.GNU_FORMAT)
    )
    assert entry.uid == 5_000_000_000
    assert entry.mtime == -5 * 10**9


@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        ["--format=posix", "--sparse-version=0.0"],
        ["--format=posix", "--sparse-version=0.1"],
        ["--format=posix", "--sparse-version=1.0"],
    ],
)
def test_sparse_files_as_gnu_tar_writes_them(tmp_path: Path, options: list[str]) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        for at in range(40):
            file.seek(at * 1_000_000)
            file.write(b"data%d" % at)
        file.truncate(50_000_000)
    done = subprocess.run(
        ["tar", "-C", str(tmp_path), "-S", *options, "-cf", "-", "sparse"],
        capture_output=True,
        check=True,
    )
    [(entry, content)] = read(done.stdout)
    assert entry.name == b"sparse"
    assert entry.real_size == 50_000_000
    assert entry.sparse is not None
    rebuilt = bytearray(entry.real_size)
    at = 0
    for offset, length in entry.sparse:
        rebuilt[offset : offset + length] = content[at : at + length]
        at += length
    assert at == entry.size < 2_000_000
    assert bytes(rebuilt) == path.read_bytes()


def test_gnu_tar_reads_what_is_written(tmp_path: Path) -> None:
    entries = []
    for number, name in enumerate(
        [b"short", b"p/" * 70 + b"ustar prefix", b"q" * 200, "ä".encode(), b"nano"]
    ):
        entry = Entry(name)
        entry.mode = 0o640
        entry.uid = [0, 1000, 3_000_000_000, 0, 0][number]
        entry.mtime = 1_600_000_000 * 10**9 + (123 if name == b"nano" else 0)
        entry.size = 5
        entries.append(entry)
    data = b"".join(tar.header(one) + b"hello" + bytes(507) for one in entries) + tar.END
    listed = subprocess.run(
        ["tar", "-tf", "-", "--quoting-style=literal"], input=data, capture_output=True, check=True
    )
    assert listed.stdout.split(b"\n")[:-1] == [entry.name for entry in entries]
    for (got, content), wanted in zip(read(data), entries, strict=True):
        assert content == b"hello"
        assert (got.name, got.mode, got.uid, got.mtime) == (
            wanted.name,
            wanted.mode,
            wanted.uid,
            wanted.mtime,
        )


def test_written_headers_carry_links_and_xattrs() -> None:
    entry = Entry(b"link", tar.SYMLINK)
    entry.linkname = b"t" * 150
    entry.xattrs = {b"security.capability": bytes(range(20)), b"user.a": b"=\n"}
    [(got, _)] = read(tar.header(entry) + tar.END)
    assert got.linkname == entry.linkname
    assert got.xattrs == entry.xattrs
    assert tar.header(entry) == tar.header(entry)


def patched(offset: int, value: bytes) -> bytes:
    """A header with one field changed and its checksum right again."""
    data = bytearray(archive((member("x"), b"abc"), form=tarfile.USTAR_FORMAT))
    data[offset : offset + len(value)] = value
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"not a tar archive" * 100, "number|checksum"),
        (archive((member("x"), b"abc"))[:700], "middle of a file|ends in the middle"),
        (archive((member("x"), b"abc"))[:300], "middle of a header"),
        (patched(124, b"0o000000007\0"), "not a number"),
        (patched(124, b"-0000000007\0"), "not a number"),
        (patched(124, b"\xff" * 12), "negative"),
        (patched(124, b"\x80" + b"\xff" * 11), "too large a number"),
        (patched(136, b"\x80" + b"\xff" * 11), "too large a number"),
        (patched(136, b"\xc0" + b"\x00" * 11), "too large a number"),
        (patched(124, b"00000000009\0"), "octal"),
        (patched(156, b"Z"), "unknown type"),
        (patched(156, b"M"), "unknown type"),
        (patched(1, b"\0y"), ""),
    ],
)
def test_case_31_malformed_headers(data: bytes, message: str) -> None:
    if not message:
        assert read(data)[0][0].name == b"x"
        return
    with pytest.raises(TarError, match=message):
        read(data)


def pax(body: bytes) -> bytes:
    info = member("PaxHeaders/x", tarfile.XHDTYPE)
    out = archive((info, b""), form=tarfile.USTAR_FORMAT)[:512]
    head = bytearray(out)
    head[124:136] = b"%011o\0" % len(body)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    rest = archive((member("x"), b""), form=tarfile.USTAR_FORMAT)
    return bytes(head) + body + bytes(-len(body) % 512) + rest


@pytest.mark.parametrize(
    "body",
    [
        b"99 path=a\n",
        b"x path=a\n",
        b"8 path=a\n",
        b"7 =ab\n\n",
        b"-5 path=a\n",
        b"18 size=123456789a\n",
        b"28 size=9223372036854775808\n",
        b"40 GNU.sparse.size=10000000000000000000\n",
        b"18 mtime=12345.67x\n",
        b"13 path=a\0bc\n",
        b"22 GNU.sparse.size=1e3\n",
    ],
)
def test_case_31_malformed_pax_records(body: bytes) -> None:
    with pytest.raises(TarError):
        read(pax(body))


def test_case_32_a_huge_extended_header_is_refused_before_it_is_read() -> None:
    head = bytearray(pax(b"")[:512])
    head[124:136] = b"%011o\0" % (1 << 30)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    with pytest.raises(TarError, match="at most"):
        read(bytes(head))


@pytest.mark.parametrize("pairs", [[(0, 10), (5, 10)], [(90, 20)], [(0, 5)], [(10, 5), (0, 10)]])
def test_case_31_sparse_maps_stay_within_the_file(pairs: list[tuple[int, int]]) -> None:
    entry = Entry(b"x")
    with pytest.raises(TarError, match="sparse"):
        tar._set_sparse(entry, pairs, 100, 15)


@pytest.mark.parametrize(
    ("value", "ns"),
    [
        (b"1", 10**9),
        (b"1.5", 1_500_000_000),
        (b"-1.25", -1_250_000_000),
        (b"0.1234567891", 123456789),
    ],
)
def test_pax_times(value: bytes, ns: int) -> None:
    assert tar.pax_time(value) == ns


def test_an_empty_archive_is_empty() -> None:
    assert read(tar.END) == []
    assert read(b"") == []
    assert read(os.urandom(0)) == []
