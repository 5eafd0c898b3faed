"""Reading one blob of a registry, over as many connections as it takes."""

from __future__ import annotations

import io

from rootless.errors import RegistryError
from rootless.image.retry import NotThere
from rootless.image.transport import ConnectionFailed, Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.image.registry import Registry
    from rootless.oci.manifest import Descriptor


class BlobStream(io.RawIOBase):
    """A blob's bytes as they come in, no more than its descriptor promises; broken connections are mended inside."""

    def __init__(
        self, registry: Registry, repository: str, descriptor: Descriptor, offset: int = 0
    ) -> None:
        super().__init__()
        self._registry = registry
        self._repository = repository
        self._descriptor = descriptor
        self._position = offset
        self._attempt = 0
        self._cancelled = False
        self._what = f"{registry.host}/{repository}: blob {descriptor.digest}"
        self._urls = [""] + (descriptor.urls if descriptor.is_foreign else [])
        self._response: Response | None = None
        self._response = self._open_with_retries()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        while True:
            try:
                if self._response is None:
                    self._response = self._open()
                count = self._response.readinto(view)
                if not count and self._position < self._descriptor.size:
                    raise ConnectionFailed(
                        f"{self._what}: ends after {self._position} of {self._descriptor.size} bytes"
                    )
                break
            except RegistryError as error:
                self._drop()
                if self._cancelled or not self._registry.retry.pause(self._attempt, error):
                    raise
                self._attempt += 1
        self._position += count
        if self._position > self._descriptor.size:
            self._drop()
            raise RegistryError(
                f"{self._what}: is longer than the {self._descriptor.size} bytes that the manifest says"
            )
        if count:
            # Patience is for one bad stretch, not for the whole of a long download.
            self._attempt = 0 if count > 1 << 16 else self._attempt
        elif self._response is not None:
            self._response.close()
        return count

    def close(self) -> None:
        self._drop()
        super().close()

    def cancel(self) -> None:
        """Make a reader in another thread fail at once."""
        self._cancelled = True
        response = self._response
        if response is not None:
            response.interrupt()

    def _drop(self) -> None:
        if self._response is not None:
            self._response.abort()
            self._response = None

    def _open_with_retries(self) -> Response:
        while True:
            try:
                return self._open()
            except RegistryError as error:
                if self._urls[1:] and isinstance(error, NotThere):
                    del self._urls[0]
                    continue
                if not self._registry.retry.pause(self._attempt, error):
                    raise
                self._attempt += 1

    def _open(self) -> Response:
        headers = {"Range": f"bytes={self._position}-"} if self._position else {}
        if self._urls[0]:
            response = self._registry.foreign(self._urls[0], headers, self._what)
        else:
            response = self._registry.blob(
                self._repository, self._descriptor.digest, headers, self._what
            )
        if response.status == 206:
            unit, _, rest = response.header("Content-Range").partition(" ")
            if unit != "bytes" or rest.partition("-")[0] != str(self._position):
                response.abort()
                raise RegistryError(
                    f"{self._what}: the registry sent another part than the one asked for"
                )
            expected = self._descriptor.size - self._position
        else:
            expected = self._descriptor.size
        if response.length is not None and response.length != expected:
            response.abort()
            raise RegistryError(
                f"{self._what}: the registry has {response.length} bytes where the manifest says {expected}"
            )
        if response.status != 206 and self._position:
            _skip(
                response, self._position
            )  # it cannot send a part, so the part that is here goes by once more
        return response


def _skip(response: Response, count: int) -> None:
    buffer = memoryview(bytearray(1 << 16))
    while count:
        got = response.readinto(buffer[: min(count, len(buffer))])
        if not got:
            return
        count -= got
