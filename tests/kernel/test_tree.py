"""Trees that a container has made to be hard to remove: too deep for a path, closed, with links out of them."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.container import transfer
from rootless.errors import RootlessError
from rootless.linux import tree
from rootless.storage import diff
from rootless.storage import tree as storage

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


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder that pytest need not empty: it cannot empty deep ones."""
    (tmp_path / "place").mkdir()
    yield tmp_path / "place"
    tree.remove(None, str(tmp_path / "place"))


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


def test_branches_far_down(place: Path) -> None:
    """A walk that goes up a little and down again closes only what is open."""
    branches = place / ("d/" * 60)
    for number in range(3):
        (branches / f"b{number}/c").mkdir(parents=True)
        (branches / f"b{number}/c/file").write_text("x")
    fd = os.open(place, os.O_RDONLY)
    before = descriptors()
    assert tree.size(str(place)) == 3
    assert sum(node.name == b"file" for node in storage.walk([fd])) == 3
    tree.remove(fd, "d")
    assert os.listdir(fd) == []
    assert descriptors() == before
    os.close(fd)


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


def test_case_14_a_layer_however_deep(place: Path) -> None:
    upper, lower = place / "upper", place / "lower"
    for top in (upper, lower):
        top.mkdir()
        (top / "zz").touch()
    dig(upper)
    dig(lower, 100)
    fds = [os.open(top, os.O_RDONLY) for top in (upper, lower)]
    before, most = descriptors(), 0
    deepest, files, folders = 0, [], []
    for node in storage.walk(fds):
        most = max(most, descriptors() - before)
        if node.is_folder:
            deepest = max(deepest, node.path.count(b"/") + 1)
            if deepest < 5:
                folders.append(node)
        else:
            files.append((node.path.count(b"/"), node.place.layer))
            os.close(node.open())
        # What the walk has left behind can still be opened.
        if node.name == b"file" and node.place.layer == 0:
            for one in folders:
                os.close(one.open())
    assert deepest == _DEEP
    assert files == [(_DEEP, 0), (100, 1), (0, 0)]
    assert most < 100 and descriptors() == before
    assert storage.lookup(fds, b"/".join([b"d"] * _DEEP + [b"file"])) is not None
    assert descriptors() == before
    with pytest.raises(RootlessError, match="path too long for an archive"):
        diff.write_tree(fds, lambda data: None, ())
    assert descriptors() == before
    for fd in fds:
        os.close(fd)


def test_case_14_a_copy_however_deep(place: Path) -> None:
    dig(place, 2000)
    out = os.open("/dev/null", os.O_WRONLY)
    before = descriptors()
    packer = transfer.Packer(out)
    transfer.pack_path(packer, os.open, str(place), "", contents=True)
    with pytest.raises(RootlessError, match="path too long for an archive"):
        transfer.pack_path(packer, os.open, str(place), "n" * 100, contents=False)
    assert descriptors() == before
    os.close(out)


def test_a_copy_has_its_names_in_order(tmp_path: Path) -> None:
    for name in ("b/x", "b/a/y", "a/z"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "c").symlink_to("a")
    archive = tmp_path.with_suffix(".tar")
    out = os.open(archive, os.O_RDWR | os.O_CREAT)
    transfer.pack_path(transfer.Packer(out), os.open, str(tmp_path), "top", contents=False)
    os.close(out)
    with tarfile.open(archive) as opened:
        names = opened.getnames()
        assert names == ["top", "top/a", "top/a/z", "top/b", "top/b/a", "top/b/a/y", "top/b/x", "top/c"]  # fmt: skip
