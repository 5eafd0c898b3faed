"""Damage of each kind to a store: found by check, mended where it can be, and never the end of every other command."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rootless.errors import RootlessError
from rootless.image import archive, lists
from rootless.image.check import check
from rootless.image.collecting import collect
from rootless.image.listadd import Artifact, Entry, add_artifact
from rootless.image.session import Session
from rootless.image.store import Image, ImageStore
from tests.support import images, layers
from tests.support.images import digest, file, folder, hardlink, layer, symlink

pytestmark = pytest.mark.needs("userns", "subids")

NAME = "localhost/test:1"
OTHER = "localhost/other:1"
CONTENT = b"content " * 1000


class Store:
    """A store with an image of two layers, whose packed blobs are kept, and one that shares the lower layer."""

    def __init__(self, tmp_path: Path) -> None:
        self.store: ImageStore = layers.store(tmp_path / "s")
        self.base = layer([
            folder("d"), file("d/file", CONTENT), file("d/empty"), symlink("d/link", "file"),
            hardlink("d/hard", "d/file"), folder("g", 0o2755), file("d/own", b"x", 0o600),
        ])  # fmt: skip
        top = layer([file("top", b"top"), file("d/.wh.empty")])
        for name, content in ((NAME, [self.base, top]), (OTHER, [self.base])):
            path = tmp_path / f"{len(content)}.tar"
            images.oci_archive(path, content, name, Labels={"name": name})
            archive.load(self.store, str(path), "x")
        assert check(self.store) == []

    @property
    def image(self) -> Image:
        return self.store.lookup(NAME)

    def file(self, path: str) -> Path:
        return Path(self.store.lowers(self.image)[-1]) / path

    def layer(self, name: str) -> Path:
        return Path(self.store.layers.folder(self.image.layers[0])) / name

    def blob(self, digest: str) -> Path:
        return Path(self.store.blobs.path(digest))

    def packed(self) -> Path:
        return self.blob(json.loads(self.image.manifest())["layers"][0]["digest"])

    def record(self) -> Path:
        return Path(self.store.root) / "records" / self.image.id


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Store]:
    one = Store(tmp_path)
    yield one
    with one.store.helper() as helper:
        for chain in list(one.store.layers.all()):
            one.store.layers.remove(chain, helper)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    status = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def relink(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def unlink_and_copy(path: Path) -> None:
    path.unlink()
    path.write_bytes(CONTENT)


# What is broken, and what check says of it.
LAYER_DAMAGE: dict[str, tuple[Callable[[Store], object], str]] = {
    "a byte": (lambda one: flip(one.file("d/file")), "its files were changed"),
    "shorter": (lambda one: truncate(one.file("d/file")), "shorter than its recipe"),
    "longer": (lambda one: one.file("d/own").write_bytes(b"xy"), "d/own has another size"),
    "a file is gone": (lambda one: one.file("d/file").unlink(), "not what was unpacked"),
    "an empty file is gone": (lambda one: one.file("d/empty").unlink(), "d/empty is missing"),
    "a file more": (lambda one: one.file("d/new").touch(), "d/new is none of the image's"),
    "a mode": (lambda one: one.file("d/own").chmod(0o4755), "d/own has mode 4755 for 0600"),
    "a folder's mode": (lambda one: one.file("g").chmod(0o777), "g has mode 0777 for 2755"),
    "a link": (lambda one: relink(one.file("d/link")), "d/link leads elsewhere"),
    "another kind": (lambda one: relink(one.file("d/empty")), "d/empty is of another kind"),
    "a hard link": (lambda one: unlink_and_copy(one.file("d/hard")), "d/hard is no link any more"),
    "no recipe": (lambda one: one.layer("recipe").unlink(), "not what was unpacked"),
    "half a recipe": (lambda one: truncate(one.layer("recipe")), "recipe is cut off"),
    "a bad recipe": (lambda one: flip(one.layer("recipe")), ""),
    "no files": (lambda one: shutil.rmtree(one.layer("diff")), "its files are gone"),
    "no record": (lambda one: one.layer("layer.json").unlink(), "its record cannot be read"),
    "half a record": (lambda one: truncate(one.layer("layer.json")), "its record cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("kind", LAYER_DAMAGE)
def test_a_damaged_layer_is_unpacked_again(made: Store, kind: str) -> None:
    damage, message = LAYER_DAMAGE[kind]
    damage(made)
    [found] = [one for one in check(made.store) if one.kind == "layer"]
    assert message in found.problem
    [mended] = [one for one in check(made.store, repair=True) if one.kind == "layer"]
    assert mended.mended == "unpacked again from its blob"
    assert check(made.store) == []
    assert made.file("d/file").read_bytes() == CONTENT
    assert len(made.store.list()) == 2


@pytest.mark.parametrize("kind", ["a byte", "no files", "half a record"])
def test_without_its_blob_the_images_go_and_the_rest_stays(made: Store, kind: str) -> None:
    flip(made.packed())
    LAYER_DAMAGE[kind][0](made)
    findings = {one.kind: one.mended for one in check(made.store, repair=True)}
    assert findings["blob"] == "removed"
    assert findings["image"] == "removed; pull or load it again"
    assert made.store.list() == []
    collect(made.store)
    assert check(made.store) == []
    assert list(made.store.layers.all()) == []
    assert os.listdir(f"{made.store.root}/tmp") == []


def test_a_missing_layer(made: Store) -> None:
    with made.store.helper() as helper:
        made.store.layers.remove(made.image.layers[1], helper)
    [found] = check(made.store)
    assert "1 of its layers are missing" in found.problem
    check(made.store, repair=True)
    assert [image.names for image in made.store.list()] == [[OTHER]]
    assert check(made.store) == []


@pytest.mark.parametrize("how", [flip, truncate, Path.unlink])
@pytest.mark.parametrize("which", ["config", "manifest", "packed"])
def test_damaged_documents_and_blobs(
    made: Store, which: str, how: Callable[[Path], object]
) -> None:
    path = {
        "config": made.blob(made.image.record["config_digest"]),
        "manifest": made.blob(made.image.digest),
        "packed": made.packed(),
    }[which]
    how(path)
    if which == "packed" and how is Path.unlink:
        assert check(made.store) == []  # the layer is there, and may be packed anew
        return
    assert check(made.store)
    check(made.store, repair=True)
    # The very bytes of a config that nobody else has are lost; it can be read in the record, and the image runs.
    left = [one.problem for one in check(made.store)]
    assert left == (["its config is missing"] if which == "config" else [])
    assert len(made.store.list()) == 2
    assert len(made.image.layers) == 2


RECORD_DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "truncated": truncate,
    "empty": lambda path: path.write_bytes(b""),
    "binary": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "a list": lambda path: path.write_text("[]"),
    "empty object": lambda path: path.write_text("{}"),
    "another type": lambda path: path.write_text(
        json.dumps({**json.loads(path.read_text()), "digests": [7]})
    ),
    "another config": lambda path: path.write_text(
        json.dumps({**json.loads(path.read_text()), "config": {"rootfs": {}}})
    ),
    "another's": lambda path: shutil.copy(
        next(one for one in path.parent.iterdir() if one != path), path
    ),
}


@pytest.mark.parametrize("kind", RECORD_DAMAGE)
def test_a_damaged_record_is_written_again(made: Store, kind: str) -> None:
    before = made.image.record
    RECORD_DAMAGE[kind](made.record())
    assert [one.kind for one in check(made.store)].count("image") == 1
    # Nothing that the damaged image may need is removed meanwhile.
    with contextlib.suppress(RootlessError):
        collect(made.store)
    check(made.store, repair=True)
    assert check(made.store) == []
    assert made.image.record == before


def test_a_record_that_cannot_be_written_again_is_removed(made: Store) -> None:
    path, identity = made.record(), made.image.id
    made.blob(made.image.digest).unlink()
    truncate(path)
    [found] = check(made.store, repair=True, users={identity: ["container"]})
    assert not found.mended
    assert path.exists()
    findings = check(made.store, repair=True)
    assert [one.mended for one in findings if one.kind == "image"] == [
        "removed; pull or load the image again"
    ]
    assert made.store.find(NAME) is None
    assert made.store.find(OTHER) is not None


def test_names_that_lead_nowhere(made: Store) -> None:
    names = Path(made.store.root) / "names"
    (names / "binary").write_bytes(b"\xff\xfe\n\n\n")
    (names / "empty").touch()
    (names / "localhost+moved:1").write_bytes((names / "localhost+test:1").read_bytes())
    assert made.store.lookup(NAME).names == [NAME]
    assert len(check(made.store)) == 3
    check(made.store, repair=True)
    assert check(made.store) == []
    assert sorted(os.listdir(names)) == ["localhost+other:1", "localhost+test:1"]


def test_damaged_manifest_lists(made: Store, tmp_path: Path) -> None:
    store, folder = made.store, Path(made.store.root) / "lists"
    content = tmp_path / "content"
    content.write_text("an artifact's")
    kept, broken = lists.create(store, "kept"), lists.create(store, "broken")
    with Session() as session:
        for one in (kept, broken):
            add_artifact(one, [str(content)], session, Entry(), Artifact())
    assert check(store) == []
    for damage in (b"{", b'{"id":"x"}', b"[]", (folder / kept.id).read_bytes()):
        (folder / broken.id).write_bytes(damage)
        with pytest.raises(RootlessError, match="damaged record") as caught:
            lists.lookup(store, "broken")
        assert "system check --repair" in caught.value.hint
        [found] = check(store)
        assert (found.kind, found.mended) == ("list", "")
        [found] = check(store, repair=True)
        assert found.mended.startswith("removed")
        assert check(store) == []
    collect(store)
    store.blobs.remove(digest(content.read_bytes()))
    [found] = check(store, repair=True)
    assert "its entry" in found.problem and found.mended
    assert lists.lookup(store, "kept").entries == []
    assert check(store) == []


def test_files_of_others_in_the_store_do_no_harm(made: Store) -> None:
    root = Path(made.store.root)
    for place in ("layers", "blobs", "blobs/sha256", "records", "tmp"):
        (root / place / "README").write_text("what is this?")
        (root / place / "folder").mkdir()
    assert check(made.store) == []
    check(made.store, repair=True)
    collect(made.store)
    assert len(made.store.list()) == 2
    assert (root / "layers/README").exists()


def test_what_a_killed_writer_left_is_removed(made: Store) -> None:
    root = Path(made.store.root)
    places = [root / "names/x.7.tmp", root / "records/y.7.tmp", root / "blobs/sha256/z.7.tmp"]
    for place in places:
        place.write_bytes(b"half")
        os.utime(place, (1, 1))
    fresh = root / "names/fresh.8.tmp"
    fresh.touch()
    assert check(made.store) == []
    collect(made.store)
    assert not any(place.exists() for place in places)
    assert fresh.exists()
