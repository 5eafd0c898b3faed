"""`-v`, `--mount`, `--tmpfs` and `--volumes-from` as they are read, and what a new container gets of all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rootless.container import mount_words, mounts
from rootless.errors import Usage

CWD = "/work"


def volume(text: str) -> Any:
    return mounts.parse_volume(text, CWD)


def mount(text: str) -> Any:
    (found,) = mount_words.parse_mount(text, CWD)
    return found


def entry(kind: str, source: str, place: str, *options: str, **more: object) -> dict[str, Any]:
    return {"type": kind, "source": source, "destination": place, "options": list(options), **more}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data", entry("volume", "", "/data")),
        ("/tmp:/y", entry("bind", "/tmp", "/y")),
        ("/tmp:/y:ro,noexec", entry("bind", "/tmp", "/y", "ro", "noexec")),
        ("/tmp/../etc/:/y/../z/", entry("bind", "/etc", "/z")),
        ("/tmp://y", entry("bind", "/tmp", "/y")),
        ("data:/y", entry("volume", "data", "/y")),
        ("data:/y:nocopy,U", entry("volume", "data", "/y", "nocopy", "U")),
        ("data:/y:O", entry("volume", "data", "/y", "O")),
        ("/tmp:/y:O", entry("overlay", "/tmp", "/y")),
        (
            "/tmp:/y:O,upperdir=/a,workdir=/b",
            entry("overlay", "/tmp", "/y", "upperdir=/a", "workdir=/b"),
        ),
        ("/tmp:/y:cached,delegated", entry("bind", "/tmp", "/y")),
        ("/tmp:/y:z", entry("bind", "/tmp", "/y", "z")),
        ("/tmp:/y:rshared", entry("bind", "/tmp", "/y", "rshared")),
        ("/tmp:/", entry("bind", "/tmp", "/")),
        ("/tmp:/y:no-dereference", entry("bind", "/tmp", "/y", "no-dereference")),
    ],
)
def test_volume(text: str, expected: dict[str, Any]) -> None:
    assert volume(text) == expected


def test_relative_source(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    found = mounts.parse_volume("./link:/y", str(tmp_path))
    assert found["source"] == str(tmp_path / "a")
    assert mounts.parse_volume(".:/y", str(tmp_path))["source"] == str(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type=bind,src=/tmp,dst=/y", entry("bind", "/tmp", "/y")),
        ("type=bind,source=rel,target=/y", entry("bind", "/work/rel", "/y")),
        ("type=bind,dst=/y", entry("bind", "/y", "/y")),
        ("dst=/y,type=bind,src=/tmp", entry("bind", "/tmp", "/y")),
        ("type=bind,src=/tmp,destination=/y,readonly", entry("bind", "/tmp", "/y", "ro")),
        ("type=bind,src=/tmp,dst=/y,ro=true", entry("bind", "/tmp", "/y", "ro")),
        ("type=bind,src=/tmp,dst=/y,ro=false", entry("bind", "/tmp", "/y")),
        ("type=bind,src=/tmp,dst=/y,rw=false", entry("bind", "/tmp", "/y", "ro")),
        ("type=bind,src=/tmp,dst=/y,bind-nonrecursive", entry("bind", "/tmp", "/y", "bind")),
        ("type=bind,src=/tmp,dst=/y,bind-propagation=slave", entry("bind", "/tmp", "/y", "slave")),
        ("type=bind,src=/tmp,dst=/y,relabel=shared", entry("bind", "/tmp", "/y", "z")),
        ("type=bind,src=/tmp,dst=/y,relabel=private", entry("bind", "/tmp", "/y", "Z")),
        ("type=bind,src=/tmp,dst=/y,chown=true", entry("bind", "/tmp", "/y", "U")),
        ("type=bind,src=/tmp,dst=/y,U=false", entry("bind", "/tmp", "/y")),
        ("type=bind,src=/tmp,dst=/y,consistency=cached", entry("bind", "/tmp", "/y")),
        ('type=bind,"src=/a,b",dst=/y', entry("bind", "/a,b", "/y")),
        ("type=volume,dst=/y", entry("volume", "", "/y")),
        ("type=volume,src=v,dst=/y,subpath=a/b", entry("volume", "v", "/y", subpath="a/b")),
        (
            "type=volume,src=v,dst=/y,volume-opt=type=tmpfs,volume-opt=o=size=1m",
            entry("volume", "v", "/y", driver_options={"type": "tmpfs", "o": "size=1m"}),
        ),
        ("type=tmpfs,dst=/y", entry("tmpfs", "tmpfs", "/y")),
        (
            "type=tmpfs,dst=/y,tmpfs-size=10m,tmpfs-mode=1777,notmpcopyup",
            entry("tmpfs", "tmpfs", "/y", "size=10m", "mode=1777", "notmpcopyup"),
        ),
        ("type=ramfs,dst=/y", entry("ramfs", "ramfs", "/y")),
        ("type=devpts,dst=/y,mode=620,max=5", entry("devpts", "devpts", "/y", "mode=620", "max=5")),
        ("type=image,src=bb,dst=/y", entry("image", "bb", "/y", "ro")),
        (
            "type=image,src=bb,dst=/y,rw=true,subpath=/a",
            entry("image", "bb", "/y", "rw", subpath="/a"),
        ),
    ],
)
def test_mount(text: str, expected: dict[str, Any]) -> None:
    assert mount(text) == expected


def test_glob(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / f"x{name}").touch()
    found = mount_words.parse_mount(f"type=glob,src={tmp_path}/x[ab],dst=/y,ro", CWD)
    assert [(m["source"], m["destination"], m["options"]) for m in found] == [
        (f"{tmp_path}/xa", "/y/xa", ["ro"]),
        (f"{tmp_path}/xb", "/y/xb", ["ro"]),
    ]
    (one,) = mount_words.parse_mount("type=glob,src=x[c]", str(tmp_path))
    assert one["destination"] == f"{tmp_path}/xc"


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("a,b", ["a", "b"]),
        ("", [""]),
        ('"a,b",c', ["a,b", "c"]),
        ('a,"b""c"', ["a", 'b"c']),
        ('"",b', ["", "b"]),
        ('"a",', ["a", ""]),
    ],
)
def test_csv(text: str, fields: list[str]) -> None:
    assert mount_words.split_csv(text) == fields


@pytest.mark.parametrize("text", ['"a', '"a"b', 'a,"b"c"'])
def test_bad_csv(text: str) -> None:
    with pytest.raises(Usage, match="quoted-field"):
        mount_words.split_csv(text)


@pytest.mark.parametrize(
    "text", ["/tmp:/y:idmap", "/tmp:/y:idmap=uids=0-1-2", "type=bind,src=/tmp,dst=/y,idmap"]
)
def test_idmap_is_refused(text: str) -> None:
    with pytest.raises(Usage, match="only root of the host"):
        mount(text) if text.startswith("type") else volume(text)


@pytest.mark.parametrize("place", ["", "y", "./y", "/a\0b"])
def test_bad_destination(place: str) -> None:
    with pytest.raises(Usage):
        mounts.destination(place)


def test_same_mount_twice_is_one() -> None:
    found = mounts.parse(["/tmp:/y", "/tmp:/y/", "v:/z", "v:/z"], [], ["/t", "/t"], CWD)
    assert [m["destination"] for m in found] == ["/y", "/z", "/t"]


@pytest.mark.parametrize(
    ("volumes", "given", "tmpfs"),
    [
        (["/tmp:/y", "/etc:/y"], [], []),
        (["a:/y", "a:/y:ro"], [], []),
        (["a:/y", "/tmp:/y:O"], [], []),
        (["/tmp:/y"], ["type=bind,src=/etc,dst=/y"], []),
        (["/tmp:/y"], [], ["/y"]),
        ([], ["type=image,src=i,dst=/y"], ["/y"]),
        ([], ["type=tmpfs,dst=/y", "type=tmpfs,dst=/y"], []),
        ([], [], ["/y", "/y:size=1m"]),
    ],
)
def test_two_mounts_at_one_place(volumes: list[str], given: list[str], tmpfs: list[str]) -> None:
    with pytest.raises(Usage, match="^/y: duplicate mount destination$"):
        mounts.parse(volumes, given, tmpfs, CWD)


def test_mount_says_more_than_tmpfs() -> None:
    (found,) = mounts.parse([], ["type=tmpfs,dst=/y,tmpfs-size=1m"], ["/y"], CWD)
    assert found["options"] == ["size=1m"]


def test_check_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts.check_sources([volume(f"{tmp_path}:/y"), volume("v:/z"), mount("type=tmpfs,dst=/t")])
    with pytest.raises(Usage, match=f"^statfs {tmp_path}/no: no such file or directory$"):
        mounts.check_sources([volume(f"{tmp_path}/no:/y")])
    with pytest.raises(Usage, match='^chowning host path "/tmp" is not allowed$'):
        mounts.check_sources([volume("/tmp:/y:U")])
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(Usage, match="is not allowed"):
        mounts.check_sources([volume(f"{tmp_path}/.:/y:U")])


def test_case_10_volume_names() -> None:
    for name in ("a/b", "a,b", "-a", "_a", "a b", "é", "a\n", "a" * 256):
        with pytest.raises(Usage, match="names must match"):
            volume(f"{name}:/y")
    for name in ("a", "0", "a.b_c-d", "a" * 255):
        assert volume(f"{name}:/y")["source"] == name


def test_volumes_from() -> None:
    assert mounts.parse_volumes_from(["a", "b:ro,z"]) == [("a", []), ("b", ["ro", "z"])]
    with pytest.raises(Usage, match="can only use z,ro,rw options"):
        mounts.parse_volumes_from(["a:Z"])
    with pytest.raises(Usage, match="can only specify 1 'rw' or 'ro'"):
        mounts.parse_volumes_from(["a:ro,rw"])


def test_from_other() -> None:
    theirs = [
        entry("bind", "/tmp", "/y", "rw"),
        entry("volume", "x", "/z", anonymous=True),
        entry("tmpfs", "tmpfs", "/t"),
    ]
    taken = mounts.from_other(theirs, ["ro", "z"])  # type: ignore[arg-type]
    assert taken == [
        entry("bind", "/tmp", "/y", "ro", "z", origin="volumes-from"),
        entry("volume", "x", "/z", "ro", "z", origin="volumes-from"),
    ]
    assert theirs[0]["options"] == ["rw"]


def test_plan() -> None:
    """The user's over volumes-from's over the image's."""
    other = entry("bind", "/other", "/b", origin="volumes-from")
    found = mounts.plan([volume("/tmp:/a")], ["/a", "/b", "/c"], "anonymous", [other])  # type: ignore[list-item]
    assert {m["destination"]: (m["type"], m["source"]) for m in found} == {
        "/a": ("bind", "/tmp"),
        "/b": ("bind", "/other"),
        "/c": ("volume", ""),
    }
    assert [m["type"] for m in mounts.plan([], {"/c": {}}, "tmpfs")] == ["tmpfs"]
    assert mounts.plan([], {"/c": {}}, "ignore") == []


def test_case_09_volume_paths_of_an_image() -> None:
    """An image's VOLUME that is no path in the container is dropped; one with dots stays inside."""
    found = mounts.plan([], ["relative", "/", "/..", "/a/../../etc", "/x\0y"], "anonymous")
    assert [m["destination"] for m in found] == ["/etc"]
