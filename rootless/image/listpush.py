"""Pushing a manifest list with its images: to a registry, or into a folder or archive."""

from __future__ import annotations

from copy import copy

from rootless.errors import NotFound, RootlessError, Usage
from rootless.image import reference
from rootless.image.folder import Folder
from rootless.image.listadd import own_manifest
from rootless.image.lists import ManifestList
from rootless.image.push import Destination, PushOptions, manifest_for, push_image
from rootless.oci import manifest as documents
from rootless.oci.image import emit
from rootless.oci.manifest import Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.image.session import Reporter, Session
    from rootless.image.store import Image

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
        place = Destination(session.for_push(ref), ref.path, reporter, session)
        digest, pushed = _send(found, place, ref.tag, options, everything, add_compression or [])
        if options.sign_by:
            for one in dict.fromkeys([*pushed, digest]):
                signature = signatures.sign(ref, one, options.sign_by, options.passphrase_file)
                signatures.store(ref, one, signature)
    else:
        if options.sign_by:
            raise Usage(f"--sign-by: signatures are kept for registries only, not for {transport}:")
        with folder.open_target(transport, rest, destination) as target:
            place = Destination(target, "", reporter, session)
            suited = folder.suited(options, target, transport)
            digest, _ = _send(
                found, place, folder.ANY_TAG, suited, everything, add_compression or []
            )
    found.store.tell("push", destination.removeprefix("docker://"), found.id)
    return digest


def _send(
    found: ManifestList,
    place: Destination,
    tag: str,
    options: PushOptions,
    everything: bool,
    compressions: list[str],
) -> tuple[str, list[str]]:
    index = dict(found.index)
    entries = [dict(one) for one in found.entries]
    pushed = []
    # --format is about the list: its images stay what they are, where the destination takes them.
    each = copy(options)
    target, reporter = place.registry, place.reporter
    each.format = "oci" if isinstance(target, Folder) and not target.keeps_docker else ""
    each.sign_by = ""
    if everything:
        reporter.say("Getting image list signatures")
        reporter.say(f"Copying {len(entries)} of {len(entries)} images in list")
        more: list[dict[str, Any]] = []
        for number, entry in enumerate(entries, 1):
            reporter.say(f"Copying image {entry['digest']} ({number}/{len(entries)})")
            source = found.record["sources"].get(entry["digest"], "")
            for kind in compressions:
                more.append(_add_packed(found, entry, source, kind, place))
            _push_entry(found, entry, source, place, each)
            pushed.append(entry["digest"])
        entries += more
    index["manifests"] = entries
    index["mediaType"] = documents.DOCKER_LIST if options.format == "v2s2" else documents.OCI_INDEX
    data = emit(index)
    reporter.say("Writing manifest list to image destination")
    digest = place.put_manifest(tag, data, index["mediaType"])
    return digest, pushed


def _push_entry(
    found: ManifestList,
    entry: dict[str, Any],
    source: str,
    place: Destination,
    options: PushOptions,
) -> None:
    """Send one entry's content; where it changes on the way, so does the entry."""
    kind, _, rest = source.partition(" ")
    if kind == "image":
        image, name = _image(found, rest)
        manifest = (
            manifest_for(found.store, image, name) if name else own_manifest(found.store, image)
        )
        digest = push_image(place, "", found.store, image, manifest, options)
        _point(entry, place, digest)
    elif kind == "blobs":
        store = found.store
        manifest_digest = entry["digest"]
        parsed = documents.parse(store.blobs.read(manifest_digest), manifest_digest)
        assert isinstance(parsed, Manifest)
        for one in (parsed.config, *parsed.layers):
            place.send(one.digest, store.blobs.open(one.digest), one.size)
        place.put_manifest(manifest_digest, parsed.data, parsed.media_type)
    elif kind == "docker":
        _copy_remote(found, rest, place)
    else:
        raise RootlessError(f"{found.name}: nothing is known of entry {entry['digest']}")


def _image(found: ManifestList, rest: str) -> tuple[Image, str]:
    identity, _, name = rest.partition(" ")
    image = found.store.get(identity)
    if image is None:
        raise NotFound(f"{found.name}: its image {name or identity[:12]} was removed")
    return image, name if name and found.store.resolve(name) else ""


def _point(entry: dict[str, Any], place: Destination, digest: str) -> None:
    if digest == entry["digest"]:
        return
    document, _ = place.registry.fetch_manifest(place.repository, digest)
    entry["digest"], entry["size"] = digest, len(document.data)
    entry["mediaType"] = document.media_type


def _add_packed(
    found: ManifestList,
    entry: dict[str, Any],
    source: str,
    packing: str,
    place: Destination,
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
    digest = push_image(place, "", found.store, image, manifest, options)
    made = dict(entry)
    _point(made, place, digest)
    if packing != "gzip":
        made["annotations"] = {
            **(entry.get("annotations") or {}),
            _COMPRESSION_MARK + packing: "true",
        }
    return made


def _copy_remote(found: ManifestList, text: str, place: Destination) -> None:
    """Copy an image from its registry to another, or to another repository of the same."""
    from rootless.image import pull
    from rootless.image.refetch import fetch_to_file

    ref = reference.parse(text)
    at = pull.find_at(ref, place.session)
    if not isinstance(at.document, Manifest):
        raise Usage(f"{text}: a list within a list cannot be pushed")
    origin = at.endpoint.reference.path
    same_host = at.registry.host == place.registry.host
    for one in (at.document.config, *at.document.layers):
        if one.is_foreign or place.has(one.digest):
            continue
        if same_host and place.mount(one.digest, origin):
            continue
        fd = fetch_to_file(found.store, at.registry, origin, one)
        place.send(one.digest, fd, one.size)
    place.put_manifest(at.digest, at.document.data, at.document.media_type)
