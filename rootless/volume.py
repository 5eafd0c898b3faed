"""Volumes: folders that outlive containers, `volumes/NAME/{volume.json,_data}`.

The folder is the record: made aside and renamed into place, which is what makes a name unique, and renamed away before it
is emptied. Nothing is mounted outside of a container: a volume with `type=` or `device=` is made by each container's own
mounts. Who uses a volume is read from the containers' records and counted nowhere. What is inside was written by
containers: it is walked by descriptors and never through a link (security case 14).
"""

from __future__ import annotations

import errno
import os
import time

from rootless.container.mounts import is_name
from rootless.errors import Conflict, NotFound, RootlessError, Usage
from rootless.files import Lock, make_private_dir, read_record, write_json
from rootless.state import abandoned, aside_name, check_name, new_id, remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from rootless.linux.idmap import IdMap
    from rootless.paths import Paths

    Record = dict[str, Any]

DATA = "_data"
#: runtime/volumes.py puts this file beside the data once a container has used the volume.
USED = "used"
_DRIVERS = ("", "local")
_OPTION_NAMES = ("type", "device", "o")
_READ = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


_SHAPE = {"name": str, "driver": str, "created": int, "labels": dict, "options": dict}


class VolumeStore:
    """One user's volumes."""

    __slots__ = ("paths",)

    def __init__(self, paths: Paths) -> None:
        self.paths = paths

    # reading

    def data(self, name: str) -> str:
        """The folder that containers see."""
        return f"{self.paths.volume(name)}/{DATA}"

    def names(self) -> list[str]:
        try:
            return [name for name in os.listdir(self.paths.volumes) if is_name(name)]
        except FileNotFoundError:
            return []

    def read(self, name: str) -> Record:
        try:
            record: Record = read_record(f"{self.paths.volume(name)}/volume.json", _SHAPE)
        except (FileNotFoundError, NotADirectoryError):
            raise _none(name) from None
        return record

    def exists(self, name: str) -> bool:
        return is_name(name) and os.path.exists(f"{self.paths.volume(name)}/volume.json")

    def all(self) -> list[Record]:
        """Every volume, the oldest first."""
        found = []
        for name in self.names():
            try:
                found.append(self.read(name))
            except NotFound:
                continue  # removed meanwhile
        found.sort(key=lambda record: (record["created"], record["name"]))
        return found

    def lookup(self, text: str) -> Record:
        """The volume of a name, or of the beginning of just one name."""
        if self.exists(text):
            return self.read(text)
        matches = [name for name in self.names() if text and name.startswith(text)]
        if len(matches) > 1:
            raise RootlessError(
                f"more than one result for volume name {text}: volume already exists"
            )
        if not matches:
            raise _none(text)
        return self.read(matches[0])

    def is_used(self, name: str) -> bool:
        """Whether a container has been started with it."""
        return os.path.exists(f"{self.paths.volume(name)}/{USED}")

    def mark_used(self, name: str) -> None:
        fd = os.open(
            f"{self.paths.volume(name)}/{USED}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        os.close(fd)

    # writing

    def create(
        self,
        name: str = "",
        *,
        driver: str = "local",
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        anonymous: bool = False,
    ) -> Record:
        """Make a volume; Conflict where the name is taken. An empty name is made up."""
        name = name or new_id()
        check_name(name, "running volume create option: names")
        if len(name) > 255:
            raise Usage(f"volume name {name[:32]}…: longer than 255 characters")
        if driver not in _DRIVERS:
            raise Usage(
                f"volume {name} uses volume plugin {driver} but it could not be retrieved: "
                f"no volume plugin with name {driver} available: required plugin missing"
            )
        settings = Settings(options or {})
        record: Record = {
            "name": name,
            "driver": "local",
            "created": time.time_ns(),
            "labels": dict(labels or {}),
            "options": dict(options or {}),
            "anonymous": anonymous,
            "uid": settings.uid,
            "gid": settings.gid,
        }
        make_private_dir(self.paths.volumes)
        aside = aside_name(self.paths.tmp, "volume", new_id())
        try:
            os.mkdir(aside, 0o700)
            os.mkdir(f"{aside}/{DATA}", 0o755)
            os.chmod(f"{aside}/{DATA}", 0o755)  # whatever the umask is
            if os.geteuid() == 0:
                _give_to_root(aside)
            if settings.uid or settings.gid:
                _chown(f"{aside}/{DATA}", settings.uid, settings.gid)
            write_json(f"{aside}/volume.json", record)
            try:
                os.rename(aside, self.paths.volume(name))
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                raise Conflict(
                    f"volume with name {name} already exists: volume already exists"
                ) from None
        except BaseException:
            remove_tree(aside)
            raise
        return record

    def ensure(self, name: str, **how: Any) -> tuple[Record, bool]:
        """The volume, made where it is missing, and whether it was; without a name always a new one."""
        while True:
            try:
                if name:
                    return self.read(name), False
            except NotFound:
                pass
            try:
                return self.create(name, **how), True
            except Conflict:
                continue

    def remove(self, name: str, users: Callable[[], list[str]] | None = None) -> None:
        """Take a volume away; NotFound where somebody else did. `users` is asked while no new one can come."""
        with self.lock():
            self.read(name)
            found = users() if users is not None else []
            if found:
                raise Conflict(
                    f"volume {name} is being used by the following container(s): {', '.join(found)}: "
                    "volume is being used",
                    exit_code=2,
                )
            aside = aside_name(self.paths.tmp, "volume", new_id())
            os.rename(self.paths.volume(name), aside)
        remove_tree(aside)

    def lock(self, *, shared: bool = False) -> Lock:
        """Held while a volume is removed, and shared while the record of a container with volumes comes into place."""
        make_private_dir(self.paths.volumes)
        return Lock(f"{self.paths.volumes}/.lock", shared=shared)

    def sweep(self) -> None:
        """Remove what killed commands of this node left aside."""
        for folder in abandoned(self.paths.tmp, "volume"):
            remove_tree(folder)


def _none(name: str) -> NotFound:
    return NotFound(f'no volume with name "{name}" found: no such volume')


class Settings:
    """What a volume's options mean: a folder of our own, a bind of another one, or a tmpfs."""

    __slots__ = ("device", "gid", "kind", "shown", "uid", "words")

    def __init__(self, options: Mapping[str, str]) -> None:
        for name in options:
            if name not in _OPTION_NAMES:
                raise Usage(f"invalid mount option {name} for driver 'local': invalid argument")
        #: own, bind or tmpfs
        self.kind = "own"
        self.device = options.get("device", "")
        self.uid = self.gid = 0
        #: The rest of `o=`, as the kernel takes it
        self.words: list[str] = []
        #: What `inspect` shows beside the options
        self.shown: dict[str, str] = {}
        size = ""
        for word in options.get("o", "").split(","):
            name, _, value = word.partition("=")
            if name in ("uid", "gid"):
                if not value.isascii() or not value.isdigit():
                    raise Usage(f'invalid {name} "{value}" in option o')
                setattr(self, name, int(value))
                self.shown[name.upper()] = value
            elif name in ("size", "inodes"):
                size = size or name
                self.words.append(f"{'nr_inodes' if name == 'inodes' else name}={value}")
                self.shown[name.upper()] = value
            elif name == "noquota":
                continue  # there is never one
            elif word:
                self.words.append(word)
        kind = options.get("type", "")
        if kind == "tmpfs":
            self.kind = "tmpfs"
        elif {"bind", "rbind"} & set(self.words) or (kind in ("bind", "none") and self.device):
            self.kind = "bind"
            self._check_bind()
        elif kind or self.device:
            raise Usage(
                f"volume option {'type=' + kind if kind else 'device=' + self.device}: "
                "a user may mount folders (o=bind) and tmpfs only",
                hint="let root mount it, and bind the folder: -o type=none -o o=bind -o device=FOLDER",
            )
        elif size:
            raise Usage(
                "volume options size and inodes not supported. Filesystem does not support Project Quota"
            )
        if self.kind == "own" and self.words:
            self._refuse(self.words[0])

    def _check_bind(self) -> None:
        if not self.device.startswith("/"):
            raise Usage(f'volume option device="{self.device}": a bind needs an absolute path')
        for word in self.words:
            if word not in (
                "bind", "rbind", "ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "private", "rprivate",
                "shared", "rshared", "slave", "rslave", "copy", "nocopy",
            ):  # fmt: skip
                self._refuse(word)

    def _refuse(self, word: str) -> None:
        raise Usage(f'unknown mount option "{word}" in option o: invalid mount option')


def _give_to_root(aside: str) -> None:
    """For host root, whose own ids no container has: the container's root has to write the data and the mark of use."""
    from rootless.linux.idmap import to_host
    from rootless.runtime.idmap import default_idmap

    idmap = default_idmap()
    uid, gid = to_host(idmap.uids, 0), to_host(idmap.gids, 0)
    if uid is not None and gid is not None and uid != os.geteuid():
        os.chown(aside, uid, gid)
        os.chmod(
            aside, 0o711
        )  # to be passed through by whoever's map lacks that owner (--userns=auto)
        os.chown(f"{aside}/{DATA}", uid, gid)


def _chown(path: str, uid: int, gid: int) -> None:
    """Give a folder to ids of the default mapping."""
    from rootless.linux.userns import fork_in_userns
    from rootless.runtime.idmap import default_idmap

    idmap = default_idmap()
    for kind, identity, ranges in (("uid", uid, idmap.uids), ("gid", gid, idmap.gids)):
        if not any(first <= identity < first + size for first, _, size in ranges):
            raise Usage(f"volume option {kind}={identity}: outside of the subordinate ids")
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fork_in_userns(idmap, lambda: os.fchown(fd, uid, gid)).wait()
    finally:
        os.close(fd)


def folder_of(store: VolumeStore, record: Record) -> str:
    """The folder on this host that has a volume's content; a tmpfs has none."""
    settings = Settings(record["options"])
    if settings.kind == "tmpfs":
        raise Usage(
            f"volume {record['name']} is a tmpfs: it has content only inside of a running container",
            hint="`rootless cp` or `rootless exec` reach it there",
        )
    return settings.device if settings.kind == "bind" else store.data(record["name"])


# archives


def export(folder: str, out: int) -> None:
    """Write a volume's content as a tar archive with the owners that containers see."""
    from rootless.linux.userns import fork_in_userns
    from rootless.runtime.idmap import default_idmap
    from rootless.storage import diff, tree

    top = os.open(folder, _FOLDER)

    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(out, view) :]

    def body() -> None:
        archive = diff.Archive(write)
        archive.add(tree.walk([top], plain=True))
        archive.finish()

    try:
        fork_in_userns(default_idmap(), body).wait()
    finally:
        os.close(top)


def load(folder: str, source: int) -> None:
    """Unpack a tar archive, plain or compressed, into a volume; what is there already stays or is replaced."""
    from rootless.linux.userns import fork_in_userns
    from rootless.runtime.idmap import default_idmap
    from rootless.storage import compress, extract, tar

    # Loaded before the change of root: nothing may be imported from inside (security case 12).
    idmap = default_idmap()
    top = os.open(folder, _FOLDER)

    def body() -> None:
        _unpack(top, source, idmap, compress, extract, tar)

    try:
        fork_in_userns(idmap, body).wait()
    finally:
        os.close(top)


def _unpack(top: int, source: int, idmap: IdMap, compress: Any, extract: Any, tar: Any) -> None:
    blocks: Iterator[bytes] = compress.inflate(lambda: os.read(source, _READ))
    first = [next(blocks, b"")]  # inflating has imported all it needs by now

    def next_block() -> bytes:
        return first.pop() if first else next(blocks, b"")

    os.fchdir(top)
    os.chroot(".")
    owners = extract.Owners(idmap.uids, idmap.gids, idmap.is_single)
    extractor = extract.Extractor(owners, extract.Limits(), None, whiteouts=False)
    extractor.run(tar.Reader(tar.Input(next_block)))
