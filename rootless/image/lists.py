"""Manifest lists that are made here: kept as records, filled from images, registries and files, pushed to registries.

    lists/NAME      a list: its name and id, the index as it stands, where each entry's content is

An entry's content is not copied in: a local image stays one image, and what is in a registry is copied from there when the
list is pushed. Files of artifacts are the exception; the record names their blobs, which keeps them from being collected.
"""

from __future__ import annotations

import os

from rootless.errors import Conflict, NotFound, RootlessError, Usage
from rootless.files import make_dirs, read_json, write_json
from rootless.image import platform as platforms
from rootless.image import reference
from rootless.image.push import PushOptions, manifest_for, push_image
from rootless.image.session import Reporter, Session
from rootless.image.store import Image, ImageStore, ImageUnknown
from rootless.oci import manifest as documents
from rootless.oci.digest import is_digest, sha256
from rootless.oci.document import CONFIG_MAX_BYTES
from rootless.oci.image import emit, parse_config
from rootless.oci.manifest import Descriptor, Index, Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.image.registry import Registry

_COMPRESSION_MARK = "io.github.containers.compression."
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


class ManifestList:
    """One list; `save` writes what was changed."""

    __slots__ = ("record", "store")

    def __init__(self, store: ImageStore, record: dict[str, Any]) -> None:
        self.store = store
        self.record = record

    @property
    def id(self) -> str:
        identity: str = self.record["id"]
        return identity

    @property
    def name(self) -> str:
        name: str = self.record["name"]
        return name

    @property
    def index(self) -> dict[str, Any]:
        index: dict[str, Any] = self.record["index"]
        return index

    @property
    def entries(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.index["manifests"]
        return entries

    def entry(self, digest: str) -> dict[str, Any]:
        for one in self.entries:
            if one["digest"] == digest:
                return one
        raise NotFound(f"{self.name}: has no entry {digest}")

    def put(self, descriptor: dict[str, Any], source: str) -> None:
        """Add an entry, in the place of one with the same digest."""
        digest = descriptor["digest"]
        self.index["manifests"] = [one for one in self.entries if one["digest"] != digest]
        self.entries.append(descriptor)
        self.record["sources"][digest] = source

    def remove(self, digest: str) -> None:
        self.entry(digest)
        self.index["manifests"] = [one for one in self.entries if one["digest"] != digest]
        self.record["sources"].pop(digest, None)
        self.record["blobs"] = [one for one in self.record["blobs"] if one[0] != digest]

    def save(self) -> None:
        make_dirs(f"{self.store.root}/lists")
        write_json(_path(self.store, self.name), self.record)


def _path(store: ImageStore, name: str) -> str:
    file = name.replace("/", "+")
    if len(file) > 200:
        file = f"+{sha256(name.encode())[7:]}"
    return f"{store.root}/lists/{file}"


def full_name(text: str) -> str:
    """Return a list's full name: a short one is this machine's."""
    ref = reference.parse(reference.split_transport(text)[1])
    if ref.digest:
        raise Usage(f"{text}: a list has a name and a tag, but no digest")
    return str((ref if ref.domain else ref.with_domain("localhost")).with_default_tag())


def find(store: ImageStore, text: str) -> ManifestList | None:
    """Find a list by its name or by the start of its id."""
    try:
        return ManifestList(store, read_json(_path(store, full_name(text))))
    except (FileNotFoundError, Usage):
        pass
    except RootlessError:
        if not reference.is_image_id(text):
            raise
    if reference.is_image_id(text):
        found = [one for one in every(store) if one.id.startswith(text.removeprefix("sha256:"))]
        if len(found) == 1:
            return found[0]
    return None


def lookup(store: ImageStore, text: str) -> ManifestList:
    found = find(store, text)
    if found is None:
        raise ImageUnknown(f"{text}: image not known")
    return found


def every(store: ImageStore) -> list[ManifestList]:
    folder = f"{store.root}/lists"
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    return [
        ManifestList(store, read_json(f"{folder}/{n}")) for n in names if not n.endswith(".tmp")
    ]


def create(store: ImageStore, name: str, *, amend: bool = False) -> ManifestList:
    """Make an empty list; with `amend`, one that is there is returned as it is."""
    full = full_name(name)
    known = find(store, full)
    if known is not None:
        if amend:
            return known
        raise Conflict(
            f'image name "{full}" is already associated with image "{known.id}": that name is already in use'
        )
    if store.resolve(full) is not None:
        raise Conflict(f"{full}: is the name of an image already")
    store.make()
    record = {
        "id": os.urandom(32).hex(),
        "name": full,
        "index": {"schemaVersion": 2, "mediaType": documents.OCI_INDEX, "manifests": []},
        "sources": {},
        "blobs": [],
    }
    made = ManifestList(store, record)
    made.save()
    return made


def delete(found: ManifestList) -> None:
    os.unlink(_path(found.store, found.name))


# Adding


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
    manifest = manifest_for(found.store, image, name) if name else _own(found.store, image)
    descriptor = _described(manifest)
    _set_platform(descriptor, image.config)
    entry.apply(descriptor)
    found.put(descriptor, f"image {image.id} {name}".rstrip())


def _own(store: ImageStore, image: Image) -> Manifest:
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
    with store.hold():
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


# Pushing


def push(
    found: ManifestList,
    destination: str,
    options: PushOptions,
    reporter: Reporter,
    session: Session,
    *,
    everything: bool = True,
    add_compression: list[str] | None = None,
) -> str:
    """Send a list, and its images, to a registry; return its digest there."""
    from rootless.image import signatures

    transport, rest = reference.split_transport(destination)
    if transport not in ("", "docker"):
        raise Usage(f"{destination}: lists are pushed to registries only")
    ref = reference.parse_normalised(rest).with_default_tag()
    registry = session.for_push(ref)
    index = dict(found.index)
    entries = [dict(one) for one in found.entries]
    pushed = []
    # --format is about the list: its images stay what they are.
    each = PushOptions(
        compression=options.compression,
        level=options.level,
        force_compression=options.force_compression,
    )
    if everything:
        reporter.say("Getting image list signatures")
        reporter.say(f"Copying {len(entries)} of {len(entries)} images in list")
        more: list[dict[str, Any]] = []
        for number, entry in enumerate(entries, 1):
            reporter.say(f"Copying image {entry['digest']} ({number}/{len(entries)})")
            source = found.record["sources"].get(entry["digest"], "")
            for kind in add_compression or []:
                more.append(
                    _add_packed(found, entry, source, kind, registry, ref.path, reporter, session)
                )
            _push_entry(found, entry, source, registry, ref.path, each, reporter, session)
            pushed.append(entry["digest"])
        entries += more
    index["manifests"] = entries
    index["mediaType"] = documents.DOCKER_LIST if options.format == "v2s2" else documents.OCI_INDEX
    data = emit(index)
    reporter.say("Writing manifest list to image destination")
    digest = registry.push_manifest(ref.path, ref.tag, data, index["mediaType"])
    if options.sign_by:
        for one in dict.fromkeys([*pushed, digest]):
            signature = signatures.sign(ref, one, options.sign_by, options.passphrase_file)
            signatures.store(ref, one, signature)
    return digest


def _push_entry(
    found: ManifestList,
    entry: dict[str, Any],
    source: str,
    registry: Registry,
    repository: str,
    options: PushOptions,
    reporter: Reporter,
    session: Session,
) -> None:
    """Send one entry's content; where it changes on the way, so does the entry."""
    kind, _, rest = source.partition(" ")
    if kind == "image":
        image, name = _image(found, rest)
        manifest = manifest_for(found.store, image, name) if name else _own(found.store, image)
        digest = push_image(
            found.store, image, manifest, registry, repository, "", options, reporter, session
        )
        _point(entry, registry, repository, digest)
    elif kind == "blobs":
        store = found.store
        manifest_digest = entry["digest"]
        parsed = documents.parse(store.blobs.read(manifest_digest), manifest_digest)
        assert isinstance(parsed, Manifest)
        for one in (parsed.config, *parsed.layers):
            _send_file(store, one, registry, repository, reporter)
        registry.push_manifest(repository, manifest_digest, parsed.data, parsed.media_type)
    elif kind == "docker":
        _copy_remote(found, rest, registry, repository, reporter, session)
    else:
        raise RootlessError(f"{found.name}: nothing is known of entry {entry['digest']}")


def _image(found: ManifestList, rest: str) -> tuple[Image, str]:
    identity, _, name = rest.partition(" ")
    image = found.store.get(identity)
    if image is None:
        raise NotFound(f"{found.name}: its image {name or identity[:12]} was removed")
    return image, name if name and found.store.resolve(name) else ""


def _point(entry: dict[str, Any], registry: Registry, repository: str, digest: str) -> None:
    if digest == entry["digest"]:
        return
    document, _ = registry.fetch_manifest(repository, digest)
    entry["digest"], entry["size"] = digest, len(document.data)
    entry["mediaType"] = document.media_type


def _add_packed(
    found: ManifestList,
    entry: dict[str, Any],
    source: str,
    packing: str,
    registry: Registry,
    repository: str,
    reporter: Reporter,
    session: Session,
) -> dict[str, Any]:
    """Send an image once more with its layers packed in another way; return the entry for it."""
    kind, _, rest = source.partition(" ")
    if kind != "image":
        raise Usage(
            f"--add-compression {packing}: {entry['digest']} is not here to be packed",
            hint="pull it first",
        )
    image, name = _image(found, rest)
    manifest = manifest_for(found.store, image, name) if name else _own(found.store, image)
    options = PushOptions(format="oci", compression=packing, force_compression=True)
    digest = push_image(
        found.store, image, manifest, registry, repository, "", options, reporter, session
    )
    made = dict(entry)
    _point(made, registry, repository, digest)
    if packing != "gzip":
        made["annotations"] = {
            **(entry.get("annotations") or {}),
            _COMPRESSION_MARK + packing: "true",
        }
    return made


def _send_file(
    store: ImageStore, one: Descriptor, registry: Registry, repository: str, reporter: Reporter
) -> None:
    from rootless.image.push import send_blob

    send_blob(
        registry, repository, one.digest, store.blobs.open(one.digest), one.size, "blob", reporter
    )


def _copy_remote(
    found: ManifestList,
    text: str,
    registry: Registry,
    repository: str,
    reporter: Reporter,
    session: Session,
) -> None:
    """Copy an image from its registry to another, or to another repository of the same."""
    from rootless.image import pull
    from rootless.image.push import send_blob

    ref = reference.parse(text)
    at = pull.find_at(ref, session)
    if not isinstance(at.document, Manifest):
        raise Usage(f"{text}: a list within a list cannot be pushed")
    origin = at.endpoint.reference.path
    same_host = at.registry.host == registry.host
    for one in (at.document.config, *at.document.layers):
        if one.is_foreign or registry.has_blob(repository, one.digest):
            continue
        if same_host and registry.mount_blob(repository, one.digest, origin):
            continue
        fd = _fetch_to_file(found.store, at.registry, origin, one)
        send_blob(registry, repository, one.digest, fd, one.size, "blob", reporter)
    registry.push_manifest(repository, at.digest, at.document.data, at.document.media_type)


def _fetch_to_file(store: ImageStore, registry: Registry, repository: str, one: Descriptor) -> int:
    from rootless.oci.digest import hasher

    store.make()
    fd = os.open(f"{store.root}/tmp", os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    try:
        check = hasher(one.digest)
        buffer = memoryview(bytearray(1 << 20))
        with registry.open_blob(repository, one) as stream:
            while count := stream.readinto(buffer):
                check.update(buffer[:count])
                written = 0
                while written < count:
                    written += os.write(fd, buffer[written:count])
        if check.hexdigest() != one.digest.partition(":")[2]:
            raise RootlessError(f"{repository}: blob {one.digest} arrived damaged")
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def inspect_remote(text: str, session: Session) -> tuple[dict[str, Any], bool]:
    """Return a registry's manifest, and whether it is an index."""
    from rootless.image import pull

    at, _ = pull.find(reference.split_transport(text)[1], session, Reporter())
    return at.document.raw, isinstance(at.document, Index)
