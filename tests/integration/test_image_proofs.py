"""What the peers make of our images and we of theirs: digests at both ends, and images at the limits of what is usual."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import struct
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import debian, host, images
from tests.support.engine import Engine
from tests.support.registry import PASSWORD, USER, DockerRegistry

pytestmark = [
    pytest.mark.peer,
    pytest.mark.needs("userns", "subids", "docker-registry", "skopeo"),
]
PLAIN = "--tls-verify=false"
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture(scope="module")
def server() -> Iterator[DockerRegistry]:
    with DockerRegistry() as one:
        yield one


def run(*command: str, **options: Any) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, **options
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return str(done.stdout)


class Podman:
    """Podman with a store of its own in a short path."""

    def __init__(self, folder: Path) -> None:
        self.store = ["--root", f"{folder}/p", "--runroot", f"{folder}/pr"]
        self.env = {**os.environ, "TMPDIR": str(folder), "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}

    def __call__(self, *args: str) -> str:
        return run("podman", *self.store, "--storage-driver", "vfs", *args, env=self.env).strip()


@pytest.fixture
def podman(rootless: Engine) -> Iterator[Podman]:
    host.require("podman")
    one = Podman(rootless.folder)
    yield one
    one("system", "reset", "-f")


def put_image(
    server: DockerRegistry, repository: str, tag: str, layers: list[bytes], **config: Any
) -> bytes:
    """Put an image with gzip layers into a registry; return its manifest."""
    plain = images.config(layers, **config)
    server.put_blob(repository, images.digest(plain), plain)
    packed = []
    for one in layers:
        data = gzip.compress(one, 1, mtime=0)
        server.put_blob(repository, images.digest(data), data)
        packed.append((images.digest(data), len(data)))
    return put_manifest(server, repository, tag, (images.digest(plain), len(plain)), packed)


def put_manifest(
    server: DockerRegistry,
    repository: str,
    tag: str,
    config: tuple[str, int],
    layers: list[tuple[str, int]],
) -> bytes:
    kinds = ["config.v1+json", *("layer.v1.tar+gzip" for _ in layers)]
    entries = [
        {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest, "size": size}
        for kind, (digest, size) in zip(kinds, [config, *layers], strict=True)
    ]
    manifest = json.dumps({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": entries[0],
        "layers": entries[1:],
    }).encode()  # fmt: skip
    server.put_manifest(repository, tag, manifest)
    return manifest


# Digests


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls and passwords"])
def test_digests_are_the_same_at_both_ends(
    rootless: Engine, podman: Podman, busybox_archive: Path, tmp_path: Path, secure: bool
) -> None:
    """Peers push, we pull and push on, peers pull: through two registries of which the second knows nothing."""
    with DockerRegistry(tls=secure, auth=secure) as one, DockerRegistry() as other:
        certificates = tmp_path / "certs"
        certificates.mkdir()
        access = [PLAIN]
        if secure:
            shutil.copy(one.certificate, certificates / "ca.crt")
            access = [f"--cert-dir={certificates}", f"--creds={USER}:{PASSWORD}"]
        of_skopeo = [option.replace("--", "--dest-", 1) for option in access]
        run(
            *("skopeo", "copy", "-q", *of_skopeo),
            *(f"docker-archive:{busybox_archive}", f"docker://{one.host}/peers/skopeo:1"),
        )
        podman("load", "-q", "-i", str(busybox_archive))
        podman("push", "-q", *access, "localhost/busybox", f"{one.host}/peers/podman:1")
        podman("rmi", "--all", "--force")  # it would go on showing the digest of then
        for pusher in ("skopeo", "podman"):
            there = f"{one.host}/peers/{pusher}:1"
            inspect = ["skopeo", "inspect", "--format", "{{.Digest}}", *access]
            digest = run(*inspect, f"docker://{there}").strip()
            rootless.ok("pull", "-q", *access, there)
            assert rootless.inspect(there, "image")["Digest"] == digest
            # Back to where it came from, and on to where nobody knows it; where blobs have to be fetched once more,
            # that is done as the destination's --creds allow, or the repository's own entry in auth.json.
            rootless.ok("push", "-q", *access, there, f"{one.host}/other/{pusher}:2")
            assert run(*inspect, f"docker://{one.host}/other/{pusher}:2").strip() == digest
            if secure:
                folder = rootless.home / ".config/containers/certs.d" / one.host
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(one.certificate, folder / "ca.crt")
                rootless.ok("login", "-u", USER, "-p", PASSWORD, one.host)
            pushed = rootless("push", "-q", PLAIN, there, f"{other.host}/on/{pusher}:3")
            assert (pushed.code, pushed.err) == (0, "")
            assert other.manifest_digest(f"on/{pusher}", "3") == digest
            identity = podman("pull", "-q", PLAIN, f"{other.host}/on/{pusher}:3")
            assert identity == rootless.ok("inspect", "--format", "{{.Id}}", there)
            assert podman("inspect", "--format", "{{.Digest}}", identity) == digest
            podman("rmi", "--force", identity)


def test_packed_layers_are_not_kept_and_still_the_same(
    fresh: Engine, server: DockerRegistry, busybox_archive: Path, tmp_path: Path
) -> None:
    with DockerRegistry() as origin, DockerRegistry() as other:
        name = f"{origin.host}/kept/not:1"
        run(
            *("skopeo", "copy", "-q", "--dest-tls-verify=false", "--format=oci"),
            *(f"docker-archive:{busybox_archive}", f"docker://{name}"),
        )
        digest = origin.manifest_digest("kept/not", "1")
        identity = fresh.ok("pull", "-q", PLAIN, name)
        kept = sum(one.stat().st_size for one in (fresh.data / "images/blobs/sha256").iterdir())
        assert kept < 10_000  # the config and the manifest
        # What is built on it knows where the layers below are; so does an image under another name only.
        fresh.ok("create", "--network=none", "--name=change", name, "true")
        fresh.ok("commit", "-q", "change", "localhost/changed:1")
        fresh.ok("tag", name, "localhost/other:1")
        fresh.ok("untag", identity, name)
        fresh.ok("push", "-q", PLAIN, "localhost/other:1", f"{other.host}/a:1")
        assert other.manifest_digest("a", "1") == digest
        layers = json.loads(run("skopeo", "inspect", "--raw", PLAIN, f"docker://{other.host}/a:1"))[
            "layers"
        ]
        fresh.ok("push", "-q", PLAIN, "localhost/changed:1", f"{other.host}/changed:1")
        changed = run("skopeo", "inspect", "--raw", PLAIN, f"docker://{other.host}/changed:1")
        assert json.loads(changed)["layers"][0]["digest"] == layers[0]["digest"]
        fresh.ok("save", "-q", "--format=oci-archive", "-o", str(tmp_path / "s"), "other:1")
        saved = run("skopeo", "inspect", "--format={{.Digest}}", f"oci-archive:{tmp_path}/s")
        assert saved.strip() == digest
    # Where the registry is gone the image still goes out, under another digest and not silently.
    result = fresh("push", "-q", PLAIN, "localhost/other:1", f"{server.host}/gone/a:1")
    assert result.code == 0
    assert "is packed anew, which gives the image another digest" in result.err
    assert len(result.err.splitlines()) == 1
    assert server.manifest_digest("gone/a", "1") != digest
    config = run(
        "skopeo", "inspect", "--raw", "--config", PLAIN, f"docker://{server.host}/gone/a:1"
    )
    assert hashlib.sha256(config.encode()).hexdigest() == identity
    fresh.ok("save", "-q", "-o", str(tmp_path / "plain"), "localhost/other:1")


def test_blobs_are_kept_where_the_settings_say_so(fresh: Engine, server: DockerRegistry) -> None:
    put_image(server, "kept", "1", [images.layer([images.file("a", os.urandom(50_000))])])
    fresh.ok("--storage-opt=keep_blobs=true", "pull", "-q", PLAIN, f"{server.host}/kept:1")
    blobs = fresh.data / "images/blobs/sha256"
    assert max(one.stat().st_size for one in blobs.iterdir()) > 50_000
    assert fresh.ok("image", "prune", "--force", "--blobs").startswith("Freed 5")
    assert max(one.stat().st_size for one in blobs.iterdir()) < 5_000


def test_save_and_load_by_turns(
    fresh: Engine, podman: Podman, busybox_archive: Path, tmp_path: Path
) -> None:
    """save → podman load → save → load, in both formats."""
    fresh.ok("load", "-q", "-i", str(busybox_archive))
    first = fresh.inspect("localhost/busybox", "image")
    for number, kind in enumerate(("docker-archive", "oci-archive")):
        ours, theirs = str(tmp_path / f"ours{number}"), str(tmp_path / f"theirs{number}")
        fresh.ok("save", "-q", f"--format={kind}", "-o", ours, "localhost/busybox")
        podman("load", "-q", "-i", ours)
        seen = json.loads(podman("inspect", "localhost/busybox"))[0]
        assert (seen["Id"], seen["RootFS"]) == (first["Id"], first["RootFS"])
        podman("save", "-q", f"--format={kind}", "-o", theirs, "localhost/busybox")
        podman("rmi", "-f", "localhost/busybox")
        fresh.ok("rmi", "localhost/busybox")
        fresh.ok("load", "-q", "-i", theirs)
        again = fresh.inspect("localhost/busybox", "image")
        assert (again["Id"], again["RootFS"]) == (first["Id"], first["RootFS"])
        assert fresh.ok("run", "--rm", "--network=none", "busybox", "echo", "runs") == "runs"
        back = str(tmp_path / f"back{number}")
        fresh.ok("save", "-q", f"--format={kind}", "-o", back, "localhost/busybox")
        assert manifest_in(back) == manifest_in(theirs if number else ours)


def manifest_in(archive: str) -> bytes:
    """What an archive's index or listing says of its only image."""
    with tarfile.open(archive) as content:
        names = content.getnames()
        if "index.json" not in names:
            file = content.extractfile("manifest.json")
            assert file
            return json.dumps(json.load(file)[0]["Layers"]).encode()
        file = content.extractfile("index.json")
        assert file
        digest = json.load(file)["manifests"][0]["digest"]
        file = content.extractfile(f"blobs/sha256/{digest[7:]}")
        assert file
        return file.read()


def test_an_index_with_three_platforms(
    rootless: Engine, server: DockerRegistry, tmp_path: Path
) -> None:
    wanted = {
        "amd64": {"architecture": "amd64", "os": "linux"},
        "arm64": {"architecture": "arm64", "os": "linux", "variant": "v8"},
        "arm": {"architecture": "arm", "os": "linux", "variant": "v7"},
    }
    entries = []
    for arch, platform in wanted.items():
        config = json.loads(images.config([images.layer([images.file("arch", arch)])]))
        data = json.dumps({**config, **platform}).encode()
        layer = gzip.compress(images.layer([images.file("arch", arch)]), 6, mtime=0)
        for blob in (data, layer):
            server.put_blob("three", images.digest(blob), blob)
        document = put_manifest(
            *(server, "three", arch, (images.digest(data), len(data))),
            [(images.digest(layer), len(layer))],
        )
        entries.append({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": images.digest(document), "size": len(document), "platform": platform,
        })  # fmt: skip
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
    server.put_manifest("three", "all", index, INDEX)
    name = f"{server.host}/three:all"
    for arch, entry in zip(wanted, entries, strict=True):
        rootless.ok("pull", "-q", PLAIN, f"--platform=linux/{arch}", name)
        found = rootless.inspect(name, "image")
        assert (found["Architecture"], found["Digest"]) == (arch, entry["digest"])
    # All of it, by us and by skopeo, to a registry that has none of it.
    with DockerRegistry() as other:
        run("skopeo", "copy", "-q", "--all", "--src-tls-verify=false", "--dest-tls-verify=false",
            f"docker://{name}", f"docker://{other.host}/skopeo:all")  # fmt: skip
        rootless.ok("manifest", "create", PLAIN, "--all", "localhost/three", f"docker://{name}")
        rootless.ok(
            *("manifest", "push", "-q", PLAIN, "--all", "localhost/three"),
            f"docker://{other.host}/ours:all",
        )
        for repository in ("skopeo", "ours"):
            raw = run(
                "skopeo", "inspect", "--raw", PLAIN, f"docker://{other.host}/{repository}:all"
            )
            pushed = json.loads(raw)["manifests"]
            assert [one["digest"] for one in pushed] == [one["digest"] for one in entries]
        assert other.manifest_digest("skopeo", "all") == images.digest(index)
        rootless.ok("manifest", "rm", "localhost/three")


# The unusual


def test_130_layers_run_and_take_another(rootless: Engine, server: DockerRegistry) -> None:
    """More than one page of mount options could name, and what was built on it still goes round."""
    layers = [images.busybox_layer()]
    layers += [
        images.layer([
            images.file(f"d/f{number}", str(number)), images.file("top", str(number)),
            *([images.file(f"d/.wh.f{number - 50}")] if number > 100 else []),
        ])
        for number in range(1, 130)
    ]  # fmt: skip
    put_image(server, "layers", "130", layers, Cmd=["sh"])
    name = f"{server.host}/layers:130"
    rootless.ok("pull", "-q", PLAIN, name)
    words = ("--network=none", name, "sh", "-c", "cat /top; echo; ls /d | wc -l; echo new > /d/new")
    assert rootless.ok("run", "--name=many", *words).split() == ["129", "100"]
    rootless.ok("commit", "-q", "many", "localhost/layers:131")
    assert len(rootless.inspect("localhost/layers:131", "image")["RootFS"]["Layers"]) == 131
    check = ("localhost/layers:131", "sh", "-c", "cat /d/new /top; echo; ls /d | wc -l")
    assert rootless.ok("run", "--rm", "--network=none", *check).split() == ["new", "129", "101"]
    rootless.ok("push", "-q", PLAIN, "localhost/layers:131", f"{server.host}/layers:131")
    raw = run("skopeo", "inspect", "--raw", PLAIN, f"docker://{server.host}/layers:131")
    assert len(json.loads(raw)["layers"]) == 131


def test_a_layer_of_2_gib(fresh: Engine, server: DockerRegistry) -> None:
    """More than a signed number of 32 bits holds; zeros, so that it takes neither long nor room."""
    block, count = bytes(1 << 22), 513
    info = tarfile.TarInfo("big")
    info.size = len(block) * count
    head, end = info.tobuf(tarfile.GNU_FORMAT), bytes(1024)
    plain, check = hashlib.sha256(head), zlib.crc32(head)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    data += packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush the same bytes give the same bits: they are packed once.
    data += (packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)) * count
    data += packer.compress(end) + packer.flush()
    for _ in range(count):
        plain.update(block)
        check = zlib.crc32(block, check)
    plain.update(end)
    check = zlib.crc32(end, check)
    size = len(head) + info.size + len(end)
    data += struct.pack("<II", check, size & 0xFFFFFFFF)
    config = json.loads(images.config([]))
    config["rootfs"]["diff_ids"] = [f"sha256:{plain.hexdigest()}"]
    config["history"] = [{"created_by": "zeros"}]
    documents = json.dumps(config).encode()
    for one in (documents, data):
        server.put_blob("big", images.digest(one), one)
    layers = [(images.digest(data), len(data))]
    put_manifest(server, "big", "1", (images.digest(documents), len(documents)), layers)
    fresh.ok("pull", "-q", PLAIN, f"{server.host}/big:1", timeout=180)
    [layer] = (fresh.data / "images/layers").iterdir()
    status = (layer / "diff/big").stat()
    assert status.st_size == info.size
    assert status.st_blocks < 1000
    assert fresh.inspect(f"{server.host}/big:1", "image")["Size"] > info.size
    # Made again, it is what it was.
    assert fresh.ok("system", "check", timeout=180) == ""


def test_a_hundred_thousand_small_files(fresh: Engine, server: DockerRegistry) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as out:
        for number in range(100_000):
            info = tarfile.TarInfo(f"files/{number // 1000:02}/{number % 1000:03}")
            info.size = number % 50
            out.addfile(info, io.BytesIO(b"x" * info.size))
    put_image(server, "files", "1", [images.busybox_layer(), stream.getvalue()], Cmd=["sh"])
    name = f"{server.host}/files:1"
    fresh.ok("pull", "-q", PLAIN, name, timeout=180)
    script = "find /files -type f | wc -l; find /files -type f -exec cat {} + | wc -c; rm -r /files/00; ls /files | wc -l"
    shown = fresh.ok("run", "--rm", "--network=none", name, "sh", "-c", script, timeout=180)
    assert shown.split() == ["100000", str(sum(range(50)) * 2000), "99"]
    fresh.ok("rmi", name, timeout=180)
    assert list((fresh.data / "images/layers").iterdir()) == []
    assert list((fresh.data / "images/tmp").iterdir()) == []


@pytest.mark.needs("debootstrap", "busybox", "dpkg")
def test_apt_installs_into_a_root_that_debootstrap_made(fresh: Engine, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    debian.repository(mirror, "busybox-static")
    archive = debian.make_root(tmp_path, mirror)
    name = "localhost/debian:minbase"
    fresh.ok("import", "-q", str(archive), name, timeout=180)
    archive.unlink()
    script = f"""
        set -e
        echo 'deb [trusted=yes] file:/mirror {debian.codename()} main' > /etc/apt/sources.list
        apt-get update
        apt-get install -y busybox-static
        busybox echo installed
        dpkg --audit
        find / -xdev -user _apt
    """
    words = ("-v", f"{mirror}:/mirror:ro", "-e", "DEBIAN_FRONTEND=noninteractive", name)
    result = fresh("run", "--name=apt", *words, "sh", "-c", script, timeout=180)
    assert result.code == 0, result
    assert "Setting up busybox-static" in result.out
    assert result.lines[-1].startswith("/var")  # the folder of apt's own user, among others
    assert "installed" in result.lines
    fresh.ok("commit", "-q", "apt", "localhost/debian:busybox", timeout=120)
    words = ("localhost/debian:busybox", "dpkg-query", "-W", "-f${Status}", "busybox-static")
    assert fresh.ok("run", "--rm", "--network=none", *words) == "install ok installed"
