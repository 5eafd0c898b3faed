"""Layers unpacked by the real helper in a real user namespace, and read back through it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rootless.image.store import ImageStore
from rootless.linux.idmap import IdMap
from rootless.linux.userns import fork_in_userns
from rootless.paths import Paths
from rootless.runtime.idmap import default_idmap
from rootless.storage.layers import clear
from rootless.storage.tar import Input, Reader
from rootless.storage.unpack import Helper


def single() -> IdMap:
    """The map of a user without subordinate ids."""
    return IdMap([(0, os.geteuid(), 1)], [(0, os.getegid(), 1)])


def store(folder: Path, idmap: IdMap | None = None, **options: Any) -> ImageStore:
    made = ImageStore(
        Paths(str(folder / "data"), str(folder / "run")),
        idmap=(lambda: idmap) if idmap is not None else default_idmap,
        **options,
    )
    made.make()
    return made


def unpack(made: ImageStore, data: bytes, helper: Helper) -> str:
    """Unpack a layer; return its folder. An error leaves nothing."""
    staging = made.layers.begin_new(helper)
    try:
        fd = os.memfd_create("layer")
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        staging.start(fd, size=len(data))
        os.close(fd)
        result = staging.finish()
        staging.name("")
        staging.commit(result)
    except BaseException:
        staging.abort()
        raise
    return made.layers.path(staging.chain)


class Tree:
    """What a layer's folder holds as seen from inside the user namespace."""

    def __init__(self, folder: str, idmap: IdMap) -> None:
        self.found: dict[str, tuple[int, int, int, int, bytes]] = {}
        self.xattrs: dict[str, dict[str, bytes]] = {}
        self.links: dict[str, int] = {}
        self.mtimes: dict[str, int] = {}
        import pickle

        reader, writer = os.pipe()

        def body() -> None:
            found: dict[str, Any] = {}
            for base, folders, names in os.walk(folder):
                for name in [*folders, *names]:
                    path = os.path.join(base, name)
                    status = os.lstat(path)
                    content = b""
                    if os.path.islink(path):
                        content = os.fsencode(os.readlink(path))
                    elif os.path.isfile(path):
                        content = Path(path).read_bytes()
                    attributes = {
                        one: os.getxattr(path, one, follow_symlinks=False)
                        for one in os.listxattr(path, follow_symlinks=False)
                    }
                    found[os.path.relpath(path, folder)] = (
                        (status.st_mode, status.st_uid, status.st_gid, status.st_rdev, content),
                        attributes,
                        status.st_nlink,
                        status.st_mtime_ns,
                    )
            with os.fdopen(writer, "wb") as out:
                pickle.dump(found, out)

        child = fork_in_userns(idmap, body)
        os.close(writer)
        with os.fdopen(reader, "rb") as source:
            data = source.read()
        child.wait()
        for path, (facts, attributes, links, mtime) in pickle.loads(data).items():
            self.found[path] = facts
            self.xattrs[path] = attributes
            self.links[path] = links
            self.mtimes[path] = mtime

    def __contains__(self, path: str) -> bool:
        return path in self.found

    def mode(self, path: str) -> int:
        return self.found[path][0]

    def owner(self, path: str) -> tuple[int, int]:
        return self.found[path][1:3]

    def content(self, path: str) -> bytes:
        return self.found[path][4]


def empty(folder: Path, helper: Helper) -> None:
    clear(str(folder), helper)


def members(data: bytes) -> dict[bytes, Any]:
    """The entries of a tar archive by name."""
    blocks = iter([data])
    source = Input(lambda: next(blocks, b""))
    reader = Reader(source)
    found = {}
    while (entry := reader.next()) is not None:
        content = b"".join(bytes(piece) for piece in source.pieces(entry.size))
        found[entry.name] = (entry, content)
    return found
