"""Blobs into a registry: asked for first, mounted from another repository, sent whole or in chunks."""

from __future__ import annotations

from urllib.parse import urlencode, urljoin

from rootless.errors import RegistryError
from rootless.image.connection import Connection, with_query
from rootless.image.retry import AuthError, NotThere, is_transient

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

_CHUNK_BYTES = 64 << 20


class Uploads(Connection):
    """What push needs for blobs."""

    def has_blob(self, repository: str, digest: str) -> bool:
        path, what = (
            f"/v2/{repository}/blobs/{digest}",
            f"{self.host}/{repository}: looking for blob {digest}",
        )
        try:
            self.retry.run(
                lambda: self._call("HEAD", path, (repository,), "pull,push", what)
            ).close()
        except NotThere:
            return False
        return True

    def mount_blob(self, repository: str, digest: str, source: str) -> bool:
        """Ask for a blob of another repository of this registry; False leaves nothing behind."""
        path = f"/v2/{repository}/blobs/uploads/?{urlencode({'mount': digest, 'from': source})}"
        what = f"{self.host}/{repository}: mounting blob {digest} from {source}"
        try:
            response = self._call("POST", path, (repository,), "pull,push", what, also_pull=source)
        except RegistryError as error:
            if isinstance(error, (AuthError, NotThere)) or not is_transient(error):
                return False
            raise
        with response:
            if response.status == 201:
                return True
            location = urljoin(response.url, response.header("Location"))
        # 202 opened an upload in place of the mount; another follows when the blob is sent.
        if location:
            try:
                self._call("DELETE", location, (repository,), "pull,push", what).close()
            except RegistryError:
                pass
        return False

    def upload_blob(
        self,
        repository: str,
        digest: str,
        source: IO[bytes],
        size: int,
        sent: Callable[[int], None] | None = None,
    ) -> None:
        """Send a blob: in one piece, and after a broken connection in chunks that can be taken up again."""
        what = f"{self.host}/{repository}: uploading blob {digest}"
        start = source.tell()
        attempt = 0
        while True:
            source.seek(start)
            try:
                if attempt == 0:
                    self._upload_whole(repository, digest, source, size, what, sent)
                else:
                    self._upload_chunks(repository, digest, source, start, size, what, sent)
                return
            except RegistryError as error:
                # Some proxies refuse a large body outright; chunks get past them.
                chunks_may_do = attempt == 0 and error.code in ("SIZE_INVALID", "413")
                if not chunks_may_do and not self.retry.pause(attempt, error):
                    raise
                attempt += 1

    def _upload_whole(
        self,
        repository: str,
        digest: str,
        source: IO[bytes],
        size: int,
        what: str,
        tell: Callable[[int], None] | None,
    ) -> None:
        location, _ = self._start_upload(repository, what)
        url = with_query(location, {"digest": digest})
        headers = {"Content-Type": "application/octet-stream"}
        self._call(
            "PUT", url, (repository,), "pull,push", what, headers, source, size, sent=tell
        ).close()

    def _upload_chunks(
        self,
        repository: str,
        digest: str,
        source: IO[bytes],
        start: int,
        size: int,
        what: str,
        tell: Callable[[int], None] | None,
    ) -> None:
        location, chunk_min = self._start_upload(repository, what)
        chunk = max(_CHUNK_BYTES, chunk_min)
        sent = attempt = 0
        while sent < size:
            length = min(chunk, size - sent)
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Range": f"{sent}-{sent + length - 1}",
            }
            source.seek(start + sent)
            try:
                with self._call(
                    "PATCH",
                    location,
                    (repository,),
                    "pull,push",
                    what,
                    headers,
                    source,
                    length,
                    sent=tell,
                ) as response:
                    location = urljoin(response.url, response.header("Location", location))
                    sent += length
            except RegistryError as error:
                out_of_step = error.code in ("416", "RANGE_INVALID", "BLOB_UPLOAD_INVALID")
                if not (out_of_step and attempt < self.retry.count) and not self.retry.pause(
                    attempt, error
                ):
                    raise
                attempt += 1
                location, sent = self._upload_state(location, repository, what)
        url = with_query(location, {"digest": digest})
        self._call("PUT", url, (repository,), "pull,push", what, {}, b"").close()

    def _start_upload(self, repository: str, what: str) -> tuple[str, int]:
        with self._call(
            "POST", f"/v2/{repository}/blobs/uploads/", (repository,), "pull,push", what
        ) as response:
            location = response.header("Location")
            minimum = response.header("OCI-Chunk-Min-Length")
            if response.status != 202 or not location:
                raise RegistryError(
                    f"{what}: the registry opened no upload (status {response.status})"
                )
            known = minimum.isdigit() and len(minimum) < 12
            return urljoin(response.url, location), int(minimum) if known else 0

    def _upload_state(self, location: str, repository: str, what: str) -> tuple[str, int]:
        with self._call("GET", location, (repository,), "pull,push", what) as response:
            _, _, last = response.header("Range").rpartition("-")
            location = urljoin(response.url, response.header("Location", location))
        # "0-0" is how registries write both nothing and one byte; sending that byte again is refused with 416.
        return location, int(last) + 1 if last.isdigit() and last != "0" else 0
