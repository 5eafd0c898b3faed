"""What a manifest says of layers that were packed anew."""

from __future__ import annotations

from typing import Any

import pytest

from rootless.image.push import _converted
from rootless.oci import manifest as documents

CHUNKED = {
    "io.github.containers.zstd-chunked.manifest-position": "1:2:3:1",
    "containerd.io/snapshot/stargz/toc.digest": "sha256:1",
    "mine": "x",
}


@pytest.mark.parametrize(
    ("digest", "media_type", "kept"),
    [
        ("sha256:new", documents.OCI_MANIFEST, {"mine": "x"}),
        ("sha256:old", documents.OCI_MANIFEST, CHUNKED),
        ("sha256:new", documents.DOCKER_MANIFEST, None),
    ],
)
def test_annotations_of_a_packing_go_with_it(
    digest: str, media_type: str, kept: dict[str, str] | None
) -> None:
    was: dict[str, Any] = {"digest": "sha256:old", "annotations": CHUNKED}
    made = _converted({"digest": digest, "size": 1, "packing": "gzip"}, was, media_type)
    assert made.get("annotations") == kept
