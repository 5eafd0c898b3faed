"""One image on its way into the store: its layers streamed, verified and unpacked, its record written last.

    with store.helper() as helper, Intake(store, helper, config, manifest) as intake:
        for layer in intake.layers():          any order, any thread, one thread per layer
            sink = layer.open()                None where the layer is there already
            sink.write(...); sink.finish()
        image = intake.commit(names)

A layer is unpacked while it arrives: the helper's worker follows the growing file. What it wrote becomes visible only
after both digests were right. A pull that breaks off leaves whole layers and parts of blobs, with which the next pull of
the same image goes on and which any other next command collects (image/collecting.py). What comes from an archive, or
finds the disk full, leaves nothing.
"""

from __future__ import annotations

import os
import threading

from rootless.errors import RootlessError
from rootless.image.collecting import Bringing, remove_unused
from rootless.oci.image import diff_ids, parse_config
from rootless.oci.manifest import Manifest
from rootless.storage.blobs import is_full
from rootless.storage.layers import LayerError, chain_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rootless.image.store import Image, ImageStore
    from rootless.storage.blobs import BlobWriter
    from rootless.storage.layers import Staging
    from rootless.storage.unpack import Helper, Job

# The worker is told of new bytes in steps of this size: each costs both sides a system call.
_ADVANCE = 1 << 18


class Intake:
    """One image coming in."""

    def __init__(
        self,
        store: ImageStore,
        helper: Helper | None,
        config_bytes: bytes,
        manifest_bytes: bytes,
        manifest: Manifest,
        what: str,
        *,
        origins: Iterable[tuple[str, bool]] = (),
    ) -> None:
        self.store = store
        # May be given later, and not at all where every layer is here already.
        self.helper = helper
        self.config_bytes = config_bytes
        self.manifest_bytes = manifest_bytes
        self.origins = list(origins)
        # What nobody else is known to have stays, for digests to be the same wherever the image goes.
        self.keep_blobs = store.keep_blobs or not self.origins
        self.config = parse_config(config_bytes, what)
        ids = diff_ids(self.config, what)
        if len(ids) != len(manifest.layers):
            raise LayerError(
                f"{what}: the config names {len(ids)} layers, the manifest {len(manifest.layers)}"
            )
        chains = chain_ids(ids)
        self._layers = [
            IncomingLayer(
                self,
                descriptor.digest,
                descriptor.size,
                ids[number],
                chains[number],
                chains[number - 1] if number else "",
            )
            for number, descriptor in enumerate(manifest.layers)
        ]
        # Unpacking takes a processor each; downloads run on beside it.
        self.slots = threading.BoundedSemaphore(max(2, len(os.sched_getaffinity(0))))
        self._bringing = Bringing(store)
        self._brought: list[str] = []

    def __enter__(self) -> Intake:
        self.store.make()
        self._bringing.__enter__()
        self._brought = [one.chain for one in self._layers if not self.store.layers.has(one.chain)]
        return self

    def __exit__(self, kind: object, error: BaseException | None, *_: object) -> None:
        self._bringing.__exit__(kind)
        if kind is None:
            return
        if is_full(error) or not self.origins:
            # Nobody goes on with a remainder on a disk that has no room for it, or while the archive is still there.
            for layer in self._layers:
                self.store.blobs.forget_partial(layer.digest)
            remove_unused(self.store, self._brought)
            self._bringing.settle()

    def layers(self) -> Iterator[IncomingLayer]:
        return iter(self._layers)

    def commit(self, names: Iterable[str] = (), *, digests: Iterable[str] = ()) -> Image:
        """Write the image's record and names."""
        return self.store.add_image(
            self.config_bytes, self.manifest_bytes, names, digests=digests, origins=self.origins
        )


class IncomingLayer:
    """One layer of it: what it is, and where its bytes go."""

    __slots__ = ("_intake", "chain", "diff_id", "digest", "parent", "size")

    def __init__(
        self, intake: Intake, digest: str, size: int, diff_id: str, chain: str, parent: str
    ) -> None:
        self._intake = intake
        self.digest = digest
        self.size = size
        self.diff_id = diff_id
        self.chain = chain
        self.parent = parent

    def unpack_file(self, fd: int, start: int, size: int) -> None:
        """Unpack a blob that is not compressed, and stands in a local file, without a copy of it."""
        intake = self._intake
        assert intake.helper is not None
        staging = intake.store.layers.begin(self.chain, self.parent, self.diff_id, intake.helper)
        if staging is None:
            return
        try:
            with intake.slots:
                staging.start(fd, start, size)
                result = staging.finish()
            if result["spoiled"]:
                self._keep(fd, start, size)
            staging.commit(result)
        except BaseException:
            staging.abort()
            raise

    def _keep(self, fd: int, start: int, size: int) -> None:
        writer = self._intake.store.blobs.writer(self.digest, self.size)
        if writer is not None:
            with writer:
                writer.restart()
                while size:
                    data = os.pread(fd, min(size, 1 << 20), start)
                    if not data:
                        break
                    writer.write(data)
                    start += len(data)
                    size -= len(data)
                writer.commit()

    @property
    def is_here(self) -> bool:
        """Whether nothing needs to be fetched: the layer is unpacked, or its blob is there."""
        store = self._intake.store
        return store.layers.has(self.chain) or store.blobs.has(self.digest)

    def open(self) -> Sink | None:
        """Return where to write the blob to, or None where the layer is there (or has just been unpacked).

        Waits for another process that is bringing in the same layer.
        """
        intake = self._intake
        store = intake.store
        assert intake.helper is not None
        staging = store.layers.begin(self.chain, self.parent, self.diff_id, intake.helper)
        if staging is None:
            return None
        try:
            writer = store.blobs.writer(self.digest, self.size)
            if writer is not None:
                return Sink(intake, staging, writer)
            # The blob is there from an interrupted pull, or from another image with other layers below.
            self._unpack(staging)
            return None
        except BaseException:
            staging.abort()
            raise

    def _unpack(self, staging: Staging) -> None:
        store = self._intake.store
        fd = store.blobs.open(self.digest)
        try:
            with self._intake.slots:
                staging.start(fd, size=os.fstat(fd).st_size)
                result = staging.finish()
        finally:
            os.close(fd)
        staging.commit(result)


class Sink:
    """Takes a layer's blob, from `offset` on."""

    __slots__ = ("_intake", "_job", "_slot", "_staging", "_told", "_writer")

    def __init__(self, intake: Intake, staging: Staging, writer: BlobWriter) -> None:
        self._intake = intake
        self._staging = staging
        self._writer = writer
        self._job: Job | None = None
        self._slot = False
        self._told = 0

    @property
    def offset(self) -> int:
        """How many bytes an earlier attempt has left."""
        return self._writer.offset

    def restart(self) -> None:
        """Begin again at offset 0, where the other end cannot send the rest."""
        if self._job is not None:
            raise RootlessError(f"blob {self._writer.digest}: cannot be started again")
        self._writer.restart()

    def write(self, data: bytes | memoryview) -> None:
        writer = self._writer
        writer.write(data)
        if writer.offset - self._told < _ADVANCE:
            return
        if self._job is None:
            if not self._slot:
                # Without a free slot the blob is stored first and unpacked in finish().
                self._slot = self._intake.slots.acquire(blocking=False)
                if not self._slot:
                    self._told = writer.offset
                    return
            self._job = self._staging.start(writer.fileno(), follow=True)
        self._job.advance(writer.offset)
        self._told = writer.offset

    def finish(self) -> None:
        """Verify the blob and its layer, and let both appear."""
        try:
            self._writer.verify()
            if self._job is None:
                if not self._slot:
                    self._intake.slots.acquire()
                    self._slot = True
                self._job = self._staging.start(self._writer.fileno(), size=self._writer.offset)
            else:
                self._job.end(self._writer.offset)
            try:
                result = self._staging.finish()
            except RootlessError:
                # The blob is what its digest says and still no good layer: there is nothing to resume.
                self._writer.discard()
                raise
            # An archive that came unpacked can be made again from its recipe: no need to keep it twice.
            if result["spoiled"] or (self._intake.keep_blobs and result["compression"]):
                self._writer.commit()
            else:
                self._writer.discard()
            self._staging.commit(result)
        except BaseException:
            self.abort()
            raise
        self._release()

    def abort(self) -> None:
        """Give up; what came of the blob is kept for a later resume."""
        self._writer.keep()
        try:
            self._staging.abort()
        finally:
            self._release()

    def _release(self) -> None:
        if self._slot:
            self._slot = False
            self._intake.slots.release()

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.abort()
