"""What images, containers and volumes hold on the disk, and how much of it nothing uses."""

from __future__ import annotations

from rootless.container.image_users import image_users
from rootless.container.size import changed_size, folder_size
from rootless.container.status import PAUSED, RUNNING, Status, all_statuses
from rootless.container.volumes import used_names
from rootless.volume import VolumeStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.container.engine import Engine
    from rootless.image.store import Image


class ImageUsage:
    """An image: all that it holds, and what it holds alone."""

    __slots__ = ("containers", "image", "unique")

    def __init__(self, image: Image, unique: int, containers: int) -> None:
        self.image = image
        self.unique = unique
        self.containers = containers


class ContainerUsage:
    __slots__ = ("size", "status", "volumes")

    def __init__(self, status: Status, size: int, volumes: int) -> None:
        self.status = status
        self.size = size
        self.volumes = volumes

    @property
    def is_active(self) -> bool:
        return self.status.word in (RUNNING, PAUSED)


class VolumeUsage:
    __slots__ = ("links", "name", "size")

    def __init__(self, name: str, size: int, links: int) -> None:
        self.name = name
        self.size = size
        self.links = links


def images(engine: Engine) -> list[ImageUsage]:
    """Each image's size, what of it is shared with others, and its containers."""
    store = engine.images
    users = image_users(engine)
    found = store.list()
    owners: dict[str, int] = {}
    for image in found:
        for chain in set(image.layers):
            owners[chain] = owners.get(chain, 0) + 1
    return [
        ImageUsage(
            image,
            image.size
            - sum(layer_size(engine, chain) for chain in set(image.layers) if owners[chain] > 1),
            len(users.get(image.id, ())),
        )
        for image in found
    ]


def layer_size(engine: Engine, chain: str) -> int:
    """In bytes; 0 for a layer that is gone."""
    try:
        size: int = engine.images.layers.record(chain)["size"]
    except (OSError, KeyError):
        return 0
    return size


def images_size(engine: Engine) -> int:
    """All layers, each once, and each image's documents."""
    layers = {chain: layer_size(engine, chain) for chain in engine.images.layers.all()}
    size = sum(layers.values())
    for image in engine.images.list():
        size += image.size - sum(layers.get(chain, 0) for chain in image.layers)
    return size


def containers(engine: Engine) -> list[ContainerUsage]:
    """Each container's size and number of volumes."""
    return [
        ContainerUsage(
            status,
            changed_size(engine, status.record),
            sum(mount["type"] == "volume" for mount in status.record.get("mounts") or ()),
        )
        for status in all_statuses(engine)
    ]


def volumes(engine: Engine) -> list[VolumeUsage]:
    """Each volume's size and number of containers."""
    store = VolumeStore(engine.paths)
    used = used_names(engine)
    return [
        VolumeUsage(
            name, folder_size(store.data(name), lambda: engine.idmap), len(used.get(name, ()))
        )
        for name in sorted(store.names())
    ]
