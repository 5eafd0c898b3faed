"""A recipe gives back the archive, byte for byte, and says so where it could not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.errors import RootlessError
from rootless.storage import recipe, tar


def record(path: Path, parts: list[bytes | tuple[bytes, int, int]]) -> recipe.Recorder:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    recorder = recipe.Recorder(fd)
    for part in parts:
        if isinstance(part, bytes):
            recorder.raw(part)
        else:
            recorder.file(*part)
    recorder.finish()
    os.close(fd)
    return recorder


def parts_of(path: Path) -> list[bytes | tuple[bytes, int, int]]:
    fd = os.open(path, os.O_RDONLY)
    try:
        return list(recipe.parts(fd))
    finally:
        os.close(fd)


def test_parts_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "recipe"
    wanted: list[bytes | tuple[bytes, int, int]] = [
        b"header" * 100,
        (b"a/b", 0, 5),
        b"\0" * 1000,
        (b"a/b", 1 << 40, 7),
        ("ünï/\udcff".encode("utf-8", "surrogateescape"), 0, 1),
        tar.END,
    ]
    assert record(path, wanted).spoiled == ""
    assert parts_of(path) == wanted


def test_many_headers_are_kept_small(tmp_path: Path) -> None:
    path = tmp_path / "recipe"
    parts: list[bytes | tuple[bytes, int, int]] = []
    for number in range(3000):
        entry = tar.Entry(b"dir/file%d" % number)
        entry.size = number
        parts += [tar.header(entry), (entry.name, 0, number)]
    record(path, parts)
    assert parts_of(path) == parts
    assert path.stat().st_size < 100 * 3000


def test_too_much_that_is_no_content_spoils_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "_SIZE_MAX", 1 << 20)
    path = tmp_path / "recipe"
    noise = [os.urandom(1 << 18) for _ in range(40)]
    recorder = record(path, [*noise, (b"f", 0, 1), tar.END])
    assert "no file content" in recorder.spoiled
    assert path.stat().st_size < 2 << 20, "the rest is not even written"


def test_the_headers_of_100_000_files_do_not_spoil_it(tmp_path: Path) -> None:
    # Each with what fills its last block, they are more than 64 MiB.
    blocks = [tar.header(tar.Entry(b"dir/file%d" % number)) * 50 for number in range(4000)]
    assert record(tmp_path / "recipe", [*blocks]).spoiled == ""


@pytest.mark.parametrize("damage", [b"", b"rootless recipe 1\n\x78\x9cgarbage", b"something else"])
def test_a_damaged_recipe_is_an_error(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "recipe"
    path.write_bytes(damage)
    with pytest.raises(RootlessError, match="damaged|cut off"):
        parts_of(path)


def test_replay_reads_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    path = tmp_path / "recipe"
    record(path, [b"<", (b"f", 2, 5), b">"])
    monkeypatch.chdir(tmp_path)
    fd = os.open(path, os.O_RDONLY)
    assert b"".join(recipe.replay(fd)) == b"<23456>"
    (tmp_path / "f").write_bytes(b"012")
    os.lseek(fd, 0, os.SEEK_SET)
    with pytest.raises(RootlessError, match="shorter than its recipe says"):
        list(recipe.replay(fd))
    os.close(fd)
