"""Layers unpacked in a user namespace and a changed root: what the kernel then has, and what no archive may do."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from rootless.errors import RootlessError
from rootless.image.store import ImageStore
from rootless.linux.idmap import IdMap
from rootless.runtime.idmap import default_idmap
from rootless.storage.unpack import Helper
from tests.support import layers
from tests.support.images import Entry, file, folder, hardlink, layer, symlink
from tests.support.layers import Tree

pytestmark = pytest.mark.needs("userns", "subids")


@pytest.fixture
def made(tmp_path: Path) -> ImageStore:
    return layers.store(tmp_path)


@pytest.fixture
def helper(made: ImageStore) -> Iterator[Helper]:
    with made.helper() as one:
        yield one
        for name in os.listdir(made.layers.root):
            layers.empty(Path(made.layers.root) / name, one)
        assert os.listdir(f"{made.root}/tmp") == []


def unpacked(made: ImageStore, helper: Helper, *entries: Entry) -> Tree:
    return Tree(layers.unpack(made, layer(entries), helper), helper.idmap)


def refused(made: ImageStore, helper: Helper, *entries: Entry, match: str) -> None:
    before = os.listdir(made.layers.root)
    with pytest.raises(RootlessError, match=match) as caught:
        layers.unpack(made, layer(entries), helper)
    assert "\n" not in str(caught.value)
    assert os.listdir(made.layers.root) == before
    assert os.listdir(f"{made.root}/tmp") == []


def special(name: str, kind: bytes, **fields: object) -> Entry:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in fields.items():
        setattr(info, key, value)
    return info, b""


def xattr(entry: Entry, name: str, value: str) -> Entry:
    entry[0].pax_headers = {**entry[0].pax_headers, f"SCHILY.xattr.{name}": value}
    return entry


def test_owners_modes_times_and_contents(made: ImageStore, helper: Helper) -> None:
    dated = file("d/f", b"content", 0o640, 1000, 2000)
    dated[0].mtime = 1_234_567_890.25
    tree = unpacked(
        made,
        helper,
        folder("d", 0o1777, 5, 6),
        dated,
        file("suid", b"#!", 0o6755, 33, 33),
        # Writing clears the bits of root's files as well.
        file("roots", b"#!", 0o4755),
        symlink("link", "/etc/passwd"),
        hardlink("hard", "d/f"),
        special("fifo", tarfile.FIFOTYPE, mode=0o620),
        folder("sgid", 0o2775, 0, 50),
        file("implicit/parents/file", b"x"),
    )
    assert stat.S_IMODE(tree.mode("d")) == 0o1777
    assert tree.owner("d") == (5, 6)
    assert tree.owner("d/f") == (1000, 2000)
    assert tree.content("d/f") == b"content"
    assert tree.mtimes["d/f"] == 1_234_567_890_250_000_000
    assert tree.mtimes["d"] == 0
    assert stat.S_IMODE(tree.mode("suid")) == 0o6755
    assert tree.owner("suid") == (33, 33)
    assert stat.S_IMODE(tree.mode("roots")) == 0o4755
    assert tree.content("link") == b"/etc/passwd"
    assert tree.links["hard"] == 2
    assert stat.S_ISFIFO(tree.mode("fifo"))
    assert stat.S_IMODE(tree.mode("sgid")) == 0o2775
    assert stat.S_IMODE(tree.mode("implicit/parents")) == 0o755


def test_whiteouts_become_overlays_own(made: ImageStore, helper: Helper) -> None:
    tree = unpacked(
        made,
        helper,
        folder("d"),
        file("d/.wh.gone"),
        folder("o"),
        file("o/kept"),
        file("o/.wh..wh..opq"),
        file(".wh.top"),
        file(".wh..wh.plnk/123"),
        file("missing/parent/.wh.x"),
        # A folder over the whiteout of the same name hides the lower one whole, in either order.
        file(".wh.before"),
        folder("before"),
        folder("after"),
        file(".wh.after"),
        # A file does so anyway.
        file(".wh.again"),
        file("again", b"new"),
    )
    for path in ("d/gone", "top", "missing/parent/x"):
        assert stat.S_ISCHR(tree.mode(path)), path
        assert tree.found[path][3] == 0
    for path in ("o", "before", "after"):
        assert tree.xattrs[path] == {"user.overlay.opaque": b"y"}, path
    assert tree.content("again") == b"new"
    assert not any(".wh." in os.path.basename(path) for path in tree.found)


def test_later_entries_replace_earlier_ones(made: ImageStore, helper: Helper) -> None:
    tree = unpacked(
        made,
        helper,
        file("f", b"one"),
        file("f", b"two"),
        folder("d"),
        file("d/inner"),
        file("d", b"now a file"),
        symlink("l", "f"),
        file("l", b"now a file"),
        file("x"),
        folder("x", 0o700),
        file("x/y"),
    )
    assert tree.content("f") == b"two"
    assert tree.content("d") == b"now a file"
    assert tree.content("l") == b"now a file"
    assert stat.S_IMODE(tree.mode("x")) == 0o700
    assert "x/y" in tree


def test_entries_below_an_archives_own_link_stay_inside(made: ImageStore, helper: Helper) -> None:
    tree = unpacked(
        made,
        helper,
        folder("usr"),
        folder("usr/lib"),
        symlink("lib", "/usr/lib"),
        file("lib/x", b"1"),
    )
    assert tree.content("usr/lib/x") == b"1"


def test_sparse_files_keep_their_holes(made: ImageStore, helper: Helper, tmp_path: Path) -> None:
    import subprocess

    path = tmp_path / "sparse"
    with path.open("wb") as out:
        out.write(b"begin")
        out.seek(64 << 20)
        out.write(b"end")
    data = subprocess.run(
        ["tar", "-C", str(tmp_path), "-S", "-cf", "-", "sparse", "--owner=0", "--group=0"],
        capture_output=True,
        check=True,
    ).stdout
    place = layers.unpack(made, data, helper)
    status = os.stat(f"{place}/sparse")
    assert status.st_size == (64 << 20) + 3
    assert status.st_blocks * 512 < 1 << 20
    assert Path(f"{place}/sparse").read_bytes() == path.read_bytes()


def test_long_runs_of_zeros_become_holes(made: ImageStore, helper: Helper) -> None:
    place = layers.unpack(made, gzip.compress(layer([file("z", bytes(32 << 20) + b"end")])), helper)
    status = os.stat(f"{place}/z")
    assert status.st_size == (32 << 20) + 3
    assert status.st_blocks * 512 < 8 << 20


def test_file_capabilities_are_the_namespaces_own(made: ImageStore, helper: Helper) -> None:
    # VFS_CAP_REVISION_2, effective, CAP_NET_RAW permitted
    value = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
    out = io.BytesIO()
    info, data = file("ping", b"x", 0o755)
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info.pax_headers = {
            "SCHILY.xattr.security.capability": value.decode("utf-8", "surrogateescape")
        }
        archive.addfile(info, io.BytesIO(data))
    place = layers.unpack(made, out.getvalue(), helper)
    tree = Tree(place, helper.idmap)
    # Read inside, as version 2; from outside the kernel shows version 3 with the namespace's root.
    assert tree.xattrs["ping"]["security.capability"] == value
    outside = os.getxattr(f"{place}/ping", "security.capability")
    assert outside[3] == 3
    assert struct.unpack("<I", outside[20:24])[0] == os.getuid()


def test_xattrs_of_users_are_kept(made: ImageStore, helper: Helper) -> None:
    tree = unpacked(
        made,
        helper,
        xattr(file("f"), "user.note", "hello"),
        xattr(folder("d"), "user.note", "folder"),
    )
    assert tree.xattrs["f"] == {"user.note": b"hello"}
    assert tree.xattrs["d"] == {"user.note": b"folder"}


@pytest.mark.parametrize(
    "name",
    [
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "user.overlay.opaque",
        "user.overlay.redirect",
        "user.overlay.metacopy",
        "user.containers.override_stat",
        "security.selinux",
    ],
)
def test_case_31_xattrs_that_steer_overlay_are_dropped(
    made: ImageStore, helper: Helper, name: str
) -> None:
    tree = unpacked(made, helper, xattr(folder("d"), name, "y"), xattr(file("f"), name, "y"))
    assert tree.xattrs["d"] == {}
    assert tree.xattrs["f"] == {}


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "a/../../evil",
        "/../evil",
        "..",
        "a/b/../../../evil",
        "./../evil",
        "../../../tmp/evil",
    ],
)
def test_case_31_names_that_climb_are_refused(
    made: ImageStore, helper: Helper, tmp_path: Path, name: str
) -> None:
    refused(made, helper, file(name, b"evil"), match="leads outside")
    refused(made, helper, file("a/x"), hardlink("b", name), match="leads outside")
    assert not list(tmp_path.rglob("evil"))


def test_case_31_absolute_names_and_link_parents_stay_inside(
    made: ImageStore, helper: Helper, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    tree = unpacked(
        made,
        helper,
        symlink("out", str(victim)),
        folder(str(victim).lstrip("/")),
        file("out/evil", b"evil"),
        file("/absolute", b"x"),
        symlink("up", "../../../../../../../.."),
        file("up/evil2", b"evil"),
        # The target's parent is a link out: linkat resolves it inside as well.
        hardlink("hard", "out/evil"),
    )
    assert list(victim.iterdir()) == []
    assert tree.content(f"{str(victim).lstrip('/')}/evil") == b"evil"
    assert tree.content("absolute") == b"x"
    assert tree.content("evil2") == b"evil"


def test_case_31_a_link_to_the_host_is_not_followed(
    made: ImageStore, helper: Helper, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    # Neither written through nor linked to: inside the changed root that path is not there.
    refused(made, helper, hardlink("copy", str(secret)), match="not in this layer")
    tree = unpacked(made, helper, symlink("s", str(secret)), file("s", b"overwritten"))
    assert tree.content("s") == b"overwritten"
    assert secret.read_text() == "secret"


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh..", "d/.wh.."])
def test_case_31_whiteouts_of_nothing(made: ImageStore, helper: Helper, name: str) -> None:
    refused(made, helper, folder("d"), file(name), match="whiteout of nothing")


def test_case_31_whiteouts_remove_nothing_outside(
    made: ImageStore, helper: Helper, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "kept").touch()
    unpacked(
        made, helper, symlink("l", str(victim)), folder(str(victim).lstrip("/")), file("l/.wh.kept")
    )
    assert (victim / "kept").exists()


def test_case_31_devices_are_left_out_and_whiteout_devices_refused(
    made: ImageStore, helper: Helper
) -> None:
    tree = unpacked(
        made,
        helper,
        special("sda", tarfile.BLKTYPE, devmajor=8, devminor=0),
        special("null", tarfile.CHRTYPE, devmajor=1, devminor=3),
        file("kept"),
    )
    assert list(tree.found) == ["kept"]
    refused(
        made, helper, special("w", tarfile.CHRTYPE, devmajor=0, devminor=0), match="whiteout device"
    )


def test_case_31_a_very_long_path_is_an_error(made: ImageStore, helper: Helper) -> None:
    refused(made, helper, file("a/" * 3000 + "x"), match="cannot unpack .*name too long")
    refused(made, helper, file("n" * 300), match="cannot unpack .*name too long")


def test_case_32_too_many_entries_and_too_many_bytes(made: ImageStore, helper: Helper) -> None:
    made.layers.limits = {"max_entries": 10}
    refused(made, helper, *(file(f"f{n}") for n in range(20)), match="more than 10 entries")
    made.layers.limits = {"max_bytes": 1 << 20}
    bomb = gzip.compress(layer([file("zeros", bytes(8 << 20))]))
    with pytest.raises(RootlessError, match="larger than the limit"):
        layers.unpack(made, bomb, helper)
    assert os.listdir(f"{made.root}/tmp") == []


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("gigabytes", [9, 300, (1 << 33) - 1])
def test_case_32_a_header_that_declares_more_than_8_gib(
    made: ImageStore, helper: Helper, form: Literal[1, 2], gigabytes: int
) -> None:
    """Octal digits end there; beyond, the size is in base 256 or in a PAX record. What is above the limit is refused
    at once, and what is below it needs its bytes: nothing is reserved for a promise."""
    info = tarfile.TarInfo("big")
    info.size = gigabytes << 30
    data = info.tobuf(form) + bytes(1024)
    above = f"big: its {info.size} bytes make the layer larger than the limit"
    said = above if gigabytes > 256 else "ends in the middle of a file"
    with pytest.raises(RootlessError, match=said):
        layers.unpack(made, data, helper)
    assert os.listdir(f"{made.root}/tmp") == []


def test_case_32_a_sparse_file_may_be_large_and_takes_no_room(
    made: ImageStore, helper: Helper
) -> None:
    info = tarfile.TarInfo("lastlog")
    info.pax_headers = {"GNU.sparse.size": str(1 << 40), "GNU.sparse.map": "0,4"}
    info.size = 4
    folder = layers.unpack(made, layer([(info, b"data")]), helper)
    status = os.stat(f"{folder}/lastlog")
    assert status.st_size == 1 << 40
    assert status.st_blocks < 100


def test_owners_outside_the_map_name_file_id_and_remedy(made: ImageStore, helper: Helper) -> None:
    with pytest.raises(RootlessError) as caught:
        layers.unpack(made, layer([file("far", uid=5_000_000)]), helper)
    assert "far" in str(caught.value)
    assert "uid 5000000" in str(caught.value)
    assert "/etc/subuid" in caught.value.hint
    assert "ignore_chown_errors" in caught.value.hint
    with pytest.raises(RootlessError, match="gid 5000000"):
        layers.unpack(made, layer([file("far", gid=5_000_000)]), helper)
    made.layers.ignore_chown_errors = True
    tree = unpacked(made, helper, file("far", uid=5_000_000, mode=0o600))
    assert tree.owner("far") == (0, 0)
    assert tree.xattrs["far"] == {"user.containers.override_stat": b"5000000:0:0600"}


def test_without_ranges_owners_are_recorded(tmp_path: Path) -> None:
    idmap = layers.single()
    made = layers.store(tmp_path, idmap)
    with made.helper() as helper:
        tree = unpacked(
            made,
            helper,
            file("f", b"x", 0o4750, 33, 44),
            folder("d", 0o755, 1000, 1000),
            file("root", b"", 0o644),
            symlink("l", "f"),
            file(".wh.gone"),
        )
        assert tree.owner("f") == (0, 0)
        assert tree.xattrs["f"] == {"user.containers.override_stat": b"33:44:4750"}
        assert tree.xattrs["d"] == {"user.containers.override_stat": b"1000:1000:0755"}
        assert tree.xattrs["root"] == {}
        assert stat.S_ISCHR(tree.mode("gone"))


def test_a_store_for_others_keeps_owners_and_modes_beside_the_files(
    made: ImageStore, helper: Helper
) -> None:
    made.layers.force_mask = 0o755
    tree = unpacked(
        made, helper, file("f", b"x", 0o4700, 33, 5_000_000), folder("d", 0o700), file("r")
    )
    for path, said in (("f", b"33:5000000:4700"), ("d", b"0:0:0700"), ("r", b"0:0:0644")):
        assert stat.S_IMODE(tree.mode(path)) == 0o755
        assert tree.owner(path) == (0, 0)
        assert tree.xattrs[path] == {"user.containers.override_stat": said}


def test_wrong_diff_id_leaves_nothing(made: ImageStore, helper: Helper) -> None:
    data = layer([file("f")])
    staging = made.layers.begin("sha256:" + "0" * 64, "", "sha256:" + "0" * 64, helper)
    assert staging is not None
    fd = os.memfd_create("layer")
    os.write(fd, data)
    staging.start(fd, size=len(data))
    with pytest.raises(RootlessError, match="have diff ID"):
        staging.finish()
    staging.abort()
    os.close(fd)
    assert os.listdir(made.layers.root) == []


def test_case_12_nothing_of_the_archive_is_loaded(made: ImageStore, helper: Helper) -> None:
    """The layer ships modules, codecs and libraries of the names that an interpreter would look for."""
    evil = b"raise SystemExit('the archive was run')"
    version = f"python3.{os.sys.version_info[1]}"  # type: ignore[attr-defined]
    names = [
        "encodings/utf_8.py",
        "json/__init__.py",
        "pwd.py",
        "zlib.py",
        "lzma.py",
        "libnss_files.so.2",
    ]
    entries = [file(f"usr/lib/{version}/{name}", evil) for name in names]
    entries += [file(name, evil) for name in names]
    entries += [file("etc/passwd", b"\xff"), file("etc/nsswitch.conf", b"passwd: evil")]
    tree = unpacked(made, helper, *entries, file("ünïcode", b"x"))
    assert tree.content("ünïcode") == b"x"


def test_cancelling_ends_the_worker(made: ImageStore, helper: Helper) -> None:
    staging = made.layers.begin_new(helper)
    reader, writer = os.pipe()
    staging.start(reader, stream=True)
    os.close(reader)
    os.write(writer, layer([file("f", bytes(100_000))])[:50_000])
    os.close(writer)
    staging.abort()


def test_cancelling_ends_a_worker_that_waits_for_more(made: ImageStore, helper: Helper) -> None:
    staging = made.layers.begin_new(helper)
    reader, writer = os.pipe()
    staging.start(reader, stream=True)
    os.close(reader)
    os.write(writer, layer([file("f", bytes(100_000))])[:50_000])
    staging.abort()
    os.close(writer)


def test_the_default_map_gives_sub_ids(made: ImageStore, helper: Helper) -> None:
    place = layers.unpack(made, layer([file("f", uid=1)]), helper)
    first = default_idmap().uids[1][1]
    assert os.stat(f"{place}/f").st_uid == first
    assert isinstance(helper.idmap, IdMap)
