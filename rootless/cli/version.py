"""`rootless version`, and the line of `rootless --version`."""

from __future__ import annotations

import sys

from rootless.cli.table import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

#: The release of Podman whose commands, options and output this engine follows.
PODMAN_VERSION = "5.4.2"

_ARCHITECTURES = {
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "386",
    "loongarch64": "loong64",
    "x86_64": "amd64",
}


def one_line() -> str:
    """Podman's release comes last: that is where podman-compose reads what the engine can do."""
    from rootless import __version__

    return f"rootless version {__version__}, commands as podman {PODMAN_VERSION}"


def facts() -> dict[str, str]:
    import os

    from rootless import __version__

    machine = os.uname().machine
    return {
        "APIVersion": PODMAN_VERSION,
        "Version": __version__,
        "PythonVersion": ".".join(str(part) for part in sys.version_info[:3]),
        "OsArch": f"linux/{_ARCHITECTURES.get(machine, machine)}",
        "Os": "linux",
    }


def main(inv: Invocation) -> int:
    from rootless.cli import output

    client = facts()
    form = inv.text("format")
    if form == "json":
        output.line(output.to_json({"Client": client}, 2))
    elif form:
        output.write(_formatted(form, client))
    else:
        rows = (
            ("Client:", "Rootless Engine"),
            ("Version:", client["Version"]),
            ("API Version:", client["APIVersion"]),
            ("Python Version:", client["PythonVersion"]),
            ("OS/Arch:", client["OsArch"]),
        )
        output.write(output.table(rows))
    return 0


def _formatted(form: str, client: dict[str, str]) -> str:
    from rootless.cli.template import Struct, TemplateError, render

    inner = Struct(client, "*define.Version")
    try:
        return render("version", form, Struct({"Client": inner, "Server": None}, "*define.Version"))
    except TemplateError:
        # As Podman without a service: the server is the client, whose fields may also stand by themselves.
        return render("version", form.replace(".Server.", "."), inner)


COMMAND = Command(
    "[options]",
    main,
    (
        Option(
            "format", "str", "Print as JSON or with a Go template", short="f", metavar="template"
        ),
    ),
    description="Shows the version of the engine, of Python, and of the Podman interface that it follows.",
    examples=("version", "version --format '{{.Client.Version}}'"),
)
