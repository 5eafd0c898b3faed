from __future__ import annotations

import base64
import io
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import RegistryError, RootlessError
from rootless.image import challenge, retry
from rootless.image import uploads as uploads_of_client
from rootless.image.auth import Credentials
from rootless.image.registry import Registry
from rootless.image.retry import AuthError, NotThere, Overloaded, Retry
from rootless.image.rootfs import download
from rootless.image.transport import ConnectionFailed, Transport, is_exempt
from rootless.oci.document import BadDocument
from rootless.oci.manifest import Descriptor, Index, Manifest
from tests.support import layers
from tests.support.fake_registry import (
    CONFIG,
    INDEX,
    LAYER,
    MANIFEST,
    FakeRegistry,
    Handler,
    descriptor,
    digest_of,
)

BLOB = bytes(range(256)) * 4000
SHA = "sha256:" + "ab" * 32


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as one:
        yield one


@pytest.fixture
def other() -> Iterator[FakeRegistry]:
    with FakeRegistry() as one:
        yield one


@pytest.fixture
def transport() -> Iterator[Transport]:
    one = Transport(timeout_s=0.3, environ={})
    yield one
    one.close()


def client(fake: FakeRegistry, transport: Transport, **more: Any) -> Registry:
    more.setdefault("insecure", True)
    more.setdefault("retry", Retry(2, sleep=lambda _: None))
    return Registry(fake.host, transport, **more)


def image(fake: FakeRegistry, **changes: Any) -> dict[str, Any]:
    config = fake.add_blob("a", b'{"os":"linux","architecture":"amd64"}')
    config["mediaType"] = CONFIG
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": [fake.add_blob("a", BLOB)],
    }
    return {**document, **changes}


def read(registry: Registry, raw: dict[str, Any], size: int = 100_000) -> bytes:
    out = b""
    with registry.open_blob("a", Descriptor(raw)) as stream:
        buffer = memoryview(bytearray(size))
        while count := stream.readinto(buffer):
            out += buffer[:count]
    return out


# What goes well


def test_manifest_by_tag_and_digest(fake: FakeRegistry, transport: Transport) -> None:
    digest = fake.add_manifest("a", image(fake), "1")
    registry = client(fake, transport)
    for name in ("1", digest):
        found, found_digest = registry.fetch_manifest("a", name)
        assert isinstance(found, Manifest)
        assert found_digest == digest
    fake.add_manifest("a", {"schemaVersion": 2, "manifests": []}, "list", kind=INDEX)
    assert isinstance(registry.fetch_manifest("a", "list")[0], Index)
    assert len({h["Host"] for _, _, h in fake.requests}) == 1


def test_blob_and_config(fake: FakeRegistry, transport: Transport) -> None:
    raw = fake.add_blob("a", BLOB)
    registry = client(fake, transport)
    assert read(registry, raw) == BLOB
    assert registry.fetch_blob("a", Descriptor(raw), 1 << 22) == BLOB
    with pytest.raises(BadDocument, match="exceed the limit"):
        registry.fetch_blob("a", Descriptor(raw), 100)


def test_tags_follow_pages(fake: FakeRegistry, transport: Transport) -> None:
    fake.content["/v2/a/tags/list?n=1000"] = (b'{"tags":["1","2"]}', "")
    fake.content["/v2/a/tags/list?n=1000&last=2"] = (b'{"tags":["3"]}', "")

    def first(handler: Handler) -> bool:
        if "last" in handler.path:
            return False
        handler.answer(
            200, b'{"tags":["1","2"]}', Link='</v2/a/tags/list?n=1000&last=2>; rel="next"'
        )
        return True

    fake.rules["/v2/a/tags/list"] = first
    assert client(fake, transport).tags("a") == ["1", "2", "3"]


def test_missing_manifest(fake: FakeRegistry, transport: Transport) -> None:
    with pytest.raises(NotThere, match="manifest unknown") as caught:
        client(fake, transport).fetch_manifest("a", "none")
    assert caught.value.code == "MANIFEST_UNKNOWN"


def test_referrers_by_fallback_tag(fake: FakeRegistry, transport: Transport) -> None:
    one = descriptor(b"x", MANIFEST, artifactType="application/x")
    two = descriptor(b"y", MANIFEST, artifactType="application/y")
    fake.add_manifest(
        "a", {"schemaVersion": 2, "manifests": [one, two]}, SHA.replace(":", "-"), kind=INDEX
    )
    registry = client(fake, transport)
    assert len(registry.referrers("a", SHA)) == 2
    assert [r.digest for r in registry.referrers("a", SHA, "application/y")] == [two["digest"]]
    assert registry.referrers("a", digest_of(b"")) == []


def test_search_falls_back_to_the_catalog(fake: FakeRegistry, transport: Transport) -> None:
    fake.content["/v2/_catalog?n=1000"] = (b'{"repositories":["team/app","other"]}', "")
    assert [r.name for r in client(fake, transport).search("app", 10)] == ["team/app"]
    results = {
        "results": [{"name": "x", "description": "d\x1b[0m", "star_count": 3, "is_official": True}]
    }
    fake.rules["/v1/search"] = lambda h: h.answer(200, json.dumps(results).encode())
    (found,) = client(fake, transport).search("x", 10)
    assert (found.name, found.stars, found.official) == ("x", 3, True)
    assert "\x1b" not in found.description


# Tokens and passwords


class Tokens:
    """Guards the paths under /v2/ of one registry by tokens that another hands out."""

    def __init__(self, fake: FakeRegistry, realm: FakeRegistry, lifetime: int = 300) -> None:
        self.granted: list[str] = []
        self.realm = realm
        self.lifetime = lifetime
        fake.rules["/v2/"] = self.guard
        realm.rules["/token"] = self.hand_out

    def guard(self, handler: Handler) -> bool:
        token = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        repository = handler.path.split("/")[2]
        if token in self.granted and (not repository or f":{repository}:" in token):
            return False
        handler.body()
        challenge = f'Bearer realm="{self.realm.url}/token",service="s",scope="repository:{repository}:pull"'
        handler.answer(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}', WWW_Authenticate=challenge)
        return True

    def hand_out(self, handler: Handler) -> bool:
        token = f"{len(self.granted)}!{handler.path.partition('scope=')[2].replace('%3A', ':')}"
        self.granted.append(token)
        answer = {"token": token, "expires_in": self.lifetime}
        handler.answer(200, json.dumps(answer).encode())
        return True


def test_token_is_fetched_once_per_scope(
    fake: FakeRegistry, other: FakeRegistry, transport: Transport
) -> None:
    tokens = Tokens(fake, other)
    fake.add_manifest("a", image(fake), "1")
    fake.add_manifest("b", image(fake), "1")
    registry = client(fake, transport, credentials=Credentials("user", "pass"))
    for _ in range(2):
        registry.fetch_manifest("a", "1")
        registry.fetch_manifest("b", "1")
    assert len(tokens.granted) == 2
    asked = other.seen("GET", "/token")
    assert [h["Authorization"] for h in asked] == [
        "Basic " + base64.b64encode(b"user:pass").decode()
    ] * 2
    assert "account=user" in other.requests[0][1]
    assert "service=s" in other.requests[0][1]
    # The password itself never went to the registry.
    assert not any(h.get("Authorization", "").startswith("Basic") for _, _, h in fake.requests)


def test_expired_token_is_renewed(
    fake: FakeRegistry, other: FakeRegistry, transport: Transport
) -> None:
    tokens = Tokens(fake, other)
    fake.add_manifest("a", image(fake), "1")
    registry = client(fake, transport)
    registry.fetch_manifest("a", "1")
    tokens.granted[0] = "forgotten"
    registry.fetch_manifest("a", "1")
    assert len(tokens.granted) == 2


def test_identity_token_uses_oauth(
    fake: FakeRegistry, other: FakeRegistry, transport: Transport
) -> None:
    Tokens(fake, other)
    fake.add_manifest("a", image(fake), "1")
    bodies = []

    def oauth(handler: Handler) -> bool:
        bodies.append(handler.body())
        handler.answer(404)
        return True

    other.rules = {"POST /token": oauth, **other.rules}
    registry = client(fake, transport, credentials=Credentials("", "", "refresh"))
    with pytest.raises(RegistryError):
        registry.fetch_manifest("a", "1")
    assert b"grant_type=refresh_token&refresh_token=refresh" in bodies[0]


def test_basic(fake: FakeRegistry, transport: Transport) -> None:
    fake.add_manifest("a", image(fake), "1")

    def guard(handler: Handler) -> bool:
        if handler.headers.get("Authorization") == "Basic " + base64.b64encode(b"u:p").decode():
            return False
        handler.answer(401, WWW_Authenticate='Basic realm="x"')
        return True

    fake.rules["/v2/"] = guard
    client(fake, transport, credentials=Credentials("u", "p")).fetch_manifest("a", "1")
    for wrong in (None, Credentials("u", "wrong")):
        with pytest.raises(AuthError, match="authentication required") as caught:
            client(fake, transport, credentials=wrong).fetch_manifest("a", "1")
        assert "login" in caught.value.hint


def test_challenges() -> None:
    found = challenge.parse_challenges(
        'Basic realm="a, b", Bearer realm="https://x/t",service="q\\"q",scope=s:t'
    )
    assert [(one.scheme, one.parameters) for one in found] == [
        ("basic", {"realm": "a, b"}),
        ("bearer", {"realm": "https://x/t", "service": 'q"q', "scope": "s:t"}),
    ]
    assert challenge.parse_challenges("") == []
    assert [one.scheme for one in challenge.parse_challenges("Negotiate")] == ["negotiate"]


# Bad networks


def test_broken_layer_is_resumed(fake: FakeRegistry, transport: Transport) -> None:
    raw = fake.add_blob("a", BLOB)
    path = f"/v2/a/blobs/{raw['digest']}"
    cuts = [300_000, 700_000]

    def cut(handler: Handler) -> bool:
        if not cuts:
            return False
        first = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        end = cuts.pop(0)
        area = {"Content_Range": f"bytes {first}-{len(BLOB) - 1}/{len(BLOB)}"} if first else {}
        handler.answer(206 if first else 200, BLOB[first:end], len(BLOB) - first, **area)
        handler.close_connection = True
        return True

    fake.rules[path] = cut
    assert read(client(fake, transport), raw) == BLOB
    assert [h.get("Range") for h in fake.seen("GET", path)] == [
        None,
        "bytes=300000-",
        "bytes=700000-",
    ]


def test_resume_where_ranges_are_ignored(fake: FakeRegistry, transport: Transport) -> None:
    raw = fake.add_blob("a", BLOB)
    fake.ranges = False
    cuts = [1]

    def cut(handler: Handler) -> bool:
        if not cuts:
            return False
        cuts.pop()
        handler.answer(200, BLOB[:300_000], len(BLOB))
        handler.close_connection = True
        return True

    fake.rules["/v2/a/blobs"] = cut
    assert read(client(fake, transport), raw) == BLOB


def test_case_32_stall_ends(fake: FakeRegistry, transport: Transport) -> None:
    raw = fake.add_blob("a", BLOB)

    def stall(handler: Handler) -> bool:
        handler.answer(200, BLOB[:10], len(BLOB))
        handler.rfile.read(1)  # until the client gives up
        return True

    fake.rules["/v2/a/blobs"] = stall
    with pytest.raises(ConnectionFailed, match="no data for too long"):
        read(client(fake, transport, retry=Retry(0)), raw)


def test_server_errors_are_retried(fake: FakeRegistry, transport: Transport) -> None:
    fake.add_manifest("a", image(fake), "1")
    answers = [503, 429]
    waits: list[float] = []

    def fail(handler: Handler) -> bool:
        if not answers:
            return False
        handler.answer(answers.pop(0), Retry_After="7")
        return True

    fake.rules["/v2/a/manifests"] = fail
    client(fake, transport, retry=Retry(3, sleep=waits.append)).fetch_manifest("a", "1")
    assert waits == [7, 7]


def test_rate_limit_is_told(fake: FakeRegistry, transport: Transport) -> None:
    body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"pull limit\\u001b[31m"}]}'
    fake.rules["/v2/a/manifests"] = lambda h: h.answer(429, body, Retry_After="3600")
    with pytest.raises(Overloaded, match="too many requests: pull limit") as caught:
        client(fake, transport).fetch_manifest("a", "1")
    assert "\x1b" not in caught.value.message
    assert "login" in caught.value.hint
    assert len(fake.seen("GET", "/v2/a/manifests")) == 1


def test_retry_after_dates() -> None:
    assert retry.retry_after("12") == 12
    assert retry.retry_after("") is None
    assert retry.retry_after("soon") is None
    assert retry.retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_refused_connection_is_not_retried(transport: Transport) -> None:
    with FakeRegistry() as gone:
        host = gone.host
    waits: list[float] = []
    registry = Registry(host, transport, retry=Retry(3, sleep=waits.append))
    with pytest.raises(ConnectionFailed, match="cannot connect: Connection refused"):
        registry.fetch_manifest("a", "1")
    assert not waits


# Attacks


@pytest.mark.parametrize(
    "broken",
    [
        {"config": {"mediaType": CONFIG, "digest": "sha256:../../x", "size": 1}},
        {"layers": [{"mediaType": LAYER, "digest": "sha256:" + "A" * 64, "size": 1}]},
        {"layers": [{"mediaType": LAYER, "digest": SHA, "size": -1}]},
        {"layers": [{"mediaType": LAYER, "digest": SHA, "size": 1.5}]},
        {"layers": [{"mediaType": LAYER, "digest": SHA, "size": True}]},
        {"layers": [{"digest": SHA, "size": 1}]},
        {"layers": {}},
        {"layers": [3]},
        {"layers": [{"mediaType": LAYER, "digest": SHA, "size": 1}] * 1001},
        {"layers": [{"mediaType": LAYER, "digest": SHA, "size": 1, "urls": [1]}]},
        {"config": None},
        {"schemaVersion": 1},
        {"schemaVersion": None},
        {"mediaType": 3},
    ],
)
def test_case_27_28_bad_manifests(
    fake: FakeRegistry, transport: Transport, broken: dict[str, Any]
) -> None:
    fake.add_manifest("a", image(fake, **broken), "1")
    with pytest.raises(BadDocument):
        client(fake, transport).fetch_manifest("a", "1")


def test_case_28_document_that_is_both(fake: FakeRegistry, transport: Transport) -> None:
    fake.add_manifest("a", image(fake, manifests=[], mediaType=""), "1")
    with pytest.raises(BadDocument, match="both an image and an index"):
        client(fake, transport).fetch_manifest("a", "1")


def test_case_28_media_type_must_agree(fake: FakeRegistry, transport: Transport) -> None:
    fake.add_manifest("a", image(fake), "1", kind=INDEX)
    with pytest.raises(BadDocument, match="announced as"):
        client(fake, transport).fetch_manifest("a", "1")
    digest = fake.add_manifest("a", image(fake), "2")
    with pytest.raises(BadDocument, match="announced as"):
        client(fake, transport).fetch_manifest("a", digest, INDEX)
    # A server that knows no manifests may call them JSON.
    fake.add_manifest("a", image(fake), "3", kind="application/json; charset=utf-8")
    client(fake, transport).fetch_manifest("a", "3")


def test_case_28_digest_pull_verifies_bytes(fake: FakeRegistry, transport: Transport) -> None:
    data = json.dumps(image(fake)).encode()
    fake.content[f"/v2/a/manifests/{SHA}"] = (data, MANIFEST)
    with pytest.raises(RegistryError, match="does not have the digest asked for"):
        client(fake, transport).fetch_manifest("a", SHA)
    fake.rules["/v2/a/manifests/1"] = lambda h: h.answer(
        200, data, Content_Type=MANIFEST, Docker_Content_Digest=SHA
    )
    with pytest.raises(RegistryError, match="announced"):
        client(fake, transport).fetch_manifest("a", "1")


def test_case_28_duplicate_keys(fake: FakeRegistry, transport: Transport) -> None:
    data = json.dumps(image(fake)).encode()
    fake.add_manifest("a", data[:-1] + b', "layers": []}', "1")
    with pytest.raises(BadDocument, match="occurs twice"):
        client(fake, transport).fetch_manifest("a", "1")


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 200_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b"{" + b" " * (5 << 20) + b"}",
        b"[]",
        b"",
        b"\xff\xfe",
        b"{} {}",
        b'{"schemaVersion": ' + b"9" * 10_000 + b"}",
    ],
)
def test_case_32_absurd_json(fake: FakeRegistry, transport: Transport, data: bytes) -> None:
    fake.add_manifest("a", data, "1")
    with pytest.raises(RootlessError):
        client(fake, transport).fetch_manifest("a", "1")


def test_case_32_endless_manifest(fake: FakeRegistry, transport: Transport) -> None:
    def endless(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        while True:
            handler.wfile.write(b" " * 65536)

    fake.rules["/v2/a/manifests"] = endless
    with pytest.raises(RegistryError, match="exceeds the limit"):
        client(fake, transport).fetch_manifest("a", "1")


def test_blob_of_another_size(fake: FakeRegistry, transport: Transport) -> None:
    raw = fake.add_blob("a", BLOB)
    registry = client(fake, transport)
    for size in (len(BLOB) - 1, len(BLOB) + 1):
        with pytest.raises(RegistryError, match="where the manifest says"):
            read(registry, {**raw, "size": size})


def test_case_32_blob_longer_than_promised_without_length(
    fake: FakeRegistry, transport: Transport
) -> None:
    raw = fake.add_blob("a", BLOB)

    def unbounded(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        while True:
            handler.wfile.write(BLOB)

    fake.rules["/v2/a/blobs"] = unbounded
    with pytest.raises(RegistryError, match="is longer than"):
        read(client(fake, transport), raw)


def test_small_blob_with_wrong_content(fake: FakeRegistry, transport: Transport) -> None:
    raw = fake.add_blob("a", BLOB[::-1], digest_of(BLOB))
    raw["digest"] = digest_of(BLOB)
    with pytest.raises(RegistryError, match="does not have this digest"):
        client(fake, transport).fetch_blob("a", Descriptor(raw), 1 << 22)


def test_case_29_redirect_keeps_credentials_at_home(
    fake: FakeRegistry, other: FakeRegistry, transport: Transport
) -> None:
    Tokens(fake, other)
    raw = fake.add_blob("a", BLOB)
    with FakeRegistry() as storage:
        storage.content["/there"] = (BLOB, "")
        inner = fake.rules["/v2/"]

        def guard_and_redirect(handler: Handler) -> bool:
            if inner(handler):
                return True
            handler.answer(307, Location=f"{storage.url}/there?signature=s3cret")
            return True

        storage.content["/there?signature=s3cret"] = (BLOB, "")
        fake.rules["/v2/"] = guard_and_redirect
        registry = client(fake, transport, credentials=Credentials("user", "pass"))
        assert read(registry, raw) == BLOB
        (headers,) = storage.seen("GET", "/there")
        assert "Authorization" not in headers
        # A challenge from there is no reason to send any, either.
        storage.rules["/there"] = lambda h: h.answer(401, WWW_Authenticate='Basic realm="x"')
        with pytest.raises(AuthError) as caught:
            read(registry, raw)
        assert "s3cret" not in str(caught.value)
        assert not any("Authorization" in h for h in storage.seen("GET", "/there"))


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "http://user:pass@127.0.0.1/x",
        "http:///x",
        "//",
        "http://127.0.0.1:99999/",
        "gopher://x",
    ],
)
def test_redirect_to_elsewhere_than_http(
    fake: FakeRegistry, transport: Transport, target: str
) -> None:
    raw = fake.add_blob("a", BLOB)
    fake.rules["/v2/a/blobs"] = lambda h: h.answer(307, Location=target)
    with pytest.raises(RegistryError):
        read(client(fake, transport, retry=Retry(0)), raw)


def test_redirect_loop_ends(fake: FakeRegistry, transport: Transport) -> None:
    raw = fake.add_blob("a", BLOB)
    fake.rules["/v2/a/blobs"] = lambda h: h.answer(307, Location=h.path)
    with pytest.raises(RegistryError, match="redirects"):
        read(client(fake, transport), raw)


def test_case_29_no_http_unless_insecure(fake: FakeRegistry, transport: Transport) -> None:
    with pytest.raises(ConnectionFailed, match="TLS failed"):
        client(fake, transport, insecure=False).fetch_manifest("a", "1")
    assert fake.requests == []


def test_case_29_foreign_layer_gets_no_credentials(
    fake: FakeRegistry, other: FakeRegistry, transport: Transport
) -> None:
    fake.rules["/v2/a/"] = lambda h: (
        "Authorization" not in h.headers and h.answer(401, WWW_Authenticate='Basic realm="x"')
    )
    other.content["/layer"] = (BLOB, "")
    raw = descriptor(
        BLOB, LAYER.replace("layer.v1", "layer.nondistributable.v1"), urls=[f"{other.url}/layer"]
    )
    registry = client(fake, transport, credentials=Credentials("u", "p"))
    assert read(registry, raw) == BLOB
    assert fake.seen("GET", "/v2/a/blobs")[-1]["Authorization"]
    (headers,) = other.seen("GET", "/layer")
    assert "Authorization" not in headers


def test_case_29_upload_location_elsewhere_gets_no_credentials(
    fake: FakeRegistry, other: FakeRegistry, transport: Transport
) -> None:
    def guard(handler: Handler) -> bool:
        handler.body()
        if "Authorization" not in handler.headers:
            handler.answer(401, WWW_Authenticate='Basic realm="x"')
        else:
            handler.answer(202, Location=f"{other.url}/upload?state=x")
        return True

    fake.rules["/v2/a/"] = guard
    other.rules["PUT /upload"] = lambda h: h.body() is not None and h.answer(201)
    registry = client(fake, transport, credentials=Credentials("u", "p"))
    registry.upload_blob("a", digest_of(BLOB), io.BytesIO(BLOB), len(BLOB))
    (headers,) = other.seen("PUT", "/upload?state=x&digest=sha256%3A")
    assert "Authorization" not in headers


def test_next_page_on_another_host(
    fake: FakeRegistry, other: FakeRegistry, transport: Transport
) -> None:
    link = f'<{other.url}/v2/a/tags/list>; rel="next"'
    fake.rules["/v2/a/tags"] = lambda h: h.answer(200, b'{"tags":[]}', Link=link)
    with pytest.raises(RegistryError, match="another host"):
        client(fake, transport).tags("a")


# TLS on every path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("tls")
    extension = "-addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    subprocess.run(
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 {extension}".split(),
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return str(folder / "cert.pem"), str(folder / "key.pem")


@pytest.mark.parametrize(
    "action",
    [
        lambda r, raw: r.ping(),
        lambda r, raw: r.fetch_manifest("a", "1"),
        lambda r, raw: r.open_blob("a", Descriptor(raw)),
        lambda r, raw: r.open_blob("a", Descriptor({**raw, "mediaType": LAYER})),
        lambda r, raw: r.tags("a"),
        lambda r, raw: r.catalog(1),
        lambda r, raw: r.search("x", 1),
        lambda r, raw: r.referrers("a", SHA),
        lambda r, raw: r.has_blob("a", SHA),
        lambda r, raw: r.push_manifest("a", "1", b"{}", MANIFEST),
        lambda r, raw: r.upload_blob("a", SHA, io.BytesIO(b"x"), 1),
        lambda r, raw: r.foreign(f"https://{r.host}/x", {}, "x"),
        lambda r, raw: r._fetch_token(f"https://{r.host}/token", "", ()),
    ],
)
def test_case_30_unknown_certificate(
    certificate: tuple[str, str], transport: Transport, action: Any
) -> None:
    with FakeRegistry(certificate) as fake:
        raw = descriptor(BLOB)
        with pytest.raises(ConnectionFailed, match="certificate not accepted"):
            action(client(fake, transport, insecure=False), raw)
        assert fake.requests == []


def test_case_30_redirect_to_unknown_certificate(
    certificate: tuple[str, str],
    fake: FakeRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first host is trusted by its own certs.d folder, which says nothing about the second."""
    with FakeRegistry(certificate) as good, FakeRegistry(certificate) as bad:
        folder = tmp_path / "containers/certs.d" / good.host
        folder.mkdir(parents=True)
        (folder / "ca.crt").symlink_to(certificate[0])
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        raw = good.add_blob("a", BLOB)
        transport = Transport(timeout_s=1, environ={})
        registry = client(good, transport, insecure=False)
        assert read(registry, raw) == BLOB
        good.rules["/v2/a/blobs"] = lambda h: h.answer(307, Location=f"{bad.url}/x")
        with pytest.raises(ConnectionFailed, match="certificate not accepted"):
            read(registry, raw)
        good.rules["/v2/a/blobs"] = lambda h: h.answer(307, Location=f"{fake.url}/x")
        with pytest.raises(RegistryError, match="without TLS"):
            read(registry, raw)
        transport.close()


def test_case_29_no_password_to_a_realm_in_clear(
    certificate: tuple[str, str], fake: FakeRegistry, tmp_path: Path
) -> None:
    (tmp_path / "mine.crt").symlink_to(certificate[0])
    with FakeRegistry(certificate) as good:
        good.rules["/v2/"] = lambda h: h.answer(
            401, WWW_Authenticate=f'Bearer realm="{fake.url}/token",service="s"'
        )
        transport = Transport(cert_dir=str(tmp_path), environ={})
        for known in (Credentials("user", "pass"), Credentials("", "", "refresh")):
            registry = client(good, transport, insecure=False, credentials=known)
            with pytest.raises(RegistryError, match="without TLS"):
                registry.fetch_manifest("a", "1")
        transport.close()
    assert fake.requests == []


def test_case_30_import_from_an_unknown_certificate(
    certificate: tuple[str, str], tmp_path: Path
) -> None:
    with FakeRegistry(certificate) as server:
        server.content["/root.tar"] = (BLOB, "")
        with pytest.raises(RootlessError, match="certificate verify failed"):
            download(layers.store(tmp_path), f"{server.url}/root.tar")
        assert server.requests == []


def test_insecure_prefers_tls(certificate: tuple[str, str], transport: Transport) -> None:
    with FakeRegistry(certificate) as fake:
        raw = fake.add_blob("a", BLOB)
        assert read(client(fake, transport, insecure=True), raw) == BLOB


def test_cert_dir(certificate: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "mine.crt").symlink_to(certificate[0])
    with FakeRegistry(certificate) as fake:
        transport = Transport(cert_dir=str(tmp_path), environ={})
        client(fake, transport, insecure=False).ping()
        transport.close()
    os.symlink(certificate[0], tmp_path / "client.cert")
    with (
        FakeRegistry(certificate) as fake,
        pytest.raises(RootlessError, match=r"no key client\.key"),
    ):
        client(fake, Transport(cert_dir=str(tmp_path), environ={}), insecure=False).ping()


# Uploads


class Uploads:
    """The upload end points, with what shall go wrong."""

    def __init__(self, fake: FakeRegistry) -> None:
        self.fake = fake
        self.received = bytearray()
        self.fail: list[str] = []
        fake.rules["POST /v2/a/blobs/uploads/"] = self.start
        fake.rules["/upload/1"] = self.upload

    def start(self, handler: Handler) -> bool:
        self.received.clear()
        handler.answer(202, Location="/upload/1?state=a", OCI_Chunk_Min_Length="100000")
        return True

    def upload(self, handler: Handler) -> bool:
        if handler.command == "GET":
            handler.answer(
                204, Location="/upload/1?state=b", Range=f"0-{max(0, len(self.received) - 1)}"
            )
            return True
        if self.fail and self.fail[0].startswith(handler.command):
            what = self.fail.pop(0)
            if what.endswith("cut"):
                handler.rfile.read(10)
                handler.connection.close()
                handler.close_connection = True
            elif what.endswith("half"):
                data = handler.body()
                self.received += data[: len(data) // 2]
                handler.answer(500)
            else:
                handler.body()
                handler.answer(int(what.split()[1]))
            return True
        data = handler.body()
        if handler.command == "PATCH":
            start = int(handler.headers["Content-Range"].partition("-")[0])
            if start != len(self.received):
                handler.answer(416)
                return True
        self.received += data
        if handler.command == "PATCH":
            handler.answer(202, Location="/upload/1?state=c", Range=f"0-{len(self.received) - 1}")
        else:
            handler.answer(201)
        return True


@pytest.mark.parametrize(
    "failures",
    [
        [],
        ["PUT cut"],
        ["PUT 413"],
        ["PUT 503"],
        ["PUT cut", "PATCH half"],
        ["PUT cut", "PATCH cut"],
    ],
)
def test_upload(
    fake: FakeRegistry, transport: Transport, failures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads_of_client, "_CHUNK_BYTES", 300_000)
    uploads = Uploads(fake)
    uploads.fail = failures
    client(fake, transport, retry=Retry(3, sleep=lambda _: None)).upload_blob(
        "a", digest_of(BLOB), io.BytesIO(BLOB), len(BLOB)
    )
    assert bytes(uploads.received) == BLOB
    assert not uploads.fail


def test_upload_sends_files_whole(fake: FakeRegistry, transport: Transport, tmp_path: Path) -> None:
    uploads = Uploads(fake)
    (tmp_path / "blob").write_bytes(BLOB)
    with open(tmp_path / "blob", "rb") as file:
        client(fake, transport).upload_blob("a", digest_of(BLOB), file, len(BLOB))
    assert bytes(uploads.received) == BLOB


def test_mount(fake: FakeRegistry, transport: Transport) -> None:
    fake.rules["POST /v2/a/blobs/uploads/?mount="] = lambda h: h.answer(201)
    assert client(fake, transport).mount_blob("a", SHA, "b/c")
    assert (
        fake.requests[-1][1] == f"/v2/a/blobs/uploads/?mount={SHA.replace(':', '%3A')}&from=b%2Fc"
    )
    fake.rules["POST /v2/a/blobs/uploads/?mount="] = lambda h: h.answer(202, Location="/upload/9")
    deleted: list[str] = []

    def delete(handler: Handler) -> bool:
        deleted.append(handler.path)
        return handler.answer(204)

    fake.rules["DELETE /upload/9"] = delete
    assert not client(fake, transport).mount_blob("a", SHA, "b/c")
    assert deleted == ["/upload/9"]


def test_pushed_manifest_with_subject_keeps_the_fallback_tag(
    fake: FakeRegistry, transport: Transport
) -> None:
    stored: dict[str, bytes] = {}

    def put(handler: Handler) -> bool:
        stored[handler.path.rpartition("/")[2]] = handler.body()
        handler.answer(201)
        return True

    fake.rules["PUT /v2/a/manifests/"] = put
    document = image(fake, subject=descriptor(b"s", MANIFEST), artifactType="application/x")
    data = json.dumps(document).encode()
    digest = client(fake, transport).push_manifest("a", "1", data, MANIFEST)
    index = json.loads(stored[digest_of(b"s").replace(":", "-")])
    assert [(one["digest"], one["artifactType"]) for one in index["manifests"]] == [
        (digest, "application/x")
    ]


# Proxies


@pytest.mark.parametrize(
    ("host", "no_proxy", "expected"),
    [
        ("a.com", "", False),
        ("a.com", "a.com", True),
        ("x.a.com", "a.com", True),
        ("x.a.com", ".a.com", True),
        ("a.com", ".a.com", False),
        ("ba.com", "a.com", False),
        ("a.com", "*", True),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("a.com", "b.com, a.com:443", True),
        ("a.com", "a.com:80", False),
        ("127.0.0.1", "", True),
        ("localhost", "", True),
        ("::1", "", True),
    ],
)
def test_no_proxy(host: str, no_proxy: str, expected: bool) -> None:
    assert is_exempt(host, 443, no_proxy) is expected


def test_http_proxy(fake: FakeRegistry) -> None:
    transport = Transport(environ={"http_proxy": f"user:p%40ss@{fake.host}"})
    fake.rules["http://registry.example/x"] = lambda h: h.answer(200, b"proxied")
    with transport.request("GET", "http://registry.example/x", insecure=True) as response:
        assert response.read(100) == b"proxied"
    expected = "Basic " + base64.b64encode(b"user:p@ss").decode()
    assert fake.requests[0][2]["Proxy-Authorization"] == expected
    transport.close()
