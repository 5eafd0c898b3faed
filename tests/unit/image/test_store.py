"""Names, ids and records: found as Podman finds them, without a database."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rootless.errors import RootlessError
from rootless.image.opening import check_shared, force_mask
from rootless.image.remove import Family, remove
from rootless.image.store import ImageStore, ImageUnknown
from rootless.oci.digest import sha256
from rootless.paths import Paths


def make(folder: Path, **options: object) -> ImageStore:
    store = ImageStore(Paths(str(folder / "data"), str(folder / "run")), **options)  # type: ignore[arg-type]
    store.make()
    return store


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return make(tmp_path)


def add(store: ImageStore, note: str, *names: str, created: str = "2024-01-01T00:00:00Z") -> str:
    """An image without layers, told from others by a label."""
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": created,
            "config": {"Labels": {"note": note}},
            "rootfs": {"type": "layers", "diff_ids": []},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": sha256(config),
                "size": len(config),
            },
            "layers": [],
        }
    ).encode()
    return store.add_image(config, manifest, names).id


def test_found_by_name_id_prefix_and_digest(store: ImageStore) -> None:
    one = add(store, "one", "docker.io/library/web:latest", "quay.io/team/web:2")
    other = add(store, "other", "localhost/web:latest")
    digest = store.lookup(one).digest
    assert store.lookup("docker.io/library/web").id == one
    assert store.lookup("docker.io/web:latest").id == one
    assert store.lookup("quay.io/team/web:2").id == one
    # What was made here hides what was pulled.
    assert store.lookup("web").id == other
    # A short name also finds what came from any registry.
    assert store.lookup("team/web:2").id == one
    assert store.lookup(one).id == one
    assert store.lookup(f"sha256:{one}").id == one
    assert store.lookup(one[:12]).id == one
    assert store.lookup(f"quay.io/team/web@{digest}").id == one
    for text in ("nosuch", "web:3", "quay.io/web:2", "f" * 64, f"quay.io/team/other@{digest}"):
        with pytest.raises(ImageUnknown, match="image not known"):
            store.lookup(text)
        assert store.find(text) is None


def test_an_ambiguous_prefix_is_an_error(store: ImageStore) -> None:
    ids = [add(store, str(number)) for number in range(20)]
    first = next(a[0] for a in ids if sum(b[0] == a[0] for b in ids) > 1)
    with pytest.raises(RootlessError, match="ambiguous"):
        store.lookup(first)


def test_names_are_newest_first_and_images_too(store: ImageStore) -> None:
    one = add(store, "one", "localhost/a:1", created="2020-01-01T00:00:00Z")
    two = add(store, "two", "localhost/b:1", created="2021-06-01T00:00:00+02:00")
    image = store.lookup(one)
    store.tag(image, "localhost/z:2")
    path = store._name_path(store.root, "localhost/a:1")
    os.utime(path, (1, 1))
    assert store.names_of(one) == ["localhost/z:2", "localhost/a:1"]
    assert [image.id for image in store.list()] == [two, one]


def test_a_tag_moves_and_is_taken_away(store: ImageStore) -> None:
    one = add(store, "one", "localhost/a:1")
    two = add(store, "two")
    assert store.tag(store.lookup(two), "localhost/a:1") == one
    assert store.lookup("localhost/a:1").id == two
    assert store.lookup(one).names == []
    store.untag("localhost/a:1")
    with pytest.raises(ImageUnknown):
        store.untag("localhost/a:1")


def test_long_names_are_kept_under_their_digest(store: ImageStore) -> None:
    name = "registry.example.org/" + "very-long/" * 22 + "name:" + "t" * 100
    identity = add(store, "long", name)
    assert store.lookup(name).id == identity
    assert store.names_of(identity) == [name]
    assert max(map(len, os.listdir(f"{store.root}/names"))) < 201


def test_case_38_a_tag_names_one_image_only(store: ImageStore) -> None:
    """A file name that stands for another name than its content says is not believed."""
    identity = add(store, "one", "localhost/a:1")
    os.rename(
        store._name_path(store.root, "localhost/a:1"), store._name_path(store.root, "localhost/b:1")
    )
    assert store.find("localhost/b:1") is None
    assert store.lookup(identity).id == identity


def test_forgetting_leaves_no_name(store: ImageStore) -> None:
    identity = add(store, "one", "localhost/a:1", "localhost/b:1")
    store.forget(store.lookup(identity))
    assert store.list() == []
    assert os.listdir(f"{store.root}/names") == []


def test_case_39_the_store_is_closed_to_others(store: ImageStore, tmp_path: Path) -> None:
    assert os.stat(tmp_path / "data").st_mode & 0o077 == 0
    assert os.stat(store.root).st_mode & 0o077 == 0
    for name in os.listdir(store.root):
        assert os.stat(f"{store.root}/{name}").st_mode & 0o077 == 0


def test_additional_stores_are_read_and_never_written(tmp_path: Path) -> None:
    shared = make(tmp_path / "shared")
    theirs = add(shared, "theirs", "docker.io/library/base:1", "localhost/mine:1")
    before = sorted(str(path) for path in (tmp_path / "shared").rglob("*"))
    store = make(tmp_path / "own", additional=[shared.root])
    ours = add(store, "ours", "localhost/mine:1")
    found = store.lookup("base:1")
    assert (found.id, found.read_only) == (theirs, True)
    assert store.lookup("localhost/mine:1").id == ours
    assert found.names == ["docker.io/library/base:1"]
    assert json.loads(found.config_bytes())["config"]["Labels"] == {"note": "theirs"}
    store.tag(found, "localhost/copy:1")
    assert store.lookup("copy:1").id == theirs
    with pytest.raises(RootlessError, match="read-only"):
        store.forget(found)
    with pytest.raises(RootlessError, match="read-only"):
        store.untag("docker.io/library/base:1")
    assert sorted(str(path) for path in (tmp_path / "shared").rglob("*")) == before


def test_case_39_a_store_for_others_is_readable_and_only_that(tmp_path: Path) -> None:
    store = ImageStore(Paths(str(tmp_path / "data"), str(tmp_path / "run")))
    store.layers.force_mask = force_mask("shared")
    store.make()
    add(store, "one", "localhost/a:1")
    for path in [tmp_path / "data", *(tmp_path / "data").rglob("*")]:
        mode = path.stat().st_mode & 0o777
        if path.name in ("tmp", "lock"):
            assert mode & 0o077 == 0
        else:
            assert mode == (0o755 if path.is_dir() else 0o644), path
    check_shared(store.root)
    with pytest.raises(RootlessError, match="neither shared, private"):
        force_mask("x")


def test_case_39_a_shared_store_that_others_may_write_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    check_shared("/nonexistent/images")
    folder.chmod(0o777)
    with pytest.raises(RootlessError, match="writable by others"):
        check_shared(str(folder))
    folder.chmod(0o755)
    check_shared(str(folder))


def test_many_are_removed_without_all_being_read_for_each(store: ImageStore) -> None:
    ids = [add(store, str(number), f"localhost/i{number}:latest") for number in range(4)]
    family = Family(store.list())
    for one in ids[:-1]:
        record = Path(store.root, "records", ids[-1])
        kept = record.read_bytes()
        record.write_bytes(b"no record")  # no other than the image's own is opened
        assert remove(store, one, {}, family=family).deleted == [one]
        record.write_bytes(kept)
    assert [image.id for image in family.images] == [ids[-1]] == [one.id for one in store.list()]
