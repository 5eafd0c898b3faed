"""Which containers a command line means: names, ids and prefixes, --all, --latest, --cidfile, --filter."""

from __future__ import annotations

from rootless.container.status import all_statuses
from rootless.errors import NotFound, RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rootless.cli.table import Invocation
    from rootless.container.engine import Engine
    from rootless.container.status import Status


def read_cidfile(path: str) -> str:
    """The container id in a file that --cidfile has written."""
    try:
        with open(path) as file:
            return file.readline().strip()
    except OSError as error:
        raise RootlessError(
            f"reading CIDFile: open {path}: {(error.strerror or '').lower()}"
        ) from None


def select(
    engine: Engine,
    inv: Invocation,
    *,
    wanted: Callable[[Status], bool] | None = None,
    ignore: bool = False,
) -> tuple[list[tuple[str, str]], list[RootlessError]]:
    """((as written, id) of each container that is meant, errors of those that are not there).

    `wanted` says which of --all are meant; with `ignore` a missing one is no error.
    """
    options = inv.options
    if options.get("all") or (inv.given("filter") and options.get("filter")):
        statuses = all_statuses(engine)
        if options.get("filter"):
            from rootless.container.filters import matcher

            keep = matcher(engine, options["filter"])
            statuses = [one for one in statuses if keep(one)]
        return [(one.id, one.id) for one in statuses if wanted is None or wanted(one)], []
    if options.get("latest"):
        statuses = all_statuses(engine)
        if not statuses:
            raise NotFound("no containers: no such container")
        last = statuses[-1]
        return [(last.id, last.id)], []
    texts: list[str] = list(inv.args)
    missing: list[RootlessError] = []
    for path in options.get("cidfile") or ():
        try:
            texts.append(read_cidfile(path))
        except RootlessError as error:
            if not ignore:
                raise
            del error
    return resolve(engine, texts, ignore=ignore, missing=missing), missing


def resolve(
    engine: Engine, texts: Iterable[str], *, ignore: bool, missing: list[RootlessError]
) -> list[tuple[str, str]]:
    """Look up each text; a container that is named twice is meant once."""
    found: dict[str, str] = {}
    for text in texts:
        try:
            identity = engine.containers.lookup(text)
        except NotFound as error:
            if not ignore:
                missing.append(error)
            continue
        found.setdefault(identity, text)
    return [(text, identity) for identity, text in found.items()]
