"""`rootless load`: take in images from an archive."""

from __future__ import annotations

from rootless.cli.table import Command, Option
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

OPTIONS = (
    Option("input", "str", "Archive to read in place of standard input", short="i", metavar="path"),
    Option("quiet", "bool", "Print the name only", short="q"),
)


def main(inv: Invocation) -> int:
    import os

    from rootless.cli import output
    from rootless.container.engine import open_engine
    from rootless.container.image_users import tidy_images
    from rootless.image.archive import load

    path = inv.text("input")
    if not path and os.isatty(0):
        raise RootlessError(
            "cannot read from terminal, use command-line redirection or the --input flag"
        )
    engine = open_engine(inv.globals)
    store = engine.images
    for one in load(store, path or 0, path or "standard input"):
        store.tell("loadfromarchive", path or "-", one.image.id)
        for name in one.names or [f"sha256:{one.image.id}"]:
            output.line(f"Loaded image: {name}")
    tidy_images(engine)
    return 0


COMMAND = Command(
    "[options]",
    main,
    OPTIONS,
    description="Loads images from a docker-archive, an oci-archive, an OCI layout or a docker folder.",
    examples=("load -i image.tar", "load < image.tar.gz"),
)
