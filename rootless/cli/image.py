"""`rootless image`: exists, inspect, tree, prune, diff."""

from __future__ import annotations

from rootless.cli.options import format_option
from rootless.cli.table import Command, Option
from rootless.errors import RootlessError, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation
    from rootless.image.tree import Branch


def exists(inv: Invocation) -> int:
    from rootless.container.engine import open_engine
    from rootless.image import lists

    store = open_engine(inv.globals).images
    text = inv.args[0]
    return 0 if store.find(text) is not None or lists.find(store, text) is not None else 1


def inspect(inv: Invocation) -> int:
    from rootless.cli.inspect import show
    from rootless.cli.many import tell
    from rootless.container.engine import open_engine
    from rootless.image.inspect import describe

    store = open_engine(inv.globals).images
    found, errors = [], []
    for text in inv.args:
        try:
            found.append(describe(store, store.lookup(text)))
        except RootlessError as error:
            errors.append(error)
    show([("image", one) for one in found], inv.text("format"))
    tell(errors)
    return 0


def tree(inv: Invocation) -> int:
    from rootless.cli import output
    from rootless.container.engine import open_engine
    from rootless.image import tree as branches

    store = open_engine(inv.globals).images
    image = store.lookup(inv.args[0])
    lines = [
        f"Image ID: {image.id[:12]}",
        f"Tags:     [{' '.join(image.names)}]",
        f"Size:     {output.human_size(image.size)}",
    ]
    if not image.layers:
        lines.append("No Image Layers")
    else:
        lines.append("Image Layers")
        if inv.flag("whatrequires"):
            root = branches.requirers(store, image)
            if root is not None:
                _draw([root], "", lines)
        else:
            _draw_row(branches.layers(store, image), lines)
    output.write("\n".join(lines) + "\n\n")
    return 0


def _label(branch: Branch) -> str:
    from rootless.cli import output

    digits = branch.chain.partition(":")[2][:12]
    text = f"ID: {digits} Size: {output.human_size(branch.size):>7}"
    return f"{text} Top Layer of: [{' '.join(branch.top_of)}]" if branch.top_of else text


def _draw_row(row: list[Branch], lines: list[str]) -> None:
    for branch in row[:-1]:
        lines.append(f"├── {_label(branch)}")
    lines.append(f"└── {_label(row[-1])}")


def _draw(row: list[Branch], indent: str, lines: list[str]) -> None:
    for branch in row:
        last = branch is row[-1]
        lines.append(f"{indent}{'└──' if last else '├──'} {_label(branch)}")
        _draw(branch.above, indent + ("    " if last else "│   "), lines)


def prune(inv: Invocation) -> int:
    import time

    from rootless.cli import output
    from rootless.cli.prompt import agreed
    from rootless.container.engine import open_engine
    from rootless.container.image_users import image_users
    from rootless.image.collecting import collect
    from rootless.image.filters import compile_filters
    from rootless.image.remove import prune as prune_images

    everything = inv.flag("all")
    if not inv.flag("force") and not agreed(
        "This command removes all images without at least one container associated with them."
        if everything
        else "This command removes all dangling images."
    ):
        return 0
    engine = open_engine(inv.globals)
    store = engine.images
    users = image_users(engine)
    wanted = compile_filters(store, inv.words("filter"), users, time.time())
    for identity in prune_images(store, users, everything=everything, wanted=wanted):
        output.line(identity)
    collect(store, users, copies=everything)
    if inv.flag("blobs"):
        from rootless.image.check import drop_blobs

        freed = drop_blobs(store)
        output.line(f"Freed {output.human_size(freed)} of blobs")
    return 0


def diff(inv: Invocation) -> int:
    from rootless.cli.diff import show
    from rootless.container.engine import open_engine
    from rootless.image.changed import changes

    form = inv.text("format")
    if form not in ("", "json"):
        raise RootlessError("only supported value for '--format' is 'json'")
    store = open_engine(inv.globals).images
    images = []
    for text in inv.args:
        image = store.find(text)
        if image is None:
            raise RootlessError(f"{text} not found: {text}: image not known")
        images.append(image)
    found = changes(store, *images)
    show(found, form)
    return 0


EXISTS = Command(
    "IMAGE",
    exists,
    args=(1, 1),
    description="Exits with 0 where the image is here, with 1 where it is not.",
    examples=("image exists debian",),
    complete="images",
)


def check_inspect(inv: Invocation) -> None:
    if not inv.args:
        raise Usage("no names or ids specified")


INSPECT = Command(
    "[options] IMAGE [IMAGE...]",
    inspect,
    (format_option(),),
    args=check_inspect,
    description="Shows everything that is known of images.",
    examples=("image inspect debian", "image inspect --format '{{.Config.Env}}' debian"),
    complete="images",
)
TREE = Command(
    "[options] IMAGE",
    tree,
    (Option("whatrequires", "bool", "Show what stands upon the image instead"),),
    args=(1, 1),
    description="Shows the layers of an image and the images that end at each.",
    examples=("image tree debian",),
    complete="images",
)
PRUNE = Command(
    "[options]",
    prune,
    (
        Option("all", "bool", "Every image that no container uses, named or not", short="a"),
        Option("blobs", "bool", "Drop compressed layers that are kept beside the unpacked ones"),
        Option(
            "build-cache",
            "bool",
            "The cache of builds as well",
            refused="builds keep no cache apart from their images here",
        ),
        Option("external", "bool", "Images that only other tools' containers use (there are none)"),
        Option("filter", "list", "Only what fits: label=, label!=, until=", metavar="key=value"),
        Option("force", "bool", "Do not ask first", short="f"),
    ),
    description="Removes images that nothing uses.",
    examples=("image prune", "image prune --all --filter until=240h"),
)
DIFF = Command(
    "[options] IMAGE [IMAGE]",
    diff,
    (Option("format", "str", "Print as JSON (json)", metavar="json"),),
    args=(1, 2),
    description="Shows what an image changed against the layers below its last one, or against another image.",
    examples=("image diff debian", "image diff debian local/debian:changed"),
    complete="images",
)
