from __future__ import annotations

import json

import pytest

from rootless.errors import NotFound, Usage
from rootless.image import platform
from rootless.image.platform import Platform
from rootless.oci.manifest import OCI_INDEX, OCI_MANIFEST, Index, parse

AMD, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


def index(*platforms: str) -> Index:
    manifests = []
    for number, text in enumerate(platforms):
        os_name, architecture, variant = (*text.split("/"), "", "")[:3]
        entry = {"os": os_name, "architecture": architecture, "variant": variant}
        manifests.append(
            {
                "mediaType": OCI_MANIFEST,
                "digest": f"sha256:{number:064x}",
                "size": 1,
                "platform": {key: value for key, value in entry.items() if value},
            }
        )
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
    found = parse(json.dumps(document).encode(), "x")
    assert isinstance(found, Index)
    return found


@pytest.mark.parametrize(
    ("offered", "wanted", "chosen"),
    [
        (["linux/arm64", "linux/amd64"], AMD, 1),
        (["linux/arm64/v8", "linux/amd64"], ARM64, 0),
        (["unknown/unknown", "linux/aarch64"], ARM64, 1),
        (["linux/amd64/v3", "linux/amd64"], Platform("linux", "amd64", "v2"), 1),
        (["linux/amd64/v2", "linux/amd64"], Platform("linux", "amd64", "v3"), 0),
        (["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"], Platform("linux", "arm", "v7"), 1),
        (["linux/arm/v5", "linux/arm/v6"], Platform("linux", "arm", "v7"), 1),
        (["linux/arm/v7"], Platform("linux", "arm", "v6"), None),
        (["windows/amd64"], AMD, None),
        (["linux/amd64", "linux/amd64"], AMD, 0),
        ([], AMD, None),
    ],
)
def test_select(
    monkeypatch: pytest.MonkeyPatch, offered: list[str], wanted: Platform, chosen: int | None
) -> None:
    monkeypatch.setattr(platform, "_own_x86_levels", list)
    if chosen is None:
        with pytest.raises(NotFound, match="no image found in image index"):
            platform.select(index(*offered), wanted, "x")
    else:
        assert int(platform.select(index(*offered), wanted, "x").digest[7:], 16) == chosen


def test_this_processor_gets_the_best_it_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "host", lambda: AMD)
    offered = index("linux/amd64", "linux/amd64/v2", "linux/amd64/v3", "linux/amd64/v4")
    for levels, chosen in (([], 0), (["v2"], 1), (["v2", "v3"], 2), (["v2", "v3", "v4"], 3)):
        monkeypatch.setattr(platform, "_own_x86_levels", lambda found=levels: found)
        assert int(platform.select(offered, AMD, "x").digest[7:], 16) == chosen


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("linux/arm64",), "linux/arm64"),
        (("linux/arm64/v8",), "linux/arm64"),
        (("arm64",), "linux/arm64"),
        (("windows/amd64",), "windows/amd64"),
        (("linux/arm/7",), "linux/arm/v7"),
        (("", "x86_64"), "linux/amd64"),
        (("", "armhf"), "linux/arm/v7"),
        (("", "arm", "", "v6"), "linux/arm/v6"),
        (("", "amd64", "freebsd"), "freebsd/amd64"),
    ],
)
def test_wanted(arguments: tuple[str, ...], expected: str) -> None:
    assert str(platform.wanted(*arguments)) == expected


def test_wanted_refuses() -> None:
    with pytest.raises(Usage):
        platform.wanted("linux/arm64", "arm64")
    for text in ("a/b/c/d", "linux//v7", "/"):
        with pytest.raises(Usage):
            platform.wanted(text)


def test_matches() -> None:
    assert platform.matches({"os": "linux", "architecture": "amd64"}, AMD)
    assert platform.matches({"os": "linux", "architecture": "x86_64"}, AMD)
    assert not platform.matches({"os": "linux", "architecture": "arm64"}, AMD)
    assert not platform.matches({"os": "windows", "architecture": "amd64"}, AMD)
