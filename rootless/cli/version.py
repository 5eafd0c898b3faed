"""`rootless version`."""

from __future__ import annotations

import sys

from rootless.cli.table import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

#: The release of Podman whose commands, options and output this engine follows.
PODMAN_VERSION = "5.4.2"


def facts() -> dict[str, object]:
    import os

    from rootless import __version__

    machine = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}.get(
        os.uname().machine, os.uname().machine
    )
    python = ".".join(str(part) for part in sys.version_info[:3])
    return {
        "Client": {
            "APIVersion": PODMAN_VERSION,
            "Version": __version__,
            "PythonVersion": python,
            "OsArch": f"linux/{machine}",
            "Os": "linux",
        }
    }


def main(inv: Invocation) -> int:
    from rootless.cli import output

    known = facts()
    client = known["Client"]
    assert isinstance(client, dict)
    if inv.given("format"):
        wanted = inv.text("format")
        if wanted == "json":
            output.line(output.to_json(known, 2))
            return 0
        from rootless.cli import template

        output.line(template.render("version", wanted, known))
        return 0
    rows = [
        ("Client:", "Rootless Engine"),
        ("Version:", client["Version"]),
        ("API Version:", client["APIVersion"]),
        ("Python Version:", client["PythonVersion"]),
        ("OS/Arch:", client["OsArch"]),
    ]
    output.write(output.table(rows))
    return 0


COMMAND = Command(
    "[options]",
    main,
    (Option("format", "str", "Print as JSON or with a Go template", short="f"),),
    description="Shows the version of the engine, of Python, and of the Podman interface that it follows.",
    examples=("version", "version --format '{{.Client.Version}}'"),
)
