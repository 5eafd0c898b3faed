"""Images into archives and folders: docker-archive, oci-archive, OCI layout, `dir`.

A layer goes out as it came, so that digests stay the same: from the store, made again, or once more from where its image
came (image/refetch.py); packed anew where none of these can be.
"""

from __future__ import annotations

import contextlib
import os

from rootless.errors import RootlessError
from rootless.image.reference import parse
from rootless.image.refetch import Refetch
from rootless.image.source import LayerSource, Packed, layers_of, manifest_of
from rootless.image.store import Image, ImageStore
from rootless.oci import manifest as documents
from rootless.oci.digest import sha256
from rootless.oci.image import emit
from rootless.storage import tar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.storage.unpack import Helper

FORMATS = ("docker-archive", "oci-archive", "oci-dir", "docker-dir")
_READ = 1 << 20
_DOCKER_TYPES = {
    "": documents.DOCKER_LAYER,
    "gzip": documents.DOCKER_LAYER_GZIP,
    "zstd": documents.DOCKER_LAYER_ZSTD,
}
_OCI_TYPES = {
    "": documents.OCI_LAYER,
    "gzip": documents.OCI_LAYER_GZIP,
    "zstd": documents.OCI_LAYER_ZSTD,
}


class Wanted:
    """An image to save, and the names it has in the archive."""

    __slots__ = ("image", "names")

    def __init__(self, image: Image, names: list[str]) -> None:
        self.image = image
        self.names = names


class TarSink:
    """Members of a tar archive, to a file or a pipe; the same images give the same bytes."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._seen: set[str] = set()

    def has(self, name: str) -> bool:
        return name in self._seen

    def begin(self, name: str, size: int) -> None:
        self._seen.add(name)
        self._folders(name.rpartition("/")[0])
        entry = tar.Entry(os.fsencode(name))
        entry.size = size
        _write(self.fd, tar.header(entry))

    def _folders(self, name: str) -> None:
        # skopeo, as an ordinary user, fails over folders that it has to make up.
        if not name or name in self._seen:
            return
        self._folders(name.rpartition("/")[0])
        self._seen.add(name)
        entry = tar.Entry(os.fsencode(f"{name}/"), tar.DIRECTORY)
        entry.mode = 0o755
        _write(self.fd, tar.header(entry))

    def data(self, block: bytes) -> None:
        _write(self.fd, block)

    def end(self, size: int) -> None:
        _write(self.fd, bytes(-size % tar.BLOCK))

    def add(self, name: str, data: bytes) -> None:
        self.begin(name, len(data))
        self.data(data)
        self.end(len(data))

    def finish(self) -> None:
        _write(self.fd, tar.END)


class FolderSink:
    """Files of a folder, each of which has its name only when it is whole: by its name it is known not to be needed again."""

    def __init__(self, path: str) -> None:
        self._made = False
        try:
            os.mkdir(path, 0o777)
            self._made = True
        except FileExistsError:
            if os.listdir(path):
                raise RootlessError(f"{path}: is not an empty folder") from None
        except OSError as error:
            raise RootlessError(
                f"{path}: cannot make it: {(error.strerror or '').lower()}"
            ) from error
        self._path = path
        self.fd = -1
        self._part = ""
        self._seen: set[str] = set()

    def has(self, name: str) -> bool:
        return name in self._seen

    def begin(self, name: str, size: int) -> None:
        self._seen.add(name)
        self._part = f"{self._path}/{name}"
        os.makedirs(os.path.dirname(self._part), exist_ok=True)
        how = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        self.fd = os.open(f"{self._part}.tmp", how, 0o666)

    def data(self, block: bytes) -> None:
        _write(self.fd, block)

    def end(self, size: int) -> None:
        os.close(self.fd)
        os.rename(f"{self._part}.tmp", self._part)

    def add(self, name: str, data: bytes) -> None:
        self.begin(name, len(data))
        self.data(data)
        self.end(len(data))

    def finish(self) -> None:
        pass

    def discard(self) -> None:
        """After a failure: remove what was written, and the folder if it was made for it."""
        folders = {os.path.dirname(name) for name in self._seen}
        for name in self._seen:
            for path in (f"{self._path}/{name}", f"{self._path}/{name}.tmp"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
        for folder in sorted({*folders, *map(os.path.dirname, folders)} - {""}, reverse=True):
            with contextlib.suppress(OSError):
                os.rmdir(f"{self._path}/{folder}")
        if self._made:
            with contextlib.suppress(OSError):
                os.rmdir(self._path)


Sink = TarSink | FolderSink


def save(
    store: ImageStore,
    images: list[Wanted],
    kind: str,
    sink: Sink,
    *,
    uncompressed: bool = False,
    compress_dir: bool = False,
) -> None:
    """Write images in one of FORMATS."""
    with store.hold(), store.helper() as helper:
        if kind == "docker-archive":
            _docker_archive(store, images, sink, helper)
        elif kind == "docker-dir":
            _dir(store, images, sink, helper, compress_dir)
        elif kind in ("oci-archive", "oci-dir"):
            _oci(store, images, sink, helper, uncompressed)
        else:
            raise RootlessError(f"unknown format {kind!r}: {', '.join(FORMATS)} are known")
    sink.finish()


def _docker_archive(store: ImageStore, images: list[Wanted], sink: Sink, helper: Helper) -> None:
    listing: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    for wanted in images:
        members = []
        layers = layers_of(store, wanted.image)
        for layer in layers:
            name = f"{layer.diff_id.partition(':')[2]}.tar"
            members.append(name)
            _put_plain(layer, name, sink, helper)
        config = f"{wanted.image.id}.json"
        if not sink.has(config):
            sink.add(config, wanted.image.config_bytes())
        tags = [name for name in wanted.names if "@" not in name]
        listing.append({"Config": config, "RepoTags": tags or None, "Layers": members})
        for name in tags:
            reference = parse(name)
            if layers:
                top = layers[-1].diff_id.partition(":")[2]
                repositories.setdefault(reference.name, {})[reference.tag] = top
    sink.add("manifest.json", emit_list(listing))
    if repositories:
        sink.add("repositories", emit(repositories))


def emit_list(value: list[dict[str, Any]]) -> bytes:
    import json

    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _oci(
    store: ImageStore, images: list[Wanted], sink: Sink, helper: Helper, uncompressed: bool
) -> None:
    sink.add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    entries: list[dict[str, Any]] = []
    for wanted in images:
        data, media_type = _oci_image(store, wanted.image, sink, helper, uncompressed)
        digest = sha256(data)
        name = _blob_name(digest)
        if not sink.has(name):
            sink.add(name, data)
        entry: dict[str, Any] = {"mediaType": media_type, "digest": digest, "size": len(data)}
        for tag in wanted.names or [""]:
            named = dict(entry)
            if tag:
                named["annotations"] = {"org.opencontainers.image.ref.name": tag}
            if named not in entries:
                entries.append(named)
    sink.add(
        "index.json",
        emit({"schemaVersion": 2, "manifests": entries}),
    )


def _oci_image(
    store: ImageStore, image: Image, sink: Sink, helper: Helper, uncompressed: bool
) -> tuple[bytes, str]:
    """Write an image's blobs; return its manifest."""
    manifest = manifest_of(store, image)
    layers = layers_of(store, image)
    config = image.config_bytes()
    if not sink.has(_blob_name(manifest.config.digest)):
        sink.add(_blob_name(manifest.config.digest), config)
    # As it came, if it is an OCI image of packed layers. One that was never packed is so now.
    as_it_is = (
        manifest.media_type == documents.OCI_MANIFEST
        and any(layer.descriptor.packing for layer in layers)
        and not uncompressed
    )
    descriptors = []
    with Refetch(store, image) as refetch:
        for layer in layers:
            if uncompressed:
                name, size = _blob_name(layer.diff_id), layer.plain_size
                _put_plain(layer, name, sink, helper)
                descriptors.append(
                    {"mediaType": documents.OCI_LAYER, "digest": layer.diff_id, "size": size}
                )
                continue
            packing = layer.descriptor.packing
            if (packing or as_it_is) and _put_exact(layer, sink, helper, refetch):
                digest, size = layer.descriptor.digest, layer.descriptor.size
            else:
                as_it_is = False
                packed = layer.open_compressed(helper, "gzip")
                digest, size, packing = packed.digest, packed.size, "gzip"
                _put_packed(packed, sink)
            descriptors.append({"mediaType": _OCI_TYPES[packing], "digest": digest, "size": size})
    if as_it_is:
        return manifest.data, manifest.media_type
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": documents.OCI_MANIFEST,
        "config": {
            "mediaType": documents.OCI_CONFIG,
            "digest": manifest.config.digest,
            "size": len(config),
        },
        "layers": descriptors,
    }
    if manifest.raw.get("annotations"):
        document["annotations"] = manifest.raw["annotations"]
    return emit(document), documents.OCI_MANIFEST


def _dir(
    store: ImageStore, images: list[Wanted], sink: Sink, helper: Helper, compressed: bool
) -> None:
    """The `dir` transport: one image, its blobs under the hex parts of their digests."""
    if len(images) != 1:
        raise RootlessError("the docker-dir format holds one image only")
    image = images[0].image
    manifest = manifest_of(store, image)
    layers = layers_of(store, image)
    sink.add("version", b"Directory Transport Version: 1.1\n")
    config = image.config_bytes()
    sink.add(manifest.config.digest.partition(":")[2], config)
    as_it_is = manifest.media_type == documents.DOCKER_MANIFEST and not compressed
    descriptors = []
    with Refetch(store, image) as refetch:
        for layer in layers:
            packing = layer.descriptor.packing
            if (packing or not compressed) and _put_exact(layer, sink, helper, refetch, flat=True):
                digest, size = layer.descriptor.digest, layer.descriptor.size
            elif compressed:
                packed = layer.open_compressed(helper, "gzip")
                digest, size, packing = packed.digest, packed.size, "gzip"
                _put_packed(packed, sink, flat=True)
            else:
                as_it_is = False
                digest, size, packing = layer.diff_id, layer.plain_size, ""
                _put_plain(layer, digest.partition(":")[2], sink, helper)
            descriptors.append(
                {"mediaType": _DOCKER_TYPES[packing], "size": size, "digest": digest}
            )
    if as_it_is:
        sink.add("manifest.json", manifest.data)
        return
    sink.add(
        "manifest.json",
        emit(
            {
                "schemaVersion": 2,
                "mediaType": documents.DOCKER_MANIFEST,
                "config": {
                    "mediaType": documents.DOCKER_CONFIG,
                    "size": len(config),
                    "digest": manifest.config.digest,
                },
                "layers": descriptors,
            }
        ),
    )


def _blob_name(digest: str, flat: bool = False) -> str:
    return digest.partition(":")[2] if flat else f"blobs/{digest.replace(':', '/')}"


def _put_plain(layer: LayerSource, name: str, sink: Sink, helper: Helper) -> None:
    if sink.has(name):
        return
    size = layer.plain_size
    sink.begin(name, size)
    layer.write_plain(helper, sink.fd)
    sink.end(size)


def _put_exact(
    layer: LayerSource, sink: Sink, helper: Helper, refetch: Refetch, *, flat: bool = False
) -> bool:
    """Write a layer's blob as it came; False where nobody has it any more."""
    name = _blob_name(layer.descriptor.digest, flat)
    if sink.has(name):
        return True
    fd = layer.open_exact(helper) if layer.exact else refetch.open(layer.descriptor)
    if fd is None:
        return False
    _put_file(fd, name, layer.descriptor.size, sink)
    return True


def _put_packed(packed: Packed, sink: Sink, *, flat: bool = False) -> None:
    name = _blob_name(packed.digest, flat)
    if sink.has(name):
        os.close(packed.fd)
        return
    _put_file(packed.fd, name, packed.size, sink)


def _put_file(fd: int, name: str, size: int, sink: Sink) -> None:
    try:
        if os.fstat(fd).st_size != size:
            raise RootlessError(f"blob {name} is damaged", hint="`rootless system check --repair`")
        sink.begin(name, size)
        while block := os.read(fd, _READ):
            sink.data(block)
        sink.end(size)
    finally:
        os.close(fd)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
