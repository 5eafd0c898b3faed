"""`image mount` and `image unmount`, inside `unshare`; and what `events` tells of images."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.support import images
from tests.support.engine import Engine
from tests.support.images import file, folder
from tests.support.registry import DockerRegistry

pytestmark = pytest.mark.needs("userns", "subids")

NAME = "localhost/mounted:1"


@pytest.fixture
def engine(fresh: Engine, tmp_path: Path) -> Engine:
    layers = [
        images.layer([folder("d", 0o750, 33, 33), file("d/old", b"1"), file("d/new", b"1")]),
        images.layer([file("d/new", b"2", 0o600, 33, 33), file("d/.wh.old")]),
    ]
    path = images.docker_archive(tmp_path / "i.tar", layers, [NAME])
    fresh.ok("load", "-q", "-i", str(path))
    return fresh


def inside(engine: Engine, script: str) -> list[str]:
    words = shlex.join(engine.program)
    return engine.ok("unshare", "sh", "-ec", f'rl() {{ {words} "$@"; }}\n{script}').splitlines()


@pytest.mark.needs("overlay")
def test_the_files_of_an_image(engine: Engine) -> None:
    lines = inside(
        engine,
        f"at=$(rl image mount {NAME}); stat -c '%a %u %g %n' $at/d/*; cat $at/d/new; echo;"
        "touch $at/x 2>/dev/null || echo read-only; rl image mount; rl image mount -a;"
        "rl image mount --format json | tr -d '\\n '; echo; rl image unmount -a; rl image mount",
    )
    identity = engine.ok("image", "inspect", "-f", "{{.Id}}", NAME)
    place = f"{engine.data}/mounts/{identity}"
    assert lines[:5] == [
        f"600 33 33 {place}/d/new", "2", "read-only", f"{NAME}  {place}", f"{NAME}  {place}",
    ]  # fmt: skip
    digest = engine.ok("image", "inspect", "-f", "{{.Digest}}", NAME)
    assert json.loads(lines[5]) == [
        {"id": identity, "Names": [digest], "Repositories": [NAME], "mountpoint": place}
    ]
    assert lines[6:] == [identity]
    assert not (engine.data / "mounts").exists()


@pytest.mark.needs("overlay")
def test_image_mount_ends_with_its_shell(engine: Engine) -> None:
    inside(engine, f"rl image mount {NAME}")
    assert inside(engine, "rl image mount") == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("mount", "cannot run command \"rootless image mount\" in rootless mode, must execute `rootless unshare` first"),
        ("mount -a x", "when using the --all switch, you may not pass any image names or IDs"),
        ("mount --format x", 'unknown --format argument: "x"'),
        ("unmount", "image name or ID must be specified"),
        ("unmount -a x", "when using the --all switch, you may not pass any image names or IDs"),
        ("unmount nosuch", "nosuch: image not known"),
    ],
)  # fmt: skip
def test_mistakes_of_image_mount(engine: Engine, words: str, said: str) -> None:
    assert said in engine.fails("image", *words.split())


def events(engine: Engine) -> list[str]:
    lines = engine(
        "events", "--stream=false", "--filter", "type=image", "--format", "{{json .}}"
    ).lines
    engine_log = next(engine.data.rglob("events.log"))
    engine_log.unlink()
    found = []
    for line in lines:
        event = json.loads(line)
        found.append(f"{event['Status']} {event['Name']} {event['ID'][:6]}".replace("  ", " "))
    return found


@pytest.mark.needs("docker-registry", "overlay")
def test_events_of_images(engine: Engine, tmp_path: Path) -> None:
    digits = engine.ok("image", "inspect", "-f", "{{.Id}}", NAME)[:6]
    archive = tmp_path / "out.tar"
    events(engine)
    engine.ok("tag", NAME, "two:2", "three:3")
    assert events(engine) == [f"tag two:2 {digits}", f"tag three:3 {digits}"]
    engine.ok("untag", NAME, "two:2")
    assert events(engine) == [f"untag localhost/two:2 {digits}"]
    engine.ok("save", "-q", "-o", str(archive), NAME)
    assert events(engine) == [f"save {archive} {digits}"]
    engine.ok("load", "-q", "-i", str(archive))
    assert events(engine) == [f"loadfromarchive {archive} {digits}"]
    inside(engine, f"rl image mount {NAME}; rl image unmount {NAME}")
    assert events(engine) == [f"mount {digits}", f"unmount {digits}"]
    with DockerRegistry() as registry:
        place = f"{registry.host}/a/b:1"
        engine.ok("push", "-q", "--tls-verify=false", NAME, place)
        engine.ok("pull", "-q", "--tls-verify=false", f"docker://{place}")
        assert events(engine) == [f"push {place} {digits}", f"pull docker://{place} {digits}"]
        engine("pull", "-q", "--tls-verify=false", f"{registry.host}/a/b:2")
        assert events(engine) == [f"pull-error {registry.host}/a/b:2 "]
        engine.ok("rmi", place)
        assert events(engine) == [f"untag {place} {digits}", f"remove {place} {digits}"]
    engine.ok("rmi", "three:3")
    events(engine)
    engine.ok("rmi", NAME)
    assert events(engine) == [f"untag {NAME} {digits}", f"remove {NAME} {digits}"]
    root = tmp_path / "root.tar"
    root.write_bytes(images.layer([file("f")]))
    made = engine.ok("import", "-q", str(root), "imported:1")[7:13]
    assert events(engine) == [f"tag imported:1 {made}"]
    engine.ok("manifest", "create", "list", "imported:1")
    identity = engine.ok("manifest", "rm", "list").splitlines()[-1].removeprefix("Deleted: ")[:6]
    assert events(engine) == [
        f"untag localhost/list:latest {identity}", f"remove localhost/list:latest {identity}",
    ]  # fmt: skip
    engine.ok("untag", "imported:1")
    events(engine)
    engine.ok("image", "prune", "-f")
    assert events(engine) == [f"remove {made}"]
