"""The store of volumes: names, records, options."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from rootless.errors import Conflict, NotFound, RootlessError, Usage
from rootless.paths import Paths
from rootless.volume import Settings, VolumeStore, folder_of


@pytest.fixture
def store(tmp_path: Path) -> VolumeStore:
    return VolumeStore(Paths(str(tmp_path / "data"), str(tmp_path / "run")))


def test_create(store: VolumeStore) -> None:
    record = store.create("a", labels={"x": "y"})
    assert store.read("a") == record
    assert record["labels"] == {"x": "y"} and record["anonymous"] is False
    assert stat.S_IMODE(os.stat(store.data("a")).st_mode) == 0o755
    assert os.listdir(store.paths.tmp) == []


def test_create_under_any_umask(store: VolumeStore) -> None:
    old = os.umask(0o077)
    try:
        store.create("a")
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(store.data("a")).st_mode) == 0o755


def test_name_is_made_up(store: VolumeStore) -> None:
    name = store.create()["name"]
    assert len(name) == 64 and store.exists(name)


def test_name_is_taken(store: VolumeStore) -> None:
    store.create("a")
    with pytest.raises(
        Conflict, match="^volume with name a already exists: volume already exists$"
    ):
        store.create("a")
    assert os.listdir(store.paths.tmp) == []


def test_case_10_names(store: VolumeStore) -> None:
    for name in ("../a", "a/b", "-a", ".", "a b"):
        with pytest.raises(RootlessError, match="^running volume create option: names must match"):
            store.create(name)
        assert not store.exists(name)
    (Path(store.paths.data) / "volume.json").parent.mkdir(parents=True, exist_ok=True)
    assert not store.exists("..")


def test_lookup(store: VolumeStore) -> None:
    for name in ("abc", "abd", "x", "xy"):
        store.create(name)
    assert store.lookup("abc")["name"] == "abc"
    assert store.lookup("x")["name"] == "x"
    assert store.lookup("xy")["name"] == "xy"
    with pytest.raises(RootlessError, match="more than one result"):
        store.lookup("ab")
    with pytest.raises(NotFound, match='^no volume with name "nope" found: no such volume$'):
        store.lookup("nope")
    with pytest.raises(NotFound):
        store.lookup("")


def test_ensure(store: VolumeStore) -> None:
    assert [store.ensure("a")[1] for _ in range(2)] == [True, False]
    assert store.ensure("")[0]["name"] != store.ensure("")[0]["name"]


def test_remove(store: VolumeStore) -> None:
    store.create("a")
    Path(store.data("a"), "f").write_text("x")
    with pytest.raises(
        Conflict, match=r"volume a is being used by the following container\(s\): c1, c2:"
    ) as caught:
        store.remove("a", lambda: ["c1", "c2"])
    assert caught.value.exit_code == 2 and store.exists("a")
    store.remove("a", list)
    assert not store.exists("a") and store.names() == [] and os.listdir(store.paths.tmp) == []
    with pytest.raises(NotFound):
        store.remove("a")


def test_case_14_removal_follows_no_link(store: VolumeStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").touch()
    store.create("a")
    os.symlink(outside, f"{store.data('a')}/link")
    store.remove("a")
    assert (outside / "f").exists()


def test_all_is_in_order_of_creation(store: VolumeStore) -> None:
    for name in ("b", "a", "c"):
        store.create(name)
    assert [record["name"] for record in store.all()] == ["b", "a", "c"]


def test_sweep(store: VolumeStore) -> None:
    store.create("a")
    left = Path(store.paths.tmp) / f"volume.x.999999999.1.{os.uname().nodename}"
    left.mkdir()
    store.sweep()
    assert not left.exists() and store.exists("a")


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({}, "own", []),
        ({"o": "uid=5,gid=6"}, "own", []),
        ({"o": ""}, "own", []),
        ({"o": "noquota"}, "own", []),
        ({"type": "tmpfs"}, "tmpfs", []),
        ({"type": "tmpfs", "device": "tmpfs", "o": "size=10m,mode=700"}, "tmpfs", ["size=10m", "mode=700"]),
        ({"type": "tmpfs", "o": "inodes=5"}, "tmpfs", ["nr_inodes=5"]),
        ({"type": "none", "device": "/tmp", "o": "bind"}, "bind", ["bind"]),
        ({"type": "none", "device": "/tmp", "o": "bind,ro"}, "bind", ["bind", "ro"]),
        ({"type": "bind", "device": "/tmp"}, "bind", []),
        ({"device": "/tmp", "o": "rbind"}, "bind", ["rbind"]),
    ],
)  # fmt: skip
def test_settings(options: dict[str, str], kind: str, words: list[str]) -> None:
    found = Settings(options)
    assert (found.kind, found.words) == (kind, words)


def test_settings_that_inspect_shows() -> None:
    found = Settings({"type": "tmpfs", "o": "size=10m,uid=5"})
    assert found.shown == {"SIZE": "10m", "UID": "5"} and (found.uid, found.gid) == (5, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"foo": "bar"}, "invalid mount option foo for driver 'local': invalid argument"),
        ({"o": "size=5m"}, "volume options size and inodes not supported"),
        ({"o": "foo"}, 'unknown mount option "foo"'),
        ({"type": "none", "device": "/x", "o": "bind,foo"}, 'unknown mount option "foo"'),
        ({"type": "none", "device": "rel", "o": "bind"}, "a bind needs an absolute path"),
        ({"o": "bind"}, "a bind needs an absolute path"),
        ({"type": "nfs", "device": "a:/b"}, "type=nfs: a user may mount folders"),
        ({"type": "ext4", "device": "/dev/sda1"}, "type=ext4: a user may mount folders"),
        ({"device": "/dev/sda1"}, "device=/dev/sda1: a user may mount folders"),
        ({"o": "uid=x"}, 'invalid uid "x"'),
    ],
)
def test_settings_that_cannot_be(store: VolumeStore, options: dict[str, str], message: str) -> None:
    with pytest.raises(Usage) as caught:
        store.create("a", options=options)
    assert message in caught.value.message
    assert store.names() == []


def test_driver(store: VolumeStore) -> None:
    with pytest.raises(
        Usage, match="no volume plugin with name foo available: required plugin missing"
    ):
        store.create("a", driver="foo")


def test_folder_of(store: VolumeStore) -> None:
    assert folder_of(store, store.create("a")) == store.data("a")
    bind = store.create("b", options={"type": "none", "device": "/tmp", "o": "bind"})
    assert folder_of(store, bind) == "/tmp"
    with pytest.raises(Usage, match="volume t is a tmpfs"):
        folder_of(store, store.create("t", options={"type": "tmpfs"}))
