"""Compressed layers once more from where their image came: the store keeps layers unpacked, and no blob beside them.

What a compressor made cannot be made again bit by bit without that very compressor, and with other bytes an image that is
pushed on would have another digest. So an image's record names the repositories that have its blobs.
"""

from __future__ import annotations

import os

from rootless import log
from rootless.errors import RootlessError
from rootless.image import reference
from rootless.image.session import Access, Session
from rootless.oci.digest import hasher
from rootless.storage.blobs import explain_full

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from rootless.image.registry import Registry
    from rootless.image.store import Image, ImageStore
    from rootless.oci.manifest import Descriptor

_BUFFER_BYTES = 1 << 20
# The other way, packing anew, is there: nobody should wait long for a registry that is gone.
_RETRIES = 1


class Refetch:
    """Fetches an image's blobs again; safe to share between threads."""

    def __init__(self, store: ImageStore, image: Image, session: Session | None = None) -> None:
        self._store = store
        self._image = image
        # Who pushes an image back to where it came from may be known there by --creds, and nowhere else.
        self._given = session
        authfile = session.access.authfile if session is not None else ""
        self._session = Session(Access(authfile=authfile, retry=_RETRIES))
        self._warned = False

    def open(self, layer: Descriptor) -> int | None:
        """Return a nameless file with a layer's blob, or None, after a warning, where nobody has it."""
        fd, reason = self.fetch(layer)
        if fd is None and not self._warned:
            self._warned = True
            log.warn(
                f"layer {layer.digest[:19]} is packed anew, which gives the image another digest: {reason}"
            )
        return fd

    def fetch(self, layer: Descriptor) -> tuple[int | None, str]:
        """Return such a file, or None and why not."""
        reasons: list[str] = []
        for name, insecure in self._image.origins:
            try:
                return self._from(name, insecure, layer), ""
            except RootlessError as error:
                reasons.append(error.message)
        return None, "; ".join(reasons) or "it is not known where it came from"

    def _from(self, name: str, insecure: bool, layer: Descriptor) -> int:
        source = reference.parse(f"{name}@{self._image.digest}")
        error = RootlessError(f"{name}: no registry to ask")
        for endpoint in self._session.config.endpoints(source):
            host = endpoint.reference.domain
            given = self._given
            if given is not None and given.serves(host):
                registry = given.registry(host, insecure=endpoint.insecure)
            else:
                # As it was pulled: --tls-verify=false was said of this repository, not of its mirrors.
                plain = endpoint.insecure or (insecure and not endpoint.is_mirror)
                registry = self._session.registry(host, insecure=plain)
            try:
                return fetch_to_file(self._store, registry, endpoint.reference.path, layer)
            except RootlessError as one:
                error = one
        raise error

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> Refetch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def fetch_to_file(store: ImageStore, registry: Registry, repository: str, one: Descriptor) -> int:
    """Return a nameless file with a blob of a registry's, verified."""
    store.make()
    out = store.blobs.nameless()
    try:
        digest = hasher(one.digest)
        buffer = memoryview(bytearray(_BUFFER_BYTES))
        with registry.open_blob(repository, one) as stream:
            while count := stream.readinto(buffer):
                digest.update(buffer[:count])
                view = buffer[:count]
                while view:
                    view = view[os.write(out, view) :]
        if digest.hexdigest() != one.digest.partition(":")[2]:
            raise RootlessError(
                f"{registry.host}/{repository}: blob {one.digest}: the answer has another digest"
            )
        os.lseek(out, 0, os.SEEK_SET)
    except OSError as error:
        os.close(out)
        raise explain_full(error, store.root) from error
    except BaseException:
        os.close(out)
        raise
    return out
