"""The small subcommands of `rootless container`, and `init` and `rename`."""

from __future__ import annotations

from rootless.cli.options import FORCE_PROMPT, LATEST, PRUNE_FILTER, all_option, check_selection
from rootless.cli.table import Command, Option
from rootless.errors import InvalidState, NotFound, RootlessError, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation
    from rootless.container.engine import Engine
    from rootless.container.status import Status

EXISTS_OPTIONS = (
    Option("external", "bool", "Containers of other tools in the same store as well"),
)
PRUNE_OPTIONS = (PRUNE_FILTER, FORCE_PROMPT)
INIT_OPTIONS = (all_option("Every container that has not been initialised"), LATEST)
CLEANUP_OPTIONS = (
    all_option("Every container"),
    Option("exec", "str", "Clean up this exec session, not the container", metavar="id"),
    LATEST,
    Option("rm", "bool", "Remove the container after that"),
    Option("rmi", "bool", "Remove its image after that"),
)


def rename(inv: Invocation) -> int:
    from rootless.container.engine import open_engine
    from rootless.container.rename import rename as give_name

    engine = open_engine(inv.globals)
    old, new = inv.args
    give_name(engine, engine.containers.lookup(old), new)
    return 0


def init(inv: Invocation) -> int:
    """Everything of a start but the program: it waits in its namespaces."""
    from rootless.cli.many import each
    from rootless.cli.selection import select
    from rootless.container.engine import open_engine

    engine = open_engine(inv.globals)
    chosen, missing = select(engine, inv)
    every = inv.flag("all")

    def act(text: str, identity: str) -> str:
        from rootless.container.status import CREATED, EXITED, status_of

        word = status_of(engine, identity).word
        if word in (CREATED, EXITED):
            initialize(engine, identity)
        elif not every:
            raise InvalidState(
                f"container {identity} has already been created in runtime: container state improper"
            )
        return text

    return each(chosen, missing, act)


def initialize(engine: Engine, identity: str) -> None:
    from rootless.container.attach import Session
    from rootless.container.supervise import start

    link = start(engine, identity, init_only=True)
    if link is not None:
        Session(link, stdin=False, tty=False, sig_proxy=False).wait_running()


def exists(inv: Invocation) -> int:
    from rootless.container.engine import open_engine

    try:
        open_engine(inv.globals).containers.lookup(inv.args[0])
    except NotFound:
        return 1
    return 0


def prune(inv: Invocation) -> int:
    from rootless.cli import output
    from rootless.cli.prompt import agreed
    from rootless.container.engine import open_engine

    if not inv.flag("force") and not agreed("This will remove all non running containers."):
        return 0
    engine = open_engine(inv.globals)
    failed: list[RootlessError] = []
    for identity in prune_containers(engine, inv.words("filter"), failed):
        output.line(identity)
    for error in failed[:-1]:
        output.report(error)
    if failed:
        raise failed[-1]
    return 0


def prune_containers(engine: Engine, filters: list[str], failed: list[RootlessError]) -> list[str]:
    """Remove every container that does not run and fits; the ids of those removed."""
    from rootless.container.filters import PRUNE_KEYS, matcher
    from rootless.container.lifecycle import remove
    from rootless.container.status import CREATED, EXITED, INITIALIZED, all_statuses

    fits = matcher(engine, filters, PRUNE_KEYS)
    removed = []
    for status in all_statuses(engine):
        if status.word not in (CREATED, EXITED, INITIALIZED) or not fits(status):
            continue
        if status.live is not None and status.live.get("phase") == "restarting":
            continue
        try:
            remove(engine, status.id)
        except NotFound:
            continue
        except RootlessError as error:
            failed.append(error)
            continue
        removed.append(status.id)
    return removed


def cleanup(inv: Invocation) -> int:
    """Record the end of what a killed monitor left, end what was only initialised."""
    from rootless.cli.many import each
    from rootless.cli.selection import select
    from rootless.container.engine import open_engine

    session = inv.text("exec")
    if session:
        raise NotFound(f"no exec session with ID {session} found: no such exec session")
    engine = open_engine(inv.globals)
    chosen, missing = select(engine, inv)

    def act(text: str, identity: str) -> str:
        from rootless.container.status import status_of

        status = status_of(engine, identity)
        if status.is_running and not inv.flag("all"):
            raise InvalidState(
                f"container {identity} is running, refusing to clean up: container state improper"
            )
        if not status.is_running:
            _clean(engine, status, remove_it=inv.flag("rm"), remove_image=inv.flag("rmi"))
        return text

    return each(chosen, missing, act)


def _clean(engine: Engine, status: Status, *, remove_it: bool, remove_image: bool) -> None:
    from rootless.container.lifecycle import remove, stop
    from rootless.container.status import INITIALIZED, reconcile

    if status.word == INITIALIZED:
        stop(engine, status.id, 0)
    elif status.stale:
        reconcile(engine, status.id)
    if remove_it:
        remove(engine, status.id)
    image = status.record.get("image")
    if remove_image and image:
        from rootless.container.image_users import image_users
        from rootless.image.collecting import collect
        from rootless.image.remove import remove as remove_image_of

        users = image_users(engine)
        remove_image_of(engine.images, image["id"], users, force=True)
        collect(engine.images, users)


def check_prune(inv: Invocation) -> None:
    if inv.args:
        raise Usage("`rootless container prune` takes no arguments")


RENAME = Command(
    "CONTAINER NAME",
    rename,
    args=(2, 2),
    description="Gives a container another name.",
    examples=("rename web old-web",),
    complete="containers",
)
INIT = Command(
    "[options] CONTAINER [CONTAINER...]",
    init,
    INIT_OPTIONS,
    args=check_selection,
    description="Makes containers' namespaces and file systems ready; `start` then begins their programs.",
    examples=("init web", "init --all"),
    complete="containers",
)
EXISTS = Command(
    "[options] CONTAINER",
    exists,
    EXISTS_OPTIONS,
    args=(1, 1),
    description="Ends with 0 where the container exists, with 1 where it does not.",
    examples=("container exists web",),
    complete="containers",
)
PRUNE = Command(
    "[options]",
    prune,
    PRUNE_OPTIONS,
    args=check_prune,
    description="Removes all containers that do not run.",
    examples=("container prune --force", "container prune --filter until=24h"),
)
CLEANUP = Command(
    "[options] CONTAINER [CONTAINER...]",
    cleanup,
    CLEANUP_OPTIONS,
    args=check_selection,
    description="Clears what a killed monitor has left of containers that have ended.",
    examples=("container cleanup web", "container cleanup --all"),
    complete="containers",
)
