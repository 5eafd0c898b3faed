"""`pull` from a file or folder: the oci:, oci-archive:, docker-archive: and dir: transports (containers-transports(5))."""

from __future__ import annotations

import os

from rootless.errors import NotFound, Usage
from rootless.image import archive, policy
from rootless.image.platform import Platform
from rootless.image.session import Session
from rootless.image.store import Image, ImageStore


def pull(
    store: ImageStore, transport: str, rest: str, platform: Platform | None, session: Session
) -> list[Image]:
    """Take in what a reference of one of these transports names."""
    path, wanted = split(transport, rest)
    name = f"{transport}:{rest}"
    if not os.path.exists(path):
        raise NotFound(f"{name}: no such file or folder")
    if os.path.isdir(path) != (transport in ("oci", "dir")):
        raise Usage(f"{name}: {path} is {'a folder' if os.path.isdir(path) else 'no folder'}")
    _check(session.policy, transport, path, wanted, name)
    loaded = archive.load(store, path, name, platform=platform, only=wanted)
    if not loaded:
        raise NotFound(f"{name}: there is no image {wanted!r} in it")
    return [one.image for one in loaded]


def split(transport: str, rest: str) -> tuple[str, str]:
    """Split `path[:reference]`."""
    if transport == "dir":
        return rest, ""
    path, _, wanted = rest.partition(":")
    return path, wanted


def _check(rules: policy.Policy, transport: str, path: str, wanted: str, name: str) -> None:
    scopes = policy.path_scopes(path, wanted)
    if transport == "docker-archive":
        scopes = []  # its policy is the transport's alone
    # Files carry no signatures here, so a rule that asks for one refuses.
    rules.check(policy.Candidate(transport, scopes or [name], None, "", tuple))
