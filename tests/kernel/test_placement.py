"""Where the folder of a layer is made."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from rootless.storage.layers import clear
from rootless.storage.placement import TOPDIR, flags, make_apart
from tests.support import layers

EXT = ("ext2/ext3", "ext4")


def file_system(path: Path) -> str:
    words = ["stat", "--file-system", "--format", "%T", str(path)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def test_a_folder_is_made_apart_and_under_its_name_alone(tmp_path: Path) -> None:
    make_apart(str(tmp_path), "diff", 0o755)
    assert os.listdir(tmp_path) == ["diff"]
    assert os.listdir(tmp_path / "diff") == []
    if file_system(tmp_path) in EXT:
        for path, spread in ((tmp_path, True), (tmp_path / "diff", False)):
            fd = os.open(path, os.O_RDONLY)
            assert bool(flags(fd) & TOPDIR) is spread, "the layer's own folders stay together"
            os.close(fd)


def test_a_file_system_without_such_flags_does_as_well() -> None:
    folder = Path("/dev/shm") / f"placement-{os.getpid()}"
    folder.mkdir()
    try:
        make_apart(str(folder), "diff", 0o755)
        assert os.listdir(folder) == ["diff"]
    finally:
        (folder / "diff").rmdir()
        folder.rmdir()


@pytest.mark.needs("userns", "subids")
def test_what_a_kill_halfway_leaves_is_cleared(tmp_path: Path) -> None:
    made = layers.store(tmp_path)
    folder = tmp_path / "half"
    folder.mkdir()
    (folder / "0123456789abcdef").mkdir()
    with made.helper() as helper:
        clear(str(folder), helper)
    assert not folder.exists()
