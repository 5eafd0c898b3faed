"""A client of the distribution-spec 1.1: manifests, blobs, uploads, tags, referrers, search.

Tokens follow docker's token and OAuth2 specifications. Everything a registry sends is checked against the digest or the
size that was asked for, and every wait has an end.
"""

from __future__ import annotations

import io
import threading
import time
from urllib.parse import quote, urlencode, urljoin, urlsplit

from rootless import log
from rootless import quickjson as json
from rootless.errors import RegistryError
from rootless.image.auth import Credentials
from rootless.image.transport import ConnectionFailed, Response, Transport
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
_ERROR_MAX_BYTES = 64 << 10
_LISTING_MAX_BYTES = 16 << 20
_TOKEN_MAX_BYTES = 1 << 20
_TOKEN_DEFAULT_S = 60
_PAGES_MAX = 1000
# Longer than this nobody waits at a prompt; the registry's own words are shown instead.
_RETRY_AFTER_MAX_S = 60.0
_BACK_OFF_MAX_S = 30.0
_CHUNK_BYTES = 64 << 20

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Any, TypeVar

    from rootless.image.transport import Body

    T = TypeVar("T")


class AuthError(RegistryError):
    """The registry does not accept the credentials, or wants some."""


class NotThere(RegistryError):
    """The registry has no such manifest, blob or repository."""


class Retry:
    """How often and how soon to try again; shared by everything that one command fetches."""

    def __init__(
        self,
        count: int = 3,
        delay_s: float | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.count = count
        self.delay_s = delay_s
        self._sleep = sleep

    def pause(self, attempt: int, error: RegistryError) -> bool:
        """Wait before the next attempt; False where there shall be none."""
        if attempt >= self.count or not is_transient(error):
            return False
        wait = getattr(error, "retry_after_s", None)
        if wait is None and self.delay_s is not None:
            wait = self.delay_s
        elif wait is None:
            import random

            # Jitter keeps many clients of one fallen registry from coming back in step.
            wait = min(_BACK_OFF_MAX_S, 0.5 * 2**attempt) * random.uniform(0.75, 1.25)
        log.info(f"{error}; trying again in {wait:.1f} s")
        self._sleep(wait)
        return True

    def run(self, action: Callable[[], T]) -> T:
        attempt = 0
        while True:
            try:
                return action()
            except RegistryError as error:
                if not self.pause(attempt, error):
                    raise
                attempt += 1


class Overloaded(RegistryError):
    """429 or a 5xx: the registry may do it later."""

    def __init__(
        self, message: str, *, code: str = "", hint: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.retry_after_s = retry_after_s


def is_transient(error: RegistryError) -> bool:
    if isinstance(error, ConnectionFailed):
        return not error.permanent
    if isinstance(error, Overloaded):
        return error.retry_after_s is None or error.retry_after_s <= _RETRY_AFTER_MAX_S
    return False


class Challenge:
    """One challenge of a WWW-Authenticate header."""

    __slots__ = ("parameters", "scheme")

    def __init__(self, scheme: str, parameters: dict[str, str]) -> None:
        self.scheme = scheme
        self.parameters = parameters


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


class Registry:
    """One registry host; safe to share between threads."""

    def __init__(
        self,
        host: str,
        transport: Transport,
        *,
        insecure: bool = False,
        credentials: Callable[[str], Credentials | None] | Credentials | None = None,
        retry: Retry | None = None,
    ) -> None:
        self.host = host
        self.insecure = insecure
        self.retry = retry or Retry()
        self._transport = transport
        self._credentials = credentials
        self._address = "registry-1.docker.io" if host == "docker.io" else host
        self._base = "" if insecure else f"https://{self._address}"
        self._challenges: list[Challenge] = []
        self._tokens: dict[tuple[str, ...], tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._token_lock = threading.Lock()

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

    def manifest_digest(self, repository: str, tag: str) -> str:
        """Return the digest that a tag points to, without fetching the manifest where the registry tells it."""
        path, what = f"/v2/{repository}/manifests/{tag}", _manifest_name(self.host, repository, tag)
        headers = {"Accept": ACCEPT_MANIFESTS}
        with self.retry.run(
            lambda: self._call("HEAD", path, (repository,), "pull", what, headers)
        ) as response:
            stated = response.header("Docker-Content-Digest")
        if is_digest(stated):
            return stated
        return self.fetch_manifest(repository, tag)[1]

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
                            response.read(_LISTING_MAX_BYTES), what, max_bytes=_LISTING_MAX_BYTES
                        )
                    )
        except BadDocument:
            pass  # a page for people, where the registry has no such API
        names = [name for name in self.catalog(100_000) if term in name]
        return [SearchResult(name, "", 0, False, False) for name in names[:limit]]

    # -- what push needs

    def has_manifest(self, repository: str, digest: str) -> bool:
        try:
            return self.manifest_digest(repository, digest) == digest
        except NotThere:
            return False

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

    def delete_manifest(self, repository: str, digest: str) -> None:
        what = f"deleting {_manifest_name(self.host, repository, digest)}"
        self._call(
            "DELETE",
            f"/v2/{repository}/manifests/{digest}",
            (repository,),
            "pull,push,delete",
            what,
        ).close()

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
        url = _with_query(location, {"digest": digest})
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
        url = _with_query(location, {"digest": digest})
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

    # -- one request, with what it takes to be let in

    def _manifest_bytes(self, repository: str, tag_or_digest: str) -> tuple[bytes, str, str]:
        path = f"/v2/{repository}/manifests/{tag_or_digest}"
        what = "reading manifest " + f"{tag_or_digest} in {self.host}/{repository}"
        with self._call(
            "GET", path, (repository,), "pull", what, {"Accept": ACCEPT_MANIFESTS}
        ) as response:
            data = response.read(MANIFEST_MAX_BYTES)
            return data, response.header("Content-Type"), response.header("Docker-Content-Digest")

    def _pages(
        self, path: str, repositories: tuple[str, ...], actions: str, what: str
    ) -> Iterator[dict[str, Any]]:
        url = path
        for _ in range(_PAGES_MAX):
            with self._page(url, repositories, actions, what) as response:
                document = parse_object(
                    response.read(_LISTING_MAX_BYTES), what, max_bytes=_LISTING_MAX_BYTES
                )
                link = response.header("Link")
                here = response.url
            yield document
            target, _, parameters = link.partition(">")
            if not target.startswith("<") or 'rel="next"' not in parameters.replace(
                "rel=next", 'rel="next"'
            ):
                return
            url = urljoin(here, target[1:])
            if urlsplit(url).netloc != urlsplit(here).netloc:
                raise RegistryError(f"{what}: the next page is on another host")

    def _page(self, url: str, repositories: tuple[str, ...], actions: str, what: str) -> Response:
        return self.retry.run(lambda: self._call("GET", url, repositories, actions, what))

    def _call(
        self,
        method: str,
        path: str,
        repositories: tuple[str, ...],
        actions: str,
        what: str,
        headers: dict[str, str] | None = None,
        body: Body = None,
        length: int | None = None,
        *,
        also_pull: str = "",
        sent: Callable[[int], None] | None = None,
    ) -> Response:
        """Send a request with authorisation; raise for every status that is not a success."""
        self._find_base()
        url = path if "://" in path else self._base + path
        scopes = tuple(f"repository:{name}:{actions}" for name in repositories)
        if also_pull:
            scopes += (f"repository:{also_pull}:pull",)
        # An upload's location may be on a host of the registry's choice: our credentials stay at home.
        at_home = urlsplit(url)[:2] == urlsplit(self._base)[:2]
        position = body.tell() if body is not None and not isinstance(body, bytes) else 0
        wanted_scopes, response = scopes, None
        for attempt in (0, 1, 2):
            secrets = self._authorization(wanted_scopes) if at_home else {}
            if position and body is not None and not isinstance(body, bytes):
                body.seek(position)
            response = self._transport.request(
                method,
                url,
                headers=headers,
                secrets=secrets,
                body=body,
                length=length,
                insecure=self.insecure,
                cert_host=self.host,
                sent=sent,
            )
            if response.status != 401 or not at_home or attempt == 2:
                break
            if urlsplit(response.url)[:2] != urlsplit(self._base)[:2]:
                break  # a host that we were redirected to has no claim to our credentials
            challenges = [
                one
                for text in response.headers("WWW-Authenticate")
                for one in parse_challenges(text)
            ]
            usable = [one for one in challenges if one.scheme in ("bearer", "basic")]
            if not usable or (attempt == 1 and not self._may_help(usable, wanted_scopes)):
                break
            response.abort() if response.length else response.close()
            with self._lock:
                self._challenges = usable
                if attempt:
                    self._tokens.clear()
            asked = next(
                (one.parameters.get("scope", "") for one in usable if one.scheme == "bearer"), ""
            )
            wanted_scopes = (
                tuple(dict.fromkeys((*scopes, *asked.split()))) if not scopes or attempt else scopes
            )
            if body is not None and not isinstance(body, bytes):
                body.seek(position)
        assert response is not None
        if response.status in (200, 201, 202, 204, 206):
            return response
        raise self._refusal(response, what)

    def _may_help(self, challenges: list[Challenge], scopes: tuple[str, ...]) -> bool:
        """Tell whether a second 401 can be mended: a token may have expired, or lack a scope that is now named."""
        for one in challenges:
            if one.scheme == "bearer" and one.parameters.get("error") in (
                "invalid_token",
                "insufficient_scope",
                None,
            ):
                return bool(self._tokens) or any(
                    s not in scopes for s in one.parameters.get("scope", "").split()
                )
        return False

    def _find_base(self) -> None:
        """Find out whether an insecure registry speaks TLS: it may, and then it shall."""
        with self._lock:
            if self._base:
                return
            base = f"https://{self._address}"
            try:
                self._knock(base)
            except ConnectionFailed as secure_error:
                base = f"http://{self._address}"
                try:
                    self._knock(base)
                except ConnectionFailed:
                    raise secure_error from None
            self._base = base

    def _knock(self, base: str) -> None:
        with self._transport.request(
            "GET", f"{base}/v2/", insecure=True, cert_host=self.host
        ) as response:
            # Read, so that the connection is kept for what follows.
            if response.length is not None and response.length <= _ERROR_MAX_BYTES:
                response.read(_ERROR_MAX_BYTES)

    def _authorization(self, scopes: tuple[str, ...]) -> dict[str, str]:
        with self._lock:
            challenges = self._challenges
        bearer = next((one for one in challenges if one.scheme == "bearer"), None)
        if bearer is not None:
            token = self._token(bearer, scopes)
            return {"Authorization": f"Bearer {token}"}
        if challenges:
            credentials = self._credentials_for(scopes)
            if credentials is not None and credentials.username:
                return {"Authorization": f"Basic {credentials.basic()}"}
        return {}

    def _credentials_for(self, scopes: tuple[str, ...]) -> Credentials | None:
        if self._credentials is None or isinstance(self._credentials, Credentials):
            return self._credentials
        repository = scopes[0].split(":")[1] if scopes else ""
        return self._credentials(f"{self.host}/{repository}" if repository else self.host)

    def _token(self, challenge: Challenge, scopes: tuple[str, ...]) -> str:
        realm, service = (
            challenge.parameters.get("realm", ""),
            challenge.parameters.get("service", ""),
        )
        key = (realm, service, *scopes)
        with self._token_lock:  # several layers start at once and need one token
            known = self._tokens.get(key)
            if known is not None and known[1] > time.monotonic():
                return known[0]
            token, lifetime_s = self._fetch_token(realm, service, scopes)
            # Used for nine tenths of its life, so that it does not run out on the way.
            self._tokens[key] = (token, time.monotonic() + lifetime_s * 0.9)
            return token

    def _fetch_token(self, realm: str, service: str, scopes: tuple[str, ...]) -> tuple[str, float]:
        what = f"{self.host}: asking {realm.partition('?')[0][:200]} for a token"
        if not realm:
            raise AuthError(f"{self.host}: its challenge names no realm", code="UNAUTHORIZED")
        credentials = self._credentials_for(scopes)
        if credentials is not None and credentials.identity_token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": credentials.identity_token,
                "service": service,
                "scope": " ".join(scopes),
                "client_id": "rootless",
            }
            response = self._transport.request(
                "POST",
                realm,
                secrets={"Content-Type": "application/x-www-form-urlencoded"},
                body=urlencode(form).encode(),
                insecure=self.insecure,
            )
        else:
            query = [("service", service)] if service else []
            query += [("scope", scope) for scope in scopes]
            secrets = {}
            if credentials is not None and credentials.username:
                query.insert(0, ("account", credentials.username))
                secrets["Authorization"] = f"Basic {credentials.basic()}"
            response = self._transport.request(
                "GET",
                _with_query(realm, dict(query), query),
                secrets=secrets,
                insecure=self.insecure,
            )
        with response:
            if response.status != 200:
                raise self._refusal(response, what)
            answer = parse_object(response.read(_TOKEN_MAX_BYTES), what, max_bytes=_TOKEN_MAX_BYTES)
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise AuthError(f"{what}: the answer holds none", code="UNAUTHORIZED")
        lifetime = answer.get("expires_in")
        return token, float(lifetime) if isinstance(
            lifetime, (int, float)
        ) and lifetime > 0 else _TOKEN_DEFAULT_S

    def _refusal(self, response: Response, what: str) -> RegistryError:
        status = response.status
        code, message = str(status), ""
        try:
            data = response.read(_ERROR_MAX_BYTES)
            first = (json.loads(data).get("errors") or [{}])[0]
            code, message = str(first.get("code") or code), str(first.get("message") or "")
        except (RegistryError, ValueError, AttributeError, LookupError, TypeError, RecursionError):
            response.abort()
        message = printable(message)
        if status == 429:
            return Overloaded(
                f"{what}: too many requests: {message or 'the registry limits how much you may pull'}",
                code=code or "TOOMANYREQUESTS",
                hint=f"wait, or `rootless login {self.host}` for a higher limit",
                retry_after_s=retry_after(response.header("Retry-After")),
            )
        if status in (401, 403):
            known = (
                "authentication required"
                if status == 401
                else "requested access to the resource is denied"
            )
            return AuthError(
                f"{what}: {message or known}", code=code, hint=f"`rootless login {self.host}`"
            )
        if status == 404:
            return NotThere(f"{what}: {message or 'not found'}", code=code)
        if status in (408, 500, 502, 503, 504):
            return Overloaded(
                f"{what}: the registry answered {status}{': ' + message if message else ''}",
                code=code,
                retry_after_s=retry_after(response.header("Retry-After")),
            )
        if 300 <= status < 400:
            message = message or "a redirect without an address"
        return RegistryError(
            f"{what}: the registry answered {status}{': ' + message if message else ''}", code=code
        )


class BlobStream(io.RawIOBase):
    """A blob's bytes as they come in, no more than its descriptor promises; broken connections are mended inside."""

    def __init__(
        self, registry: Registry, repository: str, descriptor: Descriptor, offset: int = 0
    ) -> None:
        super().__init__()
        self._registry = registry
        self._repository = repository
        self._descriptor = descriptor
        self._position = offset
        self._attempt = 0
        self._cancelled = False
        self._what = f"{registry.host}/{repository}: blob {descriptor.digest}"
        self._urls = [""] + (descriptor.urls if descriptor.is_foreign else [])
        self._response: Response | None = None
        self._response = self._open_with_retries()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        while True:
            try:
                if self._response is None:
                    self._response = self._open()
                count = self._response.readinto(view)
                if not count and self._position < self._descriptor.size:
                    raise ConnectionFailed(
                        f"{self._what}: ends after {self._position} of {self._descriptor.size} bytes"
                    )
                break
            except RegistryError as error:
                self._drop()
                if self._cancelled or not self._registry.retry.pause(self._attempt, error):
                    raise
                self._attempt += 1
        self._position += count
        if self._position > self._descriptor.size:
            self._drop()
            raise RegistryError(
                f"{self._what}: is longer than the {self._descriptor.size} bytes that the manifest says"
            )
        if count:
            # Patience is for one bad stretch, not for the whole of a long download.
            self._attempt = 0 if count > 1 << 16 else self._attempt
        elif self._response is not None:
            self._response.close()
        return count

    def close(self) -> None:
        self._drop()
        super().close()

    def cancel(self) -> None:
        """Make a reader in another thread fail at once."""
        self._cancelled = True
        response = self._response
        if response is not None:
            response.interrupt()

    def _drop(self) -> None:
        if self._response is not None:
            self._response.abort()
            self._response = None

    def _open_with_retries(self) -> Response:
        while True:
            try:
                return self._open()
            except RegistryError as error:
                if self._urls[1:] and isinstance(error, NotThere):
                    del self._urls[0]
                    continue
                if not self._registry.retry.pause(self._attempt, error):
                    raise
                self._attempt += 1

    def _open(self) -> Response:
        headers = {"Range": f"bytes={self._position}-"} if self._position else {}
        if self._urls[0]:
            response = self._registry.foreign(self._urls[0], headers, self._what)
        else:
            response = self._registry.blob(
                self._repository, self._descriptor.digest, headers, self._what
            )
        if response.status == 206:
            unit, _, rest = response.header("Content-Range").partition(" ")
            if unit != "bytes" or rest.partition("-")[0] != str(self._position):
                response.abort()
                raise RegistryError(
                    f"{self._what}: the registry sent another part than the one asked for"
                )
            expected = self._descriptor.size - self._position
        else:
            expected = self._descriptor.size
        if response.length is not None and response.length != expected:
            response.abort()
            raise RegistryError(
                f"{self._what}: the registry has {response.length} bytes where the manifest says {expected}"
            )
        if response.status != 206 and self._position:
            _skip(
                response, self._position
            )  # it cannot send a part, so the part that is here goes by once more
        return response


def parse_challenges(text: str) -> list[Challenge]:
    """Parse one WWW-Authenticate header, which may hold several challenges (RFC 9110, 11.6.1)."""
    found: list[Challenge] = []
    position, length = 0, len(text)
    while position < length:
        if text[position] in ", \t":
            position += 1
            continue
        start = position
        while position < length and (
            text[position].isalnum() or text[position] in "!#$%&'*+-.^_`|~"
        ):
            position += 1
        word = text[start:position]
        while position < length and text[position] in " \t":
            position += 1
        if not word:
            position += 1
        elif position < length and text[position] == "=" and found:
            position += 1
            while position < length and text[position] in " \t":
                position += 1
            value, position = _parameter_value(text, position)
            found[-1].parameters.setdefault(word.lower(), value)
        else:
            found.append(Challenge(word.lower(), {}))
    return found


def _parameter_value(text: str, position: int) -> tuple[str, int]:
    if text[position : position + 1] != '"':
        end = position
        while end < len(text) and text[end] not in ", \t":
            end += 1
        return text[position:end], end
    value = ""
    position += 1
    while position < len(text) and text[position] != '"':
        if text[position] == "\\":
            position += 1
        value += text[position : position + 1]
        position += 1
    return value, position + 1


def retry_after(text: str) -> float | None:
    """Read Retry-After: seconds or a date."""
    if not text:
        return None
    if text.isascii() and text.isdigit() and len(text) < 8:
        return float(text)
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def referrers_tag(digest: str) -> str:
    return digest.replace(":", "-", 1)[:128]


def printable(text: str) -> str:
    """Return a registry's words for a terminal: one line, bounded, without control characters."""
    return "".join(char if char.isprintable() else " " for char in text[:500]).strip()


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


def _with_query(url: str, query: dict[str, str], pairs: list[tuple[str, str]] | None = None) -> str:
    """Add parameters to a URL that may have some, which are left as they are: they may be signed."""
    text = urlencode(pairs if pairs is not None else query, quote_via=quote)
    if not text:
        return url
    return f"{url}{'&' if '?' in url else '?'}{text}"


def _manifest_name(host: str, repository: str, tag_or_digest: str) -> str:
    return f"{host}/{repository}{'@' if ':' in tag_or_digest else ':'}{tag_or_digest}"


def _hex(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def _verify(data: bytes | bytearray, digest: str) -> bool:
    checked = hasher(digest)
    checked.update(data)
    return checked.hexdigest() == digest.partition(":")[2]


def _skip(response: Response, count: int) -> None:
    buffer = memoryview(bytearray(1 << 16))
    while count:
        got = response.readinto(buffer[: min(count, len(buffer))])
        if not got:
            return
        count -= got
