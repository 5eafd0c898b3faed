"""Headings, `--format` fields and JSON keys of every listing command beside Podman 5.4.2's (tests/data/podman/listings.json).

Every difference is named here with its reason; one that is gone, or a new one, fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import listings
from tests.support.engine import Engine
from tests.support.listings import words
from tests.support.surface import is_absent

PODMAN: dict[str, Any] = json.loads(
    Path(__file__).parents[1].joinpath("data/podman/listings.json").read_text()
)
_GO = "what it is written in and built by: Go there, Python here"
_PACKAGE = "which package a helper comes from would mean to ask dpkg or rpm at each `info`"
_NO_SUCH = "Podman's own parts: Buildah, conmon, netavark, locks; there are none here"
_NO_MERGED = "a container's root is mounted in its own mount namespace only"

#: (command, fact) -> why Podman's is not here.
ABSENT = {
    ("version", "Go Version"): _GO,
    ("version", "Built"): _GO,
    ("version", "Build Origin"): _GO,
    **{
        ("version --format json", f"Client.{key}"): _GO
        for key in ("BuildOrigin", "Built", "BuiltTime", "GitCommit", "GoVersion")
    },
    **{
        ("info --format json", f"version.{key}"): _GO
        for key in ("BuildOrigin", "Built", "BuiltTime", "GitCommit", "GoVersion")
    },
    **{
        ("info --format json", f"host.{key}"): _NO_SUCH
        for key in (
            "buildahVersion", "conmon", "conmon.package", "conmon.path", "conmon.version", "freeLocks", "linkmode",
            "networkBackendInfo", "networkBackendInfo.backend", "networkBackendInfo.dns",
            "networkBackendInfo.dns.package", "networkBackendInfo.dns.path", "networkBackendInfo.dns.version",
            "networkBackendInfo.package", "networkBackendInfo.path", "networkBackendInfo.version",
        )
    },
    **{
        ("info --format json", f"host.{key}.package"): _PACKAGE
        for key in ("ociRuntime", "pasta", "slirp4netns")
    },
    **{
        ("info --format json", f"store.graphStatus.{key}"): "facts of Go's storage drivers"
        for key in ("Supports d_type", "Supports shifting", "Supports volatile", "Using metacopy")
    },
    ("container inspect seen", "GraphDriver.Data.MergedDir"): _NO_MERGED,
    ("container inspect seen", "State.CgroupPath"): "empty where there is no cgroup of its own",
    ("image inspect IMAGE", "GraphDriver.Data.WorkDir"): "an image's layers are never written to",
    ("image ls --format json", "Dangling"): "shown where there is one, which was so at the recording",
    ("volume ls --format json", "NeedsChown"): "true until a volume is first used, and it is used",
    ("volume ls --format json", "NeedsCopyUp"): "true until a volume is first used, and it is used",
    ("volume inspect seen", "NeedsChown"): "true until a volume is first used, and it is used",
    ("volume inspect seen", "NeedsCopyUp"): "true until a volume is first used, and it is used",
}  # fmt: skip
#: (command, fact) -> why it is here and not in Podman.
MORE = {
    ("version", "Python Version"): _GO,
    ("version --format json", "Client.PythonVersion"): _GO,
    ("info --format json", "version.PythonVersion"): _GO,
    ("info --format json", "host.limitations"): "what this host cannot do, and the remedy",
    ("info --format json", "store.graphStatus.Root File System"): "which kind of root is used, and why",
    **{
        ("info --format json", f"host.{key}"): "which helper programs will be used"
        for key in (
            "catatonit", "catatonit.executable", "fuseOverlayfs", "fuseOverlayfs.executable", "fuseOverlayfs.version",
            "newuidmap", "newuidmap.executable",
        )
    },
}  # fmt: skip
#: (command, `--format` field) -> why it is refused.
NO_FIELD = {
    ("stats", "Network"): "only sums over all interfaces are kept, as {{.NetIO}}",
    ("volume ls", "Status"): "what a volume plugin says; there are no plugins",
    ("volume ls", "Timeout"): "a volume plugin's; there are no plugins",
    ("volume ls", "StorageID"): "a volume of the image driver's container, which is kept here as an overlay",
    ("volume inspect", "Status"): "what a volume plugin says; there are no plugins",
    ("volume inspect", "Timeout"): "a volume plugin's; there are no plugins",
    ("volume inspect", "StorageID"): "a volume of the image driver's container, which is kept here as an overlay",
}  # fmt: skip
#: A whole Go struct as one field: its parts are all there by themselves.
EMBEDDED = {
    "ListContainer", "ImageSummary", "VolumeConfigResponse", "InspectVolumeData", "Network", "ContainerStats",
    "ImageHistoryLayer", "Details",
}  # fmt: skip
#: Takes an argument.
FUNCTIONS = {"Label": '{{.Label "a"}}'}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    from tests.support import images

    engine = Engine()
    archive = images.busybox_archive(tmp_path_factory.mktemp("i") / "i.tar", listings.IMAGE)
    listings.make(engine.ok, str(archive))
    yield engine
    engine.clear()
    engine.close()


@pytest.mark.parametrize("line", [line for line in listings.TABLES if not is_absent(line)])
def test_headings(made: Engine, line: str) -> None:
    assert listings.headings(made.ok(*words(line))) == PODMAN["tables"][line]


def differences(line: str, podman: list[str], ours: list[str]) -> None:
    absent = {fact for command, fact in ABSENT if command == line}
    more = {fact for command, fact in MORE if command == line}
    assert set(podman) - set(ours) <= absent
    assert set(ours) - set(podman) <= more
    assert [one for one in ours if one not in more] == [one for one in podman if one in ours]


@pytest.mark.parametrize("line", listings.FACTS)
def test_facts(made: Engine, line: str) -> None:
    differences(line, PODMAN["facts"][line], listings.labels(made.ok(*words(line))))


@pytest.mark.parametrize("line", listings.DOCUMENTS)
def test_keys(made: Engine, line: str) -> None:
    text = made.ok(*words(line))
    if line.startswith("events"):
        text = f"[{','.join(text.splitlines())}]"
    differences(line, PODMAN["documents"][line], listings.keys(json.loads(text)))


@pytest.mark.parametrize("line", [line for line, call in listings.FIELDS.items() if call])
def test_fields(made: Engine, line: str) -> None:
    call = words(listings.FIELDS[line])
    wrong = []
    names = PODMAN["fields"][line]
    everything = "".join(
        FUNCTIONS.get(name, f"{{{{.{name}}}}}")
        for name in names
        if name not in EMBEDDED and (line, name) not in NO_FIELD
    )
    if made(*call, "--format", everything).code == 0:
        names = [name for name in names if (line, name) in NO_FIELD]
    for name in names:
        if name in EMBEDDED:
            continue
        result = made(*call, "--format", FUNCTIONS.get(name, f"{{{{.{name}}}}}"))
        if (result.code == 0) == ((line, name) in NO_FIELD):
            wrong.append(result)
    assert not wrong
