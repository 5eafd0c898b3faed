"""`rootless import`: make an image of one layer out of a tar archive."""

from __future__ import annotations

from rootless.cli.table import Option

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
