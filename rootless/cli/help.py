"""The second reader of the command tables: a Typer application for --help, shell completion and mistakes.

Imported only then, because Typer costs more than a whole `ps`. Typer is used through its public interface; it words help
and completion, while the meaning of a value stays with `parse.convert`, so that the two readers cannot drift apart.
"""

from __future__ import annotations

import inspect
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rootless.cli import parse
from rootless.cli.table import COMMANDS, GLOBALS, GROUPS, Command, Option, load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_ABOUT = "Run and manage containers: without root, without a daemon."

#: Through this variable a shell asks for completion; Typer makes its name of the program's.
_VARIABLE = "_ROOTLESS_COMPLETE"

#: Which letters Typer may take for help; a command that has a -h of its own keeps it.
_SETTINGS = {"help_option_names": ["--help", "-h"], "max_content_width": 100}


def _identifier(name: str) -> str:
    return "option_" + name.replace("-", "_")


def _shown_default(option: Option) -> str:
    value = option.default
    if value is None or value in (False, "", 0, [], {}):
        return ""
    if isinstance(value, (list, tuple)):
        value = ",".join(str(item) for item in value)
    elif value is True:
        value = "true"
    return f" (default {value})"


def _metavar(option: Option) -> str | None:
    if option.kind == "bool":
        return None
    if option.metavar:
        return option.metavar
    if option.choices:
        return "|".join(option.choices)
    return {"list": "string", "csv": "string,...", "str": "string", "map": "key=value,..."}.get(
        option.kind, option.kind
    )


def _completer(name: str) -> Callable[..., list[str]] | None:
    if not name:
        return None
    from rootless.cli import complete

    finder: Callable[[str], list[str]] = getattr(complete, name)

    def answer(incomplete: str) -> list[str]:
        try:
            return [word for word in finder(incomplete) if word.startswith(incomplete)]
        except Exception:
            return []  # the shell has no place for a message

    return answer


def _parameter(option: Option) -> inspect.Parameter:
    names = [f"--{option.name}"] + ([f"-{option.short}"] if option.short else [])
    names += [f"--{alias}" for alias in option.aliases]
    kind: Any = bool | None if option.kind == "bool" else list[str] | None
    choices = option.choices
    completer = (
        (lambda incomplete: [c for c in choices if c.startswith(incomplete)]) if choices else None
    )
    about = typer.Option(
        *names,
        help=option.help + _shown_default(option),
        hidden=option.hidden or bool(option.refused),
        metavar=_metavar(option),
        show_default=False,
        autocompletion=completer or _completer(option.complete),
    )
    return inspect.Parameter(
        _identifier(option.name),
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind, about],
    )


def _function(
    options: Sequence[Option], usage: str, body: Callable[..., Any], completer: str = ""
) -> Callable[..., Any]:
    """A function with the signature that Typer is to read."""
    parameters = [_parameter(option) for option in sorted(options, key=lambda one: one.name)]
    words = usage.removeprefix("[options]").strip()
    if words:
        # Typer puts what is not required in brackets; the usage line says it in Podman's way.
        required = not words.startswith("[")
        about = typer.Argument(
            metavar=words, hidden=True, show_default=False, autocompletion=_completer(completer)
        )
        kind: Any = list[str] if required else list[str] | None
        parameters.insert(
            0,
            inspect.Parameter(
                "arguments",
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if required else None,
                annotation=Annotated[kind, about],
            ),
        )

    def call(**values: Any) -> Any:
        return body(**values)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _nothing(**_values: Any) -> None:
    return None


def _description(path: str, command: Command) -> str:
    text = f"{COMMANDS[path][1]}\n\n{command.description}".rstrip()
    if command.examples:
        # The \b of Typer's help keeps the lines that follow as they are.
        text += "\n\n\b\nExamples:\n" + "\n".join(f"  rootless {line}" for line in command.examples)
    return text


def build(
    path: str = "", body: Callable[..., Any] = _nothing, *, completing: bool = False
) -> typer.Typer:
    """The application: every name, and the options of the one command at `path` ("*" for those of all)."""
    root = typer.Typer(
        add_completion=completing,  # also what makes Typer know the shells
        rich_markup_mode=None,
        context_settings=_SETTINGS,
        help=_ABOUT,
        subcommand_metavar="COMMAND",
        options_metavar="[options]",
    )
    globals_ = [option for option in GLOBALS if option.name != "help"]
    root.callback()(_function(globals_, "", _nothing))
    groups: dict[str, typer.Typer] = {"": root}

    def group(name: str) -> typer.Typer:
        if name not in groups:
            parent, _, last = name.rpartition(" ")
            groups[name] = typer.Typer(
                rich_markup_mode=None,
                context_settings=_SETTINGS,
                help=GROUPS[name],
                subcommand_metavar="COMMAND",
                options_metavar="",
            )
            groups[name].callback()(lambda: None)
            group(parent).add_typer(groups[name], name=last)
        return groups[name]

    for name, (_, summary) in sorted(COMMANDS.items()):
        parent, _, last = name.rpartition(" ")
        if path not in (name, "*"):
            group(parent).command(last, help=summary, short_help=summary)(lambda: None)
            continue
        command = load(name)
        group(parent).command(
            last,
            help=_description(name, command),
            short_help=summary,
            context_settings={**_SETTINGS, "allow_interspersed_args": command.interspersed},
            options_metavar="[options]",
        )(_function(command.options, command.usage, body, command.complete))
    return root


def values(command: Command, given: dict[str, Any]) -> dict[str, Any]:
    """What the options hold after Typer has read them, in `parse`'s terms."""
    result: dict[str, Any] = {}
    for option in command.options:
        found = given.get(_identifier(option.name))
        if found is None or found == []:
            default = option.default
            result[option.name] = default.copy() if isinstance(default, (list, dict)) else default
        elif option.kind == "bool":
            result[option.name] = found
        elif option.kind == "map":
            result[option.name] = {}
            for text in found:
                result[option.name].update(parse.convert(option, text))
        elif option.many:
            result[option.name] = [value for text in found for value in parse.convert(option, text)]
        else:
            result[option.name] = parse.convert(option, found[-1])
    return result


def show(path: str, *, missing: bool = False) -> int:
    """Print help for a command or a group; `missing` means it stands in for a command that was not named."""
    application = build(path)
    try:
        application([*path.split(), "--help"], prog_name=parse.PROGRAM)
    except SystemExit:
        pass
    # Typer puts another object there when nobody reads, and the interpreter would fail at its end (status 120).
    (sys.__stdout__ or sys.stdout).flush()
    if missing:
        sys.stderr.write(
            f"Error: missing command '{' '.join(f'{parse.PROGRAM} {path}'.split())} COMMAND'\n"
        )
        return 125
    return 0


def _answer(path: str) -> tuple[str, int]:
    """What Typer tells a shell, and its exit status."""
    import contextlib
    import io

    answer = io.StringIO()
    status: object = 0
    with contextlib.redirect_stdout(answer):
        try:
            build(path, completing=True)([], prog_name=parse.PROGRAM)
        except SystemExit as request:
            status = request.code
    return answer.getvalue(), status if isinstance(status, int) else 0


def completion_script(shell: str) -> str:
    """The script that makes a shell ask us, as Typer writes it."""
    os.environ[_VARIABLE] = f"source_{shell}"
    return _answer("")[0].strip()


def complete() -> int:
    """Answer a shell's completion request, which it makes through the environment."""
    words = os.environ.get("COMP_WORDS", os.environ.get("_TYPER_COMPLETE_ARGS", "")).split()
    text, status = _answer(_named(words[1:]))
    # Typer's own options for completion are no options of ours.
    lines = [line for line in text.splitlines() if "-completion" not in line]
    sys.stdout.write("\n".join(lines) + "\n" if lines else "")
    return status


def _named(words: list[str]) -> str:
    """The command that a half-written command line names so far, or ""."""
    words = list(words)
    while words:
        try:
            path, _ = parse.find(words, parse.Flags(""))
        except Exception:
            words.pop()
        else:
            return path
    return ""


def _distance(one: str, other: str) -> int:
    """Levenshtein distance, letters' case ignored."""
    row = list(range(len(other) + 1))
    for at, left in enumerate(one.lower(), 1):
        above, row[0] = row[0], at
        for column, right in enumerate(other.lower(), 1):
            above, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, above + (left != right)),
            )
    return row[-1]


def suggestions(path: str, word: str) -> list[str]:
    """The names below `path` that `word` may have meant."""
    if path:
        return []  # as Podman: only for a command at the top
    names = {name.split()[0] for name in COMMANDS}
    return sorted(n for n in names if _distance(word, n) <= 2 or n.lower().startswith(word.lower()))
