"""How much a container's own changes hold, and all that it shows together, as `--size` tells it.

Podman's sums: the lengths of all regular files, a file with several names once.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.container.engine import Engine


def sizes_of(engine: Engine, record: dict[str, Any], image: Any) -> tuple[int, int]:
    """(bytes that it has changed, bytes with those of its image)."""
    own = changed_size(engine, record)
    return own, own + (image.size if image is not None else 0)


def changed_size(engine: Engine, record: dict[str, Any]) -> int:
    """Counted in the container's user namespace, where none of its folders is closed to us."""
    upper = f"{engine.containers.path(record['id'])}/upper"
    try:
        return tree_size(upper)
    except PermissionError:
        pass
    from rootless.container.filesystem import idmap_of
    from rootless.linux.userns import fork_in_userns

    reader, writer = os.pipe2(os.O_CLOEXEC)
    with os.fdopen(reader) as answer:
        try:
            child = fork_in_userns(
                idmap_of(engine, record), lambda: os.write(writer, str(tree_size(upper)).encode())
            )
        finally:
            os.close(writer)
        text = answer.read()
    child.wait()
    return int(text)


def tree_size(path: str) -> int:
    """The sum over a folder; no link is followed. What vanishes meanwhile counts nothing."""
    try:
        return _below(None, path, set())
    except FileNotFoundError:
        return 0


def _once(status: os.stat_result, seen: set[tuple[int, int]]) -> int:
    if status.st_nlink > 1:
        key = (status.st_dev, status.st_ino)
        if key in seen:
            return 0
        seen.add(key)
    return status.st_size


def _below(parent: int | None, name: str, seen: set[tuple[int, int]]) -> int:
    total = 0
    folder = os.open(
        name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent
    )
    try:
        for child in os.listdir(folder):
            try:
                status = os.stat(child, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    total += _below(folder, child, seen)
                elif stat.S_ISREG(status.st_mode):
                    total += _once(status, seen)
            except (FileNotFoundError, NotADirectoryError):
                continue
    finally:
        os.close(folder)
    return total
