"""Manifests and indexes of the image-spec, and docker's schema 2 forms of them: parse, check, media types.

A document that could be read both ways, as an image and as an index, is refused (CVE-2021-41190).
"""

from __future__ import annotations

from rootless.oci.digest import is_digest
from rootless.oci.document import BadDocument, parse_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = OCI_LAYER + "+gzip"
OCI_LAYER_ZSTD = OCI_LAYER + "+zstd"
OCI_FOREIGN_LAYER = "application/vnd.oci.image.layer.nondistributable.v1.tar"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = DOCKER_LAYER + ".gzip"
DOCKER_LAYER_ZSTD = DOCKER_LAYER + ".zstd"
DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar"
DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"

INDEX_TYPES = (OCI_INDEX, DOCKER_LIST)
MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
CONFIG_TYPES = (OCI_CONFIG, DOCKER_CONFIG)
KNOWN_TYPES = (*INDEX_TYPES, *MANIFEST_TYPES, DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED)

# Media type of a layer → how its bytes are packed; all that an image may have.
LAYER_PACKING = {
    OCI_LAYER: "",
    OCI_LAYER_GZIP: "gzip",
    OCI_LAYER_ZSTD: "zstd",
    OCI_FOREIGN_LAYER: "",
    OCI_FOREIGN_LAYER + "+gzip": "gzip",
    OCI_FOREIGN_LAYER + "+zstd": "zstd",
    DOCKER_LAYER: "",
    DOCKER_LAYER_GZIP: "gzip",
    DOCKER_LAYER_ZSTD: "zstd",
    DOCKER_FOREIGN_LAYER: "",
    DOCKER_FOREIGN_LAYER + ".gzip": "gzip",
}

# Overlay takes some 500 lowers; a thousand layers is beyond every image and keeps the work on a hostile one small.
_LAYERS_MAX = 1000
_MANIFESTS_MAX = 5000


class Descriptor:
    """A typed pointer to content, with the document's own form in `raw`."""

    __slots__ = ("digest", "media_type", "raw", "size")

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw
        self.media_type: str = raw["mediaType"]
        self.digest: str = raw["digest"]
        self.size: int = raw["size"]

    @property
    def urls(self) -> list[str]:
        return self.raw.get("urls") or []

    @property
    def annotations(self) -> dict[str, str]:
        return self.raw.get("annotations") or {}

    @property
    def platform(self) -> dict[str, Any]:
        return self.raw.get("platform") or {}

    @property
    def packing(self) -> str:
        return LAYER_PACKING[self.media_type]

    @property
    def is_foreign(self) -> bool:
        return "nondistributable" in self.media_type or ".foreign." in self.media_type


class Manifest:
    """An image: a config and its layers, base first."""

    __slots__ = ("config", "data", "layers", "media_type", "raw")

    def __init__(self, raw: dict[str, Any], media_type: str, data: bytes) -> None:
        self.raw = raw
        self.data = data
        self.media_type = media_type
        self.config = Descriptor(raw["config"])
        self.layers = [Descriptor(one) for one in raw["layers"]]

    @property
    def artifact_type(self) -> str:
        """What the manifest is when it is no image; empty for an image."""
        named: str = self.raw.get("artifactType") or ""
        if self.config.media_type in CONFIG_TYPES:
            return "" if named in ("", *CONFIG_TYPES) else named
        return named or self.config.media_type

    def check_image(self, what: str) -> None:
        """Refuse an artifact, and layers that this engine cannot read."""
        kind = self.artifact_type
        if kind and self.config.media_type not in CONFIG_TYPES:
            raise BadDocument(
                f"{what}: is an artifact of type {kind[:200]!r}, not a container image"
            )
        for layer in self.layers:
            if layer.media_type not in LAYER_PACKING:
                if "+encrypted" in layer.media_type:
                    raise BadDocument(
                        f"{what}: layer {layer.digest} is encrypted, which is not supported"
                    )
                raise BadDocument(
                    f"{what}: layer {layer.digest} has the unknown type {layer.media_type[:200]!r}"
                )


class Index:
    """A list of manifests, one per platform."""

    __slots__ = ("data", "manifests", "media_type", "raw")

    def __init__(self, raw: dict[str, Any], media_type: str, data: bytes) -> None:
        self.raw = raw
        self.data = data
        self.media_type = media_type
        self.manifests = [Descriptor(one) for one in raw["manifests"]]


def parse(data: bytes, what: str, content_type: str = "") -> Manifest | Index:
    """Parse a manifest or an index and check all that later code relies on.

    `content_type` is what the registry, or the descriptor that led here, says it is.
    """
    raw = parse_object(data, what)
    claimed = content_type.partition(";")[0].strip().lower()
    stated = raw.get("mediaType", "")
    if not isinstance(stated, str):
        raise BadDocument(f"{what}: mediaType is not a string")
    if raw.get("schemaVersion") != 2:
        if raw.get("schemaVersion") == 1:
            raise BadDocument(
                f"{what}: is in docker's schema 1 form, which is obsolete and not supported",
                hint="push the image again with a current tool",
            )
        raise BadDocument(f"{what}: schemaVersion is not 2")
    # Servers that know no manifests call them JSON or plain text; a media type proper must be the same everywhere.
    if claimed in KNOWN_TYPES and stated and stated != claimed:
        raise BadDocument(f"{what}: announced as {claimed} but says it is {stated[:200]!r}")
    media_type = stated or (claimed if claimed in KNOWN_TYPES else "")
    has_list = "manifests" in raw
    has_image = "config" in raw or "layers" in raw or "fsLayers" in raw
    if has_list and has_image:
        raise BadDocument(f"{what}: has the fields of both an image and an index")
    if not media_type:
        media_type = OCI_INDEX if has_list else OCI_MANIFEST
    if media_type in INDEX_TYPES:
        _check_descriptors(raw.get("manifests"), what, "manifests", _MANIFESTS_MAX)
        return Index(raw, media_type, data)
    if media_type in MANIFEST_TYPES:
        _check_descriptors(raw.get("layers"), what, "layers", _LAYERS_MAX)
        _check_descriptor(raw.get("config"), what, "config")
        return Manifest(raw, media_type, data)
    raise BadDocument(f"{what}: {media_type[:200]!r} is neither an image manifest nor an index")


def _check_descriptors(value: object, what: str, field: str, most: int) -> None:
    if not isinstance(value, list):
        raise BadDocument(f"{what}: {field} is missing or not a list")
    if len(value) > most:
        raise BadDocument(f"{what}: {len(value)} {field} exceed the limit of {most}")
    for one in value:
        _check_descriptor(one, what, field)


def _check_descriptor(value: object, what: str, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadDocument(f"{what}: {field}: a descriptor is missing or not an object")
    digest, size = value.get("digest"), value.get("size")
    if not is_digest(digest):
        raise BadDocument(f"{what}: {field}: {str(digest)[:200]!r} is not a digest")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 62:
        raise BadDocument(f"{what}: {field}: {str(size)[:200]!r} is not a size")
    if not isinstance(value.get("mediaType"), str):
        raise BadDocument(f"{what}: {field}: {digest} has no mediaType")
    for key, kind in (("urls", list), ("annotations", dict), ("platform", dict)):
        if not isinstance(value.get(key) or kind(), kind):
            raise BadDocument(f"{what}: {field}: {digest}: {key} has the wrong type")
    if not all(isinstance(one, str) for one in value.get("urls") or []):
        raise BadDocument(f"{what}: {field}: {digest}: urls has the wrong type")
    if not all(isinstance(one, str) for one in (value.get("annotations") or {}).values()):
        raise BadDocument(f"{what}: {field}: {digest}: annotations has the wrong type")
    platform = value.get("platform") or {}
    if not all(
        isinstance(platform.get(key) or "", str) for key in ("os", "architecture", "variant")
    ):
        raise BadDocument(f"{what}: {field}: {digest}: platform has the wrong type")
    return value
