"""A layer's folder emptied by several threads: deep, flat and hostile ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.image.store import ImageStore
from tests.support import layers
from tests.support.images import file, folder, hardlink, layer, symlink

pytestmark = pytest.mark.needs("userns", "subids")


@pytest.fixture
def made(tmp_path: Path) -> ImageStore:
    return layers.store(tmp_path)


def test_everything_goes_and_nothing_else(made: ImageStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    entries = [file(f"flat/{number}", uid=number % 3) for number in range(700)]
    entries += [file(f"wide/{number}/file") for number in range(300)]
    entries += [file("deep/" * 300 + "file"), folder("closed", 0), file("closed/file", mode=0)]
    entries += [hardlink("wide/hard", "flat/0"), symlink("wide/link", str(outside))]
    with made.helper() as helper:
        place = layers.unpack(made, layer(entries), helper)
        [chain] = made.layers.all()
        made.layers.remove(chain, helper)
    assert not os.path.exists(place)
    assert os.listdir(made.layers.root) == []
    assert os.listdir(f"{made.root}/tmp") == []
    assert os.listdir(outside) == ["kept"]


def test_an_error_is_told(made: ImageStore) -> None:
    """With threads as well: a mount point cannot be removed."""
    from rootless.linux.mount import mount
    from rootless.linux.userns import fork_in_userns
    from rootless.storage import emptying

    def body() -> None:
        for number in range(20):
            os.makedirs(f"{made.root}/x/{number}/y")
        mount("tmpfs", f"{made.root}/x/7/y", "tmpfs", 0, "")
        with pytest.raises(OSError, match="busy"):
            emptying.empty(os.fsencode(f"{made.root}/x"))

    fork_in_userns(made.idmap(), body).wait()
