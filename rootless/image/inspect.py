"""What `image inspect` tells of an image, in Podman's fields."""

from __future__ import annotations

import json

from rootless.image.remove import Family

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.image.store import Image, ImageStore


def describe(store: ImageStore, image: Image) -> dict[str, Any]:
    """`image inspect`'s document."""
    config = image.config
    settings = config.get("config") or {}
    manifest = _manifest(image)
    history = image.history
    parent = Family(store.list()).parent(image)
    lowers = store.lowers(image)
    data: dict[str, str] = {}
    if lowers:
        data["UpperDir"] = lowers[0]
        if lowers[1:]:
            data["LowerDir"] = ":".join(lowers[1:])
    described = {
        "Id": image.id,
        "Digest": image.digest,
        "RepoTags": [name for name in image.names if "@" not in name],
        "RepoDigests": image.repo_digests,
        "Parent": parent.id if parent is not None else "",
        "Comment": config.get("comment") or _last_comment(history),
        "Created": config.get("created") or "0001-01-01T00:00:00Z",
        "Config": settings,
        "Version": config.get("docker_version") or "",
        "Author": config.get("author") or "",
        "Architecture": config.get("architecture") or "",
        "Os": config.get("os") or "",
        "Size": image.size,
        "VirtualSize": image.size,
        "GraphDriver": {"Name": "overlay", "Data": data},
        "RootFS": {"Type": "layers", "Layers": image.diff_ids},
        "Labels": image.labels or None,
        "Annotations": manifest.get("annotations") or {},
        "ManifestType": manifest.get("mediaType") or "application/vnd.oci.image.manifest.v1+json",
        "User": settings.get("User") or "",
        "History": history,
        "NamesHistory": list(reversed(image.names)) or None,
        "HealthCheck": settings.get("Healthcheck") or None,
    }
    if config.get("variant"):
        described["Variant"] = config["variant"]
    return described


def _last_comment(history: list[dict[str, Any]]) -> str:
    """As Podman: the comment of the last step that has one."""
    for entry in reversed(history):
        comment = entry.get("comment")
        if isinstance(comment, str) and comment and not comment.startswith("FROM "):
            return comment
    return ""


def _manifest(image: Image) -> dict[str, Any]:
    try:
        parsed = json.loads(image.manifest())
    except (FileNotFoundError, ValueError):
        return {}
    return parsed if isinstance(parsed, dict) else {}
