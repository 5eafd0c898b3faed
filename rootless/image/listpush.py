"""Pushing a manifest list with its images: to a registry, or into a folder or archive."""

from __future__ import annotations

from copy import copy

from rootless.errors import NotFound, RootlessError, Usage
from rootless.image import reference
from rootless.image.folder import Folder
from rootless.image.listadd import own_manifest
from rootless.image.lists import ManifestList
from rootless.image.push import PushOptions, manifest_for, push_image
from rootless.oci import manifest as documents
from rootless.oci.image import emit
from rootless.oci.manifest import Descriptor, Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.image.registry import Registry
    from rootless.image.session import Reporter, Session
    from rootless.image.store import Image, ImageStore

    Target = Registry | Folder

_COMPRESSION_MARK = "io.github.containers.compression."


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
    """Send a list, and its images, to a registry, folder or archive; return its digest there."""
    from rootless.image import folder, signatures

    transport, rest = reference.split_transport(destination)
    if transport in ("", "docker"):
        ref = reference.parse_normalised(rest).with_default_tag()
        digest, pushed = _send(
            found, session.for_push(ref), ref.path, ref.tag, options, reporter, session,
            everything, add_compression or [],
        )  # fmt: skip
        if options.sign_by:
            for one in dict.fromkeys([*pushed, digest]):
                signature = signatures.sign(ref, one, options.sign_by, options.passphrase_file)
                signatures.store(ref, one, signature)
    else:
        if options.sign_by:
            raise Usage(f"--sign-by: signatures are kept for registries only, not for {transport}:")
        with folder.open_target(transport, rest, destination) as target:
            digest, _ = _send(
                found,
                target,
                "",
                folder.ANY_TAG,
                folder.suited(options, target, transport),
                reporter,
                session,
                everything,
                add_compression or [],
            )
    found.store.tell("push", destination.removeprefix("docker://"), found.id)
    return digest


def _send(
    found: ManifestList,
    registry: Target,
    repository: str,
    tag: str,
    options: PushOptions,
    reporter: Reporter,
    session: Session,
    everything: bool,
    compressions: list[str],
) -> tuple[str, list[str]]:
    index = dict(found.index)
    entries = [dict(one) for one in found.entries]
    pushed = []
    # --format is about the list: its images stay what they are, where the destination takes them.
    each = copy(options)
    each.format = "oci" if isinstance(registry, Folder) and not registry.keeps_docker else ""
    each.sign_by = ""
    if everything:
        reporter.say("Getting image list signatures")
        reporter.say(f"Copying {len(entries)} of {len(entries)} images in list")
        more: list[dict[str, Any]] = []
        for number, entry in enumerate(entries, 1):
            reporter.say(f"Copying image {entry['digest']} ({number}/{len(entries)})")
            source = found.record["sources"].get(entry["digest"], "")
            for kind in compressions:
                more.append(
                    _add_packed(found, entry, source, kind, registry, repository, reporter, session)
                )
            _push_entry(found, entry, source, registry, repository, each, reporter, session)
            pushed.append(entry["digest"])
        entries += more
    index["manifests"] = entries
    index["mediaType"] = documents.DOCKER_LIST if options.format == "v2s2" else documents.OCI_INDEX
    data = emit(index)
    reporter.say("Writing manifest list to image destination")
    digest = registry.push_manifest(repository, tag, data, index["mediaType"])
    return digest, pushed


def _push_entry(
    found: ManifestList,
    entry: dict[str, Any],
    source: str,
    registry: Target,
    repository: str,
    options: PushOptions,
    reporter: Reporter,
    session: Session,
) -> None:
    """Send one entry's content; where it changes on the way, so does the entry."""
    kind, _, rest = source.partition(" ")
    if kind == "image":
        image, name = _image(found, rest)
        manifest = (
            manifest_for(found.store, image, name) if name else own_manifest(found.store, image)
        )
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


def _point(entry: dict[str, Any], registry: Target, repository: str, digest: str) -> None:
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
    registry: Target,
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
    manifest = manifest_for(found.store, image, name) if name else own_manifest(found.store, image)
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
    store: ImageStore, one: Descriptor, registry: Target, repository: str, reporter: Reporter
) -> None:
    from rootless.image.push import send_blob

    send_blob(
        registry, repository, one.digest, store.blobs.open(one.digest), one.size, "blob", reporter
    )


def _copy_remote(
    found: ManifestList,
    text: str,
    registry: Target,
    repository: str,
    reporter: Reporter,
    session: Session,
) -> None:
    """Copy an image from its registry to another, or to another repository of the same."""
    from rootless.image import pull
    from rootless.image.push import send_blob
    from rootless.image.refetch import fetch_to_file

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
        fd = fetch_to_file(found.store, at.registry, origin, one)
        send_blob(registry, repository, one.digest, fd, one.size, "blob", reporter)
    registry.push_manifest(repository, at.digest, at.document.data, at.document.media_type)
