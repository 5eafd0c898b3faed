"""Trees that a container has made to be hard to remove: too deep for a path, closed, with links out of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.linux import tree

_DEEP = 3000  # more than a path can name, Python's stack holds, and descriptors may be open


def dig(top: Path, levels: int = _DEEP) -> None:
    """Folders in folders below `top`, with a file of ten bytes in the last."""
    fd = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    file = os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.write(file, b"x" * 10)
    os.close(file)
    os.close(fd)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_case_14_however_deep(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    dig(top)
    (top / "beside").write_text("12345")
    before = descriptors()
    assert tree.size(str(top)) == 15
    tree.remove(None, str(top))
    assert list(tmp_path.iterdir()) == []
    assert descriptors() == before


def test_case_14_no_link_is_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("123")
    top = tmp_path / "top"
    (top / "a").mkdir(parents=True)
    (top / "a/link").symlink_to(outside)
    (top / "link").symlink_to("../outside/kept")
    assert tree.size(str(top)) == 0
    tree.remove(None, str(top))
    assert [one.name for one in outside.iterdir()] == ["kept"]
    # Where the place itself has become a link, the link goes.
    top.symlink_to(outside)
    tree.remove(None, str(top))
    assert not top.is_symlink() and (outside / "kept").exists()


def test_case_14_a_folder_that_is_moved_meanwhile(tmp_path: Path) -> None:
    """The way back through `..` would lead to where it has been moved to."""
    top, elsewhere = tmp_path / "top", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "d").mkdir()
    (elsewhere / "d/kept").touch()
    top.mkdir()
    dig(top, 100)
    moved = False

    def enter(parent: int | None, name: str | bytes) -> tuple[int, list[str]]:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=parent)
        return fd, [one for one in os.listdir(fd) if one == "d"]

    def leave(parent: int | None, name: str | bytes) -> None:
        nonlocal moved
        if not moved:
            os.rename(top / ("d/" * 20), elsewhere / "moved")
            moved = True

    with pytest.raises(OSError, match="was moved"):
        tree.walk(None, str(top), enter, leave)
    assert moved


def test_closed_folders(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "closed/below").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "closed/file").touch()
    (top / "closed").chmod(0o500)
    (top / "empty").chmod(0)
    tree.remove(None, str(top), force=True)
    assert not top.exists()


def test_a_name_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tree.remove(None, str(tmp_path / "nothing"))
    assert tree.size(str(tmp_path / "nothing")) == 0
