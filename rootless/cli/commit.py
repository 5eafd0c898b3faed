"""`rootless commit`: make an image of what a container has changed."""

from __future__ import annotations

from rootless.cli.table import Command, Option
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.table import Invocation


def main(inv: Invocation) -> int:
    from rootless.cli import output
    from rootless.container.committing import commit_container
    from rootless.container.engine import open_engine
    from rootless.files import write_atomic

    form = inv.text("format")
    if form not in ("oci", "docker"):
        raise RootlessError(f'unrecognized image format "{form}"')
    if inv.given("message") and form != "docker":
        raise RootlessError("messages are only compatible with the docker image format (-f docker)")
    settings: dict[str, Any] = {}
    if inv.text("config"):
        settings = _settings(inv.text("config"))
    image = commit_container(
        open_engine(inv.globals),
        inv.args[0],
        names=inv.args[1:],
        changes=inv.words("change"),
        overrides=settings,
        author=inv.text("author"),
        message=inv.text("message"),
        form=form,
        squash=inv.flag("squash"),
        pause=inv.flag("pause"),
        include_volumes=inv.flag("include-volumes"),
    )
    if inv.text("iidfile"):
        write_atomic(inv.text("iidfile"), image.id.encode(), 0o644)
    output.line(image.id)
    return 0


def _settings(path: str) -> dict[str, Any]:
    """--config FILE: docker's container config as JSON, laid over the container's."""
    from rootless.oci.document import parse_object

    try:
        with open(path, "rb") as file:
            data = file.read((1 << 20) + 1)
    except OSError as error:
        raise RootlessError(f"{path}: {(error.strerror or '').lower()}") from error
    return parse_object(data, path, max_bytes=1 << 20)


COMMAND = Command(
    "[options] CONTAINER [IMAGE]",
    main,
    (
        Option("author", "str", "Author of the image", short="a"),
        Option(
            "change", "list", "Containerfile instruction to apply", short="c", metavar="instruction"
        ),
        Option("config", "str", "File with settings of the image as JSON", metavar="path"),
        Option("format", "str", "Format of the manifest: oci or docker", short="f", default="oci"),
        Option("iidfile", "str", "Write the image's id to this file", metavar="path"),
        Option("include-volumes", "bool", "Record the container's volumes in the image"),
        Option("message", "str", "Message in the image's history", short="m"),
        Option("pause", "bool", "Hold the container meanwhile", short="p"),
        Option("quiet", "bool", "Print the id only", short="q"),
        Option("squash", "bool", "Make one layer of everything", short="s"),
    ),
    args=(1, 2),
    description="Makes an image of a container's changes.",
    examples=("commit web local/web:changed", "commit --change CMD=/bin/bash web local/web:shell"),
    complete="containers",
)
