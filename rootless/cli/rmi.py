"""`rootless rmi`: remove images."""

from __future__ import annotations

from rootless.cli.options import check_images
from rootless.cli.table import Command, Option
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

OPTIONS = (
    Option("all", "bool", "Every image", short="a"),
    Option("force", "bool", "Images that containers use as well, with these containers", short="f"),
    Option("ignore", "bool", "An image that does not exist is no error", short="i"),
    Option("no-prune", "bool", "Keep nameless parents"),
)


def main(inv: Invocation) -> int:
    from rootless.cli import output
    from rootless.container.engine import open_engine
    from rootless.container.image_users import image_users
    from rootless.image import lists
    from rootless.image.collecting import collect
    from rootless.image.remove import Family, remove
    from rootless.image.store import ImageInUse, ImageUnknown

    engine = open_engine(inv.globals)
    store = engine.images
    force = inv.flag("force")

    def remove_container(identity: str) -> None:
        from rootless.container.lifecycle import remove as end

        end(engine, identity, force=True)

    family = Family(store.list())
    if inv.flag("all"):
        # Children first, so that no parent is refused for their sake.
        images = sorted(family.images, key=lambda image: -len(image.history))
        texts = [one.id for one in lists.every(store)]
        texts += [image.id for image in images if not image.read_only]
    else:
        texts = list(inv.args)
    users = image_users(engine)
    errors: list[RootlessError] = []
    untagged: list[str] = []
    deleted: list[str] = []
    for text in texts:
        try:
            done = remove(
                store,
                text,
                users,
                force=force or (inv.flag("all") and not users.get(text)),
                prune_parents=not inv.flag("no-prune"),
                remove_container=remove_container if force else None,
                family=family,
            )
        except ImageUnknown as error:
            # With --all it went with one of its children.
            if not (inv.flag("all") or inv.flag("ignore") or force):
                error.exit_code = 1
                errors.append(error)
            continue
        except RootlessError as error:
            errors.append(error)
            continue
        untagged += done.untagged
        deleted += done.deleted
    for name in untagged:
        output.line(f"Untagged: {name}")
    for identity in deleted:
        output.line(f"Deleted: {identity}")
    collect(store, image_users(engine))
    if not errors:
        return 0
    if len(errors) == 1:
        raise errors[0]
    code = 2 if any(isinstance(one, ImageInUse) for one in errors) else errors[0].exit_code
    listed = "".join(f"\n\t* {one.message}" for one in errors)
    raise RootlessError(f"{len(errors)} errors occurred:{listed}", exit_code=code)


def check(inv: Invocation) -> None:
    check_images(inv, "images")


COMMAND = Command(
    "[options] IMAGE [IMAGE...]",
    main,
    OPTIONS,
    args=check,
    description="Takes a name away, and removes the image with its last one.",
    examples=("rmi alpine", "rmi -f 0e3bbc2", "rmi --all"),
    complete="images",
)
