"""image sign and image trust: signatures made here or by skopeo, asked for by policy.json."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.registry import DockerRegistry

pytestmark = pytest.mark.needs("userns", "docker-registry", "gpg", "skopeo")
PLAIN = "--tls-verify=false"
KEY = "signer@example.com"


@pytest.fixture(scope="module")
def server() -> Iterator[DockerRegistry]:
    with DockerRegistry() as one:
        yield one


@pytest.fixture
def signer(fresh: Engine, server: DockerRegistry) -> Iterator[Path]:
    """A key of the engine's user; the registry declared insecure; its public half."""
    home = fresh.folder / "g"
    home.mkdir(mode=0o700)
    fresh.env["GNUPGHOME"] = str(home)
    gpg = ["gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
    subprocess.run(
        [*gpg, "--quick-gen-key", KEY, "ed25519"], env=fresh.env, check=True, capture_output=True
    )
    public = fresh.folder / "public.gpg"
    with open(public, "wb") as out:
        subprocess.run(["gpg", "--export", KEY], env=fresh.env, check=True, stdout=out)
    folder = fresh.home / ".config/containers"
    folder.mkdir(parents=True)
    (folder / "registries.conf").write_text(
        f'[[registry]]\nlocation = "{server.host}"\ninsecure = true\n'
    )
    yield public
    subprocess.run(["gpgconf", "--kill", "all"], env=fresh.env, check=False)


def upload(server: DockerRegistry, archive: Path, name: str) -> str:
    target = f"docker://{server.host}/{name}"
    subprocess.run(
        ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"docker-archive:{archive}", target],
        check=True,
        capture_output=True,
    )
    return f"{server.host}/{name}"


def test_signed_images_only(
    fresh: Engine, signer: Path, server: DockerRegistry, busybox_archive: Path, tmp_path: Path
) -> None:
    name = upload(server, busybox_archive, "signed/busybox:1")
    fresh.ok("image", "trust", "set", "-t", "reject", "default")
    assert "says reject" in fresh.fails("pull", "-q", name)
    fresh.ok("image", "trust", "set", "-f", str(signer), server.host)
    assert "it has no signature" in fresh.fails("pull", "-q", name)
    fresh.ok("image", "sign", "--sign-by", KEY, f"docker://{name}")
    identity = fresh.ok("pull", "-q", name)
    # A push signs as well.
    other = f"{server.host}/signed/other:2"
    fresh.ok("push", "-q", "--sign-by", KEY, name, other)
    assert fresh.ok("pull", "-q", other) == identity
    # Another image under a signed name: its manifest is not the signed one.
    fresh.ok("push", "-q", "--force-compression", "--compression-format=zstd", name, name)
    assert "it has no signature" in fresh.fails("pull", "-q", name)
    # What was made here, skopeo accepts.
    store = fresh.home / ".local/share/containers/sigstore/signed"
    (folder,) = store.glob("other@*")
    fingerprint = (
        subprocess.run(
            ["gpg", "--with-colons", "--fingerprint", KEY],
            env=fresh.env,
            capture_output=True,
            text=True,
            check=True,
        )
        .stdout.partition("fpr:::::::::")[2]
        .partition(":")[0]
    )
    manifest = tmp_path / "manifest.json"
    with open(manifest, "wb") as out:
        subprocess.run(
            ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{other}"],
            check=True,
            stdout=out,
        )
    subprocess.run(
        ["skopeo", "standalone-verify", str(manifest), other, fingerprint, f"{folder}/signature-1"],
        env=fresh.env,
        check=True,
        capture_output=True,
    )


@pytest.mark.peer
def test_what_skopeo_signed(
    fresh: Engine, signer: Path, server: DockerRegistry, busybox_archive: Path
) -> None:
    name = f"{server.host}/skopeo/busybox:1"
    done = subprocess.run(
        [
            *("skopeo", "copy", "-q", "--dest-tls-verify=false", "--sign-by", KEY),
            *(f"docker-archive:{busybox_archive}", f"docker://{name}"),
        ],
        env=fresh.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    fresh.ok("image", "trust", "set", "-f", str(signer), "default")
    fresh.ok("pull", "-q", name)


def test_show(fresh: Engine, signer: Path, server: DockerRegistry) -> None:
    fresh.ok("image", "trust", "set", "-t", "accept", "a.example/team")
    fresh.ok("image", "trust", "set", "-f", str(signer), "b.example")
    fresh.ok("image", "trust", "set", "--type=reject", "default")
    lines = [line.split() for line in fresh.ok("image", "trust", "show").splitlines()]
    assert lines[0] == ["TRANSPORT", "NAME", "TYPE", "ID", "STORE"]
    assert lines[1] == ["all", "default", "reject"]
    assert lines[2] == ["repository", "a.example/team", "accept"]
    assert lines[3][:4] == ["repository", "b.example", "signed", KEY]
    assert fresh.ok("image", "trust", "show", "-n", "a.example/team/x").split()[1:] == [
        "a.example/team",
        "accept",
    ]
    raw = json.loads(fresh.ok("image", "trust", "show", "--raw"))
    assert raw["default"] == [{"type": "reject"}]
    assert json.loads(fresh.ok("image", "trust", "show", "--json"))[1] == {
        "transport": "repository",
        "name": "a.example/team",
        "repo_name": "a.example/team",
        "type": "accept",
    }


def test_mistakes(fresh: Engine, signer: Path) -> None:
    for words, message in (
        (("trust", "set", "a.example"), "at least one public key"),
        (("trust", "set", "-t", "maybe", "a.example"), "is none of"),
        (("trust", "set", "-t", "sigstoreSigned", "a.example"), "cannot be verified here"),
        (("trust", "set", "-t", "accept", "-f", str(signer), "a.example"), "takes no keys"),
        (("trust", "set", "-f", "/nowhere", "a.example"), "no such file"),
        (("sign", "docker://a.example/b"), "no identity provided"),
        (("sign", "--sign-by", KEY, "dir:/tmp"), "only images in registries"),
    ):
        assert message in fresh.fails("image", *words), words
