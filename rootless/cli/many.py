"""Doing one thing to several containers: each result on its line, every error told, the last one's exit code."""

from __future__ import annotations

from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def each(
    chosen: list[tuple[str, str]],
    missing: list[RootlessError],
    act: Callable[[str, str], str | None],
) -> int:
    """Call `act(text, id)` for each; print what it returns. All errors but the last go to stderr as they come."""
    from rootless.cli.output import line

    errors = list(missing)
    for text, identity in chosen:
        try:
            said = act(text, identity)
        except RootlessError as error:
            errors.append(error)
            continue
        if said is not None:
            line(said)
    tell(errors)
    return 0


def tell(errors: list[RootlessError]) -> None:
    """Say what went wrong, if anything did: the last one leads to the exit code."""
    from rootless.cli.output import report

    for one in errors[:-1]:
        report(one)
    if errors:
        raise errors[-1]
