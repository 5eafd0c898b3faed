"""The bytes of an image's layers for push and save: the blob as it came, or the very same archive made again.

A plain archive is rebuilt from the unpacked layer and its recipe and always has the right diff ID; a compressed blob
that was dropped cannot be made again bit by bit, because that takes the compressor it came from. `exact` says which.
"""

from __future__ import annotations

import os
from hashlib import sha256

from rootless.errors import RootlessError
from rootless.image.store import Image, ImageStore
from rootless.oci import manifest as documents
from rootless.oci.manifest import Manifest
from rootless.storage import compress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from rootless.storage.unpack import Helper, Job

_READ = 1 << 20


class LayerSource:
    """One layer of an image that is here."""

    __slots__ = ("_store", "chain", "descriptor", "diff_id")

    def __init__(
        self, store: ImageStore, descriptor: documents.Descriptor, chain: str, diff_id: str
    ) -> None:
        self._store = store
        self.descriptor = descriptor
        self.chain = chain
        self.diff_id = diff_id

    @property
    def has_blob(self) -> bool:
        return self._store.blobs.has(self.descriptor.digest)

    @property
    def exact(self) -> bool:
        """Whether the blob that the manifest names can be had without fetching it."""
        return self.has_blob or (
            self.descriptor.digest == self.diff_id and self._store.layers.is_rebuildable(self.chain)
        )

    @property
    def plain_size(self) -> int:
        size: int = self._store.layers.record(self.chain)["size"]
        return size

    def open_exact(self, helper: Helper) -> int:
        """Return a file with the blob's very bytes; the caller closes it."""
        if self.has_blob:
            return self._store.blobs.open(self.descriptor.digest)
        if self.descriptor.digest != self.diff_id:
            raise RootlessError(
                f"blob {self.descriptor.digest} was dropped and cannot be made again as it was",
                hint="pull the image again",
            )
        out = self._temporary()
        try:
            self.write_plain(helper, out)
            os.lseek(out, 0, os.SEEK_SET)
        except BaseException:
            os.close(out)
            raise
        return out

    def open_compressed(self, helper: Helper, kind: str, level: int | None = None) -> Packed:
        """Compress the layer anew."""
        out = self._temporary()
        try:
            packer = compress.Deflater(kind, level)
            digest = sha256()
            size = 0
            for block in self.plain(helper):
                data = packer.compress(block)
                if data:
                    digest.update(data)
                    size += len(data)
                    _write(out, data)
            data = packer.flush()
            digest.update(data)
            size += len(data)
            _write(out, data)
            os.lseek(out, 0, os.SEEK_SET)
        except BaseException:
            os.close(out)
            raise
        return Packed(out, f"sha256:{digest.hexdigest()}", size)

    def write_plain(self, helper: Helper, out: int) -> None:
        """Write the layer's archive to a descriptor, which the worker does itself where it makes it again."""
        if self._store.layers.is_rebuildable(self.chain):
            self._check(self._start_rebuild(helper, out).wait())
            return
        for block in self.plain(helper):
            _write(out, block)

    def plain(self, helper: Helper) -> Iterator[bytes]:
        """Yield the layer's archive; an error where it is not what the diff ID says comes at the end."""
        if self._store.layers.is_rebuildable(self.chain):
            yield from self._rebuilt(helper)
            return
        digest = self.descriptor.digest if self.has_blob else self.diff_id
        if not self._store.blobs.has(digest):
            raise RootlessError(
                f"layer {self.diff_id}: its archive cannot be made again and its blob is gone",
                hint="pull the image again",
            )
        yield from self._inflated(digest)

    def _inflated(self, digest: str) -> Iterator[bytes]:
        from rootless.oci.digest import hasher

        hash = hasher(self.diff_id)
        fd = self._store.blobs.open(digest)
        try:
            for block in compress.inflate(lambda: os.read(fd, 1 << 18)):
                hash.update(block)
                yield block
        finally:
            os.close(fd)
        if hash.hexdigest() != self.diff_id.partition(":")[2]:
            raise RootlessError(
                f"blob {digest} is damaged", hint="`rootless system check --repair`"
            )

    def rebuild(self, helper: Helper) -> tuple[int, Job]:
        """Begin to make the archive again out of the files: a pipe to read, and the job that says how it ended."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        enlarge_pipe(reader)
        try:
            return reader, self._start_rebuild(helper, writer)
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)

    def _start_rebuild(self, helper: Helper, out: int) -> Job:
        folder = self._store.layers.folder(self.chain)
        opened: list[int] = []
        try:
            opened.append(os.open(f"{folder}/diff", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            opened.append(os.open(f"{folder}/recipe", os.O_RDONLY | os.O_CLOEXEC))
            algorithm = self.diff_id.partition(":")[0]
            return helper.run("rebuild", [*opened, out], algorithm=algorithm)
        finally:
            for fd in opened:
                os.close(fd)

    def _rebuilt(self, helper: Helper) -> Iterator[bytes]:
        reader, job = self.rebuild(helper)
        try:
            while block := os.read(reader, _READ):
                yield block
        finally:
            os.close(reader)
        self._check(job.wait())

    def _check(self, rebuilt: dict[str, Any]) -> None:
        if rebuilt["diff_id"] != self.diff_id:
            raise RootlessError(
                f"layer {self.diff_id}: its files were changed since it was unpacked",
                hint="`rootless system check --repair` finds and mends such layers",
            )

    def _temporary(self) -> int:
        self._store.make()
        return self._store.blobs.nameless()


class Packed:
    """A compressed layer in a nameless file."""

    __slots__ = ("digest", "fd", "size")

    def __init__(self, fd: int, digest: str, size: int) -> None:
        self.fd = fd
        self.digest = digest
        self.size = size


def manifest_of(store: ImageStore, image: Image) -> Manifest:
    """An image's manifest, parsed."""
    manifest = documents.parse(image.manifest(), f"image {image.id[:12]}")
    if not isinstance(manifest, Manifest):
        raise RootlessError(f"image {image.id[:12]}: its record leads to an index")
    return manifest


def layers_of(store: ImageStore, image: Image) -> list[LayerSource]:
    """An image's layers, base first."""
    return [
        LayerSource(store, descriptor, chain, diff_id)
        for descriptor, chain, diff_id in zip(
            manifest_of(store, image).layers, image.layers, image.diff_ids, strict=True
        )
    ]


def enlarge_pipe(fd: int) -> None:
    """A megabyte in place of 64 KiB, where the user's limit on pipe memory still allows it."""
    import fcntl

    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, 1 << 20)
    except OSError:
        pass


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
