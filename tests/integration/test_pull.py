"""pull: from docker-registry and from registries that misbehave; podman and skopeo put the images there."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import images
from tests.support.engine import Engine
from tests.support.fake_registry import (
    CONFIG,
    INDEX,
    MANIFEST,
    FakeRegistry,
    Handler,
    descriptor,
    digest_of,
)
from tests.support.poor import in_mounts
from tests.support.pseudo import Terminal
from tests.support.registry import PASSWORD, USER, DockerRegistry
from tests.support.traffic import eventually

pytestmark = pytest.mark.needs("userns", "docker-registry")
PLAIN = "--tls-verify=false"


@pytest.fixture(scope="module")
def server() -> Iterator[DockerRegistry]:
    with DockerRegistry() as one:
        yield one


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as one:
        yield one


def skopeo(*args: str, **options: Any) -> str:
    done = subprocess.run(
        ["skopeo", *args], capture_output=True, text=True, check=False, timeout=60, **options
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def upload(server: DockerRegistry, archive: Path, name: str, *options: str) -> str:
    target = f"docker://{server.host}/{name}"
    skopeo("copy", "-q", "--dest-tls-verify=false", *options, f"docker-archive:{archive}", target)
    repository, _, tag = name.rpartition(":")
    return server.manifest_digest(repository, tag)


class Made:
    """An image of given layers in a FakeRegistry."""

    def __init__(
        self, fake: FakeRegistry, *layers: bytes, repository: str = "a", **config: Any
    ) -> None:
        self.layers = [gzip.compress(layer, 1, mtime=0) for layer in layers]
        self.config = images.config(layers, **config)
        settings = fake.add_blob(repository, self.config)
        self.document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {**settings, "mediaType": CONFIG},
            "layers": [fake.add_blob(repository, layer) for layer in self.layers],
        }
        self.id = hashlib.sha256(self.config).hexdigest()


def layer(number: int = 0) -> bytes:
    return images.layer([images.file(f"file{number}", f"content {number}")])


# Names, options, output


def test_output_is_podmans(rootless: Engine, server: DockerRegistry, busybox_archive: Path) -> None:
    digest = upload(server, busybox_archive, "team/busybox:out")
    name = f"{server.host}/team/busybox:out"
    result = rootless("pull", PLAIN, name)
    assert result.code == 0, result
    blob, config = [
        line.split()[-1] for line in result.err.splitlines() if line.startswith("Copying")
    ]
    assert result.err.splitlines() == [
        f"Trying to pull {name}...",
        "Getting image source signatures",
        f"Copying blob {blob}",
        f"Copying config {config}",
        "Writing manifest to image destination",
    ]
    assert result.out == config.removeprefix("sha256:") + "\n"
    found = rootless.inspect(name, "image")
    assert found["Digest"] == digest
    quiet = rootless("pull", PLAIN, "-q", name)
    assert (quiet.out, quiet.err) == (result.out, "")
    assert rootless.ok("run", "--rm", name, "echo", "it runs") == "it runs"


@pytest.mark.peer
@pytest.mark.parametrize(
    ("kind", "packing"),
    # docker's schema 2 has no zstd layers
    [("v2s2", "gzip"), ("v2s2", "none"), ("oci", "gzip"), ("oci", "zstd"), ("oci", "none")],
)
def test_what_skopeo_pushed(
    rootless: Engine, server: DockerRegistry, busybox_archive: Path, kind: str, packing: str
) -> None:
    options = [f"--format={kind}"]
    options += ["--dest-decompress"] if packing == "none" else [f"--dest-compress-format={packing}"]
    tag = f"{kind}-{packing}"
    digest = upload(server, busybox_archive, f"peer/busybox:{tag}", *options)
    name = f"{server.host}/peer/busybox:{tag}"
    rootless.ok("pull", PLAIN, name)
    assert rootless.inspect(name, "image")["Digest"] == digest
    by_digest = f"{server.host}/peer/busybox@{digest}"
    assert rootless.ok("pull", "-q", PLAIN, by_digest) == rootless.inspect(name, "image")["Id"]


@pytest.mark.peer
@pytest.mark.needs("podman")
def test_what_podman_pushed(
    rootless: Engine, server: DockerRegistry, busybox_archive: Path, tmp_path: Path
) -> None:
    # podman wants a short path for its sockets.
    run = Path(tempfile.mkdtemp(prefix="p"))
    podman = ["podman", "--root", str(tmp_path / "s"), "--runroot", str(run)]
    podman += ["--storage-driver=vfs"]
    for words in (
        ["load", "-q", "-i", str(busybox_archive)],
        ["push", "-q", PLAIN, "localhost/busybox:latest", f"{server.host}/podman/busybox:1"],
    ):
        done = subprocess.run([*podman, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    subprocess.run(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "--map-auto",
            "rm",
            "-rf",
            str(tmp_path / "s"),
            str(run),
        ],
        check=False,
    )
    rootless.ok("pull", PLAIN, f"{server.host}/podman/busybox:1")
    found = rootless.inspect(f"{server.host}/podman/busybox:1", "image")
    assert found["Digest"] == server.manifest_digest("podman/busybox", "1")


def test_policies(rootless: Engine, fake: FakeRegistry) -> None:
    first, second = Made(fake, layer(1)), Made(fake, layer(2))
    fake.add_manifest("a", first.document, "1")
    name = f"{fake.host}/a:1"
    assert "image not known" in rootless.fails("pull", "--policy=never", PLAIN, name)
    assert rootless.ok("pull", "-q", "--policy=missing", PLAIN, name) == first.id
    fake.add_manifest("a", second.document, "1")
    count = len(fake.requests)
    assert rootless.ok("pull", "-q", "--policy=missing", PLAIN, name) == first.id
    assert rootless.ok("pull", "-q", "--policy=never", PLAIN, name) == first.id
    assert len(fake.requests) == count
    assert rootless.ok("pull", "-q", "--policy=newer", PLAIN, name) == second.id
    fake.content.clear()
    assert rootless.ok("pull", "-q", "--policy=newer", PLAIN, name) == second.id
    assert "manifest unknown" in rootless.fails("pull", "-q", "--policy=always", PLAIN, name)
    assert "manifest unknown" in rootless.fails("pull", "-q", PLAIN, name)


def test_all_tags(rootless: Engine, fake: FakeRegistry) -> None:
    made = [Made(fake, layer(number)) for number in range(3)]
    for number, one in enumerate(made):
        fake.add_manifest("a", one.document, f"t{number}")
    fake.content["/v2/a/tags/list?n=1000"] = (b'{"tags":["t0","t1","t2"]}', "application/json")
    out = rootless.ok("pull", "-q", "--all-tags", PLAIN, f"{fake.host}/a")
    assert out.splitlines() == [one.id for one in made]
    assert "without tag" in rootless.fails("pull", "-a", PLAIN, f"{fake.host}/a:t0")


def test_several_names_and_their_failures(rootless: Engine, fake: FakeRegistry) -> None:
    made = Made(fake, layer())
    fake.add_manifest("a", made.document, "1")
    result = rootless("pull", "-q", PLAIN, f"{fake.host}/a:none", f"{fake.host}/a:1")
    assert result.code == 125
    assert result.out == made.id + "\n"
    assert "reading manifest none" in result.err


def test_platforms(rootless: Engine, fake: FakeRegistry) -> None:
    entries: list[dict[str, Any]] = []
    ids: dict[str, str] = {}
    for architecture, variant in (("arm64", "v8"), ("amd64", ""), ("arm", "v7")):
        made = Made(fake, layer(len(ids)))
        config = json.loads(made.config) | {"architecture": architecture, "variant": variant}
        data = json.dumps(config).encode()
        settings = fake.add_blob("a", data)
        manifest = json.dumps(
            {**made.document, "config": {**settings, "mediaType": CONFIG}}
        ).encode()
        fake.add_manifest("a", manifest)
        entries.append(
            descriptor(
                manifest,
                MANIFEST,
                platform={"os": "linux", "architecture": architecture, "variant": variant},
            )
        )
        ids[architecture] = hashlib.sha256(data).hexdigest()
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    digest = fake.add_manifest("a", index, "1", kind=INDEX)
    name = f"{fake.host}/a:1"
    assert rootless.ok("pull", "-q", PLAIN, "--platform=linux/arm64", name) == ids["arm64"]
    assert rootless.ok("pull", "-q", PLAIN, "--arch=arm", name) == ids["arm"]
    assert rootless.ok("pull", "-q", PLAIN, "--platform=linux/amd64", name) == ids["amd64"]
    assert digest in str(rootless.inspect(name, "image")["RepoDigests"])
    # The image that is here does not do for another platform.
    assert (
        rootless.ok("pull", "-q", PLAIN, "--policy=missing", "--arch=arm64", name) == ids["arm64"]
    )
    error = rootless.fails("pull", PLAIN, "--arch=s390x", name)
    assert "no image found in image index for architecture 's390x'" in error
    assert "linux/arm/v7" in error


def test_130_layers(rootless: Engine, fake: FakeRegistry) -> None:
    made = Made(fake, *(layer(number) for number in range(130)))
    fake.add_manifest("a", made.document, "1")
    assert rootless.ok("pull", "-q", PLAIN, f"{fake.host}/a:1") == made.id
    assert len(rootless.inspect(made.id, "image")["RootFS"]["Layers"]) == 130


def test_layers_are_fetched_once(rootless: Engine, fake: FakeRegistry) -> None:
    base = layer(2077)
    fake.add_manifest("a", Made(fake, base, layer(2078)).document, "1")
    fake.add_manifest("a", Made(fake, base, layer(2079)).document, "2")
    rootless.ok("pull", "-q", PLAIN, f"{fake.host}/a:1")
    fake.requests.clear()
    rootless.ok("pull", "-q", PLAIN, f"{fake.host}/a:2")
    assert len(fake.seen("GET", "/v2/a/blobs/")) == 2  # one layer and the config


def test_local_transports(rootless: Engine, busybox_archive: Path, tmp_path: Path) -> None:
    found = {}
    for kind in ("oci", "dir", "oci-archive"):
        path = tmp_path / kind
        target = f"{kind}:{path}" + (":one" if kind.startswith("oci") else "")
        skopeo("copy", "-q", f"docker-archive:{busybox_archive}", target)
        found[kind] = rootless.ok("pull", "-q", target)
    # skopeo writes another config, and so another id, for OCI.
    assert found["oci"] == found["oci-archive"]
    assert found["dir"] == rootless.ok("pull", "-q", f"docker-archive:{busybox_archive}")
    assert found["dir"] == rootless.ok(
        "pull", "-q", f"docker-archive:{busybox_archive}:localhost/busybox:latest"
    )
    assert "there is no image" in rootless.fails("pull", f"oci:{tmp_path}/oci:two")
    assert "no such file" in rootless.fails("pull", "oci:/nowhere")
    assert "not supported" in rootless.fails("pull", "docker-daemon:x")


def test_refused_options(rootless: Engine) -> None:
    assert "encrypted images" in rootless.fails("pull", "--decryption-key=x", "a.example/b")
    assert "Content Trust" in rootless.fails("pull", "--disable-content-trust=false", "a.example/b")
    assert "not a duration" in rootless.fails("pull", "--retry-delay=soon", "a.example/b")
    assert "invalid reference" in rootless.fails("pull", "A.example/B")


# registries.conf, policy.json


def write_config(engine: Engine, name: str, text: str) -> None:
    folder = engine.home / ".config/containers"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_registries_conf(fresh: Engine, fake: FakeRegistry) -> None:
    made = Made(fake, layer(), repository="mirror/team/app")
    fake.add_manifest("mirror/team/app", made.document, "1")
    write_config(
        fresh,
        "registries.conf",
        f"""
unqualified-search-registries = ["one.example", "two.example"]
[aliases]
"app" = "registry.example/team/app"
[[registry]]
location = "registry.example"
[[registry.mirror]]
location = "{fake.host}/none"
insecure = true
[[registry.mirror]]
location = "{fake.host}/mirror"
insecure = true
[[registry]]
prefix = "moved.example/x"
location = "{fake.host}/mirror/team"
insecure = true
[[registry]]
location = "blocked.example"
blocked = true
""",
    )
    result = fresh("pull", "app:1")
    assert result.code == 0, result
    assert result.err.splitlines()[0].startswith('Resolved "app" as an alias (')
    assert result.err.splitlines()[1] == "Trying to pull registry.example/team/app:1..."
    # The image bears the name that was asked for, not the mirror's.
    assert fresh.inspect(made.id, "image")["RepoTags"] == ["registry.example/team/app:1"]
    assert fresh.ok("pull", "-q", "moved.example/x/app:1") == made.id
    assert "blocked in registries.conf" in fresh.fails("pull", "blocked.example/x")
    error = fresh.fails("pull", "squat")
    assert "ambiguous" in error


def test_policy_json(fresh: Engine, fake: FakeRegistry) -> None:
    made = Made(fake, layer())
    fake.add_manifest("a", made.document, "1")
    allowed = {"transports": {"docker": {f"{fake.host}/b": [{"type": "insecureAcceptAnything"}]}}}
    write_config(fresh, "policy.json", json.dumps({"default": [{"type": "reject"}], **allowed}))
    error = fresh.fails("pull", PLAIN, f"{fake.host}/a:1")
    assert "rejected by policy: default in" in error
    assert not fake.seen("GET", "/v2/a/blobs")
    made = Made(fake, layer(), repository="b")
    fake.add_manifest("b", made.document, "1")
    assert fresh.ok("pull", "-q", PLAIN, f"{fake.host}/b:1") == made.id
    assert "rejected by policy" in fresh.fails("pull", "dir:/tmp")


# TLS and passwords


def test_tls_and_passwords(fresh: Engine, busybox_archive: Path, tmp_path: Path) -> None:
    with DockerRegistry(tls=True, auth=True) as server:
        name = f"{server.host}/secure/busybox:1"
        skopeo(
            *("copy", "-q", "--dest-tls-verify=false", f"--dest-creds={USER}:{PASSWORD}"),
            *(f"docker-archive:{busybox_archive}", f"docker://{name}"),
        )
        error = fresh.fails("pull", name)
        assert "certificate not accepted" in error
        assert "certs.d" in error
        folder = fresh.home / ".config/containers/certs.d" / server.host
        folder.mkdir(parents=True)
        shutil.copy(server.certificate, folder / "ca.crt")
        error = fresh.fails("pull", name)
        assert "authentication required" in error
        assert "login" in error
        error = fresh.fails("pull", "--creds=user:wrong", name)
        assert "authentication required" in error
        identity = fresh.ok("pull", "-q", f"--creds={USER}:{PASSWORD}", name)
        assert fresh.inspect(name, "image")["Id"] == identity
        shutil.rmtree(folder)
        folder = tmp_path / "certs"
        folder.mkdir()
        shutil.copy(server.certificate, folder / "any.crt")
        fresh.ok("pull", "-q", f"--cert-dir={folder}", f"--creds={USER}:{PASSWORD}", name)
        fresh.ok("pull", "-q", PLAIN, f"--creds={USER}:{PASSWORD}", name)


@pytest.mark.needs("htpasswd")
def test_passwords_without_tls(fresh: Engine, busybox_archive: Path) -> None:
    """Only where somebody has said that this registry may be asked without TLS."""
    with DockerRegistry(auth=True) as server:
        name = f"{server.host}/plain/busybox:1"
        skopeo(
            *("copy", "-q", "--dest-tls-verify=false", f"--dest-creds={USER}:{PASSWORD}"),
            *(f"docker-archive:{busybox_archive}", f"docker://{name}"),
        )
        creds = f"--creds={USER}:{PASSWORD}"
        assert "the registry speaks no TLS" in fresh.fails("pull", creds, name)
        assert "authentication required" in fresh.fails("pull", PLAIN, name)
        assert "authentication required" in fresh.fails("pull", PLAIN, "--creds=user:wrong", name)
        identity = fresh.ok("pull", "-q", PLAIN, creds, name)
        write_config(
            fresh,
            "registries.conf",
            f'[[registry]]\nlocation = "{server.host}"\ninsecure = true\n',
        )
        fresh.ok("login", "-u", USER, "--password-stdin", server.host, input=PASSWORD)
        fresh.ok("rmi", name)
        assert fresh.ok("pull", "-q", name) == identity
        tags = fresh.ok(
            "search", "--list-tags", "--format={{.Tag}}", f"{server.host}/plain/busybox"
        )
        assert tags == "1"
        fresh.ok("push", "-q", name, f"{server.host}/plain/other:1")


def test_case_29_plain_http_is_not_used_silently(rootless: Engine, fake: FakeRegistry) -> None:
    made = Made(fake, layer())
    fake.add_manifest("a", made.document, "1")
    for options in ([], ["--tls-verify=true"]):
        error = rootless.fails("pull", *options, f"{fake.host}/a:1")
        assert "TLS failed" in error
    assert not fake.requests


# Attacks and accidents; nothing may stay behind


def stored(engine: Engine) -> list[str]:
    """Everything that is visible in the store."""
    root = engine.data / "images"
    return sorted(
        str(path.relative_to(root))
        for folder in ("layers", "records", "names", "blobs")
        for path in (root / folder).glob("*")
        if path.name not in ("sha256",)
    ) + sorted(path.name for path in (root / "blobs/sha256").glob("*"))


@pytest.fixture
def clean(rootless: Engine) -> Iterator[Engine]:
    before = stored(rootless)
    yield rootless
    assert stored(rootless) == before
    leftovers = [path.name for path in (rootless.data / "images/tmp").glob("*")]
    # Parts of blobs, to go on with, and the notes by which the next command finds them.
    assert not [name for name in leftovers if not name.startswith(("blob-", "begun-"))]


def test_case_28_layer_with_wrong_content(clean: Engine, fake: FakeRegistry) -> None:
    made = Made(fake, layer(1000))
    data, evil = made.layers[0], bytearray(made.layers[0])
    evil[-9] ^= 1
    fake.content[f"/v2/a/blobs/{digest_of(data)}"] = (bytes(evil), "")
    fake.add_manifest("a", made.document, "1")
    error = clean.fails("pull", "-q", PLAIN, f"{fake.host}/a:1")
    assert "digest" in error


def test_layer_with_wrong_diff_id(clean: Engine, fake: FakeRegistry) -> None:
    made = Made(fake, layer(1001))
    other = gzip.compress(layer(1002), 1, mtime=0)
    document = {**made.document, "layers": [fake.add_blob("a", other)]}
    fake.add_manifest("a", document, "1")
    assert "diff ID" in clean.fails("pull", "-q", PLAIN, f"{fake.host}/a:1")


def test_layer_count_must_agree(clean: Engine, fake: FakeRegistry) -> None:
    made = Made(fake, layer(1003), layer(1004))
    fake.add_manifest("a", {**made.document, "layers": made.document["layers"][:1]}, "1")
    assert "names 2 layers, the manifest 1" in clean.fails("pull", PLAIN, f"{fake.host}/a:1")


@pytest.mark.parametrize("change", [-1, 1, 1 << 50])
def test_layer_with_wrong_size(clean: Engine, fake: FakeRegistry, change: int) -> None:
    made = Made(fake, layer(1005))
    entry = made.document["layers"][0]
    document = {**made.document, "layers": [{**entry, "size": entry["size"] + change}]}
    fake.add_manifest("a", document, "1")
    assert "where the manifest says" in clean.fails("pull", PLAIN, f"{fake.host}/a:1")


def test_config_with_wrong_digest(clean: Engine, fake: FakeRegistry) -> None:
    made = Made(fake, layer(1006))
    digest = made.document["config"]["digest"]
    fake.content[f"/v2/a/blobs/{digest}"] = (made.config[:-1] + b" ", "")
    fake.add_manifest("a", made.document, "1")
    assert "does not have this digest" in clean.fails("pull", PLAIN, f"{fake.host}/a:1")


def test_case_28_index_entry_of_another_type(clean: Engine, fake: FakeRegistry) -> None:
    made = Made(fake, layer(1007))
    data = json.dumps(made.document).encode()
    fake.add_manifest("a", data)
    entry = descriptor(data, INDEX, platform={"os": "linux", "architecture": "amd64"})
    fake.add_manifest(
        "a", {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}, "1", kind=INDEX
    )
    assert "announced as" in clean.fails("pull", PLAIN, "--arch=amd64", f"{fake.host}/a:1")


@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize("level", ["manifest", "config", "layer"])
def test_case_28_sizes_at_each_level(
    clean: Engine, fake: FakeRegistry, level: str, by: int
) -> None:
    """Index, manifest, config and layers: what comes has the size that the document above it says."""
    made = Made(fake, layer(1010))
    document = made.document
    if level != "manifest":
        wrong = document["config"] if level == "config" else document["layers"][0]
        wrong["size"] += by
    data = json.dumps(document).encode()
    fake.add_manifest("a", data)
    entry = descriptor(data, MANIFEST, platform={"os": "linux", "architecture": "amd64"})
    if level == "manifest":
        entry["size"] += by
    fake.add_manifest(
        "a", {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}, "1", kind=INDEX
    )
    error = clean.fails("pull", "-q", PLAIN, "--retry=0", "--arch=amd64", f"{fake.host}/a:1")
    assert any(word in error for word in ("another size", "bytes", "cut off")), error
    assert len(error.splitlines()) == 1
    assert not clean("image", "exists", f"{fake.host}/a:1").out


@pytest.mark.parametrize("kind", ["v1+prettyjws", "v1+json"])
def test_schema_1_is_refused(rootless: Engine, fake: FakeRegistry, kind: str) -> None:
    """Docker's form of before 2016, by a registry that knows no other for this image."""
    document = {
        "schemaVersion": 1,
        "name": "a",
        "tag": "old",
        "architecture": "amd64",
        "fsLayers": [{"blobSum": digest_of(b"layer")}],
        "history": [{"v1Compatibility": "{}"}],
        "signatures": [],
    }
    media_type = f"application/vnd.docker.distribution.manifest.{kind}"
    fake.add_manifest("a", document, "old", kind=media_type)
    result = rootless("pull", "-q", PLAIN, f"{fake.host}/a:old")
    assert (result.code, result.out) == (125, "")
    assert result.err.count("\n") == 1
    assert result.err.endswith(
        "is in docker's schema 1 form, which is obsolete and not supported; "
        "push the image again with a current tool\n"
    )
    assert not fake.seen("GET", "/v2/a/blobs")


def test_index_within_index(clean: Engine, fake: FakeRegistry) -> None:
    inner = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).encode()
    fake.add_manifest("a", inner, kind=INDEX)
    entry = descriptor(inner, INDEX, platform={"os": "linux", "architecture": "amd64"})
    fake.add_manifest(
        "a", {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}, "1", kind=INDEX
    )
    assert "another index" in clean.fails("pull", PLAIN, "--arch=amd64", f"{fake.host}/a:1")


def test_artifact_is_refused(clean: Engine, fake: FakeRegistry) -> None:
    blob = fake.add_blob("a", b"{}")
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/vnd.example.chart",
        "config": {**blob, "mediaType": "application/vnd.oci.empty.v1+json"},
        "layers": [{**fake.add_blob("a", b"data"), "mediaType": "application/x"}],
    }
    fake.add_manifest("a", document, "1")
    error = clean.fails("pull", PLAIN, f"{fake.host}/a:1")
    assert "is an artifact of type 'application/vnd.example.chart', not a container image" in error


def test_case_32_bomb(fresh: Engine, fake: FakeRegistry) -> None:
    """256 MiB of zeros in 256 KiB: nothing of them stays."""
    import zlib

    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(1 << 20)
    data = b"".join(packer.compress(block) for _ in range(256)) + packer.flush()
    made = Made(fake, layer(1008))
    document = {**made.document, "layers": [fake.add_blob("a", data)]}
    fake.add_manifest("a", document, "1")
    error = fresh.fails("pull", PLAIN, f"{fake.host}/a:1")
    assert "Error:" in error
    assert fresh.ok("images", "-q") == ""


def test_case_38_pull_gives_no_other_name(rootless: Engine, fake: FakeRegistry) -> None:
    victim, evil = Made(fake, layer(1)), Made(fake, layer(2), Labels={"name": "victim"})
    fake.add_manifest("victim/app", Made(fake, layer(1), repository="victim/app").document, "1")
    rootless.ok("pull", "-q", PLAIN, f"{fake.host}/victim/app:1")
    document = Made(fake, layer(2), repository="evil").document
    document["annotations"] = {
        "org.opencontainers.image.ref.name": f"{fake.host}/victim/app:1",
        "io.containerd.image.name": f"{fake.host}/victim/app:1",
    }
    fake.add_manifest("evil", document, "1")
    rootless.ok("pull", "-q", PLAIN, f"{fake.host}/evil:1")
    assert rootless.inspect(f"{fake.host}/victim/app:1", "image")["Id"] == victim.id
    assert evil.id != victim.id


def test_broken_layer_goes_on_where_it_broke(rootless: Engine, fake: FakeRegistry) -> None:
    made = Made(fake, images.layer([images.file("big", bytes(range(256)) * 8000)]))
    data = made.layers[0]
    path = f"/v2/a/blobs/{digest_of(data)}"
    breaks = [len(data) // 2]

    def cut(handler: Handler) -> bool:
        if not breaks:
            return False
        handler.answer(200, data[: breaks.pop()], len(data))
        handler.close_connection = True
        return True

    fake.rules[path] = cut
    fake.add_manifest("a", made.document, "1")
    rootless.ok("pull", "-q", PLAIN, f"{fake.host}/a:1")
    assert [h.get("Range") for h in fake.seen("GET", path)] == [None, f"bytes={len(data) // 2}-"]


def test_killed_pull_leaves_nothing_and_is_taken_up(fresh: Engine, fake: FakeRegistry) -> None:
    big = random.Random(1).randbytes(2 << 20)  # does not compress away
    made = Made(fake, images.layer([images.file("big", big)]))
    data = made.layers[0]
    path = f"/v2/a/blobs/{digest_of(data)}"
    half, reached, release = len(data) // 2, threading.Event(), threading.Event()

    def stall(handler: Handler) -> bool:
        if release.is_set():
            return False
        handler.answer(200, data[:half], len(data))
        reached.set()
        release.wait(30)
        return True

    fake.rules[path] = stall
    fake.add_manifest("a", made.document, "1")
    name = f"{fake.host}/a:1"
    process = fresh.popen("pull", "-q", PLAIN, name)
    try:
        assert reached.wait(30)
        partial = fresh.data / "images/tmp"
        # The test may only go on once something was stored: that is what shall be taken up.
        for _ in range(1000):
            if any(one.stat().st_size for one in partial.glob("blob-*")):
                break
            threading.Event().wait(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        release.set()
    assert fresh.ok("images", "-q") == ""
    assert fresh.ok("pull", "-q", PLAIN, name) == made.id
    ranges = [h.get("Range") for h in fake.seen("GET", path)]
    assert ranges[-1] is not None
    assert ranges[-1].startswith("bytes=")


def test_a_damaged_remainder_is_thrown_away(fresh: Engine, fake: FakeRegistry) -> None:
    made = Made(fake, images.layer([images.file("big", random.Random(2).randbytes(1 << 20))]))
    fake.add_manifest("a", made.document, "1")
    digest = digest_of(made.layers[0])
    partial = fresh.data / "images/tmp"
    partial.mkdir(parents=True, mode=0o700)
    (partial / f"blob-{digest.replace(':', '-')}").write_bytes(bytes(1000))
    assert fresh.ok("pull", "-q", PLAIN, f"{fake.host}/a:1") == made.id
    ranges = [h.get("Range") for h in fake.seen("GET", f"/v2/a/blobs/{digest}")]
    assert ranges == ["bytes=1000-", None]


@pytest.mark.parametrize("kind", ["a blob", "a layer", "a layer's folder", "a config"])
def test_check_mends_by_fetching_again(fresh: Engine, fake: FakeRegistry, kind: str) -> None:
    """No blob is kept beside an unpacked layer: what is broken comes from the registry once more."""
    made = Made(fake, images.layer([images.file("d/file", b"content")]), layer(5))
    fake.add_manifest("a", made.document, "1")
    name = f"{fake.host}/a:1"
    option = [f"--storage-opt=keep_blobs={'true' if kind == 'a blob' else 'false'}"]
    fresh.ok(*option, "pull", "-q", PLAIN, name)
    store = fresh.data / "images"
    (file,) = store.glob("layers/*/diff/d/file")
    blob = store / "blobs" / digest_of(made.layers[0]).replace(":", "/")
    assert blob.exists() == (kind == "a blob")
    if kind == "a blob":
        blob.write_bytes(b"changed")
    elif kind == "a config":
        (store / f"blobs/sha256/{made.id}").unlink()
    elif kind == "a layer":
        file.write_bytes(b"CONTENT")
    else:
        shutil.rmtree(file.parents[1])
    assert fresh("system", "check").code != 0
    fake.requests.clear()
    mended = fresh("system", "check", "--repair")
    assert "again" in mended.out + mended.err or kind == "a blob", mended
    assert fresh.ok("system", "check") == ""
    assert file.read_bytes() == b"content"
    assert bool(fake.seen("GET", "/v2/a/blobs/")) == (kind != "a blob")
    # Back to where it came from, every byte the same.
    fake.content.clear()
    assert fresh.inspect(name, "image")["Digest"] == digest_of(json.dumps(made.document).encode())


def test_pull_on_a_full_disk(fresh: Engine, fake: FakeRegistry, tmp_path: Path) -> None:
    """One line says so, nothing is left, and with room the next pull works."""
    made = Made(
        fake,
        *(
            images.layer([images.file(f"f{n}", random.Random(n).randbytes(4 << 20))])
            for n in range(3)
        ),
    )
    fake.add_manifest("a", made.document, "1")
    disk = tmp_path / "disk"
    disk.mkdir()
    # The engine keeps 16 MiB free for the user's own programs.
    script = f"""
        rl() {{ {shlex.join([*fresh.program, "--root", f"{disk}/d"])} "$@"; }}
        head -c 38M /dev/zero > {disk}/filler
        rl pull -q {PLAIN} {fake.host}/a:1 && echo it fits
        cd {disk}/d/images; ls layers records names tmp | grep -v ':$' | grep .
        rm {disk}/filler
        rl pull -q {PLAIN} {fake.host}/a:1
        rl system check
    """
    mounts = f"mount -t tmpfs -o size=64m,mode=755 tmpfs {disk}"
    done = in_mounts(mounts, "sh", "-c", script, env=fresh.env)
    assert done.stdout == f"{made.id}\n", done
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"Error: {disk}/d/images")
    assert "no space left on the file system; `rootless image prune` frees" in done.stderr


def test_prune_removes_what_a_broken_pull_left(fresh: Engine, fake: FakeRegistry) -> None:
    data = images.layer([images.file("f", random.Random(3).randbytes(1 << 20))])
    made = Made(fake, layer(), data)
    fake.add_manifest("a", made.document, "1")
    path = f"/v2/a/blobs/{digest_of(made.layers[1])}"
    half = len(made.layers[1]) // 2
    store = fresh.data / "images"

    def cut(handler: Handler) -> bool:
        assert eventually(lambda: any((store / "layers").glob("*")))  # the other one is whole
        handler.answer(200, made.layers[1][:half], len(made.layers[1]))
        handler.close_connection = True
        return True

    fake.rules[path] = cut
    assert "connection cut off" in fresh.fails("pull", "-q", PLAIN, "--retry=0", f"{fake.host}/a:1")
    assert [one.stat().st_size for one in (store / "tmp").glob("blob-*")] == [half]
    assert len(list((store / "layers").iterdir())) == 1
    fresh.ok("image", "prune", "--force")
    assert not list((store / "tmp").iterdir())
    assert not list((store / "layers").iterdir())


@pytest.mark.parametrize("then", ["pull", "load", "import", "commit", "run", "rmi"])
def test_what_a_killed_pull_left_goes_with_the_next_command(
    fresh: Engine, fake: FakeRegistry, tmp_path: Path, then: str
) -> None:
    made = Made(
        fake, layer(), images.layer([images.file("f", random.Random(4).randbytes(2 << 20))])
    )
    fake.add_manifest("a", made.document, "1")
    other = Made(fake, layer(7), repository="b")
    fake.add_manifest("b", other.document, "1")
    root = tmp_path / "root.tar"
    root.write_bytes(layer(8))
    if then in ("commit", "rmi"):
        fresh.ok("import", "-q", str(root), "kept")
        fresh.ok("create", "--name=c", "kept", "x")
    data, release = made.layers[1], threading.Event()

    def stall(handler: Handler) -> bool:
        handler.answer(200, data[: len(data) // 2], len(data))
        release.wait(30)
        return True

    fake.rules[f"/v2/a/blobs/{digest_of(data)}"] = stall
    store = fresh.data / "images"
    before = {one.name for one in (store / "layers").glob("*")}
    process = fresh.popen("pull", "-q", PLAIN, f"{fake.host}/a:1")
    try:
        for _ in range(3000):
            parts = [one.stat().st_size for one in (store / "tmp").glob("blob-*")]
            if any(parts) and len(list((store / "layers").glob("*"))) > len(before):
                break
            threading.Event().wait(0.01)
        else:
            pytest.fail("no layer came")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        release.set()
    # What only reads leaves it to the next pull of the same.
    assert made.id not in fresh.ok("images", "-q", "--no-trunc")
    assert len(list((store / "layers").iterdir())) == len(before) + 1
    match then:
        case "pull":
            fresh.ok("pull", "-q", PLAIN, f"{fake.host}/b:1")
        case "load":
            images.docker_archive(tmp_path / "b.tar", [layer(9)], ["b:1"])
            fresh.ok("load", "-i", str(tmp_path / "b.tar"))
        case "import":
            fresh.ok("import", "-q", str(root), "b")
        case "commit":
            fresh.ok("commit", "-q", "c", "b")
        case "run":
            fresh.ok("create", PLAIN, f"{fake.host}/b:1", "x")
        case _:
            fresh.ok("rmi", "--force", "none")
    assert not list((store / "tmp").iterdir())
    kept = {
        chain.partition(":")[2]
        for path in (store / "records").iterdir()
        for chain in json.loads(path.read_text())["chains"]
    }
    assert {one.name for one in (store / "layers").iterdir()} == kept


def test_several_pulls_fetch_each_blob_once(fresh: Engine, fake: FakeRegistry) -> None:
    made = Made(fake, *(layer(3000 + number) for number in range(5)))
    fake.add_manifest("a", made.document, "1")
    name = f"{fake.host}/a:1"
    processes = [
        fresh.popen("pull", "-q", PLAIN, name, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out.decode().strip()) == (0, made.id), err
    for entry in made.document["layers"]:
        assert len(fake.seen("GET", f"/v2/a/blobs/{entry['digest']}")) == 1


def test_interrupt_ends_a_stalled_pull(fresh: Engine, fake: FakeRegistry) -> None:
    made = Made(fake, *(layer(number) for number in range(8)))
    reached, release = threading.Event(), threading.Event()

    def stall(handler: Handler) -> bool:
        handler.answer(200, b"x", 1 << 20)
        reached.set()
        release.wait(30)
        return True

    for entry in made.document["layers"]:
        entry["size"] = 1 << 20
        fake.rules[f"/v2/a/blobs/{entry['digest']}"] = stall
    fake.add_manifest("a", made.document, "1")
    process = fresh.popen("pull", "-q", PLAIN, f"{fake.host}/a:1", stderr=subprocess.DEVNULL)
    try:
        assert reached.wait(30)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) != 0
    finally:
        process.kill()
        process.wait()
        release.set()


def test_progress_on_a_terminal(fresh: Engine, fake: FakeRegistry) -> None:
    """Bars while something comes, one line for what has come; no bars where the terminal knows none."""
    made = Made(fake, images.layer([images.file("f", random.Random(5).randbytes(1 << 20))]))
    fake.add_manifest("a", made.document, "1")
    data, go_on, stalls = made.layers[0], threading.Event(), True
    blob = digest_of(data)

    def slowly(handler: Handler) -> bool:
        if not stalls:
            return False
        handler.answer(200, data[: len(data) // 2], len(data))
        go_on.wait(30)
        handler.wfile.write(data[len(data) // 2 :])
        return True

    fake.rules[f"/v2/a/blobs/{blob}"] = slowly
    words = ("pull", PLAIN, f"{fake.host}/a:1")
    fresh.env["TERM"] = "xterm"
    with Terminal(fresh.popen, *words) as terminal:
        terminal.until(f"Trying to pull {fake.host}/a:1...")
        terminal.until(f"Copying blob {blob[7:19]} ")
        terminal.until("0.5/1.0 MB")
        go_on.set()
        terminal.until(f"Copying blob {blob[7:19]} done")
        terminal.until("\x1b[?25h")
        terminal.until(made.id)
        assert terminal.wait() == 0
    go_on.clear()
    fresh.ok("rmi", "--all")
    with Terminal(fresh.popen, *words) as terminal:
        terminal.until("0.5/1.0 MB")
        terminal.process.send_signal(signal.SIGINT)
        terminal.until("\x1b[?25h")  # the cursor that the bars have hidden
        assert terminal.wait() == 130
        assert terminal.is_restored()
    go_on.set()
    stalls = False
    fresh.env["TERM"] = "dumb"
    with Terminal(fresh.popen, *words) as terminal:
        shown = terminal.until(made.id)
        assert "\x1b" not in shown and f"Copying blob {blob}" in shown
        assert terminal.wait() == 0


def test_zstd_chunked_layers_are_zstd_layers(fresh: Engine, tmp_path: Path) -> None:
    """Their index lies in skippable frames, which every reader of zstd passes over."""
    from rootless.storage.compress import Deflater

    data = images.layer([images.file("f", b"content")])
    packer = Deflater("zstd", None)
    packed = packer.compress(data) + packer.flush()
    for frame in (b"table of contents", b"footer"):
        packed += (0x184D2A50).to_bytes(4, "little") + len(frame).to_bytes(4, "little") + frame
    layout = images.oci_layout(tmp_path / "layout", [data], "1", compress=False)
    index = json.loads((layout / "index.json").read_text())
    blobs = layout / "blobs/sha256"
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_text())
    (blobs / images.digest(packed)[7:]).write_bytes(packed)
    manifest["layers"] = [
        {
            "mediaType": "application/vnd.oci.image.layer.v1.tar+zstd",
            "digest": images.digest(packed),
            "size": len(packed),
            "annotations": {"io.github.containers.zstd-chunked.manifest-position": "1:2:3:1"},
        }
    ]
    raw = json.dumps(manifest).encode()
    (blobs / images.digest(raw)[7:]).write_bytes(raw)
    index["manifests"][0].update(digest=images.digest(raw), size=len(raw))
    (layout / "index.json").write_text(json.dumps(index))
    identity = fresh.ok("pull", "-q", f"oci:{layout}:1")
    assert fresh("image", "diff", identity).lines == ["A /f"]


def test_newer_says_nothing_where_nothing_is(
    fresh: Engine, busybox_archive: Path, server: DockerRegistry
) -> None:
    name = f"{server.host}/newer/busybox:1"
    skopeo_copy = ["skopeo", "copy", "-q", "--dest-tls-verify=false"]
    subprocess.run(
        [*skopeo_copy, f"docker-archive:{busybox_archive}", f"docker://{name}"], check=True
    )
    words = ("pull", "--policy", "newer", "--tls-verify=false", name)
    assert "Copying blob" in fresh(*words).err
    again = fresh(*words)
    assert (again.code, again.err) == (0, "")
    other = images.docker_archive(
        fresh.folder / "o.tar", [images.layer([images.file("x")])], ["x:1"]
    )
    subprocess.run([*skopeo_copy, f"docker-archive:{other}", f"docker://{name}"], check=True)
    assert "Copying blob" in fresh(*words).err
