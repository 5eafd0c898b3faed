"""An image of one layer from a bare root file system: a tar archive in a file, from a pipe or from a web server."""

from __future__ import annotations

import os

from rootless.errors import RootlessError
from rootless.files import write_all
from rootless.image.collecting import Bringing
from rootless.image.members import ArchiveError
from rootless.image.reference import Reference, parse
from rootless.oci import manifest as documents
from rootless.oci.digest import sha256
from rootless.oci.image import emit
from rootless.storage.blobs import DiskFull, explain_full

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from rootless.image.store import Image, ImageStore
    from rootless.storage.layers import Staging
    from rootless.storage.unpack import Helper


def import_rootfs(
    store: ImageStore,
    source: int,
    config: dict[str, Any],
    names: Iterable[str] = (),
    *,
    what: str = "the archive",
    message: str = "",
) -> Image:
    """Make an image of one layer from a tar archive, as it comes from a file or pipe.

    `config` is what the image's config shall say, architecture and os included.
    """
    import time

    from rootless.oci.image import rfc3339

    store.make()
    with store.helper() as helper, Bringing(store):
        diff_id, size = _import_layer(store, helper, source, what)
        created = rfc3339(time.time())
        document = {
            "created": created,
            **config,
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [
                {
                    "created": created,
                    # docker's words for it, which Podman writes as well
                    "created_by": f"/bin/sh -c #(nop) ADD file:{diff_id.partition(':')[2]} in /",
                    "comment": message or "imported from tarball",
                }
            ],
        }
        config_bytes = emit(document)
        manifest = emit(
            {
                "schemaVersion": 2,
                "mediaType": documents.OCI_MANIFEST,
                "config": {
                    "mediaType": documents.OCI_CONFIG,
                    "digest": sha256(config_bytes),
                    "size": len(config_bytes),
                },
                "layers": [
                    {
                        "mediaType": documents.OCI_LAYER,
                        "digest": diff_id,
                        "size": size,
                    }
                ],
            }
        )
        return store.add_image(config_bytes, manifest, [str(_full(name)) for name in names])


def _import_layer(store: ImageStore, helper: Helper, source: int, what: str) -> tuple[str, int]:
    staging = store.layers.begin_new(helper)
    try:
        staging.start(source, stream=True)
        try:
            result = staging.finish()
        except DiskFull:
            raise
        except RootlessError as error:
            raise ArchiveError(f"{what}: {error.message}", hint=error.hint) from error
        if result["spoiled"]:
            # Kept as what it unpacks to, since its own bytes could not be made again.
            return _repack(store, helper, staging)
        staging.commit_new("", result)
    except BaseException:
        staging.abort()
        raise
    return staging.diff_id, result["size"]


def _repack(store: ImageStore, helper: Helper, first: Staging) -> tuple[str, int]:
    from rootless.image.commit import pack_layer

    try:
        return pack_layer(store, helper, [first.folder], "", raw=True)
    finally:
        first.abort()


def download(store: ImageStore, url: str) -> int:
    """Fetch a root file system from a web server into a nameless file."""
    from urllib import request
    from urllib.error import HTTPError, URLError

    class Redirects(request.HTTPRedirectHandler):
        """To http and https only: by default a server may send us to ftp as well."""

        def redirect_request(self, *args: Any) -> request.Request | None:
            if not str(args[-1]).startswith(("http://", "https://")):
                raise ArchiveError(f"{url}: the server redirects to {str(args[-1])[:200]!r}")
            return super().redirect_request(*args)

    store.make()
    limit = store.layers.limits.get("max_bytes", 256 << 30)
    out = store.blobs.nameless()
    try:
        with request.build_opener(Redirects()).open(url, timeout=60) as answer:
            total = 0
            while data := answer.read(1 << 18):
                total += len(data)
                if total > limit:
                    raise ArchiveError(f"{url}: larger than the limit of {limit} bytes")
                write_all(out, data)
            expected = answer.headers.get("Content-Length")
            if expected is not None and expected.isdigit() and int(expected) != total:
                raise ArchiveError(f"{url}: cut off after {total} of {expected} bytes")
    except (URLError, TimeoutError, ConnectionError, ValueError) as error:
        os.close(out)
        reason = error if isinstance(error, HTTPError) else getattr(error, "reason", None) or error
        text = (isinstance(reason, OSError) and reason.strerror) or str(reason)
        raise ArchiveError(f"{url}: cannot fetch it: {text}") from error
    except OSError as error:
        os.close(out)
        raise explain_full(error, store.root) from error
    except BaseException:
        os.close(out)
        raise
    os.lseek(out, 0, os.SEEK_SET)
    return out


def _full(name: str) -> Reference:
    reference = parse(name).with_default_tag()
    return reference if reference.domain else reference.with_domain("localhost")
