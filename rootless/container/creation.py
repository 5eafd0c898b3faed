"""Making a container: the image found or pulled, the name taken, the record and its folders written."""

from __future__ import annotations

import os
import time

from rootless import __version__, netplan
from rootless.container import defaults, events, requirements, roots, runtimes
from rootless.container.mounts import check_sources, plan
from rootless.container.names import random_name
from rootless.container.spec import stop_signal
from rootless.errors import NotFound, RootlessError
from rootless.files import make_private_dir, write_atomic
from rootless.linux.idmap import IdMap, to_host
from rootless.state import check_name, new_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.container.engine import Engine
    from rootless.container.options import CreateOptions
    from rootless.image.session import Reporter
    from rootless.image.store import Image


def create(
    engine: Engine, options: CreateOptions, reporter: Callable[[], Reporter] | None = None
) -> dict[str, Any]:
    """Make a container from what was asked; its record. Nothing is left behind where it fails.

    `reporter` is asked for when an image has to be pulled.
    """
    table = engine.containers
    make_private_dir(engine.paths.data)
    make_private_dir(engine.paths.run)
    table.sweep()
    defaults.apply(options, engine.config)
    if options.name:
        check_name(options.name)
    if options.cidfile and os.path.exists(options.cidfile):
        raise RootlessError(
            f"container id file exists. Ensure another container is not using it or delete {options.cidfile}"
        )
    if options.rootfs:
        check_rootfs(options)
        image: Image | None = None
        config: dict[str, Any] = {}
    else:
        image = find_image(engine, options, reporter)
        config = image.config.get("config") or {}
    if options.replace and options.name:
        _replace(engine, options.name)
    check_sources(options.mounts)
    required = requirements.find(engine, options)
    netplan.settle_networks(engine.paths, engine.config, options)
    record = _record(engine, options, image, config)
    identity = record["id"]
    if required:
        record["requires"] = required
    own = IdMap.from_json(record["idmap"]) if record.get("idmap") else None
    record["root"] = roots.choose(engine, options, own, image)

    def fill(folder: str) -> None:
        for name in ("upper", "work", "rootfs"):
            os.mkdir(f"{folder}/{name}", 0o700)
        os.chmod(f"{folder}/upper", 0o755)
        if record["root"] == roots.COPY:
            lowers = [options.image] if image is None else engine.images.lowers(image)
            give_to_root(engine, folder, ("rootfs",))
            roots.copy_layers(engine, folder, lowers, own)
        elif record["root"] == roots.OVERLAY:
            give_to_root(engine, folder, ("upper", "work"))

    if any(mount["type"] == "volume" for mount in record["mounts"]):
        from rootless.container.volumes import Claim

        with Claim(engine, record):
            table.add(identity, record, fill)
    else:
        table.add(identity, record, fill)
    try:
        if image is not None and engine.images.get(image.id) is None:
            # Between finding it and our record, which would have kept it.
            raise NotFound(f"image {options.image} has been removed meanwhile")
        if required:
            requirements.note(engine, record)
        if options.cidfile:
            _write_cidfile(record, options.cidfile)
        events.container_event(engine, record, "create")
    except BaseException:
        # Also where it was interrupted: nobody has learned of this container.
        from rootless.container.lifecycle import remove

        remove(engine, identity, force=True, volumes=True)
        raise
    return record


def _record(
    engine: Engine, options: CreateOptions, image: Image | None, config: dict[str, Any]
) -> dict[str, Any]:
    """What is kept of a container, but for what it requires and how its root is made."""
    table = engine.containers
    identity = new_id()
    exposed = [*(config.get("ExposedPorts") or {}), *options.expose]
    record: dict[str, Any] = {
        "id": identity,
        "name": options.name or random_name(table),
        "version": __version__,
        "created": time.time_ns(),
        "image": None
        if image is None
        else {"id": image.id, "name": image_name(image, options), "raw": options.image},
        "options": options.to_json(),
        # What lists show without reading the image.
        "command": options.command
        or ([] if options.entrypoint is not None else config.get("Cmd") or []),
        "exposed": exposed,
        "labels": {**(config.get("Labels") or {}), **options.labels},
        "mounts": plan(
            options.mounts,
            config.get("Volumes"),
            options.image_volume,
            _other_mounts(engine, options),
        ),
        "stop_signal": stop_signal(options, config),
        "stop_timeout": options.stop_timeout,
        "log_max_size": options.log_size or engine.config.number("containers", "log_size_max"),
    }
    _settle_health(options, config, record)
    if options.log_driver == "journald":
        _check_journal()
    if unit := os.environ.get("PODMAN_SYSTEMD_UNIT"):
        record["labels"]["PODMAN_SYSTEMD_UNIT"] = unit  # for auto-update
    if options.log_files:
        record["log_max_files"] = options.log_files
    if options.log_tag:
        record["log_tag"] = _log_tag(options.log_tag, record)
    if any((options.userns, options.uidmap, options.gidmap, options.subuidname, options.subgidname)):  # fmt: skip
        _choose_ids(engine, options, record)
    if options.publish or options.publish_all:
        record["ports"] = netplan.settle_ports(options.publish, exposed, options.publish_all)
    runtime = runtimes.choose(engine)
    if runtime is not None:
        record["runtime"] = runtime
    record["log_path"] = options.log_path or f"{table.path(identity)}/ctr.log"
    return record


def _settle_health(options: CreateOptions, config: dict[str, Any], record: dict[str, Any]) -> None:
    """Put the health check into the record, the image's with the user's words over it; refuse what needs one."""
    if options.health or config.get("Healthcheck"):
        from rootless.container.healthcheck import merge

        if health := merge(options.health, config.get("Healthcheck")):
            record["health"] = health
            return
    hint = "give --health-cmd: the image has no HEALTHCHECK"
    if options.health_startup:
        raise RootlessError(
            "cannot set a startup healthcheck when there is no regular healthcheck: invalid argument",
            hint=hint,
        )
    if options.health_on_failure != "none":
        raise RootlessError(
            f"cannot set on-failure action to {options.health_on_failure} without a health check",
            hint=hint,
        )
    if options.sdnotify == "healthy":
        raise RootlessError(
            "invalid sdnotify policy healthy: no healthcheck set", hint="give --health-cmd"
        )


def _write_cidfile(record: dict[str, Any], path: str) -> None:
    try:
        write_atomic(path, record["id"].encode(), 0o644)
    except OSError as error:
        raise RootlessError(
            f"--cidfile {path}: cannot write it: {(error.strerror or str(error)).lower()}"
        ) from error


def give_to_root(engine: Engine, folder: str, names: tuple[str, ...]) -> None:
    """The writable layer belongs to the container's root. That is the user; for host root, its first subordinate id."""
    uid, gid = to_host(engine.idmap.uids, 0), to_host(engine.idmap.gids, 0)
    assert uid is not None and gid is not None
    if (uid, gid) != (os.geteuid(), os.getegid()):
        for name in names:
            os.chown(f"{folder}/{name}", uid, gid)


def _choose_ids(engine: Engine, options: CreateOptions, record: dict[str, Any]) -> None:
    """Record the id map where it is not the default one."""
    from rootless.container.userns import choose

    taken = []
    if options.userns.startswith("auto"):
        for identity in engine.containers.ids():
            other = engine.containers.read(identity)
            if other.get("idmap") and (other["options"].get("userns") or "").startswith("auto"):
                taken.append(IdMap.from_json(other["idmap"]))
    idmap = choose(options, engine.idmap, os.geteuid(), os.getegid(), taken)
    if idmap is None:
        return
    record["idmap"] = idmap.to_json()


def _check_journal() -> None:
    from rootless.systemd.journal import SOCKET, is_there

    if not is_there():
        raise RootlessError(
            f"--log-driver journald: there is no journal to write to at {SOCKET}",
            hint="use --log-driver k8s-file, which is the default",
        )


def _log_tag(text: str, record: dict[str, Any]) -> str:
    """`--log-opt tag=`, which may name the container's own facts as a Go template does."""
    image = record["image"] or {}
    facts = {
        "ID": record["id"][:12],
        "FullID": record["id"],
        "Name": record["name"],
        "ImageName": image.get("name", ""),
        "ImageID": image.get("id", "")[:12],
        "ImageFullID": image.get("id", ""),
    }
    for key, value in facts.items():
        text = text.replace("{{." + key + "}}", value)
    if "{{" in text:
        raise RootlessError(
            f"--log-opt tag={text}: not understood",
            hint=f"there are {', '.join('{{.' + k + '}}' for k in facts)}",
        )
    return text


def check_rootfs(options: CreateOptions) -> None:
    """`--rootfs DIR`: the folder has to be there and, but for `:O`, the user's to write to."""
    if not os.path.isdir(options.image):
        raise RootlessError(f"--rootfs {options.image}: no such directory")
    options.image = os.path.realpath(options.image)


def find_image(
    engine: Engine, options: CreateOptions, reporter: Callable[[], Reporter] | None
) -> Image:
    """The image by name or id; `host` needs no download; what is missing is pulled as the policy says."""
    other_platform = options.arch or options.os or options.variant
    if options.image == "host":
        from rootless.image import host

        if other_platform:
            _check_host_platform(options)
        return host.ensure(engine.images)
    if options.pull in ("", "missing", "never") and not other_platform:
        image = engine.images.find(options.image)
        if image is not None:
            return image
    from rootless.container.pulling import pull_for

    return pull_for(engine, options, reporter() if reporter is not None else None)


def _check_host_platform(options: CreateOptions) -> None:
    from rootless.image import platform

    wanted, here = platform.wanted("", options.arch, options.os, options.variant), platform.host()
    ours: dict[str, object] = {
        "os": here.os,
        "architecture": here.architecture,
        "variant": here.variant,
    }
    if not platform.matches(ours, wanted):
        raise RootlessError(
            f"image host is this machine, {here}, and not {wanted}",
            hint="name an image of a registry for another platform",
        )


def image_name(image: Image, options: CreateOptions) -> str:
    """The image's name as `ps` shows it: in full where it was called by name, else as it was given."""
    given = options.image
    for name in image.names:
        if (
            name == given
            or name.endswith((f"/{given}", f"/{given}:latest"))
            or name == f"{given}:latest"
        ):
            return name
    return given


def _replace(engine: Engine, name: str) -> None:
    holder = engine.containers.name_owner(name)
    if holder is not None:
        from rootless.container.lifecycle import remove

        remove(engine, holder, force=True)


def _other_mounts(engine: Engine, options: CreateOptions) -> list[Any]:
    if not options.volumes_from:
        return []
    from rootless.container.mounts import from_other

    found: list[Any] = []
    for name, words in options.volumes_from:
        record = engine.containers.read(engine.containers.lookup(name))
        found += from_other(record.get("mounts") or [], words)
    return found
