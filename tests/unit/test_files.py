"""rootless.files: folders that cannot be made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.errors import RootlessError
from rootless.files import Lock, make_dirs, make_private_dir


def test_folders(tmp_path: Path) -> None:
    make_dirs(f"{tmp_path}/a/b/c", 0o750)
    make_dirs(f"{tmp_path}/a/b/c")
    assert (tmp_path / "a/b/c").stat().st_mode & 0o777 == 0o750


def test_private_folder_below_one_that_takes_none() -> None:
    for path in ("/proc/none/x", "/proc/none", f"/proc/{os.getpid()}/none/x"):
        with pytest.raises((OSError, RootlessError)):
            make_private_dir(path)


@pytest.mark.parametrize("path", ["/proc/none/x", "/proc/none", "/proc/self/fdinfo/none/x/y"])
def test_parent_that_takes_no_folders(path: str) -> None:
    with pytest.raises(OSError):
        make_dirs(path)


def test_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_dirs("a/b")
    assert (tmp_path / "a/b").is_dir()
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(FileNotFoundError):
        make_dirs("x")


def test_a_lock_in_a_removed_folder_makes_the_folder_or_says_that_it_is_gone(
    tmp_path: Path,
) -> None:
    with pytest.raises(FileNotFoundError), Lock(str(tmp_path / "gone/lock"), make_folder=False):
        pass
    assert not (tmp_path / "gone").exists()
    with Lock(str(tmp_path / "made/lock")):
        assert (tmp_path / "made").is_dir()
