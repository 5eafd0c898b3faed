"""`rootless pause` and `unpause`: hold all processes of containers, and let them go on."""

from __future__ import annotations

from rootless.cli.options import CIDFILE, LATEST, all_option, check_selection, filter_option
from rootless.cli.table import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.cli.table import Invocation
    from rootless.container.engine import Engine
    from rootless.container.status import Status

PAUSE_OPTIONS = (all_option("Every running container"), CIDFILE, filter_option(), LATEST)
UNPAUSE_OPTIONS = (all_option("Every paused container"), CIDFILE, filter_option(), LATEST)


def pause(inv: Invocation) -> int:
    from rootless.container.lifecycle import pause as act
    from rootless.container.status import RUNNING

    return _each(inv, act, RUNNING, "is not running, can't pause")


def unpause(inv: Invocation) -> int:
    from rootless.container.lifecycle import resume as act
    from rootless.container.status import PAUSED

    return _each(inv, act, PAUSED, "is not paused, can't unpause")


def _each(
    inv: Invocation, change: Callable[[Engine, Status], None], word: str, refused: str
) -> int:
    from rootless.cli.many import each
    from rootless.cli.selection import select
    from rootless.container.engine import open_engine
    from rootless.container.status import status_of
    from rootless.errors import InvalidState

    engine = open_engine(inv.globals)
    chosen, missing = select(engine, inv, wanted=lambda one: one.word == word)

    def act(text: str, identity: str) -> str:
        with engine.containers.lock(identity):
            status = status_of(engine, identity)
            if status.word != word:
                raise InvalidState(f'"{status.word}" {refused}: container state improper')
            change(engine, status)
        return text

    return each(chosen, missing, act)


PAUSE = Command(
    "[options] CONTAINER [CONTAINER...]",
    pause,
    PAUSE_OPTIONS,
    args=check_selection,
    description="Holds all processes of running containers.",
    examples=("pause web", "pause --all"),
    complete="containers",
)
UNPAUSE = Command(
    "[options] CONTAINER [CONTAINER...]",
    unpause,
    UNPAUSE_OPTIONS,
    args=check_selection,
    description="Lets the processes of paused containers go on.",
    examples=("unpause web", "unpause --all"),
    complete="containers",
)
