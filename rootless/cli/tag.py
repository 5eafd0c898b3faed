"""`rootless tag` and `rootless untag`: give images names, and take them away."""

from __future__ import annotations

from rootless.cli.table import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation


def tag(inv: Invocation) -> int:
    from rootless.container.engine import open_engine
    from rootless.errors import InvalidReference
    from rootless.image.reference import parse

    store = open_engine(inv.globals).images
    known = None
    if store.resolve(inv.args[0]) is None:
        from rootless.image import lists

        known = lists.find(store, inv.args[0])
    image = store.lookup(inv.args[0]) if known is None else known.as_image()
    names = []
    for text in inv.args[1:]:
        reference = parse(text)
        if reference.digest:
            raise InvalidReference(f"{text}: tag by digest not supported")
        if not reference.domain:
            reference = reference.with_domain("localhost")
        names.append(str(reference.with_default_tag()))
    with store.hold():
        for name, given in zip(names, inv.args[1:], strict=True):
            if known is not None:
                known.tag(name)
            else:
                store.tag(image, name)
            store.tell("tag", given, image.id)
    return 0


def untag(inv: Invocation) -> int:
    from rootless.container.engine import open_engine
    from rootless.image.remove import untag as take_away

    take_away(open_engine(inv.globals).images, inv.args[0], inv.args[1:])
    return 0


TAG = Command(
    "IMAGE TARGET_NAME [TARGET_NAME...]",
    tag,
    args=(2, None),
    description="Gives an image one or more further names.",
    examples=("tag 0e3bbc2 fedora:latest", "tag httpd registry.example.org/web/httpd:2"),
    complete="images",
)
UNTAG = Command(
    "IMAGE [IMAGE...]",
    untag,
    args=(1, None),
    description="Takes names away from an image: those given after it, or all of them.",
    examples=("untag 0e3bbc2", "untag httpd localhost/httpd:test"),
    complete="images",
)
