"""`rootless import`: make an image of one layer out of a tar archive."""

from __future__ import annotations

from rootless.cli.table import Command, Option
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.table import Invocation

OPTIONS = (
    Option("arch", "str", "Architecture of the image"),
    Option(
        "change", "list", "Containerfile instruction to apply", short="c", metavar="instruction"
    ),
    Option("message", "str", "Comment in the image's history", short="m"),
    Option("os", "str", "Operating system of the image"),
    Option("quiet", "bool", "Print the id only", short="q"),
    Option("variant", "str", "Variant of the architecture of the image"),
)


def main(inv: Invocation) -> int:
    import os

    from rootless.cli import output
    from rootless.container.engine import open_engine
    from rootless.container.image_users import tidy_images
    from rootless.image import changes, platform
    from rootless.image.rootfs import import_rootfs

    source, *names = inv.args
    settings: dict[str, Any] = {}
    changes.apply(settings, inv.words("change"))
    wanted = platform.wanted("", inv.text("arch"), inv.text("os"), inv.text("variant"))
    config: dict[str, Any] = {"architecture": wanted.architecture, "os": wanted.os}
    if wanted.variant:
        config["variant"] = wanted.variant
    config["config"] = settings
    engine = open_engine(inv.globals)
    store = engine.images
    fd = 0
    try:
        if source.startswith(("http://", "https://")):
            from rootless.image.rootfs import download

            fd = download(store, source)
        elif source != "-":
            try:
                fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise RootlessError(f"{source}: {(error.strerror or '').lower()}") from error
        elif os.isatty(0):
            raise RootlessError("cannot read from terminal, use command-line redirection")
        what = "standard input" if source == "-" else source
        image = import_rootfs(store, fd, config, names, what=what, message=inv.text("message"))
    finally:
        if fd:
            os.close(fd)
    for name in names:
        store.tell("tag", name, image.id)
    output.line(f"sha256:{image.id}")
    tidy_images(engine)
    return 0


COMMAND = Command(
    "[options] PATH [REFERENCE]",
    main,
    OPTIONS,
    args=(1, 2),
    description="Makes an image of one layer from a root file system in a tar archive: a file, an URL or - for standard input.",
    examples=("import root.tar.gz local/root:1", "import -c CMD=/bin/bash - local/root < root.tar"),
)
