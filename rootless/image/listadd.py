"""What goes into a manifest list: images that are here or in a registry, files as artifacts."""

from __future__ import annotations

import os

from rootless.errors import NotFound, RootlessError, Usage
from rootless.image import platform as platforms
from rootless.image import reference
from rootless.image.collecting import Bringing
from rootless.image.lists import ManifestList, find
from rootless.image.push import manifest_for
from rootless.image.session import Reporter, Session
from rootless.image.store import Image, ImageStore, ImageUnknown
from rootless.oci import manifest as documents
from rootless.oci.digest import is_digest, sha256
from rootless.oci.document import CONFIG_MAX_BYTES
from rootless.oci.image import emit, parse_config
from rootless.oci.manifest import Index, Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TITLE = "org.opencontainers.image.title"
_UNKNOWN_ARTIFACT = "application/vnd.unknown.artifact.v1"


class Entry:
    """What the user says of an entry, as against what its image says."""

    __slots__ = ("annotations", "arch", "features", "os", "os_features", "os_version", "variant")

    def __init__(
        self,
        *,
        arch: str = "",
        os_name: str = "",
        variant: str = "",
        os_version: str = "",
        os_features: list[str] | None = None,
        features: list[str] | None = None,
        annotations: dict[str, str] | None = None,
    ) -> None:
        self.arch = arch
        self.os = os_name
        self.variant = variant
        self.os_version = os_version
        self.os_features = os_features or []
        self.features = features or []
        self.annotations = annotations or {}

    def apply(self, descriptor: dict[str, Any]) -> None:
        platform = dict(descriptor.get("platform") or {})
        words = {
            "architecture": self.arch,
            "os": self.os,
            "variant": self.variant,
            "os.version": self.os_version,
            "os.features": self.os_features,
            "features": self.features,
        }
        platform.update({key: value for key, value in words.items() if value})
        if platform:
            descriptor["platform"] = platform
        if self.annotations:
            descriptor["annotations"] = {
                **(descriptor.get("annotations") or {}),
                **self.annotations,
            }


class Artifact:
    """How files become an artifact."""

    __slots__ = ("config_path", "config_type", "layer_type", "subject", "titles", "type")

    def __init__(
        self,
        *,
        type: str = "",
        config_path: str = "",
        config_type: str = "",
        layer_type: str = "",
        subject: str = "",
        titles: bool = True,
    ) -> None:
        self.type = type
        self.config_path = config_path
        self.config_type = config_type
        self.layer_type = layer_type
        self.subject = subject
        self.titles = titles


def add(
    found: ManifestList, text: str, session: Session, entry: Entry, *, everything: bool = False
) -> None:
    """Add an image that is here or, by default, in a registry; an index's one image for this machine, or all."""
    store = found.store
    transport, rest = reference.split_transport(text)
    if transport in ("", "containers-storage"):
        inner = find(store, rest)
        if inner is not None and inner.id != found.id:
            _add_list(found, inner, entry, everything)
            return
        image = store.find(rest)
        if image is not None:
            _add_image(found, image, rest, entry)
            return
        if transport:
            raise ImageUnknown(f"{rest}: image not known")
    elif transport in ("oci", "oci-archive", "docker-archive", "dir"):
        from rootless.image import local

        for image in local.pull(store, transport, rest, None, session):
            _add_image(found, image, "", entry)
        return
    elif transport != "docker":
        raise Usage(f"{text}: the {transport}: transport is not supported")
    _add_remote(found, rest, session, entry, everything)


def _add_image(found: ManifestList, image: Image, name: str, entry: Entry) -> None:
    manifest = manifest_for(found.store, image, name) if name else own_manifest(found.store, image)
    descriptor = _described(manifest)
    _set_platform(descriptor, image.config)
    entry.apply(descriptor)
    found.put(descriptor, f"image {image.id} {name}".rstrip())


def own_manifest(store: ImageStore, image: Image) -> Manifest:
    """The manifest by which a list refers to an image of this store."""
    from rootless.image.source import manifest_of

    return manifest_of(store, image)


def _add_list(found: ManifestList, inner: ManifestList, entry: Entry, everything: bool) -> None:
    entries = inner.entries
    if not everything:
        what = inner.name
        index = documents.parse(emit(inner.index), what)
        assert isinstance(index, Index)
        entries = [platforms.select(index, _platform(entry), what).raw]
    for one in entries:
        descriptor = dict(one)
        entry.apply(descriptor)
        found.put(descriptor, inner.record["sources"][one["digest"]])
        found.record["blobs"] += [b for b in inner.record["blobs"] if b[0] == one["digest"]]


def _platform(entry: Entry) -> platforms.Platform:
    return platforms.wanted("", entry.arch, entry.os, entry.variant)


def _add_remote(
    found: ManifestList, text: str, session: Session, entry: Entry, everything: bool
) -> None:
    from rootless.image import pull

    at, _ = pull.find(text, session, Reporter())
    repository = at.endpoint.reference.path
    name = at.name.name
    document = at.document
    if isinstance(document, Index):
        chosen = document.manifests
        if not everything:
            chosen = [platforms.select(document, _platform(entry), text)]
        for one in chosen:
            descriptor = dict(one.raw)
            entry.apply(descriptor)
            found.put(descriptor, f"docker {name}@{one.digest}")
        return
    descriptor = _described(document)
    if document.artifact_type:
        descriptor["artifactType"] = document.artifact_type
    else:
        config = at.registry.fetch_blob(repository, document.config, CONFIG_MAX_BYTES)
        _set_platform(descriptor, parse_config(config, text))
    entry.apply(descriptor)
    found.put(descriptor, f"docker {name}@{at.digest}")


def _described(manifest: Manifest) -> dict[str, Any]:
    return {
        "mediaType": manifest.media_type,
        "digest": sha256(manifest.data),
        "size": len(manifest.data),
    }


def _set_platform(descriptor: dict[str, Any], config: dict[str, Any]) -> None:
    platform = {
        "architecture": config.get("architecture") or "",
        "os": config.get("os") or "",
        "variant": config.get("variant") or "",
        "os.version": config.get("os.version") or "",
        "os.features": config.get("os.features") or [],
    }
    found = {key: value for key, value in platform.items() if value}
    if found:
        descriptor["platform"] = found


def add_artifact(
    found: ManifestList, paths: list[str], session: Session, entry: Entry, artifact: Artifact
) -> None:
    """Make an artifact of files and add it."""
    store = found.store
    store.make()
    with Bringing(store):
        config_type = artifact.config_type
        data = b"{}"
        if artifact.config_path:
            data = _read(artifact.config_path)
            config_type = config_type or "application/octet-stream"
        blobs = [store.blobs.put(data)]
        config: dict[str, Any] = {
            "mediaType": config_type or documents.OCI_EMPTY,
            "digest": blobs[0],
            "size": len(data),
        }
        layers = []
        for path in paths:
            digest, size = _store_file(store, path)
            blobs.append(digest)
            layer: dict[str, Any] = {
                "mediaType": artifact.layer_type or "application/octet-stream",
                "digest": digest,
                "size": size,
            }
            if artifact.titles:
                layer["annotations"] = {_TITLE: os.path.basename(path)}
            layers.append(layer)
        kind = artifact.type or ("" if artifact.config_path else _UNKNOWN_ARTIFACT)
        document: dict[str, Any] = {"schemaVersion": 2, "mediaType": documents.OCI_MANIFEST}
        if kind:
            document["artifactType"] = kind
        document |= {"config": config, "layers": layers}
        if artifact.subject:
            document["subject"] = _subject(store, artifact.subject, session)
        data = emit(document)
        digest = store.blobs.put(data)
        blobs.append(digest)
        descriptor: dict[str, Any] = {
            "mediaType": documents.OCI_MANIFEST,
            "digest": digest,
            "size": len(data),
        }
        if kind:
            descriptor["artifactType"] = kind
        entry.apply(descriptor)
        found.put(descriptor, "blobs")
        found.record["blobs"] += [[digest, blob] for blob in blobs]
        # At once: what no record names may be collected.
        found.save()


def _subject(store: ImageStore, text: str, session: Session) -> dict[str, Any]:
    transport, rest = reference.split_transport(text)
    if transport in ("", "containers-storage"):
        image = store.find(rest)
        if image is not None:
            return _described(manifest_for(store, image, rest))
    from rootless.image import pull

    at, _ = pull.find(rest, session, Reporter())
    return {
        "mediaType": at.document.media_type,
        "digest": at.digest,
        "size": len(at.document.data),
    }


def set_subject(found: ManifestList, text: str, session: Session) -> None:
    """Set the manifest that a list is about."""
    found.index["subject"] = _subject(found.store, text, session)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise RootlessError(f"{path}: {(error.strerror or '').lower()}") from error


def _store_file(store: ImageStore, path: str) -> tuple[str, int]:
    """Copy a file into the blobs."""
    import hashlib

    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            digest, size = f"sha256:{found}", file.tell()
            writer = store.blobs.writer(digest, size)
            if writer is not None:
                file.seek(writer.offset)
                with writer:
                    while block := file.read(1 << 20):
                        writer.write(block)
                    writer.commit()
    except OSError as error:
        raise RootlessError(f"{path}: {(error.strerror or '').lower()}") from error
    return digest, size


def resolve_entry(found: ManifestList, text: str) -> str:
    """Return the digest of the entry that a user names by its digest or by its image."""
    if is_digest(text):
        found.entry(text)
        return text
    image = found.store.find(reference.split_transport(text)[1])
    if image is not None:
        for digest, source in found.record["sources"].items():
            if source.startswith(f"image {image.id}"):
                return str(digest)
    raise NotFound(f"{found.name}: has no entry for {text}", hint="name the entry by its digest")


def inspect_remote(text: str, session: Session) -> tuple[dict[str, Any], bool]:
    """Return a registry's manifest, and whether it is an index."""
    from rootless.image import pull

    at, _ = pull.find(reference.split_transport(text)[1], session, Reporter())
    return at.document.raw, isinstance(at.document, Index)
