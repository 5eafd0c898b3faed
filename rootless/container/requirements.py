"""Containers that need others: those of --requires, and those whose namespaces they join.

What a container needs is in its record, by id. That it is needed is noted in the other one's folder by a file of its id,
which counts only as long as that container is there: nothing has to be put right after a crash.
"""

from __future__ import annotations

import os

from rootless.errors import Conflict, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.container.engine import Engine
    from rootless.container.options import CreateOptions

#: Options that may name another container, and what Podman calls what is shared then.
_MODES = (
    ("pid", "pid"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("network", "net"),
    ("cgroupns", "cgroup"),
    ("userns", "user"),
)
_FOLDER = "dependents"


def find(engine: Engine, options: CreateOptions) -> list[str]:
    """The ids of all that a new container needs; its modes name them by id from here on, as a name may change."""
    found: dict[str, None] = {}
    for name in options.requires:
        try:
            found[engine.containers.lookup(name)] = None
        except NotFound as error:
            raise NotFound(
                f'"{name}" is not a valid container, cannot be used as a dependency: {error}'
            ) from None
    for attribute, said in _MODES:
        kind, colon, name = getattr(options, attribute).partition(":")
        if kind == "ns" and colon:
            setattr(options, attribute, f"ns:{_namespace_path(said, name)}")
        if kind != "container" or not colon:
            continue
        try:
            identity = engine.containers.lookup(name)
        except NotFound as error:
            raise NotFound(
                f"looking up container to share {said} namespace with: {error}"
            ) from None
        setattr(options, attribute, f"container:{identity}")
        found[identity] = None
    return list(found)


def _namespace_path(said: str, path: str) -> str:
    """What `ns:PATH` names has to be there, and is found from any folder from here on."""
    try:
        os.stat(path)
    except OSError as error:
        kind = {"net": "network", "pid": "PID", "ipc": "IPC", "uts": "UTS"}.get(said, said)
        raise NotFound(
            f"cannot find specified {kind} namespace path: stat {path}: {(error.strerror or '').lower()}"
        ) from None
    return os.path.abspath(path)


def note(engine: Engine, record: dict[str, Any]) -> None:
    """Tell the others that a container which has been made needs them."""
    for identity in record["requires"]:
        folder = f"{engine.containers.path(identity)}/{_FOLDER}"
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            pass
        except FileNotFoundError:
            continue  # removed meanwhile: the start will say so
        fd = os.open(f"{folder}/{record['id']}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.close(fd)


def dependents(engine: Engine, identity: str) -> list[str]:
    """The containers that need this one."""
    try:
        noted = os.listdir(f"{engine.containers.path(identity)}/{_FOLDER}")
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(one for one in noted if os.path.isdir(engine.containers.path(one)))


def check_free(engine: Engine, identity: str) -> None:
    """Refuse to remove a container that others need."""
    found = dependents(engine, identity)
    if found:
        raise Conflict(
            f"container {identity} has dependent containers which must be removed before it: {', '.join(found)}: "
            "container already exists",
            hint="`rootless rm --depend` removes them, too",
        )


def joins_stopped(engine: Engine, record: dict[str, Any]) -> bool:
    """Whether it joins namespaces of a container that does not run, so that they are there only when it is started."""
    from rootless.container.status import PAUSED, RUNNING, status_of

    options = record["options"]
    modes = (options.get(attribute, "").partition(":") for attribute, _ in _MODES)
    return any(
        status_of(engine, identity).word not in (RUNNING, PAUSED)
        for kind, _, identity in modes
        if kind == "container"
    )


def start_first(engine: Engine, identity: str) -> None:
    """Start what a container needs, and what that needs, where it does not run."""
    record = engine.containers.read(identity)
    for other in record.get("requires") or ():
        _start(engine, other, {identity})


def _start(engine: Engine, identity: str, before: set[str]) -> None:
    from rootless.container.attach import Session
    from rootless.container.status import PAUSED, RUNNING, status_of
    from rootless.container.supervise import start

    if identity in before or status_of(engine, identity).word in (RUNNING, PAUSED):
        return
    link = start(engine, identity)
    if link is not None:
        Session(link, stdin=False, tty=False, sig_proxy=False).wait_running()
