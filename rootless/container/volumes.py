"""The volumes of containers: made when a container is, found at each start, taken away with it where they are its own."""

from __future__ import annotations

import os

from rootless.errors import Conflict, NotFound, RootlessError, Usage
from rootless.volume import Settings, VolumeStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.container.engine import Engine
    from rootless.container.mounts import Mount
    from rootless.container.spec import HostFacts


class Claim:
    """The volumes of a container that is being made. Inside, none of them can be removed; after an error those that
    were made for it are taken away again.

    Entering makes what is missing and names the anonymous ones in the record, which then has to come into place.
    """

    __slots__ = ("_engine", "_lock", "_made", "_mounts", "_store")

    def __init__(self, engine: Engine, record: dict[str, Any]) -> None:
        self._engine = engine
        self._store = VolumeStore(engine.paths)
        self._mounts: list[Mount] = [m for m in record["mounts"] if m["type"] == "volume"]
        self._lock = self._store.lock(shared=True)
        self._made: list[str] = []

    def __enter__(self) -> None:
        try:
            while True:
                for mount in self._mounts:
                    self._make(mount)
                self._lock.acquire()
                if all(self._store.exists(mount["source"]) for mount in self._mounts):
                    return
                self._lock.release()  # one was removed in between
        except BaseException:
            self._undo()
            raise

    def __exit__(self, kind: object, *_: object) -> None:
        self._lock.release()
        if kind is not None:
            self._undo()

    def _make(self, mount: Mount) -> None:
        options = mount.get("driver_options") or {}
        name = mount["source"]
        try:
            volume, is_new = self._store.ensure(name, options=options, anonymous=not name)
        except RootlessError as error:
            raise Usage(f'creating named volume "{name}": {error}') from error
        if is_new:
            self._made.append(volume["name"])
        elif options and options != volume["options"]:
            raise Conflict(
                f"volume {name} is there already with other options than volume-opt has",
                hint="leave volume-opt out, or take another name",
            )
        if not name:
            mount["source"], mount["anonymous"] = volume["name"], True

    def _undo(self) -> None:
        for name in self._made:
            _remove_unused(self._engine, self._store, name)


def _remove_unused(engine: Engine, store: VolumeStore, name: str) -> None:
    try:
        store.remove(name, lambda: users(engine, name))
    except (NotFound, Conflict):
        pass


def resolve(engine: Engine, record: dict[str, Any]) -> list[Mount]:
    """The container's mounts with the places of its volumes, and their own options, filled in for a start."""
    store = VolumeStore(engine.paths)
    found: list[Mount] = []
    for mount in record["mounts"]:
        if mount["type"] == "volume":
            mount = _resolve(engine, store, record, mount)
        found.append(mount)
    return found


def _resolve(engine: Engine, store: VolumeStore, record: dict[str, Any], mount: Mount) -> Mount:
    name = mount["source"]
    volume = store.read(name)
    settings = Settings(volume["options"])
    words = list(mount["options"])
    if settings.kind == "own":
        resolved: Mount = {**mount, "path": store.data(name)}
        if not store.is_used(name):
            resolved["first_use"] = store.paths.volume(name)
            if record.get("idmap") and _adopt(record["idmap"], store.data(name)):
                # Nothing in the container could write there.
                store.mark_used(name)
                resolved["first_use"] = ""
        return resolved
    # The mount's own words win over those of the volume.
    for word in settings.words:
        if _opposite(word) not in words and word not in words:
            words.append(word)
    if settings.kind == "bind":
        return {**mount, "path": settings.device, "options": [w for w in words if w != "copy"]}
    _check_alone(engine, record, name)
    for option, value in (("uid", settings.uid), ("gid", settings.gid)):
        if value:
            words.append(f"{option}={value}")
    kept = [word for word in words if word not in ("copy", "nocopy", "z", "Z")]
    return {**mount, "type": "tmpfs", "source": "tmpfs", "options": kept}


def make_overlay_folders(host: HostFacts) -> None:
    """Make the folders that a container's overlays write to; the upper one looks as the folder that it covers."""
    from rootless.container.spec_mounts import overlay_folders
    from rootless.files import make_dirs
    from rootless.linux.idmap import to_container, to_host

    for mount, folder in overlay_folders(host.mounts, host.scratch):
        upper = f"{folder}/upper"
        if os.path.isdir(upper):
            continue
        make_dirs(f"{folder}/work")
        if mount["type"] == "image":
            status = os.stat(host.image_layers[mount["source"]][0])
        else:
            status = os.stat(mount.get("path") or mount["source"])
        os.mkdir(upper, 0o700)
        os.chmod(upper, status.st_mode & 0o7777)
        if os.geteuid() == 0:
            # Nothing of host root's can be written to by the container.
            owner = to_host(host.uids, 0) or 0, to_host(host.gids, 0) or 0
            os.chown(f"{folder}/work", *owner)
            mapped = (
                to_container(host.uids, status.st_uid) is not None
                and to_container(host.gids, status.st_gid) is not None
            )
            os.chown(upper, *((status.st_uid, status.st_gid) if mapped else owner))
        elif (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
            _give(upper, status.st_uid, status.st_gid, host)


def _give(path: str, uid: int, gid: int, host: HostFacts) -> None:
    """Give a folder to host ids that the container maps; others stay the caller's."""
    from rootless.linux.idmap import IdMap, to_container
    from rootless.linux.userns import fork_in_userns

    idmap = IdMap(host.uids, host.gids)
    inside = to_container(idmap.uids, uid), to_container(idmap.gids, gid)
    if inside[0] is None or inside[1] is None:
        return
    owner = inside[0], inside[1]
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fork_in_userns(idmap, lambda: os.fchown(fd, *owner)).wait()
    finally:
        os.close(fd)


def _adopt(idmap: dict[str, Any], data: str) -> bool:
    """Give a new volume to a container's root where the container does not map its owner (--userns=auto, nomap)."""
    from rootless.linux.idmap import IdMap, to_container, to_host
    from rootless.linux.userns import fork_in_userns
    from rootless.runtime.idmap import default_idmap

    theirs, ours = IdMap.from_json(idmap), default_idmap()
    status = os.stat(data)
    if (
        to_container(theirs.uids, status.st_uid) is not None
        and to_container(theirs.gids, status.st_gid) is not None
    ):
        return False
    host = to_host(theirs.uids, 0), to_host(theirs.gids, 0)
    if host[0] is None or host[1] is None:
        return False
    inside = to_container(ours.uids, host[0]), to_container(ours.gids, host[1])
    if inside[0] is None or inside[1] is None:
        return False
    owner = inside[0], inside[1]
    fd = os.open(data, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fork_in_userns(ours, lambda: os.fchown(fd, *owner)).wait()
    finally:
        os.close(fd)
    return True


def _opposite(word: str) -> str:
    if word in ("ro", "rw"):
        return "rw" if word == "ro" else "ro"
    return word[2:] if word.startswith("no") else f"no{word}"


def _check_alone(engine: Engine, record: dict[str, Any], name: str) -> None:
    """A tmpfs is mounted in its container only: two at once would see two."""
    from rootless.container.status import PAUSED, RUNNING, status_of

    for other in users(engine, name):
        if other == record["id"]:
            continue
        try:
            status = status_of(engine, other)
        except NotFound:
            continue
        if status.word in (RUNNING, PAUSED):
            raise Conflict(
                f"volume {name} is a tmpfs and in use by container {status.name}: "
                "its content cannot be shared between running containers",
                hint="use a volume without type=tmpfs, or stop that container first",
            )


def users(engine: Engine, name: str) -> list[str]:
    """The ids of the containers that name a volume."""
    table = engine.containers
    found = []
    for identity in table.ids():
        try:
            record = table.read(identity)
        except NotFound:
            continue
        if any(m["type"] == "volume" and m["source"] == name for m in record.get("mounts") or ()):
            found.append(identity)
    return sorted(found)


def used_names(engine: Engine) -> dict[str, list[str]]:
    """Every volume that a container names, and which containers."""
    table = engine.containers
    found: dict[str, list[str]] = {}
    for identity in table.ids():
        try:
            record = table.read(identity)
        except NotFound:
            continue
        for mount in record.get("mounts") or ():
            if mount["type"] == "volume":
                found.setdefault(mount["source"], []).append(identity)
    return found


def remove_anonymous(engine: Engine, record: dict[str, Any]) -> None:
    """Take the volumes away that were made for a removed container alone, unless another one uses them by now."""
    store = VolumeStore(engine.paths)
    for mount in record.get("mounts") or ():
        if mount["type"] == "volume" and mount.get("anonymous"):
            _remove_unused(engine, store, mount["source"])
