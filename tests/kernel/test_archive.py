"""Archives of images: every form loads, and a hostile one is refused with one line and leaves nothing."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import RootlessError
from rootless.image import archive, save
from rootless.image.rootfs import import_rootfs
from rootless.image.store import ImageStore
from tests.support import images, layers
from tests.support.images import Entry, digest, file, folder, layer, symlink

pytestmark = pytest.mark.needs("userns", "subids")

BASE = layer([folder("bin"), file("bin/sh", b"#!" * 1000, 0o755), file("gone"), folder("d")])
TOP = layer([file("top", b"x" * 5000, uid=1000), file(".wh.gone")])
NAME = "localhost/test:1"


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return layers.store(tmp_path / "store")


def is_clean(store: ImageStore) -> bool:
    """Whether nothing of a refused image is left."""
    return (
        store.list() == []
        and list(store.layers.all()) == []
        and os.listdir(f"{store.root}/names") == []
        and [name for name in os.listdir(f"{store.root}/tmp") if not name.startswith("blob-")] == []
    )


def refused(store: ImageStore, path: Path, match: str) -> None:
    with pytest.raises(RootlessError, match=match) as caught:
        archive.load(store, str(path), path.name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert is_clean(store)


def names_of(store: ImageStore) -> list[str]:
    return [name for image in store.list() for name in image.names]


def make(form: str, folder: Path) -> Path:
    path = folder / f"{form}.tar"
    if form == "docker-archive":
        return images.docker_archive(path, [BASE, TOP], [NAME])
    if form == "oci-archive":
        return images.oci_archive(path, [BASE, TOP], NAME)
    assert form == "oci-dir"
    return images.oci_layout(path, [BASE, TOP], NAME)


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci-dir"])
def test_loads_every_form(store: ImageStore, tmp_path: Path, form: str) -> None:
    [loaded] = archive.load(store, str(make(form, tmp_path)), form)
    assert loaded.names == names_of(store) == [NAME]
    assert loaded.image.diff_ids == [digest(BASE), digest(TOP)]
    assert [os.path.exists(path) for path in store.lowers(loaded.image)] == [True, True]
    assert os.listdir(f"{store.root}/tmp") == []
    # A second time there is nothing to do, and the same image comes out.
    (tmp_path / "again").mkdir()
    [again] = archive.load(store, str(make(form, tmp_path / "again")), form)
    assert again.image.id == loaded.image.id


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: data])
def test_loads_from_a_pipe(
    store: ImageStore, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    data = pack(make("oci-archive", tmp_path).read_bytes())
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        with os.fdopen(writer, "wb") as out:
            out.write(data)
        os._exit(0)
    os.close(writer)
    [loaded] = archive.load(store, reader, "standard input")
    os.close(reader)
    os.waitpid(pid, 0)
    assert loaded.names == [NAME]


def test_several_images_and_names_in_one_archive(store: ImageStore, tmp_path: Path) -> None:
    entries: list[Entry] = []
    listing = []
    for number, diffs in enumerate(([BASE], [BASE, TOP])):
        config = images.config(diffs, Env=[f"N={number}"])
        entries.append(file(f"{digest(config)[7:]}.json", config))
        listing.append(
            {
                "Config": f"{digest(config)[7:]}.json",
                "RepoTags": [f"localhost/i{number}:a", f"i{number}:b"],
                "Layers": [f"{digest(diff)[7:]}/layer.tar" for diff in diffs],
            }
        )
    entries.append(file(f"{digest(BASE)[7:]}/layer.tar", BASE))
    entries.append(file(f"{digest(TOP)[7:]}/layer.tar", TOP))
    path = packed(tmp_path, [*entries, file("manifest.json", json.dumps(listing))])
    loaded = archive.load(store, str(path), "two")
    assert [one.names for one in loaded] == [
        ["localhost/i0:a", "docker.io/library/i0:b"],
        ["localhost/i1:a", "docker.io/library/i1:b"],
    ]


def test_repeated_layers_may_be_links_within_the_archive(store: ImageStore, tmp_path: Path) -> None:
    config = images.config([BASE, BASE])
    path = packed(
        tmp_path,
        [
            file("config.json", config),
            file("one/layer.tar", BASE),
            symlink("two/layer.tar", "../one/layer.tar"),
            listing("config.json", ["one/layer.tar", "two/layer.tar"]),
        ],
    )
    [loaded] = archive.load(store, str(path), "links")
    assert len(loaded.image.layers) == 2


def test_compressed_layers_in_a_docker_archive(store: ImageStore, tmp_path: Path) -> None:
    config = images.config([BASE])
    path = packed(
        tmp_path,
        [file("c.json", config), file("l.tar", gzip.compress(BASE)), listing("c.json", ["l.tar"])],
    )
    [loaded] = archive.load(store, str(path), "x")
    assert json.loads(loaded.image.manifest())["layers"][0]["size"] == len(BASE)


def packed(folder: Path, entries: list[Entry]) -> Path:
    path = folder / "made.tar"
    path.write_bytes(layer(entries))
    return path


def listing(config: object, members: object, tags: object = None) -> Entry:
    return file(
        "manifest.json", json.dumps([{"Config": config, "RepoTags": tags, "Layers": members}])
    )


GOOD = images.config([BASE])


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ([], "neither a docker archive nor an OCI one"),
        ([file("manifest.json", "[]")], "names no image"),
        ([file("manifest.json", "{}")], "schemaVersion"),
        ([file("manifest.json", "[1]")], "not a list of objects"),
        ([file("manifest.json", '[{"Config":1}]')], "wrong type"),
        ([listing("c", ["l"]), file("c", GOOD)], "has no member 'l'"),
        ([listing("c", ["l"]), file("l", BASE)], "has no member 'c'"),
        ([listing("c", []), file("c", GOOD)], "the config names 1 layers"),
        ([listing("c", ["l"]), file("c", "{}"), file("l")], "rootfs is missing"),
        ([listing("c", ["l"]), file("c", GOOD), file("l", TOP)], "have diff ID"),
        ([listing("c", ["l"]), file("c", GOOD), file("l", b"junk" * 500)], "have diff ID|tar"),
        ([listing("c", ["l"]), file("c", GOOD), file("l", BASE[:-1500])], "have diff ID|ends"),
        ([listing("c", ["l"]), file("c", GOOD), symlink("l", "/etc/passwd")], "has no member"),
        ([listing("c", ["l"]), file("c", GOOD), symlink("l", "../../etc/passwd")], "has no member"),
        ([listing("c", ["l"]), file("c", GOOD), symlink("l", "l")], "loop of links"),
        ([listing("../../etc/passwd", ["l"])], "has no member"),
        ([listing("/etc/passwd", ["l"])], "has no member"),
        (
            [listing("c", ["l"], ["BAD NAME"]), file("c", GOOD), file("l", BASE)],
            "invalid reference",
        ),
        ([listing("c", ["l"], [7]), file("c", GOOD), file("l", BASE)], "wrong type"),
    ],
)
def test_case_31_bad_docker_archives(
    store: ImageStore, tmp_path: Path, entries: list[Entry], match: str
) -> None:
    refused(store, packed(tmp_path, entries), match)


def test_case_32_documents_of_absurd_size_or_depth(store: ImageStore, tmp_path: Path) -> None:
    refused(
        store, packed(tmp_path, [file("manifest.json", b"[" * 2_000_000)]), "nested more than 100"
    )
    refused(store, packed(tmp_path, [file("manifest.json", b" " * (5 << 20))]), "exceed the limit")
    deep = b'{"rootfs":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001
    refused(store, packed(tmp_path, [listing("c", []), file("c", deep)]), "nested more than 100")
    many = json.dumps({"rootfs": {"type": "layers", "diff_ids": [digest(b"")] * 2000}})
    refused(
        store, packed(tmp_path, [listing("c", []), file("c", many)]), "exceed the limit of 1000"
    )


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return images.oci_layout(tmp_path / "layout", [BASE, TOP], NAME)


def edit_index(layout: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    index = json.loads((layout / "index.json").read_text())
    edit(index)
    (layout / "index.json").write_text(json.dumps(index))


def edit_manifest(layout: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest and make the index point at the new one."""
    index = json.loads((layout / "index.json").read_text())
    entry = index["manifests"][0]
    manifest = json.loads((layout / "blobs/sha256" / entry["digest"][7:]).read_text())
    edit(manifest)
    data = json.dumps(manifest).encode()
    (layout / "blobs/sha256" / digest(data)[7:]).write_bytes(data)
    entry.update(digest=digest(data), size=len(data))
    (layout / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    "bad",
    ["sha256:../../../../etc/passwd", "sha256:" + "A" * 64, "../x", "md5:" + "0" * 32, 7, None],
)
def test_case_27_digests_of_a_layout_are_checked(
    store: ImageStore, layout: Path, bad: object
) -> None:
    edit_index(layout, lambda index: index["manifests"][0].update(digest=bad))
    refused(store, layout, "is not a digest")


@pytest.mark.parametrize("where", ["config", "layers"])
def test_case_27_digests_of_a_manifest_are_checked(
    store: ImageStore, layout: Path, where: str
) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        part = manifest["config"] if where == "config" else manifest["layers"][0]
        part["digest"] = "sha256:../../../etc/shadow"

    edit_manifest(layout, edit)
    refused(store, layout, "is not a digest")


def test_case_28_a_document_that_is_image_and_index(store: ImageStore, layout: Path) -> None:
    edit_manifest(layout, lambda manifest: manifest.update(manifests=[]))
    refused(store, layout, "both an image and an index")


def test_case_28_a_media_type_that_is_not_the_announced_one(
    store: ImageStore, layout: Path
) -> None:
    edit_manifest(
        layout,
        lambda manifest: manifest.update(
            mediaType="application/vnd.docker.distribution.manifest.v2+json"
        ),
    )
    refused(store, layout, "announced as")


def test_case_28_an_index_that_leads_to_itself(store: ImageStore, tmp_path: Path) -> None:
    root = tmp_path / "loop"
    (root / "blobs/sha256").mkdir(parents=True)
    child: dict[str, Any] = {"mediaType": "application/vnd.oci.image.manifest.v1+json"}
    child.update(digest=digest(b"x"), size=1, platform={"os": "linux", "architecture": "amd64"})
    for _ in range(8):
        data = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": [child],
            }
        ).encode()
        (root / "blobs/sha256" / digest(data)[7:]).write_bytes(data)
        child = {
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "digest": digest(data),
            "size": len(data),
            "platform": {"os": "linux", "architecture": images_arch()},
        }
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [child]}))
    (root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    refused(store, root, "nested too deep|no image found")


def images_arch() -> str:
    from rootless.image.platform import host

    return host().architecture


@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
@pytest.mark.parametrize("how", ["content", "size", "missing", "cut"])
def test_case_28_wrong_digests_and_sizes_at_each_level(
    store: ImageStore, layout: Path, what: str, how: str
) -> None:
    index = json.loads((layout / "index.json").read_text())
    entry = index["manifests"][0]
    manifest = json.loads((layout / "blobs/sha256" / entry["digest"][7:]).read_text())
    target = {"manifest": entry, "config": manifest["config"], "layer": manifest["layers"][1]}[what]
    path = layout / "blobs/sha256" / target["digest"][7:]
    data = path.read_bytes()
    if how == "content":
        path.write_bytes(data[:-3] + bytes(3))
    elif how == "cut":
        path.write_bytes(data[:-3])
    elif how == "missing":
        path.unlink()
    elif what == "manifest":
        edit_index(layout, lambda index: index["manifests"][0].update(size=target["size"] + 1))
    else:

        def edit(manifest: dict[str, Any]) -> None:
            part = manifest["config"] if what == "config" else manifest["layers"][1]
            part["size"] += 1

        edit_manifest(layout, edit)
    refused(store, layout, "digest|bytes|no member|size|diff ID")


@pytest.mark.parametrize("name", ["index.json", "blobs/sha256", "blobs", "oci-layout"])
def test_case_31_links_in_a_layout_are_not_followed(
    store: ImageStore, layout: Path, tmp_path: Path, name: str
) -> None:
    moved = tmp_path / "elsewhere"
    (layout / name).rename(moved)
    (layout / name).symlink_to(moved)
    refused(store, layout, "cannot read it|neither|no member")


def test_case_31_a_fifo_in_a_layout_does_not_block(store: ImageStore, layout: Path) -> None:
    (layout / "index.json").unlink()
    os.mkfifo(layout / "index.json")
    refused(store, layout, "not a regular file")


def test_case_32_a_bomb_in_a_layer_is_stopped(store: ImageStore, tmp_path: Path) -> None:
    bomb = layer([file("zeros", bytes(32 << 20))])
    root = images.oci_layout(tmp_path / "bomb", [bomb], NAME)
    store.layers.limits = {"max_bytes": 1 << 20}
    refused(store, root, "larger than the limit")


def test_case_32_a_bomb_around_the_archive_is_stopped(store: ImageStore, tmp_path: Path) -> None:
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(bytes(32 << 20)))
    store.layers.limits = {"max_bytes": 1 << 20}
    refused(store, path, "larger than the limit")


def test_an_archive_that_is_cut_off(store: ImageStore, tmp_path: Path) -> None:
    data = make("docker-archive", tmp_path).read_bytes()
    path = tmp_path / "cut.tar"
    path.write_bytes(data[: len(data) // 2])
    refused(store, path, "cut off|ends in|neither")
    (tmp_path / "text").write_text("no archive at all\n" * 100)
    refused(store, tmp_path / "text", "tar")


# and back again


def saved(store: ImageStore, form: str, path: Path, *names: str, **options: bool) -> Path:
    wanted = [save.Wanted(store.lookup(name), [name]) for name in names]
    if form.endswith("dir"):
        save.save(store, wanted, form, save.FolderSink(str(path)), **options)
    else:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        save.save(store, wanted, form, save.TarSink(fd), **options)
        os.close(fd)
    return path


@pytest.mark.parametrize("form", save.FORMATS)
@pytest.mark.parametrize("origin", ["docker-archive", "oci-archive"])
def test_what_is_saved_loads_as_the_same_image(
    store: ImageStore, tmp_path: Path, form: str, origin: str
) -> None:
    [loaded] = archive.load(store, str(make(origin, tmp_path)), "x")
    path = saved(store, form, tmp_path / "out", NAME)
    again = layers.store(tmp_path / "again")
    [back] = archive.load(again, str(path), "y")
    assert back.image.id == loaded.image.id
    assert back.image.diff_ids == loaded.image.diff_ids
    assert back.names == ([] if form == "docker-dir" else [NAME])
    # The same image saved twice gives the same bytes.
    if form.endswith("archive"):
        again.tag(back.image, NAME)
        sums = [
            hashlib.sha256(saved(again, form, tmp_path / name, NAME).read_bytes()).digest()
            for name in ("out2", "out3")
        ]
        assert sums[0] == sums[1]


def test_an_oci_image_keeps_its_manifests_digest(store: ImageStore, tmp_path: Path) -> None:
    [loaded] = archive.load(store, str(make("oci-archive", tmp_path)), "x")
    again = layers.store(tmp_path / "again")
    [back] = archive.load(again, str(saved(store, "oci-archive", tmp_path / "out", NAME)), "y")
    assert back.image.digest == loaded.image.digest


def test_dropped_blobs_are_made_again(store: ImageStore, tmp_path: Path) -> None:
    from rootless.image.check import check, drop_blobs

    [loaded] = archive.load(store, str(make("oci-archive", tmp_path)), "x")
    assert drop_blobs(store) > 0
    path = saved(store, "docker-archive", tmp_path / "out", NAME)
    with tarfile.open(path) as file:
        member = file.extractfile(f"{digest(TOP)[7:]}.tar")
        assert member is not None
        assert member.read() == TOP
    again = layers.store(tmp_path / "again")
    [back] = archive.load(again, str(saved(store, "oci-archive", tmp_path / "o", NAME)), "y")
    assert back.image.id == loaded.image.id
    assert check(store) == []


def test_imported_root_file_systems(store: ImageStore, tmp_path: Path) -> None:
    data = gzip.compress(BASE)
    path = tmp_path / "root.tar.gz"
    path.write_bytes(data)
    config: dict[str, Any] = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]}}
    with path.open("rb") as source:
        image = import_rootfs(store, source.fileno(), config, ["root"], message="hello")
    assert image.names == ["localhost/root:latest"]
    assert image.diff_ids == [digest(BASE)]
    assert image.history[0]["comment"] == "hello"
    # An archive that names a file twice is taken in as what it unpacks to.
    twice = io.BytesIO(layer([file("f", b"one"), file("f", b"two")]))
    path.write_bytes(twice.getvalue())
    with path.open("rb") as source:
        image = import_rootfs(store, source.fileno(), config)
    assert (Path(store.lowers(image)[0]) / "f").read_bytes() == b"two"
    assert image.diff_ids != [digest(twice.getvalue())]
    path.write_bytes(b"no tar")
    with path.open("rb") as source, pytest.raises(RootlessError, match="middle of a header"):
        import_rootfs(store, source.fileno(), config)
    assert os.listdir(f"{store.root}/tmp") == []


def test_the_helper_holds_no_lock_of_its_parent(store: ImageStore) -> None:
    from rootless.files import Lock

    lock = store.hold()
    lock.acquire()
    with store.helper() as helper:
        folder = os.open(store.root + "/tmp", os.O_RDONLY | os.O_DIRECTORY)
        helper.run("empty", [folder]).wait()  # it is at work by now
        os.close(folder)
        lock.release()
        other = Lock(f"{store.root}/lock", block=False)
        assert other.acquire()
        other.release()
