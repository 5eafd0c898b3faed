"""From a container to a request for an image: what `commit` keeps of the container's own settings."""

from __future__ import annotations

from rootless import log
from rootless.container.options import CreateOptions
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.container.engine import Engine
    from rootless.image.store import Image


def commit_container(
    engine: Engine,
    text: str,
    *,
    names: list[str],
    changes: list[str],
    overrides: dict[str, Any],
    author: str = "",
    message: str = "",
    form: str = "oci",
    squash: bool = False,
    pause: bool = False,
    include_volumes: bool = False,
) -> Image:
    """Make an image of a container's changes."""
    from rootless.container import events, lifecycle
    from rootless.container.image_users import tidy_images
    from rootless.container.roots import COPY
    from rootless.container.status import status_of
    from rootless.image import changes as instructions
    from rootless.image.commit import Request, commit
    from rootless.image.reference import parse

    identity = engine.containers.lookup(text)
    record = engine.containers.read(identity)
    options = CreateOptions.from_json(record["options"])
    kept = record.get("image")
    base = engine.images.get(kept["id"]) if kept else None
    if kept and base is None:
        raise RootlessError(f"container {record['name']}: its image {kept['id'][:12]} is gone")
    if base is None:
        raise RootlessError(
            f"container {record['name']} was made from --rootfs and has no image to build on",
            hint="`rootless export` and `rootless import` make an image of all its files",
        )
    full = []
    for name in names:
        reference = parse(name)
        if not reference.domain:
            reference = reference.with_domain("localhost")
        full.append(str(reference.with_default_tag()))
    settings = image_settings(options, base.config.get("config") or {}, record, include_volumes)
    settings.update(overrides)
    instructions.apply(settings, changes, docker=True)
    if form == "oci":
        for word in ("HEALTHCHECK", "SHELL"):
            if any(one.strip().upper().startswith(word) for one in changes):
                log.warn(
                    f"{word} is not part of OCI images, and other engines ignore it there; use --format docker"
                )
    is_whole = record.get("root") == COPY
    folder = engine.containers.path(identity)
    request = Request(base, f"{folder}/{'rootfs' if is_whole else 'upper'}", settings)
    request.is_whole = is_whole
    request.names = full
    request.author = author
    request.message = message
    request.format = form
    request.squash = squash
    words = options.entrypoint or settings.get("Entrypoint") or settings.get("Cmd") or []
    request.created_by = words[0] if words else ""
    held = None
    if pause:
        status = status_of(engine, identity)
        if status.is_running:
            lifecycle.pause(engine, status)
            held = status
    try:
        image = commit(engine.images, request)
    finally:
        if held is not None:
            lifecycle.resume(engine, status_of(engine, identity))
    events.container_event(engine, record, "commit")
    tidy_images(engine)
    return image


def image_settings(
    options: CreateOptions, base: dict[str, Any], record: dict[str, Any], include_volumes: bool
) -> dict[str, Any]:
    """The image's settings with the container's own laid over them."""
    from rootless.image.changes import set_env

    settings = dict(base)
    for name, value in options.env.items():
        set_env(settings, name, value)
    if options.user:
        settings["User"] = options.user
    if options.workdir:
        settings["WorkingDir"] = options.workdir
    if options.entrypoint is not None:
        settings["Entrypoint"] = list(options.entrypoint)
    if options.command:
        settings["Cmd"] = list(options.command)
    elif options.entrypoint is not None:
        settings.pop("Cmd", None)
    if options.labels:
        settings["Labels"] = {**(settings.get("Labels") or {}), **options.labels}
    ports: dict[str, Any] = {port: {} for port in options.expose}
    if ports:
        settings["ExposedPorts"] = {**(settings.get("ExposedPorts") or {}), **ports}
    if include_volumes:
        places: dict[str, Any] = {
            mount["destination"]: {}
            for mount in record.get("mounts") or []
            if mount.get("type") == "volume"
        }
        if places:
            settings["Volumes"] = {**(settings.get("Volumes") or {}), **places}
    settings.setdefault("WorkingDir", "/")
    return settings
