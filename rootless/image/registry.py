"""A client of the distribution-spec 1.1: manifests, blobs, uploads, tags, referrers, search.

Everything a registry sends is checked against the digest or the
size that was asked for, and every wait has an end.
"""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

from rootless import quickjson as json
from rootless.errors import RegistryError
from rootless.image.blobstream import BlobStream
from rootless.image.connection import LISTING_MAX_BYTES, printable
from rootless.image.retry import NotThere
from rootless.image.transport import Response
from rootless.image.uploads import Uploads
from rootless.oci.digest import hasher, is_digest
from rootless.oci.document import MANIFEST_MAX_BYTES, BadDocument, parse_object
from rootless.oci.manifest import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_INDEX,
    Descriptor,
    Index,
    Manifest,
    parse,
)

ACCEPT_MANIFESTS = ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class SearchResult:
    """One repository that a search found."""

    __slots__ = ("automated", "description", "name", "official", "stars")

    def __init__(
        self, name: str, description: str, stars: int, official: bool, automated: bool
    ) -> None:
        self.name = name
        self.description = description
        self.stars = stars
        self.official = official
        self.automated = automated


class Registry(Uploads):
    """One registry host; safe to share between threads."""

    # -- what pull needs

    def ping(self) -> None:
        """Ask whether this is a registry that lets us in."""
        self._call("GET", "/v2/", (), "", f"pinging container registry {self.host}").close()

    def fetch_manifest(
        self, repository: str, tag_or_digest: str, content_type: str = ""
    ) -> tuple[Manifest | Index, str]:
        """Fetch and check a manifest or index; return it with its digest."""
        what = _manifest_name(self.host, repository, tag_or_digest)
        data, answered, stated = self.retry.run(
            lambda: self._manifest_bytes(repository, tag_or_digest)
        )
        if is_digest(tag_or_digest):
            digest = tag_or_digest
            if not _verify(data, digest):
                raise RegistryError(
                    f"{what}: the registry's answer does not have the digest asked for"
                )
        else:
            digest = "sha256:" + _hex(data)
            if stated and not (is_digest(stated) and _verify(data, stated)):
                raise RegistryError(
                    f"{what}: the answer does not have the digest that the registry announced, {stated[:90]}"
                )
        document = parse(data, what, content_type or answered)
        if content_type and answered:
            parse(data, what, answered)
        return document, digest

    def open_blob(self, repository: str, descriptor: Descriptor, offset: int = 0) -> BlobStream:
        """Start reading a blob; it goes on by itself after a broken connection."""
        return BlobStream(self, repository, descriptor, offset)

    def fetch_blob(self, repository: str, descriptor: Descriptor, limit: int) -> bytes:
        """Fetch a small blob whole and verify it."""
        what = f"{self.host}/{repository}: blob {descriptor.digest}"
        if descriptor.size > limit:
            raise BadDocument(f"{what}: {descriptor.size} bytes exceed the limit of {limit}")
        with self.open_blob(repository, descriptor) as stream:
            data = bytearray(descriptor.size)
            view, filled = memoryview(data), 0
            while filled < descriptor.size:
                count = stream.readinto(view[filled:])
                if not count:
                    break
                filled += count
            if filled == descriptor.size:
                stream.readinto(memoryview(bytearray(1)))
        if not _verify(data, descriptor.digest):
            raise RegistryError(f"{what}: the registry's answer does not have this digest")
        return bytes(data)

    def tags(self, repository: str) -> list[str]:
        found: list[str] = []
        what = f"{self.host}/{repository}: listing tags"
        for page in self._pages(f"/v2/{repository}/tags/list?n=1000", (repository,), "pull", what):
            found += [str(tag) for tag in page.get("tags") or []]
        return found

    def catalog(self, limit: int) -> list[str]:
        found: list[str] = []
        for page in self._pages(
            "/v2/_catalog?n=1000", (), "", f"{self.host}: listing repositories"
        ):
            found += [str(name) for name in page.get("repositories") or []]
            if len(found) >= limit:
                break
        return found

    def referrers(self, repository: str, digest: str, artifact_type: str = "") -> list[Descriptor]:
        """List what refers to a manifest, by the API or by the fallback tag."""
        query = f"?{urlencode({'artifactType': artifact_type})}" if artifact_type else ""
        what = f"{self.host}/{repository}: referrers of {digest}"
        try:
            with self._call(
                "GET", f"/v2/{repository}/referrers/{digest}{query}", (repository,), "pull", what
            ) as response:
                data = response.read(MANIFEST_MAX_BYTES)
                filtered = "artifactType" in response.header("OCI-Filters-Applied")
                kind = response.header("Content-Type")
            if kind.partition(";")[0].strip() != OCI_INDEX:
                raise NotThere(what)
            index = parse(data, what, OCI_INDEX)
        except NotThere:
            filtered = False
            try:
                index, _ = self.fetch_manifest(repository, referrers_tag(digest))
            except NotThere:
                return []
        if not isinstance(index, Index):
            raise BadDocument(f"{what}: the answer is no index")
        if not artifact_type or filtered:
            return index.manifests
        return [one for one in index.manifests if one.raw.get("artifactType") == artifact_type]

    def search(self, term: str, limit: int) -> list[SearchResult]:
        """Search by the version 1 API where there is one, else in the list of repositories."""
        # The version 1 search of docker.io lives on its index, and needs no credentials.
        host = "index.docker.io" if self.host == "docker.io" else self._address
        self._find_base()
        scheme = "https" if self.host == "docker.io" else urlsplit(self._base).scheme
        query = urlencode({"q": term, "n": min(limit, 100)})
        what = f"{self.host}: searching for {term!r}"
        try:
            url = f"{scheme}://{host}/v1/search?{query}"
            with self._transport.request(
                "GET",
                url,
                headers={"Accept": "application/json"},
                insecure=self.insecure,
                cert_host=self.host,
            ) as response:
                if response.status == 200:
                    return _v1_results(
                        parse_object(
                            response.read(LISTING_MAX_BYTES), what, max_bytes=LISTING_MAX_BYTES
                        )
                    )
        except BadDocument:
            pass  # a page for people, where the registry has no such API
        names = [name for name in self.catalog(100_000) if term in name]
        return [SearchResult(name, "", 0, False, False) for name in names[:limit]]

    # -- what push needs

    def push_manifest(
        self, repository: str, tag_or_digest: str, data: bytes, media_type: str
    ) -> str:
        """Store a manifest; return the digest that the registry gave it."""
        what = f"writing manifest to {_manifest_name(self.host, repository, tag_or_digest)}"
        path = f"/v2/{repository}/manifests/{tag_or_digest}"

        def put() -> Response:
            return self._call(
                "PUT", path, (repository,), "pull,push", what, {"Content-Type": media_type}, data
            )

        with self.retry.run(put) as response:
            stated = response.header("Docker-Content-Digest")
            subject_done = bool(response.header("OCI-Subject"))
        if stated and is_digest(stated) and not _verify(data, stated):
            raise RegistryError(f"{what}: the registry stored something else, with digest {stated}")
        raw = parse_object(data, what)
        if raw.get("subject") and not subject_done:
            self._add_to_fallback_index(repository, raw, data, media_type)
        return "sha256:" + _hex(data)

    def _add_to_fallback_index(
        self, repository: str, raw: dict[str, Any], data: bytes, media_type: str
    ) -> None:
        """Keep the referrers tag up to date for a registry without the referrers API (spec: "Pushing manifests")."""
        subject = str(raw["subject"].get("digest"))
        if not is_digest(subject):
            return
        tag = referrers_tag(subject)
        entry: dict[str, Any] = {
            "mediaType": media_type,
            "digest": "sha256:" + _hex(data),
            "size": len(data),
        }
        kind = raw.get("artifactType") or raw.get("config", {}).get("mediaType")
        if kind:
            entry["artifactType"] = kind
        if raw.get("annotations"):
            entry["annotations"] = raw["annotations"]
        try:
            index, _ = self.fetch_manifest(repository, tag)
            known = [one.raw for one in index.manifests] if isinstance(index, Index) else []
        except NotThere:
            known = []
        if any(one["digest"] == entry["digest"] for one in known):
            return
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*known, entry]}
        self.push_manifest(repository, tag, json.dumps(document).encode(), OCI_INDEX)

    def foreign(self, url: str, headers: dict[str, str], what: str) -> Response:
        """Fetch from an address in a manifest: anyone may have written it, so no credentials go there."""
        response = self._transport.request("GET", url, headers=headers, insecure=self.insecure)
        if response.status not in (200, 206):
            raise self._refusal(response, what)
        return response

    def blob(self, repository: str, digest: str, headers: dict[str, str], what: str) -> Response:
        return self._call(
            "GET", f"/v2/{repository}/blobs/{digest}", (repository,), "pull", what, headers
        )

    def _manifest_bytes(self, repository: str, tag_or_digest: str) -> tuple[bytes, str, str]:
        path = f"/v2/{repository}/manifests/{tag_or_digest}"
        what = "reading manifest " + f"{tag_or_digest} in {self.host}/{repository}"
        with self._call(
            "GET", path, (repository,), "pull", what, {"Accept": ACCEPT_MANIFESTS}
        ) as response:
            data = response.read(MANIFEST_MAX_BYTES)
            return data, response.header("Content-Type"), response.header("Docker-Content-Digest")


def referrers_tag(digest: str) -> str:
    return digest.replace(":", "-", 1)[:128]


def _v1_results(document: dict[str, Any]) -> list[SearchResult]:
    found = []
    for one in document.get("results") or []:
        if isinstance(one, dict) and isinstance(one.get("name"), str):
            stars = one.get("star_count")
            found.append(
                SearchResult(
                    printable(one["name"]),
                    printable(str(one.get("description") or "")),
                    stars if isinstance(stars, int) else 0,
                    bool(one.get("is_official")),
                    bool(one.get("is_automated")),
                )
            )
    return found


def _manifest_name(host: str, repository: str, tag_or_digest: str) -> str:
    return f"{host}/{repository}{'@' if ':' in tag_or_digest else ':'}{tag_or_digest}"


def _hex(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def _verify(data: bytes | bytearray, digest: str) -> bool:
    checked = hasher(digest)
    checked.update(data)
    return checked.hexdigest() == digest.partition(":")[2]
