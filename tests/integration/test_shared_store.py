"""Additional image stores: listed, run, committed upon and inspected by users whose ids are not those of the files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support.engine import Engine
from tests.support.images import file, folder, symlink

pytestmark = pytest.mark.needs("userns", "subids", "busybox")

NAME = "localhost/shared:1"
MORE = [
    folder("app", 0o750, 33, 33),
    file("app/secret", b"s3", 0o640, 33, 34),
    file("app/su", b"x", 0o4755, 1000, 1000),
    symlink("app/link", "secret"),
    folder("srv/deep"),  # no entry for /srv
    file("etc/.wh.group"),
]
LOOK = ["sh", "-c", "stat -c '%a %u %g %n' / /app /app/* /srv; cat /app/secret; ls /etc/group"]
OWNERS = [
    "755 0 0 /",
    "750 33 33 /app",
    "777 0 0 /app/link",
    "640 33 34 /app/secret",
    "4755 1000 1000 /app/su",
    "755 0 0 /srv",
    "s3",
]


def snapshot(path: Path) -> dict[str, tuple[int, int, int]]:
    found = {}
    for item in sorted(path.rglob("*")):
        status = item.lstat()
        found[str(item)] = status.st_mode, status.st_size, status.st_mtime_ns
    return found


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[Engine, Engine]]:
    """An administrator's store for others, and a user whose storage.conf names it."""
    admin, user = Engine(), Engine()
    os.chmod(admin.folder, 0o755)
    archive = images.busybox_archive(tmp_path / "i.tar", NAME, more=MORE)
    # `--root DIR` is what the README tells administrators.
    root = ["--root", str(admin.folder / "srv"), "--storage-opt", "force_mask=shared"]
    admin.ok(*root, "load", "-i", str(archive))
    conf = user.home / ".config/containers/storage.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text(
        f'[storage]\ndriver = "overlay"\n[storage.options]\nadditionalimagestores = ["{admin.folder}/srv"]\n'
    )
    yield admin, user
    user.clear()
    assert user.leaks() == []
    admin.close()
    user.close()


def test_images_of_a_store_for_others(stores: tuple[Engine, Engine]) -> None:
    admin, user = stores
    before = snapshot(admin.folder / "srv")
    [row] = user("images", "--format", "{{.Repository}}:{{.Tag}} {{.ReadOnly}}").lines
    assert row == f"{NAME} true"
    heading, line = user("images").lines
    assert (heading.split()[-1], line.split()[-1]) == ("R/O", "true")
    result = user("run", "--name", "x", NAME, *LOOK)
    assert result.lines == OWNERS, result
    assert "copying 2 layers of a shared store" in result.err
    # The next run finds them in its own store.
    result = user("run", "--rm", NAME, *LOOK)
    assert (result.lines, "copying" in result.err) == (OWNERS, False), result
    user.ok("run", "--name", "y", NAME, "sh", "-c", "echo more >> /app/secret; rm /etc/passwd")
    assert [one for one in user("diff", "y").lines if one[0] != "A"] == [
        "C /app", "C /app/secret", "C /etc", "D /etc/passwd",
    ]  # fmt: skip
    user.ok("commit", "-q", "y", "localhost/more")
    out = user.ok("run", "--rm", "localhost/more", "stat", "-c", "%a %u %g", "/app/secret")
    assert out == "640 33 34"
    assert "cannot remove read-only image" in user.fails("rmi", NAME)
    user.ok("image", "prune", "--all", "--force")
    assert user.ok("run", "--rm", NAME, "cat", "/app/secret") == "s3"
    # What containers use stays, other copies go.
    user.ok("rm", "--all")
    user.ok("image", "prune", "--all", "--force")
    assert list((user.data / "images/layers").iterdir()) == []
    assert snapshot(admin.folder / "srv") == before


def test_shared_files_are_read_without_a_copy(stores: tuple[Engine, Engine]) -> None:
    _, user = stores
    [found] = user("image", "inspect", NAME).json
    assert found["RepoTags"] == [NAME]
    assert "C /etc" in user("image", "diff", NAME).lines
    user.ok("save", "-o", str(user.folder / "out.tar"), NAME)
    user.ok("rmi", "--ignore", "localhost/other")
    assert not (user.data / "images/layers").exists()
    fresh = Engine()
    fresh.ok("load", "-i", str(user.folder / "out.tar"))
    assert fresh.ok("image", "inspect", "-f", "{{.Id}}", NAME) == found["Id"]
    fresh.close()


def test_layers_are_shared_with_images_on_top(
    stores: tuple[Engine, Engine], tmp_path: Path
) -> None:
    _, user = stores
    layers = [images.busybox_layer(), images.layer([file("top", b"1")])]
    user.ok(
        "load", "-i", str(images.docker_archive(tmp_path / "top.tar", layers, ["localhost/top:1"]))
    )
    assert len(list((user.data / "images/layers").iterdir())) == 1
    assert user.ok("run", "--rm", "localhost/top:1", "stat", "-c", "%u %a", "/tmp", "/top") == (
        "0 1777\n0 644"
    )
    # Mounted into another container, its files have their owners as well.
    mount = f"type=image,src={NAME},dst=/m"
    out = user.ok(
        "run", "--rm", "--mount", mount, "localhost/top:1", "stat", "-c", "%u %a", "/m/app"
    )
    assert out == "33 750"


@pytest.mark.parametrize("driver", ["overlay", "vfs"])
def test_layers_of_another_users_ids(stores: tuple[Engine, Engine], driver: str) -> None:
    admin, user = stores
    for path in (admin.folder / "srv/images/layers").glob("*/layer.json"):
        record = json.loads(path.read_text())
        del record["force_mask"]
        record["map"] = {"uids": [[0, 1, 65536]], "gids": [[0, 1, 65536]]}
        path.write_text(json.dumps(record))
    result = user("--storage-driver", driver, "run", "--rm", NAME, *LOOK)
    assert result.lines == OWNERS, result


def test_a_store_that_is_closed_says_how_to_open_it(stores: tuple[Engine, Engine]) -> None:
    admin, user = stores
    os.chmod(admin.folder / "srv/images", 0)
    said = user.fails("images")
    os.chmod(admin.folder / "srv/images", 0o755)
    assert "permission denied" in said
    assert f"sudo rootless --root {admin.folder}/srv --storage-opt force_mask=shared pull" in said


def outdate(engine: Engine) -> None:
    """As if /etc/subuid had been another one when the layers were unpacked."""
    (engine.data / "images/idmap").unlink()
    for path in (engine.data / "images/layers").glob("*/layer.json"):
        record = json.loads(path.read_text())
        record["map"]["uids"][1][1] += 1000
        path.write_text(json.dumps(record))


def test_changed_ranges_are_told_and_migrated(fresh: Engine, tmp_path: Path) -> None:
    archive = images.oci_archive(
        tmp_path / "i.tar", [images.busybox_layer(), images.layer(MORE)], NAME, Cmd=["sh"]
    )
    fresh.ok("load", "-i", str(archive))
    assert fresh("run", "--rm", NAME, *LOOK).lines == OWNERS
    outdate(fresh)
    said = fresh.fails("run", "--rm", NAME, "true")
    assert "unpacked with other subordinate ids" in said
    assert "rootless system migrate" in said
    assert fresh.ok("system", "migrate") == (
        "Unpacked 2 layers again, for the subordinate ids of now"
    )
    assert fresh("run", "--rm", NAME, *LOOK).lines == OWNERS
    assert fresh.ok("system", "migrate") == ""


@pytest.mark.parametrize("damage", [False, True])
def test_without_blobs_layers_are_made_again_from_their_files(
    fresh: Engine, tmp_path: Path, damage: bool
) -> None:
    archive = images.busybox_archive(tmp_path / "i.tar", NAME, more=MORE)
    fresh.ok("load", "-i", str(archive))
    outdate(fresh)
    if damage:
        for path in (fresh.data / "images/layers").glob("*/recipe"):
            path.unlink()  # as good as files that cannot be read
        assert fresh.ok("system", "migrate") == (
            f"Pull {NAME} again: neither its blobs nor its files can be read"
        )
        assert fresh("images", "-q", NAME).lines == []
        fresh.ok("load", "-i", str(archive))
    else:
        assert fresh.ok("system", "migrate") == (
            "Unpacked 2 layers again, for the subordinate ids of now"
        )
    assert fresh("run", "--rm", NAME, *LOOK).lines == OWNERS
