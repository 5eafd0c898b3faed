from __future__ import annotations

import pytest

from rootless.errors import InvalidReference
from rootless.image import reference
from rootless.oci.digest import is_digest

HEX = "0123456789abcdef" * 4
SHA = "sha256:" + HEX


@pytest.mark.parametrize(
    ("text", "domain", "path", "tag", "digest"),
    [
        ("nginx", "", "nginx", "", ""),
        ("nginx:1.27", "", "nginx", "1.27", ""),
        ("team/app", "", "team/app", "", ""),
        ("docker.io/nginx", "docker.io", "library/nginx", "", ""),
        ("index.docker.io/nginx:a", "docker.io", "library/nginx", "a", ""),
        ("docker.io/team/app", "docker.io", "team/app", "", ""),
        ("localhost/app", "localhost", "app", "", ""),
        ("localhost:5000/app:v1", "localhost:5000", "app", "v1", ""),
        ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000", "a/b/c", "", ""),
        ("[::1]:5000/app:v1", "[::1]:5000", "app", "v1", ""),
        ("[fe80::1]/app", "[fe80::1]", "app", "", ""),
        ("quay.example/a__b/c-d.e_f--g:T.1_x-2", "quay.example", "a__b/c-d.e_f--g", "T.1_x-2", ""),
        (f"app@{SHA}", "", "app", "", SHA),
        (f"h.example/app:v1@{SHA}", "h.example", "app", "v1", SHA),
        ("Upper/app", "Upper", "app", "", ""),
        (f"{HEX}:tag"[1:], "", HEX[1:], "tag", ""),
    ],
)
def test_parse(text: str, domain: str, path: str, tag: str, digest: str) -> None:
    found = reference.parse(text)
    assert (found.domain, found.path, found.tag, found.digest) == (domain, path, tag, digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "App",
        "h.example/App",
        "-a",
        "a-",
        "a___b",
        "a..b",
        "a._b",
        "a:",
        "a:-x",
        "a:.x",
        "a:" + "x" * 129,
        "a:b:c",
        "a@",
        "a@sha256:abc",
        f"a@sha256:{HEX.upper()}",
        f"a@{SHA}@{SHA}",
        f"a@md5:{HEX[:32]}",
        "a b",
        "a\n",
        "é",
        "a/../b",
        "../a",
        "h.example:x/a",
        "h.example:/a",
        "-h.example/a",
        "[::1/a",
        "[zz]/a",
        HEX,
        "a/" * 130 + "a",
        "https://h.example/a",
        "a?x=1",
        "a%2e%2e/b",
        "²",
    ],
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(InvalidReference):
        reference.parse(text)


@pytest.mark.parametrize(
    "digest",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:../../../../etc/passwd",
        "sha256:" + "a" * 63,
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 65,
        "../sha256:" + "a" * 64,
        "sha256:" + "a" * 63 + "/",
        "sha256:" + "a" * 64 + "\n",
        "sha512:" + "a" * 64,
        "md5:" + "a" * 32,
        None,
        7,
        ["sha256:" + "a" * 64],
    ],
)
def test_case_27_digest_grammar(digest: object) -> None:
    assert not is_digest(digest)


def test_digest_accepts() -> None:
    assert is_digest(SHA)
    assert is_digest("sha512:" + HEX + HEX)
    assert is_digest("sha384:" + HEX + HEX[:32])


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("nginx", "docker.io/library/nginx"),
        ("team/app:1", "docker.io/team/app:1"),
        ("docker.io/library/a/b", "docker.io/library/a/b"),
        ("localhost/x", "localhost/x"),
    ],
)
def test_normalised(text: str, full: str) -> None:
    assert str(reference.parse_normalised(text)) == full


def test_candidates() -> None:
    short = [str(one) for one in reference.candidates(reference.parse("app:1"))]
    assert short == ["localhost/app:1", "docker.io/library/app:1"]
    full = reference.parse("h.example/app")
    assert reference.candidates(full) == [full]


def test_default_tag() -> None:
    assert str(reference.parse("a.b/c").with_default_tag()) == "a.b/c:latest"
    assert str(reference.parse(f"a.b/c@{SHA}").with_default_tag()) == f"a.b/c@{SHA}"
    assert str(reference.parse(f"a.b/c:x@{SHA}").without_tag()) == f"a.b/c@{SHA}"


def test_with_domain_takes_a_namespace() -> None:
    assert str(reference.parse("app").with_domain("h.example/team")) == "h.example/team/app"
    assert str(reference.parse("app").with_domain("docker.io")) == "docker.io/library/app"


@pytest.mark.parametrize(
    ("text", "transport", "rest"),
    [
        ("nginx:1", "", "nginx:1"),
        ("docker://h.example/a:1", "docker", "h.example/a:1"),
        ("docker:x", "", "docker:x"),
        ("oci:/tmp/x:tag", "oci", "/tmp/x:tag"),
        ("oci-archive:x.tar", "oci-archive", "x.tar"),
        ("docker-archive:x.tar:a:b", "docker-archive", "x.tar:a:b"),
        ("dir:/tmp/y", "dir", "/tmp/y"),
        ("containers-storage:localhost/a", "containers-storage", "localhost/a"),
        ("localhost:5000/a", "", "localhost:5000/a"),
    ],
)
def test_split_transport(text: str, transport: str, rest: str) -> None:
    assert reference.split_transport(text) == (transport, rest)


def test_is_image_id() -> None:
    assert reference.is_image_id(HEX)
    assert reference.is_image_id(HEX[:12])
    assert reference.is_image_id("sha256:" + HEX[:4])
    assert not reference.is_image_id("nginx")
    assert not reference.is_image_id(HEX + "0")
