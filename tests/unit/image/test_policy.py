from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import PolicyError, RootlessError
from rootless.image import policy, reference, signatures
from rootless.image.policy import Candidate
from rootless.image.transport import Transport
from tests.support import host

SHA = "sha256:" + "ab" * 32
ACCEPT = [{"type": "insecureAcceptAnything"}]
REJECT = [{"type": "reject"}]


def check(
    document: dict[str, Any], name: str, signed: Iterator[bytes] | None = None, digest: str = SHA
) -> None:
    ref = reference.parse(name)
    checked = policy.Policy(policy.check_document(document, "p"), "p")
    checked.check(
        Candidate("docker", policy.docker_scopes(ref), ref, digest, lambda: list(signed or ()))
    )


TABLE = {
    "default": REJECT,
    "transports": {
        "docker": {
            "a.com": ACCEPT,
            "a.com/no": REJECT,
            "a.com/no/yes": ACCEPT,
            "a.com/no/yes:bad": REJECT,
            "*.b.com": ACCEPT,
            "x.b.com": REJECT,
        },
        "dir": {"": ACCEPT, "/srv": REJECT},
    },
}


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("a.com/x:1", True),
        ("a.com/no:1", False),
        ("a.com/no/x:1", False),
        ("a.com/nono:1", True),
        ("a.com/no/yes:1", True),
        ("a.com/no/yes:bad", False),
        (f"a.com/no/yes@{SHA}", True),
        ("c.com/x:1", False),
        ("y.b.com/x:1", True),
        ("z.y.b.com:5000/x:1", True),
        ("x.b.com/x:1", False),
        ("b.com/x:1", False),
    ],
)
def test_scopes(name: str, allowed: bool) -> None:
    if allowed:
        check(TABLE, name)
    else:
        with pytest.raises(PolicyError, match="says reject"):
            check(TABLE, name)


def test_paths(tmp_path: Path) -> None:
    found = policy.Policy(TABLE, "p")

    def kinds(transport: str, scopes: list[str]) -> list[str]:
        return [rule["type"] for rule in found.rules_for(transport, scopes)[1]]

    assert kinds("dir", policy.path_scopes(str(tmp_path))) == ["insecureAcceptAnything"]
    assert kinds("dir", ["/srv/x", "/srv"]) == ["reject"]
    assert kinds("oci", policy.path_scopes(str(tmp_path))) == ["reject"]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"default": []},
        {"default": {}},
        {"default": ACCEPT, "other": 1},
        {"default": [{"type": "maybe"}]},
        {"default": [{"type": "reject", "why": "x"}]},
        {"default": ACCEPT, "transports": []},
        {"default": ACCEPT, "transports": {"docker": {"a.com": []}}},
        {"default": [{"type": "signedBy", "keyType": "GPGKeys"}]},
        {"default": [{"type": "signedBy", "keyType": "X509", "keyPath": "x"}]},
        {"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "x", "keyData": "y"}]},
        {
            "default": [
                {
                    "type": "signedBy",
                    "keyType": "GPGKeys",
                    "keyPath": "x",
                    "signedIdentity": {"type": "matchAll"},
                }
            ]
        },
    ],
)
def test_strict(document: dict[str, Any]) -> None:
    with pytest.raises(PolicyError):
        policy.check_document(document, "p")


def test_duplicate_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_text(
        '{"default": [{"type": "reject"}], "default": [{"type": "insecureAcceptAnything"}]}'
    )
    with pytest.raises(RootlessError, match="occurs twice"):
        policy.load(str(path))


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no such policy file"):
        policy.load(str(tmp_path / "none"))


def test_sigstore_is_refused_clearly() -> None:
    with pytest.raises(PolicyError, match="sigstore signature, which cannot be verified here"):
        check({"default": [{"type": "sigstoreSigned", "keyPath": "x"}]}, "a.com/x:1")


# Signatures, by gpg


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, bytes, bytes]]:
    """A gpg home with two keys; the public halves of both."""
    host.require("gpg")
    home = tmp_path_factory.mktemp("g", numbered=False)
    home.chmod(0o700)
    gpg = [
        "gpg",
        "--homedir",
        str(home),
        "--batch",
        "--quiet",
        "--pinentry-mode",
        "loopback",
        "--passphrase",
        "",
    ]
    exported = []
    for name in ("good@example.com", "other@example.com"):
        subprocess.run([*gpg, "--quick-gen-key", name, "ed25519"], check=True, capture_output=True)
        done = subprocess.run([*gpg, "--export", name], check=True, capture_output=True)
        exported.append(done.stdout)
    yield home, exported[0], exported[1]
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)


@pytest.fixture
def signer(keys: tuple[Path, bytes, bytes], monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, bytes]:
    monkeypatch.setenv("GNUPGHOME", str(keys[0]))
    return keys[1], keys[2]


def rule(key: bytes, **more: Any) -> dict[str, Any]:
    return {
        "default": [
            {
                "type": "signedBy",
                "keyType": "GPGKeys",
                "keyData": base64.b64encode(key).decode(),
                **more,
            }
        ]
    }


def sign(name: str, digest: str = SHA) -> bytes:
    return signatures.sign(reference.parse(name), digest, "good@example.com")


def test_signed_by(signer: tuple[bytes, bytes]) -> None:
    good, other = signer
    signature = sign("a.com/x:1")
    check(rule(good), "a.com/x:1", iter([b"garbage", signature]))
    with pytest.raises(PolicyError, match="unknown key"):
        check(rule(other), "a.com/x:1", iter([signature]))
    with pytest.raises(PolicyError, match="the signature is for a.com/x:1"):
        check(rule(good), "a.com/x:2", iter([signature]))
    with pytest.raises(PolicyError, match="is for manifest"):
        check(rule(good), "a.com/x:1", iter([signature]), "sha256:" + "cd" * 32)
    with pytest.raises(PolicyError, match="it has no signature"):
        check(rule(good), "a.com/x:1")
    damaged = bytearray(signature)
    damaged[len(damaged) // 2] ^= 1
    with pytest.raises(PolicyError):
        check(rule(good), "a.com/x:1", iter([bytes(damaged)]))
    # A payload that nobody signed, in a form that gpg unpacks without complaint.
    literal = subprocess.run(
        ["gpg", "--batch", "--store"], input=b"{}", capture_output=True, check=True
    ).stdout
    with pytest.raises(PolicyError, match="not valid"):
        check(rule(good), "a.com/x:1", iter([literal]))


@pytest.mark.parametrize(
    ("identity", "name", "allowed"),
    [
        ({"type": "matchExact"}, "a.com/x:1", True),
        ({"type": "matchExact"}, f"a.com/x@{SHA}", False),
        ({"type": "matchRepoDigestOrExact"}, f"a.com/x@{SHA}", True),
        ({"type": "matchRepository"}, "a.com/x:2", True),
        ({"type": "matchRepository"}, "a.com/y:1", False),
        ({"type": "exactReference", "dockerReference": "a.com/x:1"}, "b.com/z:9", True),
        ({"type": "exactReference", "dockerReference": "a.com/x:2"}, "a.com/x:1", False),
        ({"type": "exactRepository", "dockerRepository": "a.com/x"}, "b.com/z:9", True),
        (
            {"type": "remapIdentity", "prefix": "m.com/a", "signedPrefix": "a.com"},
            "m.com/a/x:1",
            True,
        ),
        (
            {"type": "remapIdentity", "prefix": "m.com/a", "signedPrefix": "a.com"},
            "m.com/ab/x:1",
            False,
        ),
    ],
)
def test_identities(
    signer: tuple[bytes, bytes], identity: dict[str, str], name: str, allowed: bool
) -> None:
    document = rule(signer[0], signedIdentity=identity)
    if allowed:
        check(document, name, iter([sign("a.com/x:1")]))
    else:
        with pytest.raises(PolicyError):
            check(document, name, iter([sign("a.com/x:1")]))


PAYLOAD = {
    "critical": {
        "type": "atomic container signature",
        "image": {"docker-manifest-digest": SHA},
        "identity": {"docker-reference": "a.com/x:1"},
    },
    "optional": {"creator": "x", "more": 1},
}


def test_payload_is_read_strictly() -> None:
    claim = signatures.parse_payload(json.dumps(PAYLOAD).encode())
    assert (claim.digest, str(claim.identity)) == (SHA, "a.com/x:1")
    for path, value in (
        (("critical", "type"), "other"),
        (("critical", "new"), 1),
        (("critical", "image", "new"), 1),
        (("critical", "image", "docker-manifest-digest"), "sha256:x"),
        (("critical", "identity", "docker-reference"), "A b"),
        (("new",), 1),
        (("optional",), None),
    ):
        document = json.loads(json.dumps(PAYLOAD))
        target = document
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value
        with pytest.raises(PolicyError):
            signatures.parse_payload(json.dumps(document).encode())


# Where signatures are kept


def test_registries_d(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "containers/registries.d"
    folder.mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (folder / "one.yaml").write_text(
        f"""---
# a comment
default-docker:
  lookaside: https://default.example
docker:
  registry.example:5000:
    lookaside: "https://one.example/s"
    lookaside-staging: file://{tmp_path}/staging
  registry.example:5000/team/x:  # more exact
      lookaside: file://{tmp_path}/x
"""
    )
    find = signatures.lookaside
    assert find(reference.parse("other.example/a:1")) == "https://default.example"
    assert find(reference.parse("registry.example:5000/a:1")) == "https://one.example/s"
    ref = reference.parse("registry.example:5000/team/x:1")
    assert find(ref) == f"file://{tmp_path}/x"
    path = signatures.store(ref, SHA, b"one")
    assert path == f"{tmp_path}/x/team/x@sha256={SHA[7:]}/signature-1"
    assert signatures.store(ref, SHA, b"two").endswith("/signature-2")
    assert list(signatures.load_all(ref, SHA, Transport(environ={}))) == [b"one", b"two"]
    with pytest.raises(RootlessError, match="is not a folder"):
        signatures.store(reference.parse("other.example/a:1"), SHA, b"")
    (folder / "two.yaml").write_text("docker:\n  registry.example:5000:\n    lookaside: x\n")
    with pytest.raises(RootlessError, match="set in another file"):
        find(ref)


@pytest.mark.parametrize("text", ["- list", "a: [1]", "a: &b c", "plain", "a: 1\na: 2"])
def test_other_yaml_is_refused(text: str) -> None:
    with pytest.raises(RootlessError, match="x:"):
        signatures.parse_mappings(text, "x")
