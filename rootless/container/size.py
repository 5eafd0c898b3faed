"""How much a container's own changes hold, and all that it shows together, as `--size` tells it.

Podman's sums: the lengths of all regular files, a file with several names once.
"""

from __future__ import annotations

import os

from rootless.linux import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.container.engine import Engine
    from rootless.linux.idmap import IdMap


def sizes_of(engine: Engine, record: dict[str, Any], image: Any) -> tuple[int, int]:
    """(bytes that it has changed, bytes with those of its image)."""
    own = changed_size(engine, record)
    return own, own + (image.size if image is not None else 0)


def changed_size(engine: Engine, record: dict[str, Any]) -> int:
    """What the container itself has written, in bytes."""
    from rootless.container.filesystem import idmap_of

    upper = f"{engine.containers.path(record['id'])}/upper"
    return folder_size(upper, lambda: idmap_of(engine, record))


def folder_size(path: str, idmap: Callable[[], IdMap]) -> int:
    """A folder's size, counted in a user namespace of this map where parts of it are closed to us outside."""
    try:
        return tree.size(path)
    except PermissionError:
        pass
    from rootless.linux.userns import fork_in_userns

    reader, writer = os.pipe2(os.O_CLOEXEC)
    with os.fdopen(reader) as answer:
        try:
            child = fork_in_userns(idmap(), lambda: os.write(writer, str(tree.size(path)).encode()))
        finally:
            os.close(writer)
        text = answer.read()
    child.wait()
    return int(text)
