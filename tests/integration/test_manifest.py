"""manifest: lists are made, changed, pushed; skopeo and podman read what comes out."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import images
from tests.support.engine import Engine
from tests.support.registry import DockerRegistry

pytestmark = [
    pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is missing"),
    pytest.mark.needs("userns"),
]
PLAIN = "--tls-verify=false"
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture(scope="module")
def server() -> Iterator[DockerRegistry]:
    with DockerRegistry() as one:
        yield one


@pytest.fixture
def lists(rootless: Engine) -> Iterator[Engine]:
    yield rootless
    folder = rootless.data / "images/lists"
    if folder.is_dir():
        for path in folder.iterdir():
            path.unlink()


def raw(server: DockerRegistry, name: str) -> dict[str, Any]:
    done = subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{server.host}/{name}"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def arm_archive(path: Path) -> Path:
    """An image for another architecture, which is made by naming it so."""
    data = images.layer([images.file("arm", "arm")])
    images.docker_archive(path, [data], names=["localhost/arm:1"])
    text = path.read_bytes()
    assert text.count(b'"amd64"') == 1
    return path


def test_life_of_a_list(lists: Engine, busybox: str) -> None:
    identity = lists.ok("manifest", "create", "life")
    assert len(identity) == 64
    assert "is already associated with image" in lists.fails("manifest", "create", "life")
    assert lists.ok("manifest", "create", "--amend", "life") == identity
    assert lists.ok("manifest", "add", "life", busybox) == identity
    found = json.loads(lists.ok("manifest", "inspect", "life"))
    assert found["mediaType"] == INDEX
    (entry,) = found["manifests"]
    assert entry["platform"] == {"architecture": "amd64", "os": "linux"}
    assert entry["digest"] == lists.inspect(busybox, "image")["Digest"]
    lists.ok(
        *("manifest", "annotate", "--arch=arm64", "--variant=v8", "--os-version=7"),
        *("--annotation=a=b=c", "--features=x,y", "--os-features=z", "life", entry["digest"]),
    )
    lists.ok("manifest", "annotate", "--index", "--annotation=whole=list", "life")
    found = json.loads(lists.ok("manifest", "inspect", identity[:12]))
    assert found["annotations"] == {"whole": "list"}
    assert found["manifests"][0]["annotations"] == {"a": "b=c"}
    assert found["manifests"][0]["platform"] == {
        "architecture": "arm64",
        "os": "linux",
        "variant": "v8",
        "os.version": "7",
        "os.features": ["z"],
        "features": ["x", "y"],
    }
    assert lists("manifest", "exists", "life").code == 0
    assert lists("manifest", "exists", "none").code == 1
    assert lists.ok("manifest", "remove", "life", entry["digest"]) == identity
    assert json.loads(lists.ok("manifest", "inspect", "life"))["manifests"] == []
    assert "has no entry" in lists.fails("manifest", "remove", "life", entry["digest"])
    assert "invalid image digest" in lists.fails("manifest", "remove", "life", "x")
    out = lists.ok("manifest", "rm", "life")
    assert out == f"Untagged: localhost/life:latest\nDeleted: {identity}"
    assert "image not known" in lists.fails("manifest", "rm", "life", code=1)
    lists.ok("manifest", "rm", "--ignore", "life")


def test_push_and_pull_back(
    lists: Engine, busybox: str, server: DockerRegistry, tmp_path: Path
) -> None:
    lists.ok("load", "-q", "-i", str(arm_archive(tmp_path / "arm.tar")))
    lists.ok("manifest", "create", "multi", busybox, "localhost/arm:1")
    digests = [
        m["digest"] for m in json.loads(lists.ok("manifest", "inspect", "multi"))["manifests"]
    ]
    lists.ok("manifest", "annotate", "--arch=arm64", "multi", digests[1])
    name = f"{server.host}/multi/list:1"
    file = tmp_path / "digest"
    result = lists("manifest", "push", PLAIN, f"--digestfile={file}", "multi", f"docker://{name}")
    assert result.code == 0, result
    assert "Copying image" in result.err
    assert file.read_text() == server.manifest_digest("multi/list", "1")
    found = raw(server, "multi/list:1")
    assert [m["platform"]["architecture"] for m in found["manifests"]] == ["amd64", "arm64"]
    amd = lists.ok("pull", "-q", PLAIN, "--arch=amd64", name)
    arm = lists.ok("pull", "-q", PLAIN, "--arch=arm64", name)
    assert amd == lists.inspect(busybox, "image")["Id"]
    assert arm == lists.inspect("localhost/arm:1", "image")["Id"]
    # From a registry, all of it, under another name and in another repository.
    lists.ok("manifest", "create", PLAIN, "--all", "copy", f"docker://{name}")
    lists.ok("manifest", "push", "-q", PLAIN, "--rm", "copy", f"{server.host}/other/list:2")
    assert raw(server, "other/list:2")["manifests"] == found["manifests"]
    assert lists("manifest", "exists", "copy").code == 1
    with DockerRegistry() as elsewhere:
        lists.ok("manifest", "create", PLAIN, "--all", "far", f"docker://{name}")
        lists.ok("manifest", "push", "-q", PLAIN, "far", f"{elsewhere.host}/far:1")
        assert raw(elsewhere, "far:1")["manifests"] == found["manifests"]
        subprocess.run(
            [
                *("skopeo", "copy", "-q", "--all", "--src-tls-verify=false"),
                *(f"docker://{elsewhere.host}/far:1", f"dir:{tmp_path}/far"),
            ],
            check=True,
        )
    # One of a list: the one for this machine, or the one that was asked for.
    lists.ok("manifest", "create", "single")
    lists.ok("manifest", "add", PLAIN, "--arch=arm64", "single", f"docker://{name}")
    (entry,) = json.loads(lists.ok("manifest", "inspect", "single"))["manifests"]
    assert entry["digest"] == found["manifests"][1]["digest"]
    assert json.loads(lists.ok("manifest", "inspect", PLAIN, f"docker://{name}")) == found


def test_formats_and_compressions(lists: Engine, busybox: str, server: DockerRegistry) -> None:
    lists.ok("manifest", "create", "forms", busybox)
    target = f"{server.host}/forms/list"
    lists.ok("manifest", "push", "-q", PLAIN, "--format=v2s2", "forms", f"{target}:v2s2")
    assert raw(server, "forms/list:v2s2")["mediaType"].endswith("manifest.list.v2+json")
    lists.ok("manifest", "push", "-q", PLAIN, "--add-compression=zstd", "forms", f"{target}:both")
    first, second = raw(server, "forms/list:both")["manifests"]
    assert "annotations" not in first
    assert second["annotations"] == {"io.github.containers.compression.zstd": "true"}
    packed = raw(server, f"forms/list@{second['digest']}")
    assert {layer["mediaType"].rpartition("+")[2] for layer in packed["layers"]} == {"zstd"}


def test_artifacts(lists: Engine, busybox: str, server: DockerRegistry, tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text("{}")
    (tmp_path / "two.txt").write_text("two" * 1000)
    lists.ok("manifest", "create", "art")
    lists.ok(
        *("manifest", "add", "--artifact", "--artifact-type=application/x-sbom"),
        *("--artifact-layer-type=text/plain", f"--artifact-subject={busybox}", "art"),
        *(str(tmp_path / "one.json"), str(tmp_path / "two.txt")),
    )
    # Nothing else refers to the files' blobs; collecting must leave them.
    lists.ok("image", "prune", "--force")
    lists.ok("manifest", "push", "-q", PLAIN, "art", f"{server.host}/art/list:1")
    (entry,) = raw(server, "art/list:1")["manifests"]
    assert entry["artifactType"] == "application/x-sbom"
    manifest = raw(server, f"art/list@{entry['digest']}")
    assert [one["annotations"] for one in manifest["layers"]] == [
        {"org.opencontainers.image.title": "one.json"},
        {"org.opencontainers.image.title": "two.txt"},
    ]
    # An image may have come by several manifests; it is the one of the name that was given.
    assert manifest["subject"]["digest"] in str(lists.inspect(busybox, "image")["RepoDigests"])
    error = lists.fails("pull", PLAIN, f"{server.host}/art/list@{entry['digest']}")
    assert "is an artifact of type 'application/x-sbom'" in error


def test_mistakes(lists: Engine, busybox: str) -> None:
    lists.ok("manifest", "create", "wrong")
    for words, message in (
        (("add", "none", busybox), "image not known"),
        (("add", "--artifact-type=x", "wrong", busybox), "needs --artifact"),
        (("add", "--annotation=x", "wrong", busybox), "is not key=value"),
        (("add", "--artifact", "wrong", "/nowhere"), "no such file"),
        (("annotate", "--arch=x", "wrong"), "name the entry"),
        (("annotate", "--index", "--arch=x", "wrong"), "--index annotates the list itself"),
        (("push", "wrong", "dir:/tmp/x"), "registries only"),
        (("push", "--add-compression=xz", "wrong", "a.example/b"), "neither gzip nor zstd"),
        (("create", busybox), "is the name of an image already"),
        (("create", "wrong@sha256:" + "0" * 64), "no digest"),
    ):
        assert message in lists.fails("manifest", *words), words
    # A list whose making failed is not there.
    lists.fails("manifest", "create", "half", "containers-storage:localhost/none")
    assert lists("manifest", "exists", "half").code == 1
