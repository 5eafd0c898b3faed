"""kill -9 at each step of bringing in and removing an image; a full disk. All of the image is there, or nothing."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from rootless.errors import RootlessError
from rootless.image import archive
from rootless.image.check import check
from rootless.image.collecting import collect, tidy
from rootless.image.commit import Request, commit, pack_layer
from rootless.image.remove import remove
from rootless.image.rootfs import import_rootfs
from rootless.image.store import ImageStore, ImageUnknown
from rootless.linux.idmap import IdMap
from rootless.linux.mount import mount
from rootless.linux.userns import fork_in_userns
from tests.support import images, layers
from tests.support.images import file, layer

pytestmark = pytest.mark.needs("userns", "subids")

NAME = "localhost/test:1"
STEPS = ("rename", "mkdir", "unlink", "rmdir", "open")


def killed_at(step: int, body: Callable[[], object]) -> bool:
    """Run `body` in a child that is killed at its n-th change of a folder; whether it came that far."""
    pid = os.fork()
    if pid == 0:
        try:
            count = 0

            def counted(name: str) -> Callable[..., object]:
                real = getattr(os, name)

                def call(*args: object, **kwargs: object) -> object:
                    nonlocal count
                    # Opening counts where it creates.
                    if name != "open" or (len(args) > 1 and int(str(args[1])) & os.O_CREAT):
                        count += 1
                        if count == step:
                            os.kill(os.getpid(), signal.SIGKILL)
                    return real(*args, **kwargs)

                return call

            for name in STEPS:
                setattr(os, name, counted(name))
            body()
            os._exit(0)
        except BaseException:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def all_or_nothing(store: ImageStore) -> bool:
    """Whether the image is there; if so it is whole."""
    found = store.list()
    for image in found:
        assert all(store.layers.has(chain) for chain in image.layers)
        assert store.blobs.has(image.digest)
        assert json.loads(image.config_bytes())
    problems = [one for one in check(store) if one.kind != "name"]
    assert problems == []
    return bool(found)


def test_killed_at_each_step_of_a_load(tmp_path: Path) -> None:
    source = images.oci_archive(
        tmp_path / "image.tar", [layer([file("a", b"x" * 3000, uid=7)]), layer([file("b")])], NAME
    )
    outcomes = set()
    for step in range(1, 200):
        store = layers.store(tmp_path / f"s{step}")
        was_killed = killed_at(step, lambda one=store: archive.load(one, str(source), "x"))  # type: ignore[misc]
        outcomes.add(all_or_nothing(store))
        # The next command works, and clears what was left.
        [loaded] = archive.load(store, str(source), "x")
        assert loaded.names == [NAME]
        assert store.lookup(NAME).id == loaded.image.id
        tidy(store, tuple)
        assert os.listdir(f"{store.root}/tmp") == []
        assert check(store) == []
        remove(store, NAME, {})
        collect(store)
        assert list(store.layers.all()) == []
        if not was_killed:
            break
    else:
        pytest.fail("never came to its end")
    assert outcomes == {True, False}
    assert step > 20


@pytest.mark.parametrize("command", ["import", "commit"])
def test_killed_at_each_step_of_a_new_layer(tmp_path: Path, command: str) -> None:
    archive_path, upper = tmp_path / "root.tar", tmp_path / "upper"
    archive_path.write_bytes(layer([file("a", b"x" * 3000, uid=7)]))
    upper.mkdir()
    (upper / "changed").write_text("by a container")

    def body(store: ImageStore) -> None:
        if command == "import":
            with archive_path.open("rb") as source:
                import_rootfs(store, source.fileno(), {"config": {}}, [NAME])
            return
        request = Request(None, str(upper), {})
        request.names = [NAME]
        commit(store, request)

    for step in range(1, 200):
        store = layers.store(tmp_path / f"s{step}")
        was_killed = killed_at(step, lambda one=store: body(one))  # type: ignore[misc]
        all_or_nothing(store)
        body(store)
        tidy(store, tuple)
        assert os.listdir(f"{store.root}/tmp") == []
        assert check(store) == []
        # Made twice, at two times, they are two images of one layer.
        assert len(list(store.layers.all())) == 1
        if not was_killed:
            break
    assert 10 < step < 199


def test_what_a_removal_beside_others_leaves_goes_with_the_next_command(tmp_path: Path) -> None:
    store = layers.store(tmp_path / "s")
    for name in ("a", "b"):
        source = images.docker_archive(
            tmp_path / f"{name}.tar", [layer([file(name)])], [f"localhost/{name}:1"]
        )
        archive.load(store, str(source), "x")
    with store.hold():  # a push, or another pull
        remove(store, "localhost/a:1", {})
        collect(store)
    assert len(list(store.layers.all())) == 2
    tidy(store, tuple)
    assert len(list(store.layers.all())) == 1
    assert os.listdir(f"{store.root}/tmp") == []


def test_a_name_that_is_given_while_its_image_goes(tmp_path: Path) -> None:
    store = layers.store(tmp_path / "s")
    source = images.docker_archive(tmp_path / "a.tar", [layer([file("a")])], ["localhost/a:1"])
    [loaded] = archive.load(store, str(source), "x")
    name = (Path(store.root) / "names/localhost+a:1").read_bytes()
    store.forget(loaded.image)
    with pytest.raises(ImageUnknown):
        store.tag(loaded.image, "localhost/late:1")
    assert store.own_names() == []
    # The other order: the removal had looked for names already.
    (Path(store.root) / "names/localhost+a:1").write_bytes(name)
    collect(store)
    assert check(store) == []


def test_killed_at_each_step_of_a_removal(tmp_path: Path) -> None:
    source = images.docker_archive(
        tmp_path / "image.tar", [layer([file("a", b"x", uid=7)]), layer([file("b")])], [NAME]
    )

    def body(store: ImageStore) -> None:
        remove(store, NAME, {})
        collect(store)

    for step in range(1, 200):
        store = layers.store(tmp_path / f"s{step}")
        archive.load(store, str(source), "x")
        was_killed = killed_at(step, lambda one=store: body(one))  # type: ignore[misc]
        all_or_nothing(store)
        collect(store)
        for image in store.list():
            remove(store, image.id, {}, force=True)
        collect(store)
        assert list(store.layers.all()) == []
        assert list(store.blobs.all()) == []
        assert os.listdir(f"{store.root}/tmp") == []
        assert os.listdir(f"{store.root}/names") == []
        if not was_killed:
            return
    pytest.fail("never came to its end")


@pytest.mark.parametrize("megabytes", [1, 3, 5])
def test_a_full_disk_leaves_nothing_and_is_told(tmp_path: Path, megabytes: int) -> None:
    noise = os.urandom(2 << 20)
    source = images.oci_archive(
        tmp_path / "image.tar", [layer([file("a", noise)]), layer([file("b", noise)])], NAME
    )
    disk = tmp_path / "disk"
    disk.mkdir()

    def body() -> None:
        # Root of a namespace makes a file system, and works in a namespace below it, whose ranges may not
        # span two of the outer one's.
        nested = IdMap([(0, 0, 1), (1, 1, 1000)], [(0, 0, 1), (1, 1, 1000)])
        mount("tmpfs", str(disk), "tmpfs", 0, f"size={megabytes}m,mode=700")
        store = layers.store(disk, nested)
        with pytest.raises(RootlessError, match="no space left on the file system") as caught:
            archive.load(store, str(source), "x")
        assert "prune" in caught.value.hint
        assert store.list() == []
        collect(store)
        assert list(store.layers.all()) == []
        left = [name for name in os.listdir(f"{store.root}/tmp") if not name.startswith("blob-")]
        assert left == []

    from rootless.runtime.idmap import default_idmap

    fork_in_userns(default_idmap(), body).wait()


def test_a_commit_on_a_full_disk_says_so(tmp_path: Path) -> None:
    """Not that a pipe broke, which is what its packing end sees."""
    disk = tmp_path / "disk"
    upper = tmp_path / "upper"
    disk.mkdir()
    upper.mkdir()
    (upper / "big").write_bytes(os.urandom(8 << 20))

    def body() -> None:
        nested = IdMap([(0, 0, 1), (1, 1, 1000)], [(0, 0, 1), (1, 1, 1000)])
        mount("tmpfs", str(disk), "tmpfs", 0, "size=2m,mode=700")
        store = layers.store(disk, nested)
        full = pytest.raises(RootlessError, match="no space left on the file system")
        with store.helper() as helper, full:
            pack_layer(store, helper, [str(upper)], "", raw=True)
        assert list(store.layers.all()) == []

    from rootless.runtime.idmap import default_idmap

    fork_in_userns(default_idmap(), body).wait()


def test_two_commands_bring_in_the_same_image(tmp_path: Path) -> None:
    source = images.oci_archive(tmp_path / "image.tar", [layer([file("a", b"x" * 3000)])], NAME)
    store = layers.store(tmp_path / "s")
    pids = []
    for _ in range(6):
        pid = os.fork()
        if pid == 0:
            try:
                archive.load(store, str(source), "x")
                os._exit(0)
            except BaseException:
                os._exit(1)
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * 6
    assert len(store.list()) == 1
    assert check(store) == []
    assert os.listdir(f"{store.root}/tmp") == []


def test_damage_is_found_and_mended(tmp_path: Path) -> None:
    source = images.oci_archive(tmp_path / "i.tar", [layer([file("a", b"x" * 3000)])], NAME)
    store = layers.store(tmp_path / "s")
    [loaded] = archive.load(store, str(source), "x")
    place = Path(store.lowers(loaded.image)[0]) / "a"
    place.write_bytes(b"y" * 3000)
    [found] = [one for one in check(store) if one.kind == "layer"]
    assert "changed" in found.problem
    [mended] = [one for one in check(store, repair=True) if one.kind == "layer"]
    assert mended.mended == "unpacked again from its blob"
    assert place.read_bytes() == b"x" * 3000
    assert check(store) == []
    # Without the blob there is nothing to mend it from, and the image goes.
    [blob] = [
        one
        for one in store.blobs.all()
        if one not in (loaded.image.digest, loaded.image.record["config_digest"])
    ]
    Path(store.blobs.path(blob)).write_bytes(b"damaged")
    place.write_bytes(b"y")
    kinds = {one.kind: one.mended for one in check(store, repair=True)}
    assert kinds["blob"] == "removed"
    assert kinds["image"] == "removed; pull or load it again"
    assert store.list() == []
