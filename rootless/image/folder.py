"""A folder or an archive in the place of a registry: what push and manifest push send goes into an OCI layout or `dir:`.

oci:PATH[:NAME]     an OCI image layout, a new one or one that is there and gets more (image-spec, image-layout.md)
oci-archive:PATH    the same in a new tar file
dir:PATH            the files of one image or list, flat; a folder that is one already is written anew
"""

from __future__ import annotations

import contextlib
import os
import shutil
from abc import ABC, abstractmethod

from rootless.errors import RootlessError, Usage
from rootless.files import write_atomic
from rootless.oci import manifest as documents
from rootless.oci.digest import is_digest, is_hex, sha256
from rootless.oci.document import MANIFEST_MAX_BYTES, parse_object
from rootless.oci.image import emit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Any

    from rootless.image.push import PushOptions

# What a pushed manifest is called that shall be the folder's own; the folder has its name already.
ANY_TAG = "latest"
_REF_NAME = "org.opencontainers.image.ref.name"
_DIR_VERSION = b"Directory Transport Version: 1.1\n"
_READ = 1 << 20


def suited(options: PushOptions, target: Folder, transport: str) -> PushOptions:
    """Options for a target: a layout holds OCI manifests only, a flat folder what there is."""
    from copy import copy

    if not target.keeps_docker and options.format == "v2s2":
        raise Usage(f"--format v2s2: {transport}: holds OCI manifests only")
    found = copy(options)
    if target.keeps_docker:
        found.keep_plain = not options.compress_dir
    else:
        found.format = "oci"
    return found


class Folder(ABC):
    """What pushing needs of a registry, with files. Repositories are not told apart."""

    #: No registry's: nothing can be mounted from another repository.
    host = ""
    keeps_docker = False

    def __init__(self, path: str) -> None:
        self.path = path

    @abstractmethod
    def blob_path(self, digest: str) -> str:
        """Where a blob's file is, or would be."""

    def has_blob(self, _repository: str, digest: str) -> bool:
        return os.path.exists(self.blob_path(digest))

    def mount_blob(self, _repository: str, _digest: str, _source: str) -> bool:
        return False

    def upload_blob(
        self,
        _repository: str,
        digest: str,
        source: IO[bytes],
        size: int,
        sent: Callable[[int], None] | None = None,
    ) -> None:
        path = self.blob_path(digest)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        part = f"{path}.{os.getpid()}.tmp"
        try:
            with open(part, "xb") as target:
                while size and (block := source.read(min(_READ, size))):
                    target.write(block)
                    size -= len(block)
                    if sent is not None:
                        sent(len(block))
            os.rename(part, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
            raise

    def fetch_manifest(self, _repository: str, digest: str) -> tuple[Any, str]:
        """A manifest that was pushed before, parsed; and its digest."""
        with open(self.manifest_path(digest), "rb") as file:
            return documents.parse(file.read(MANIFEST_MAX_BYTES), digest), digest

    def manifest_path(self, digest: str) -> str:
        return self.blob_path(digest)

    def push_manifest(
        self, _repository: str, tag_or_digest: str, data: bytes, media_type: str
    ) -> str:
        """Store a manifest: by its digest as a part of a list, else as what the folder is about."""
        digest = sha256(data)
        path = self.manifest_path(digest)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_atomic(path, data, 0o644)
        if not is_digest(tag_or_digest):
            self.publish(digest, data, media_type)
        return digest

    @abstractmethod
    def publish(self, digest: str, data: bytes, media_type: str) -> None:
        """Say that a manifest which is there is what the folder is about."""


class Layout(Folder):
    """An OCI image layout."""

    def __init__(self, path: str, name: str) -> None:
        super().__init__(path)
        self._name = name
        if os.path.lexists(path) and not os.path.isdir(path):
            raise RootlessError(f"{path}: is not a folder")
        if os.path.isdir(path) and os.listdir(path) and not os.path.exists(f"{path}/oci-layout"):
            raise RootlessError(f"{path}: is neither empty nor an OCI layout")
        os.makedirs(path, exist_ok=True)

    def blob_path(self, digest: str) -> str:
        algorithm, _, value = digest.partition(":")
        return f"{self.path}/blobs/{algorithm}/{value}"

    def publish(self, digest: str, data: bytes, media_type: str) -> None:
        write_atomic(f"{self.path}/oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644)
        place = f"{self.path}/index.json"
        index: dict[str, Any] = {"schemaVersion": 2, "manifests": []}
        if os.path.exists(place):
            with open(place, "rb") as file:
                index = parse_object(file.read(MANIFEST_MAX_BYTES + 1), place)
        entry: dict[str, Any] = {"mediaType": media_type, "digest": digest, "size": len(data)}
        if self._name:
            entry["annotations"] = {_REF_NAME: self._name}
        index["manifests"] = [
            *(one for one in index.get("manifests") or [] if not self._is_replaced(one, digest)),
            entry,
        ]
        write_atomic(place, emit(index), 0o644)

    def _is_replaced(self, entry: object, digest: str) -> bool:
        if not isinstance(entry, dict):
            return True  # of no use to anybody
        annotations = entry.get("annotations")
        name = annotations.get(_REF_NAME, "") if isinstance(annotations, dict) else ""
        return bool(name == self._name and (name or entry.get("digest") == digest))


class Flat(Folder):
    """skopeo's `dir:`: blobs by their hexadecimal digits, and one manifest.json."""

    keeps_docker = True

    def __init__(self, path: str) -> None:
        super().__init__(path)
        if os.path.lexists(path) and not os.path.isdir(path):
            raise RootlessError(f"{path}: is not a folder")
        names = os.listdir(path) if os.path.isdir(path) else []
        if names and not (self._is_ours() and all(_is_flat_name(name) for name in names)):
            # What is thrown away has to be of this kind, every file of it.
            raise RootlessError(f"{path}: is neither empty nor a folder of the dir: transport")
        for name in names:
            os.unlink(f"{path}/{name}")
        os.makedirs(path, exist_ok=True)
        with open(f"{path}/version", "wb") as file:
            file.write(_DIR_VERSION)

    def _is_ours(self) -> bool:
        try:
            with open(f"{self.path}/version", "rb") as file:
                return file.read(64).startswith(_DIR_VERSION[:-4])
        except OSError:
            return False

    def blob_path(self, digest: str) -> str:
        return f"{self.path}/{digest.partition(':')[2]}"

    def manifest_path(self, digest: str) -> str:
        return f"{self.blob_path(digest)}.manifest.json"

    def publish(self, digest: str, data: bytes, media_type: str) -> None:
        os.rename(self.manifest_path(digest), f"{self.path}/manifest.json")


def _is_flat_name(name: str) -> bool:
    """Whether a file of the dir: transport is called so."""
    stem, _, rest = name.partition(".")
    if name in ("version", "manifest.json"):
        return True
    signature = name.removeprefix("signature-") if "." not in name else stem
    parts = ("", "manifest.json")  # or a part that a killed command has left
    return (is_hex(stem) and len(stem) >= 64 and (rest in parts or rest.endswith("tmp"))) or (
        name.startswith("signature-") and signature.isdigit()
    )


@contextlib.contextmanager
def open_target(transport: str, rest: str, destination: str) -> Iterator[Folder]:
    """What a destination names; an archive is written when everything is there."""
    path, _, name = rest.partition(":")
    if transport == "dir":
        path, name = rest, ""
    if not path:
        raise Usage(f"{destination}: no path")
    if transport == "dir":
        yield Flat(path)
    elif transport == "oci":
        yield Layout(path, name)
    elif transport == "oci-archive":
        with _archive(path) as folder:
            yield Layout(folder, name)
    elif transport == "docker-archive":  # of a single image: push._save
        raise RootlessError(
            'copying multiple images: destination transport "docker-archive" does not support '
            "copying multiple images as a group"
        )
    else:
        raise Usage(f"{destination}: the {transport}: transport is not supported")


@contextlib.contextmanager
def _archive(path: str) -> Iterator[str]:
    """A folder beside an archive-to-be, whose files become its members."""
    from rootless.image.save import TarSink

    folder = f"{path}.{os.getpid()}.tmp"
    os.mkdir(folder, 0o700)
    try:
        yield folder
        part = f"{folder}/archive"
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            sink = TarSink(fd)
            names = ["oci-layout", "index.json"]
            for place, _, files in sorted(os.walk(f"{folder}/blobs")):
                names += [f"{place[len(folder) + 1 :]}/{name}" for name in sorted(files)]
            for name in names:
                with open(f"{folder}/{name}", "rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    sink.begin(name, size)
                    while block := file.read(_READ):
                        sink.data(block)
                    sink.end(size)
            sink.finish()
        finally:
            os.close(fd)
        os.rename(part, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
