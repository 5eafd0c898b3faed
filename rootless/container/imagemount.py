"""`image mount` inside `unshare`: the files of images, read-only, in the mount namespace of that shell alone.

Like containers' mounts (mounting.py) they are read from /proc/self/mountinfo and kept nowhere.
"""

from __future__ import annotations

import os

from rootless.container.mounting import mount_points
from rootless.container.roots import settle_layers
from rootless.errors import RootlessError
from rootless.files import make_private_dir
from rootless.linux import mount as m
from rootless.runtime.overlays import lower_mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.container.engine import Engine
    from rootless.image.store import Image


def place_of(engine: Engine, image: Image) -> str:
    """Where an image's files are to be seen."""
    return f"{_folder(engine)}/{image.id}"


def _folder(engine: Engine) -> str:
    return f"{engine.paths.data}/mounts"


def mounted(engine: Engine) -> list[Image]:
    """The images that are mounted here."""
    points = mount_points()
    return [image for image in engine.images.list() if place_of(engine, image) in points]


def mount(engine: Engine, image: Image) -> str:
    """Mount an image's files; the path."""
    place = place_of(engine, image)
    if place in mount_points():
        return place
    if not image.layers:
        raise RootlessError(f"image {image.id[:12]} has no layers and no files")
    settle_layers(engine, image)
    make_private_dir(_folder(engine))
    os.makedirs(place, mode=0o700, exist_ok=True)
    made = lower_mount(engine.images.lowers(image), place)
    m.mount_setattr(made, m.MOUNT_ATTR_RDONLY | m.MOUNT_ATTR_NODEV | m.MOUNT_ATTR_NOSUID)
    m.attach(made, place)
    engine.images.tell("mount", "", image.id)
    return place


def unmount(engine: Engine, image: Image, *, force: bool = False) -> bool:
    """Whether there was something to unmount; `force` even while somebody uses it."""
    place = place_of(engine, image)
    if place not in mount_points():
        return False
    try:
        m.umount2(place, m.MNT_DETACH if force else 0)
    except OSError as error:
        raise RootlessError(
            f"image {image.id[:12]}: cannot unmount {place}: {(error.strerror or '').lower()}",
            hint="`image unmount --force`, or end what uses it",
        ) from error
    try:
        os.rmdir(place)
        os.rmdir(_folder(engine))
    except OSError:
        pass  # mounted in another shell as well
    engine.images.tell("unmount", "", image.id)
    return True
