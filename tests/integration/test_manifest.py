"""manifest: lists are made, changed, pushed; skopeo and podman read what comes out."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import images
from tests.support.engine import Engine
from tests.support.registry import DockerRegistry

pytestmark = pytest.mark.needs("userns", "docker-registry")
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
    # Of the manifests that tests have given to this image, the one that this name stands for.
    repository = busybox.rpartition(":")[0]
    assert f"{repository}@{entry['digest']}" in lists.inspect(busybox, "image")["RepoDigests"]
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
        (
            ("push", "wrong", "docker-archive:/nowhere/x"),
            "does not support copying multiple images",
        ),
        (("push", "--add-compression=xz", "wrong", "a.example/b"), "neither gzip nor zstd"),
        (("create", busybox), "is the name of an image already"),
        (("create", "wrong@sha256:" + "0" * 64), "no digest"),
    ):
        assert message in lists.fails("manifest", *words), words
    # A list whose making failed is not there.
    lists.fails("manifest", "create", "half", "containers-storage:localhost/none")
    assert lists("manifest", "exists", "half").code == 1


@pytest.fixture
def listed(fresh: Engine, tmp_path: Path) -> Engine:
    """localhost/list:latest of one image here, localhost/one:1."""
    path = images.docker_archive(
        tmp_path / "i.tar", [images.layer([images.file("f", b"1")])], ["localhost/one:1"]
    )
    fresh.ok("load", "-q", "-i", str(path))
    fresh.ok("manifest", "create", "list", "localhost/one:1")
    return fresh


def test_a_list_is_among_the_images(listed: Engine) -> None:
    engine = listed
    [row] = engine("images", "--format", "{{.Repository}} {{.IsManifestList}}", "list").lines
    assert row == "localhost/list true"
    assert engine.ok("images", "-q", "--filter", "manifest=true") == engine.ok(
        "images", "-q", "list"
    )
    assert engine.ok("images", "--format", "{{.Repository}}", "--filter", "manifest=false") == (
        "localhost/one"
    )
    # To everything else it is its image for this machine.
    one = engine.ok("image", "inspect", "-f", "{{.Id}}", "localhost/one:1")
    assert engine.ok("image", "inspect", "-f", "{{.Id}}", "list") == one
    assert engine("history", "-q", "list").lines[0] == one[:12]
    assert engine("image", "exists", "list").code == 0


def test_a_list_has_names_and_is_removed(listed: Engine) -> None:
    engine = listed
    identity = engine.ok("images", "-q", "--no-trunc", "list").removeprefix("sha256:")
    engine.ok("tag", "list", "other:2")
    assert engine.ok("images", "-q", "other:2") == identity[:12]
    assert engine.ok("rmi", "list") == "Untagged: localhost/list:latest"
    assert engine("manifest", "exists", "list").code == 1
    engine.ok("tag", "other:2", "third")
    assert "by ID with more than one tag" in engine.fails("rmi", identity[:12])
    engine.ok("untag", "other:2", "third")
    assert engine.ok("rmi", identity[:12]) == (f"Untagged: localhost/other:2\nDeleted: {identity}")
    assert engine.ok("images", "--format", "{{.Repository}}") == "localhost/one"
    engine.ok("manifest", "create", "again", "localhost/one:1")
    engine.ok("untag", "again")
    [nameless] = engine("image", "prune", "-f").lines
    assert engine("images", "-q", nameless).lines == []
    assert "localhost/one:1: image is not a manifest list" in engine.fails(
        "manifest", "rm", "localhost/one:1"
    )
    engine.fails("manifest", "rm", "nosuch", code=1)


def test_a_name_stands_for_one_list_or_image(listed: Engine) -> None:
    engine = listed
    engine.ok("manifest", "create", "second")
    engine.ok("tag", "localhost/one:1", "second")
    assert "image is not a manifest list" in engine.fails("manifest", "exists", "second")
    engine.ok("tag", "list", "localhost/one:1")
    assert engine("manifest", "exists", "localhost/one:1").code == 0
    rows = engine("images", "-a", "--format", "{{.Repository}}:{{.Tag}}").lines
    assert sorted(rows) == [
        "<none>:<none>",
        "localhost/list:latest",
        "localhost/one:1",
        "localhost/second:latest",
    ]


def test_two_at_once_lose_nothing(listed: Engine, tmp_path: Path) -> None:
    engine = listed
    engine.ok("manifest", "create", "many")
    files = [tmp_path / f"f{number}" for number in range(6)]
    for path in files:
        path.write_text(path.name)
    adding = [engine.popen("manifest", "add", "--artifact", "many", str(one)) for one in files]
    adding += [engine.popen("tag", "many", f"name{number}") for number in range(3)]
    assert [one.wait(60) for one in adding] == [0] * 9
    [found] = [engine("manifest", "inspect", "many").json]
    assert len(found["manifests"]) == 6
    assert all(engine("manifest", "exists", f"name{number}").code == 0 for number in range(3))


def test_a_list_that_cannot_be_filled_is_not_made(listed: Engine) -> None:
    assert "image not known" in listed.fails("manifest", "create", "new", "containers-storage:none")
    assert listed("manifest", "exists", "new").code == 1


@pytest.mark.needs("skopeo")
def test_lists_into_folders_and_archives(listed: Engine, tmp_path: Path) -> None:
    engine = listed

    def raw(place: str) -> dict[str, Any]:
        done = subprocess.run(
            ["skopeo", "inspect", "--raw", place], capture_output=True, check=True
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    for place in ("oci:layout:a", "oci:layout:b", "oci-archive:a.tar:a", "dir:flat", "dir:flat"):
        transport, _, rest = place.partition(":")
        there = f"{transport}:{tmp_path}/{rest}"
        file = tmp_path / "digest"
        engine.ok("manifest", "push", "-q", "--digestfile", str(file), "list", there)
        found = raw(there)
        assert [one["platform"]["os"] for one in found["manifests"]] == ["linux"]
        # Whole: skopeo reads every blob of it.
        subprocess.run(["skopeo", "copy", "-q", "--all", there, f"dir:{tmp_path}/copy"], check=True)
        data = subprocess.run(
            ["skopeo", "inspect", "--raw", there], capture_output=True, check=True
        ).stdout
        assert file.read_text() == "sha256:" + hashlib.sha256(data).hexdigest()
    # The image alone joins a layout that is there, plain layers stay plain in a folder.
    engine.ok("push", "-q", "localhost/one:1", f"oci:{tmp_path}/layout:c")
    names = [
        one["annotations"]
        for one in json.loads((tmp_path / "layout/index.json").read_text())["manifests"]
    ]
    assert [one["org.opencontainers.image.ref.name"] for one in names] == ["a", "b", "c"]
    engine.ok("push", "-q", "localhost/one:1", f"dir:{tmp_path}/flat")
    assert raw(f"dir:{tmp_path}/flat")["layers"][0]["size"] == 10240
    engine.ok("push", "-q", "--compression-format", "zstd", "localhost/one:1", f"oci:{tmp_path}/z")
    assert raw(f"oci:{tmp_path}/z")["layers"][0]["mediaType"].endswith("+zstd")
    assert "as a group" in engine.fails("manifest", "push", "list", f"docker-archive:{tmp_path}/x")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis").write_text("x")
    for transport in ("oci", "dir"):
        said = engine.fails("push", "localhost/one:1", f"{transport}:{tmp_path}/mine")
        assert "is neither empty nor" in said
    # A file called version makes no folder one that may be written over, nor does one that is: not with other files.
    (tmp_path / "mine/version").write_text("1.0\n")
    engine.fails("push", "localhost/one:1", f"dir:{tmp_path}/mine")
    (tmp_path / "mine/version").write_text("Directory Transport Version: 1.1\n")
    engine.fails("push", "localhost/one:1", f"dir:{tmp_path}/mine")
    assert (tmp_path / "mine/thesis").read_text() == "x"
    # What is written is read here as well.
    engine.ok("rmi", "-a", "-f")
    engine.ok("pull", "-q", f"oci:{tmp_path}/layout:a")
    engine.ok("pull", "-q", f"dir:{tmp_path}/flat")
