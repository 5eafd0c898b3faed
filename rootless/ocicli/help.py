"""--help, of all and of one command."""

from __future__ import annotations

from rootless.ocicli.commandline import NUMBER, SWITCH, TEXTS, Command
from rootless.ocicli.commands import COMMANDS, GLOBAL, GLOBAL_SHORT


def overview() -> str:
    """The text of --help without a command."""
    lines = [
        "NAME:",
        "   rootless-oci - an OCI runtime for unprivileged users",
        "",
        "USAGE:",
        "   rootless-oci [global options] command [command options] [arguments...]",
        "",
        "COMMANDS:",
        *(f"   {name:<12}{command.about}" for name, command in COMMANDS.items()),
        "",
        "GLOBAL OPTIONS:",
        *_options(GLOBAL, GLOBAL_SHORT),
    ]
    return "\n".join(lines) + "\n"


def of_command(name: str, command: Command) -> str:
    """The text of a command's --help."""
    lines = [
        "NAME:",
        f"   rootless-oci {name} - {command.about}",
        "",
        "USAGE:",
        f"   rootless-oci {name} [command options] {command.words}".rstrip(),
        "",
        "OPTIONS:",
        *_options(command.options, command.short),
    ]
    return "\n".join(lines) + "\n"


def _options(options: dict[str, int], short: dict[str, str]) -> list[str]:
    letters = {name: letter for letter, name in short.items()}
    lines = []
    for name, kind in options.items():
        word = f"   --{name}" + (f", -{letters[name]}" if name in letters else "")
        what = {SWITCH: "", NUMBER: " NUMBER", TEXTS: " VALUE (more than once)"}.get(kind, " VALUE")
        lines.append(word + what)
    return lines
