"""push: to docker-registry, where skopeo and podman look at what came; to archives and folders."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import images
from tests.support.engine import Engine
from tests.support.fake_registry import FakeRegistry, Handler
from tests.support.registry import PASSWORD, USER, DockerRegistry

pytestmark = pytest.mark.needs("userns", "docker-registry")
PLAIN = "--tls-verify=false"


@pytest.fixture(scope="module")
def server() -> Iterator[DockerRegistry]:
    with DockerRegistry() as one:
        yield one


def skopeo(*args: str) -> str:
    done = subprocess.run(
        ["skopeo", *args], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def raw(server: DockerRegistry, name: str) -> dict[str, Any]:
    """The manifest as skopeo gets it, which verifies digests on the way."""
    found: dict[str, Any] = json.loads(
        skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{server.host}/{name}")
    )
    return found


def packings(manifest: dict[str, Any]) -> set[str]:
    return {entry["mediaType"].rpartition("tar")[2].strip("+.") for entry in manifest["layers"]}


def check_with_skopeo(server: DockerRegistry, name: str, folder: Path) -> None:
    """skopeo verifies every blob, and that layers unpack to the config's diff IDs."""
    skopeo(
        *("copy", "-q", "--src-tls-verify=false", "--dest-decompress"),
        *(f"docker://{server.host}/{name}", f"dir:{folder}"),
    )


def test_a_plain_image_is_packed(
    rootless: Engine, busybox: str, server: DockerRegistry, tmp_path: Path
) -> None:
    name = f"{server.host}/team/busybox:1"
    digest_file = tmp_path / "digest"
    result = rootless("push", PLAIN, f"--digestfile={digest_file}", busybox, name)
    assert result.code == 0, result
    assert result.out == ""
    assert result.err.splitlines()[-1] == "Writing manifest to image destination"
    assert digest_file.read_text() == server.manifest_digest("team/busybox", "1")
    manifest = raw(server, "team/busybox:1")
    assert packings(manifest) == {"gzip"}
    check_with_skopeo(server, "team/busybox:1", tmp_path / "out")
    # Once more: everything is there already, and the manifest is the same.
    again = rootless(
        "push", "-q", PLAIN, f"--digestfile={digest_file}", busybox, f"docker://{name}"
    )
    assert (again.code, again.out, again.err) == (0, "", "")
    assert digest_file.read_text() == server.manifest_digest("team/busybox", "1")


def test_a_pulled_image_keeps_its_digest(
    rootless: Engine, busybox_archive: Path, server: DockerRegistry
) -> None:
    for kind in ("oci", "v2s2"):
        skopeo(
            *("copy", "-q", "--dest-tls-verify=false", f"--format={kind}"),
            *(f"docker-archive:{busybox_archive}", f"docker://{server.host}/from/{kind}:1"),
        )
        rootless.ok("pull", "-q", PLAIN, f"{server.host}/from/{kind}:1")
        rootless.ok(
            "push", "-q", PLAIN, f"{server.host}/from/{kind}:1", f"{server.host}/to/{kind}:2"
        )
        assert server.manifest_digest(f"to/{kind}", "2") == server.manifest_digest(
            f"from/{kind}", "1"
        )


@pytest.mark.parametrize(
    ("options", "kind", "packing"),
    [
        (["--compression-format=zstd"], "oci", "zstd"),
        (["--compression-format=zstd", "--compression-level=10"], "oci", "zstd"),
        (["--compression-format=gzip", "--compression-level=9"], "docker", "gzip"),
        ([], "docker", "gzip"),
        (["--format=oci"], "oci", "gzip"),
        (["--format=v2s2"], "docker", "gzip"),
        (["--format=oci", "--force-compression"], "oci", "gzip"),
    ],
)
def test_formats(
    rootless: Engine,
    busybox: str,
    server: DockerRegistry,
    tmp_path: Path,
    options: list[str],
    kind: str,
    packing: str,
) -> None:
    tag = f"x{abs(hash(tuple(options)))}"
    rootless.ok("push", "-q", PLAIN, *options, busybox, f"{server.host}/formats/busybox:{tag}")
    manifest = raw(server, f"formats/busybox:{tag}")
    assert kind in manifest["mediaType"]
    assert kind in manifest["config"]["mediaType"]
    assert packings(manifest) == {packing}
    check_with_skopeo(server, f"formats/busybox:{tag}", tmp_path / "out")
    # And back again: the same image, by the digest that the registry has.
    name = f"{server.host}/formats/busybox:{tag}"
    identity = rootless.ok("pull", "-q", PLAIN, name)
    assert identity == rootless.inspect(busybox, "image")["Id"]


def test_a_zstd_image_becomes_v2s2(rootless: Engine, busybox: str, server: DockerRegistry) -> None:
    name = f"{server.host}/back/busybox:zstd"
    rootless.ok("push", "-q", PLAIN, "--compression-format=zstd", busybox, name)
    rootless.ok("pull", "-q", PLAIN, name)
    rootless.ok("push", "-q", PLAIN, "--format=v2s2", name, f"{server.host}/back/busybox:gzip")
    assert packings(raw(server, "back/busybox:gzip")) == {"gzip"}


def test_dropped_blobs_are_made_again(
    fresh: Engine, busybox_archive: Path, server: DockerRegistry
) -> None:
    name = f"{server.host}/dropped/busybox:1"
    skopeo(
        *("copy", "-q", "--dest-tls-verify=false", "--dest-decompress", "--format=oci"),
        *(f"docker-archive:{busybox_archive}", f"docker://{name}"),
    )
    fresh.ok("pull", "-q", PLAIN, name)
    for entry in raw(server, "dropped/busybox:1")["layers"]:
        blob = fresh.data / "images/blobs/sha256" / entry["digest"].partition(":")[2]
        assert not blob.exists()
    with DockerRegistry() as other:
        fresh.ok("push", "-q", PLAIN, name, f"{other.host}/dropped/busybox:1")
        check_with_skopeo(other, "dropped/busybox:1", fresh.folder / "out")


@pytest.mark.peer
@pytest.mark.needs("podman")
def test_podman_runs_on_what_was_pushed(
    rootless: Engine, busybox: str, server: DockerRegistry, tmp_path: Path
) -> None:
    name = f"{server.host}/podman/busybox:1"
    rootless.ok("push", "-q", PLAIN, busybox, name)
    store = Path("/tmp") / f"{tmp_path.parent.parent.name}p"
    podman = ["podman", "--root", f"{store}/s", "--runroot", f"{store}/r", "--storage-driver=vfs"]
    try:
        done = subprocess.run(
            [*podman, "pull", "-q", PLAIN, name], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == rootless.inspect(busybox, "image")["Id"]
    finally:
        subprocess.run(
            ["unshare", "--user", "--map-root-user", "--map-auto", "rm", "-rf", str(store)],
            check=False,
        )


def test_mounts_from_another_repository(
    rootless: Engine, busybox_archive: Path, server: DockerRegistry
) -> None:
    """The blob of an image pulled from one repository is not sent again to another."""
    name = f"{server.host}/old/busybox:1"
    skopeo(
        *("copy", "-q", "--dest-tls-verify=false"),
        *(f"docker-archive:{busybox_archive}", f"docker://{name}"),
    )
    identity = rootless.ok("pull", "-q", PLAIN, name)
    mounted: list[str] = []

    def upload(handler: Handler) -> bool:
        if "mount=" in handler.path:
            mounted.append(handler.path)
            return handler.answer(201)
        handler.body()
        return handler.answer(202, Location="/upload")

    def put(handler: Handler) -> bool:
        handler.body()
        return handler.answer(201)

    with FakeRegistry() as fake:
        fake.rules["POST /v2/new/blobs/uploads/"] = upload
        fake.rules["PUT /"] = put
        rootless.ok("tag", identity, f"{fake.host}/old/busybox:1")
        rootless.ok("push", "-q", PLAIN, identity, f"{fake.host}/new:1")
        rootless.ok("untag", identity, f"{fake.host}/old/busybox:1")
    assert len(mounted) == 1
    assert mounted[0].endswith("from=old%2Fbusybox")


def test_other_destinations(rootless: Engine, busybox: str, tmp_path: Path) -> None:
    identity = rootless.inspect(busybox, "image")["Id"]
    for target in (
        "oci:{}/oci:one",
        "oci-archive:{}/a.tar:one",
        "dir:{}/dir",
        "docker-archive:{}/d.tar:x:1",
    ):
        place = target.format(tmp_path)
        rootless.ok("push", "-q", busybox, place)
        if not target.startswith("oci-archive"):  # skopeo unpacks those with their owners
            skopeo("inspect", "--raw", place)
    found = rootless.ok("pull", "-q", f"oci-archive:{tmp_path}/a.tar")
    assert found == identity
    assert rootless.ok("pull", "-q", f"docker-archive:{tmp_path}/d.tar") == identity
    assert "docker.io/library/x:1" in rootless.ok("images", "--format", "{{.Repository}}:{{.Tag}}")
    rootless.ok("push", "-q", "--compress", busybox, f"dir:{tmp_path}/packed")
    packed = json.loads((tmp_path / "packed/manifest.json").read_text())
    assert packings(packed) == {"gzip"}
    rootless.ok("push", "-q", busybox, "containers-storage:localhost/again:1")
    assert rootless.inspect("localhost/again:1", "image")["Id"] == identity
    rootless.ok("untag", "localhost/again:1", "localhost/again:1")


def test_passwords(fresh: Engine, busybox_archive: Path) -> None:
    with DockerRegistry(auth=True) as server:
        fresh.ok("load", "-q", "-i", str(busybox_archive))
        name = f"{server.host}/secret/busybox:1"
        error = fresh.fails("push", "-q", PLAIN, "localhost/busybox", name)
        assert "authentication required" in error
        fresh.ok("push", "-q", PLAIN, f"--creds={USER}:{PASSWORD}", "localhost/busybox", name)
        fresh.ok("login", PLAIN, "-u", USER, "--password-stdin", server.host, input=PASSWORD)
        fresh.ok("push", "-q", PLAIN, "localhost/busybox", f"{server.host}/secret/other:1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format=v2s1"], "obsolete"),
        (["--format=x"], "unknown format"),
        (["--format=v2s2", "--compression-format=zstd"], "knows no zstd layers"),
        (["--compression-format=zstd:chunked"], "not packed in chunks here; use zstd"),
        (["--compression-format=lzma"], "neither gzip nor zstd"),
        (["--compression-level=99"], "not between"),
        (["--compress"], "only when destination type is 'dir'"),
        (["--encryption-key=x"], "encrypted images"),
        (["--sign-by-sigstore=x"], "sigstore"),
        (["--creds=name"], "standard input is no terminal; give --creds USER:PASSWORD"),
    ],
)
def test_refused_options(rootless: Engine, busybox: str, options: list[str], message: str) -> None:
    assert message in rootless.fails("push", *options, busybox, "127.0.0.1:9/x:1")


def test_failures_are_told(rootless: Engine, busybox: str) -> None:
    assert "image not known" in rootless.fails("push", "localhost/none", "127.0.0.1:9/x:1")
    assert "Connection refused" in rootless.fails("push", "-q", PLAIN, busybox, "127.0.0.1:9/x:1")
    assert "cannot push to a digest" in rootless.fails(
        "push", busybox, f"127.0.0.1:9/x@sha256:{'0' * 64}"
    )


def test_a_stored_manifest_that_differs_is_an_error(rootless: Engine, busybox: str) -> None:
    def lie(handler: Handler) -> bool:
        handler.body()
        if "manifests" in handler.path:
            return handler.answer(201, Docker_Content_Digest="sha256:" + "0" * 64)
        return handler.answer(201)

    with FakeRegistry() as fake:
        fake.rules["PUT /"] = lie
        fake.rules["POST /v2/x/blobs/uploads/"] = lambda h: h.answer(202, Location="/upload")
        error = rootless.fails("push", "-q", PLAIN, busybox, f"{fake.host}/x:1")
    assert "the registry stored something else" in error


def test_layers_of_many_kinds(rootless: Engine, server: DockerRegistry, tmp_path: Path) -> None:
    """Round trip of an image whose layers hold what tar can hold: the archive made again has the same diff IDs."""
    layers = [
        images.layer(
            [images.folder("d"), images.file("d/f", "x" * 3000), images.hardlink("d/g", "d/f")]
        ),
        images.layer([images.file("d/.wh.f"), images.symlink("l", "/etc/passwd")]),
        images.layer([images.file("empty")]),
        images.layer([images.file("empty")]),
    ]
    archive = tmp_path / "kinds.tar"
    images.docker_archive(archive, layers, names=["localhost/kinds:1"])
    rootless.ok("load", "-q", "-i", str(archive))
    rootless.ok("push", "-q", PLAIN, "localhost/kinds:1", f"{server.host}/kinds:1")
    check_with_skopeo(server, "kinds:1", tmp_path / "out")
