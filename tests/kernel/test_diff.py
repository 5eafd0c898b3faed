"""Folders back into archives: changes as layers, trees as one, and what a recipe rebuilds."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.image.changed import layer_changes
from rootless.image.commit import pack_layer
from rootless.image.store import ImageStore
from rootless.storage import tar
from rootless.storage.unpack import Helper
from tests.support import layers
from tests.support.images import file, folder, hardlink, layer, symlink
from tests.support.layers import Tree, members

pytestmark = pytest.mark.needs("userns", "subids")

BASE = layer(
    [
        folder("d"),
        file("d/a", b"a"),
        file("d/b", b"b"),
        folder("gone"),
        file("gone/x"),
        folder("opaque"),
        file("opaque/old"),
        file("kept", b"k", 0o4755, 7, 8),
        symlink("l", "kept"),
    ]
)
TOP = layer(
    [
        folder("d", 0o750, 3, 4),
        file("d/a", b"changed"),
        file("d/.wh.b"),
        file(".wh.gone"),
        folder("opaque"),
        file("opaque/.wh..wh..opq"),
        file("opaque/new", b"n" * 100_000, 0o600, 9, 9),
        hardlink("opaque/hard", "opaque/new"),
        symlink("s", "../x"),
    ]
)


@pytest.fixture
def made(tmp_path: Path) -> ImageStore:
    return layers.store(tmp_path)


@pytest.fixture
def helper(made: ImageStore) -> Iterator[Helper]:
    with made.helper() as one:
        yield one


def packed(helper: Helper, folders: list[str], raw: bool, exclude: tuple[str, ...] = ()) -> bytes:
    reader, writer = os.pipe()
    opened = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in folders]
    job = helper.run("archive", [*opened, writer], raw=raw, exclude=list(exclude))
    for fd in (*opened, writer):
        os.close(fd)
    data = b""
    while block := os.read(reader, 1 << 20):
        data += block
    os.close(reader)
    assert job.wait()["size"] == len(data)
    return data


def test_a_layer_packs_into_what_it_came_from(made: ImageStore, helper: Helper) -> None:
    place = layers.unpack(made, TOP, helper)
    data = packed(helper, [place], raw=True)
    assert data == packed(helper, [place], raw=True)
    found = members(data)
    assert found[b"d/.wh.b"][0].type == tar.REGULAR
    assert found[b".wh.gone"][0].size == 0
    assert b"opaque/.wh..wh..opq" in found
    assert (found[b"d/"][0].uid, found[b"d/"][0].gid, found[b"d/"][0].mode) == (3, 4, 0o750)
    hard, content = found[b"opaque/hard"]
    assert (content, hard.mode, hard.uid) == (b"n" * 100_000, 0o600, 9)
    assert found[b"opaque/new"][0].type == tar.HARDLINK
    assert found[b"opaque/new"][0].linkname == b"opaque/hard"
    assert found[b"s"][0].linkname == b"../x"
    # No xattr of overlay's, or of ours, gets out.
    assert all(not entry.xattrs for entry, _ in found.values())
    again = layers.unpack(made, data, helper)
    assert Tree(again, helper.idmap).found == Tree(place, helper.idmap).found


def test_a_tree_packs_as_overlay_would_show_it(made: ImageStore, helper: Helper) -> None:
    base, top = layers.unpack(made, BASE, helper), layers.unpack(made, TOP, helper)
    found = members(packed(helper, [top, base], raw=False, exclude=("s", "opaque/new")))
    assert sorted(found) == [b"d/", b"d/a", b"kept", b"l", b"opaque/", b"opaque/hard"]
    assert found[b"d/a"][1] == b"changed"
    assert found[b"d/"][0].mode == 0o750
    assert (found[b"kept"][0].mode, found[b"kept"][0].uid, found[b"kept"][0].gid) == (0o4755, 7, 8)


def test_changes_against_the_layers_below(made: ImageStore, helper: Helper) -> None:
    base, top = layers.unpack(made, BASE, helper), layers.unpack(made, TOP, helper)
    assert layer_changes(made, [top, base]) == [
        ("C", "/d"),
        ("C", "/d/a"),
        ("D", "/d/b"),
        ("D", "/gone"),
        ("C", "/opaque"),
        ("D", "/opaque/old"),
        ("A", "/opaque/hard"),
        ("A", "/opaque/new"),
        ("A", "/s"),
    ]


def test_what_differs_between_trees_is_a_layer_upon_the_other(
    made: ImageStore, helper: Helper
) -> None:
    """The way of containers that are plain copies: their tree, and the image's layers."""
    base, top = layers.unpack(made, BASE, helper), layers.unpack(made, TOP, helper)
    whole = layers.unpack(made, packed(helper, [top, base], raw=False), helper)
    pack_layer(made, helper, [whole, base], "sha256:" + "0" * 64, raw=False, against=1)
    [place] = [
        made.layers.path(chain)
        for chain in made.layers.all()
        if made.layers.record(chain)["parent"] == "sha256:" + "0" * 64
    ]
    found = Tree(place, helper.idmap)
    assert stat.S_ISCHR(found.mode("gone"))
    assert stat.S_ISCHR(found.mode("d/b"))
    assert stat.S_ISCHR(found.mode("opaque/old"))
    assert found.content("d/a") == b"changed"
    assert "kept" not in found
    assert "gone/x" not in found
    merged = members(packed(helper, [place, base], raw=False))
    assert merged.keys() == members(packed(helper, [top, base], raw=False)).keys()


def test_owners_that_were_recorded_come_back(tmp_path: Path) -> None:
    made = layers.store(tmp_path, layers.single())
    with made.helper() as helper:
        place = layers.unpack(
            made, layer([file("f", b"x", 0o640, 33, 44), folder("d", 0o755, 5, 6)]), helper
        )
        found = members(packed(helper, [place], raw=True))
    assert (found[b"f"][0].uid, found[b"f"][0].gid, found[b"f"][0].mode) == (33, 44, 0o640)
    assert (found[b"d/"][0].uid, found[b"d/"][0].gid) == (5, 6)


def test_case_14_a_link_that_takes_a_folders_place_is_not_followed(
    made: ImageStore, helper: Helper, tmp_path: Path
) -> None:
    """A container swaps a folder for a link to the host's files while its changes are packed."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "secret").write_text("secret")
    upper = tmp_path / "upper"
    upper.mkdir()
    (upper / "d").symlink_to(victim)
    (upper / "f").symlink_to(victim / "secret")
    found = members(packed(helper, [str(upper)], raw=True))
    assert sorted(found) == [b"d", b"f"]
    assert all(entry.type == tar.SYMLINK for entry, _ in found.values())
    pid = os.fork()
    if pid == 0:
        while True:
            try:
                os.mkdir(upper / "swap")
                (upper / "swap" / "inner").touch()
                (upper / "swap" / "inner").unlink()
                os.rmdir(upper / "swap")
                os.symlink(victim, upper / "swap")
                os.unlink(upper / "swap")
            except OSError:
                continue
    try:
        for _ in range(30):
            try:
                data = packed(helper, [str(upper)], raw=True)
            except (OSError, AssertionError):
                continue
            assert b"secret" not in {name.rpartition(b"/")[2] for name in members(data)}
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
