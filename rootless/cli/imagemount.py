"""`rootless image mount` and `image unmount`: look at images' files, inside `unshare`."""

from __future__ import annotations

from rootless.cli.options import all_option, check_images
from rootless.cli.table import Command, Option
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation
    from rootless.image.store import Image


def mount(inv: Invocation) -> int:
    from rootless.cli import output
    from rootless.container.engine import open_engine
    from rootless.container.imagemount import mount as do_mount
    from rootless.container.imagemount import mounted, place_of
    from rootless.container.mounting import check_unshared

    check_unshared("image mount")
    engine = open_engine(inv.globals)
    store = engine.images
    if inv.flag("all"):
        chosen = [image for image in store.list() if image.layers]
    else:
        chosen = [store.lookup(text) for text in inv.args]
    if chosen:
        found = [(image, do_mount(engine, image)) for image in chosen]
    else:
        found = [(image, place_of(engine, image)) for image in mounted(engine)]
    form = inv.text("format")
    if len(inv.args) == 1 and not form:
        output.line(found[0][1])
    elif form:
        rows = [
            {
                "id": image.id,
                "Names": image.digests,
                "Repositories": image.names,
                "mountpoint": place,
            }
            for image, place in found
        ]
        output.line(output.to_json(rows, 1))
    else:
        width = max((len(_name(image)) for image, _ in found), default=0)
        for image, place in found:
            output.line(f"{_name(image):{width}}  {place}")
    return 0


def _name(image: Image) -> str:
    return image.names[0] if image.names else image.id


def unmount(inv: Invocation) -> int:
    from rootless.cli.many import each
    from rootless.container.engine import open_engine
    from rootless.container.imagemount import mounted
    from rootless.container.imagemount import unmount as do_unmount

    engine = open_engine(inv.globals)
    images = {
        image.id: image
        for image in (
            mounted(engine)
            if inv.flag("all")
            else [engine.images.lookup(text) for text in inv.args]
        )
    }

    def act(_: str, identity: str) -> str | None:
        done = do_unmount(engine, images[identity], force=inv.flag("force"))
        return identity if done else None

    return each([(one, one) for one in images], [], act)


def check_mount(inv: Invocation) -> None:
    if inv.flag("all") and inv.args:
        raise Usage("when using the --all switch, you may not pass any image names or IDs")
    if inv.text("format") not in ("", "json"):
        raise Usage(f'unknown --format argument: "{inv.text("format")}"')


def check_unmount(inv: Invocation) -> None:
    check_images(inv, "image")


MOUNT = Command(
    "[options] [IMAGE...]",
    mount,
    (all_option("Every image"), Option("format", "str", "Print as JSON (json)", metavar="json")),
    args=check_mount,
    description="Mounts the files of images, read-only, and prints where; inside `rootless unshare` only.",
    examples=("unshare sh -c 'ls $(rootless image mount debian)'",),
    complete="images",
)
UNMOUNT = Command(
    "[options] IMAGE [IMAGE...]",
    unmount,
    (
        all_option("Every mounted image"),
        Option("force", "bool", "Even while something uses its files", short="f"),
    ),
    args=check_unmount,
    description="Unmounts the images that `rootless image mount` has mounted in this shell.",
    examples=("image unmount debian", "image unmount --all"),
    complete="images",
)
