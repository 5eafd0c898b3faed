"""What an image changed against the one below it, or against another image."""

from __future__ import annotations

import os

from rootless.image.source import enlarge_pipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.image.store import Image, ImageStore


def changes(store: ImageStore, image: Image, other: Image | None = None) -> list[tuple[str, str]]:
    """Pairs of kind (A, C, D) and path. Without another image: what the topmost layer did to those below."""
    if other is None:
        return layer_changes(store, store.lowers(image), compare=0)
    return layer_changes(
        store, [*store.lowers(image), *store.lowers(other)], compare=len(image.layers)
    )


def layer_changes(
    store: ImageStore, folders: list[str], *, compare: int = 0
) -> list[tuple[str, str]]:
    """Changes of the first folder against those below it, or with `compare` of the first so many against the rest."""
    opened: list[int] = []
    with store.helper() as helper:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        enlarge_pipe(reader)
        try:
            for folder in folders:
                opened.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            if not opened:
                return []
            job = helper.run("changes", [*opened, writer], split=compare, compare=bool(compare))
            os.close(writer)
            writer = -1
            data = b""
            while block := os.read(reader, 1 << 20):
                data += block
            job.wait()
        finally:
            for fd in (*opened, reader, writer):
                if fd >= 0:
                    os.close(fd)
    found = []
    for line in data.split(b"\0")[:-1]:
        kind, _, path = line.partition(b" ")
        found.append((kind.decode(), "/" + os.fsdecode(path)))
    return found
