"""`rootless completion`: the script that makes a shell complete rootless' words."""

from __future__ import annotations

from rootless.cli.table import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

SHELLS = ("bash", "zsh", "fish", "powershell")


def main(inv: Invocation) -> int:
    from rootless.cli import help, output
    from rootless.errors import Usage

    shell = inv.args[0]
    if shell not in SHELLS:
        raise Usage(
            f'invalid argument "{shell}" for "rootless completion": choose from {", ".join(SHELLS)}'
        )
    script = help.completion_script(shell)
    path = inv.text("file")
    if not path:
        output.line(script)
        return 0
    with open(path, "w") as file:
        file.write(script + "\n")
    return 0


COMMAND = Command(
    "[options] {bash|zsh|fish|powershell}",
    main,
    (
        Option(
            "file",
            "str",
            "Write to this file and not to standard output",
            short="f",
            metavar="path",
        ),
    ),
    args=(1, 1),
    description=(
        "Prints a script that makes a shell complete commands, options and names. "
        "Bash reads it from ~/.local/share/bash-completion/completions/rootless."
    ),
    examples=("completion bash", "completion -f ~/.config/fish/completions/rootless.fish fish"),
    complete="shells",
)
