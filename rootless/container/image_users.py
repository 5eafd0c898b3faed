"""Which containers keep which images; and what that means for tidying up."""

from __future__ import annotations

from rootless.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.container.engine import Engine


def image_users(engine: Engine) -> dict[str, list[str]]:
    """Image id → ids of the containers made from it."""
    found: dict[str, list[str]] = {}
    for identity in engine.containers.ids():
        try:
            record = engine.containers.read(identity)
        except NotFound:
            continue
        image = record.get("image")
        if image:
            found.setdefault(image["id"], []).append(identity)
    return found


def tidy_images(engine: Engine) -> None:
    """After bringing in an image: remove what killed or broken commands have left of others."""
    from rootless.image.collecting import tidy

    tidy(engine.images, lambda: image_users(engine))
