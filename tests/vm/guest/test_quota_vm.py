"""A user whose disk quota is used up: told as such, nothing half made, and what is there can be removed."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.guest.conftest import Command
from tests.vm.guest.quota import store_with_quota


@pytest.fixture
def store(sudo: Command, tmp_path: Path) -> Iterator[Path]:
    with store_with_quota(sudo, tmp_path, 16 << 10) as folder:
        yield folder


def archive(path: Path, size: int) -> str:
    """An image's root: one file that compression does not shrink."""
    with tarfile.open(path, "w") as file:
        entry = tarfile.TarInfo("data")
        entry.size = size
        file.addfile(entry, io.BytesIO(os.urandom(size)))
    return str(path)


def used(store: Path) -> dict[str, int]:
    """The files of a store and their sizes, but for locks."""
    files = [path for path in store.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(store)): path.stat().st_size for path in files}


def test_a_full_quota(store: Path, tmp_path: Path) -> None:
    ours = Command("rootless", "--root", str(store))
    ours.ok("import", "-q", archive(tmp_path / "small.tar", 2 << 20), "small")
    before = used(store)
    elsewhere = Command("rootless")
    elsewhere.ok("import", "-q", archive(tmp_path / "large.tar", 14 << 20), "large")
    elsewhere.ok("save", "-q", "-o", str(tmp_path / "saved.tar"), "large")
    elsewhere.ok("rmi", "large")
    for words in (
        ("import", str(tmp_path / "large.tar"), "large"),
        ("load", "-i", str(tmp_path / "saved.tar")),
    ):
        done = ours(*words)
        assert done.returncode == 125, done
        [line] = done.stderr.splitlines()
        assert line.startswith(f"Error: {store}") and ": your disk quota is used up; " in line
        assert used(store) == before
    assert ours.ok("images", "--format", "{{.Repository}}") == "localhost/small"
    # Up to the last byte.
    filler = store / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="quota"):
        while True:
            file.write(bytes(512))
    done = ours("tag", "small", "other")
    assert done.returncode == 125 and "quota" in done.stderr, done
    ours.ok("rmi", "small")
    assert not [name for name, size in used(store).items() if size > 1 << 20 and name != "filler"]
