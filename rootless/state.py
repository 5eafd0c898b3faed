"""Records as files: containers and pods, a folder each, a name taken by an exclusive link.

What lasts is in the record's folder: `container.json` says what was asked for and `state.json` how the last run ended.
What is so only now is in the run folder: `live.json` names the processes, with their start times. Whether they live
is asked of the kernel; a record never says "running". Reads take no lock.

    add      the folder is filled aside, then, under the names' lock, linked and renamed into place
    remove   the folder is renamed away first, so that it is gone at once, then emptied
    sweep    what a killed command left aside is removed by the next one
"""

from __future__ import annotations

import errno
import os

from rootless.errors import Conflict, NotFound, RootlessError
from rootless.files import Lock, make_private_dir, read_record, write_json
from rootless.linux.process import boot_id, is_alive, start_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from rootless.paths import Paths

    Document = dict[str, Any]

_boot = ""

#: What the files have to hold for anything to be made of them (files.read_record).
_RECORD = {
    "id": str, "name": str, "created?": int, "options?": dict, "image?": dict, "labels?": dict, "command?": list,
    "mounts?": list, "requires?": list,
}  # fmt: skip
_STATE = {"exit_code?": int, "started_at?": int, "finished_at?": int, "restarts?": int}
_LIVE = {"boot?": str, "monitor?": list, "init?": list, "phase?": str, "started_at?": int}


def this_boot() -> str:
    """The boot's id, read once."""
    global _boot
    if not _boot:
        _boot = boot_id()
    return _boot


def new_id() -> str:
    """64 random hexadecimal digits."""
    return os.urandom(32).hex()


def aside_name(tmp: str, kind: str, identity: str) -> str:
    """A name in the store's folder `tmp` that tells whose it is, so that a dead command's can be swept."""
    make_private_dir(tmp)
    pid = os.getpid()
    return f"{tmp}/{kind}.{identity[:12]}.{pid}.{start_time(pid)}.{os.uname().nodename}"


def abandoned(tmp: str, *kinds: str) -> Iterator[str]:
    """What killed commands of this node have left in `tmp` by such names."""
    try:
        names = os.listdir(tmp)
    except FileNotFoundError:
        return
    node = os.uname().nodename
    for name in names:
        parts = name.split(".", 4)
        if len(parts) == 5 and parts[0] in kinds and parts[4] == node:
            if not is_alive(int(parts[2]), int(parts[3])):
                yield f"{tmp}/{name}"


def check_name(name: str, what: str = "names") -> None:
    """Refuse a name that is not `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, with Podman's words."""
    if (
        name
        and name[0].isascii()
        and name[0].isalnum()
        and all(c.isascii() and (c.isalnum() or c in "_.-") for c in name)
    ):
        return
    raise RootlessError(f"{what} must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument")


class Process:
    """A process by pid and start time, as live.json keeps it."""

    __slots__ = ("pid", "started")

    def __init__(self, pid: int, started: int) -> None:
        self.pid = pid
        self.started = started

    @classmethod
    def of(cls, pid: int) -> Process:
        return cls(pid, start_time(pid))

    def is_alive(self) -> bool:
        return is_alive(self.pid, self.started)

    def to_json(self) -> list[int]:
        return [self.pid, self.started]


class _RecordLock(Lock):
    """The lock of a record that may have been removed while it was waited for."""

    __slots__ = ("table", "identity")

    def __init__(self, table: Table, identity: str, path: str, block: bool) -> None:
        super().__init__(path, block=block)
        self.table = table
        self.identity = identity

    def acquire(self) -> bool:
        if not super().acquire():
            return False
        if not os.path.exists(self.table.path(self.identity)):
            self.table.drop_run_folder(self.identity)
            self.release()
            raise self.table.none(self.identity)
        return True


class Table:
    """The records of one kind. `kind` is `container` or `pod`; both share one set of names, as in Podman."""

    __slots__ = ("paths", "kind", "folder")

    def __init__(self, paths: Paths, kind: str = "container") -> None:
        self.paths = paths
        self.kind = kind
        self.folder = paths.containers if kind == "container" else paths.pods

    # reading

    def ids(self) -> list[str]:
        try:
            return os.listdir(self.folder)
        except FileNotFoundError:
            return []

    def path(self, identity: str) -> str:
        return f"{self.folder}/{identity}"

    def read(self, identity: str) -> Document:
        """The record; NotFound where it has been removed meanwhile."""
        try:
            document: Document = read_record(f"{self.folder}/{identity}/{self.kind}.json", _RECORD)
        except FileNotFoundError:
            raise self.none(identity) from None
        return document

    def write(self, identity: str, document: Document) -> None:
        write_json(f"{self.folder}/{identity}/{self.kind}.json", document)

    def read_state(self, identity: str) -> Document:
        """How the last run went; empty where there was none."""
        document: Document
        for path in (self._state_aside(identity), f"{self.folder}/{identity}/state.json"):
            try:
                document = read_record(path, _STATE)
                return document
            except FileNotFoundError:
                continue
        return {}

    def write_state(self, identity: str, document: Document) -> None:
        """Keep how a run went: beside the record or, where the disk is full or read-only, until the next boot."""
        aside = self._state_aside(identity)
        try:
            write_json(f"{self.folder}/{identity}/state.json", document)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise
            write_json(aside, document)
            return
        try:
            os.unlink(aside)
        except FileNotFoundError:
            pass

    def _state_aside(self, identity: str) -> str:
        return f"{self.run_folder(identity)}/state.json"

    def lookup(self, text: str) -> str:
        """The id for a name, an id or a prefix of one that is only one record's."""
        if text and "/" not in text and not text.startswith("."):
            target = self._link(text)
            if target and target.startswith(f"../{os.path.basename(self.folder)}/"):
                identity = target.rpartition("/")[2]
                if os.path.isdir(f"{self.folder}/{identity}"):
                    return identity
            matches = [one for one in self.ids() if one.startswith(text)]
            if len(matches) == 1:
                return matches[0]
            if len(matches) > 1:
                raise RootlessError(
                    f"more than one result for {self.kind} ID {text}: give more of the id"
                )
        raise self.none(text)

    def name_owner(self, name: str) -> str | None:
        """The id that holds a name, or None."""
        target = self._link(name)
        if not target:
            return None
        place = os.path.normpath(os.path.join(self.paths.names, target))
        return target.rpartition("/")[2] if os.path.isdir(place) else None

    def _link(self, name: str) -> str:
        try:
            return os.readlink(f"{self.paths.names}/{name}")
        except OSError:
            return ""

    def none(self, text: str) -> NotFound:
        return NotFound(f'no {self.kind} with name or ID "{text}" found: no such {self.kind}')

    # writing

    def lock(self, identity: str, *, block: bool = True) -> Lock:
        """The record's lock, in the node's run folder. Taking it raises NotFound where the record is gone by then."""
        folder = self.run_folder(identity)
        make_private_dir(folder)
        return _RecordLock(self, identity, f"{folder}/lock", block)

    def drop_run_folder(self, identity: str) -> None:
        """Take a run folder away whose record is gone; called with its lock held."""
        if not os.path.exists(self.path(identity)):
            remove_tree(self.run_folder(identity))

    def run_folder(self, identity: str) -> str:
        return self.paths.run_container(identity)

    def add(self, identity: str, document: Document, fill: Callable[[str], None]) -> None:
        """Make a record. `fill` puts what else belongs into its folder, which is not yet in place.

        Raises Conflict where the name is taken; nothing is left behind then.
        """
        for folder in (self.folder, self.paths.names, self.paths.run):
            make_private_dir(folder)
        aside = aside_name(self.paths.tmp, self.kind, identity)
        try:
            os.mkdir(aside, 0o700)
            write_json(f"{aside}/{self.kind}.json", document)
            fill(aside)
            with Lock(f"{self.paths.run}/names.lock"):
                self._take_name(document["name"], identity, made=True)
                try:
                    os.rename(aside, f"{self.folder}/{identity}")
                except BaseException:
                    os.unlink(f"{self.paths.names}/{document['name']}")
                    raise
        except BaseException:
            self._empty(aside)
            raise

    def _take_name(self, name: str, identity: str, *, made: bool = False) -> None:
        link = f"{self.paths.names}/{name}"
        target = f"../{os.path.basename(self.folder)}/{identity}"
        try:
            os.symlink(target, link)
            return
        except FileExistsError:
            pass
        holder = self.name_owner(name)
        if holder is not None:
            raise Conflict(
                f"{f'creating {self.kind} storage: ' if made else ''}"
                f'the container name "{name}" is already in use by {holder}. You have to remove that container to be able '
                "to reuse that name: that name is already in use",
                hint="or use --replace to instruct rootless to do so" if made else "",
            )
        os.unlink(
            link
        )  # left by a command that was killed between removing the folder and its name
        os.symlink(target, link)

    def rename(self, identity: str, document: Document, name: str) -> None:
        """Give a record another name; called with its lock held."""
        old = document["name"]
        with Lock(f"{self.paths.run}/names.lock"):
            self._take_name(name, identity)
            document["name"] = name
            try:
                self.write(identity, document)
            except BaseException:
                document["name"] = old
                os.unlink(f"{self.paths.names}/{name}")
                raise
            try:
                os.unlink(f"{self.paths.names}/{old}")
            except FileNotFoundError:
                pass

    def remove(self, identity: str, name: str) -> None:
        """Take a record away; called with its lock held. The folder vanishes in one rename."""
        aside = aside_name(self.paths.tmp, self.kind, identity)
        try:
            os.rename(f"{self.folder}/{identity}", aside)
        except FileNotFoundError:
            raise self.none(identity) from None
        with Lock(f"{self.paths.run}/names.lock"):
            if self._link(name).rpartition("/")[2] == identity:
                os.unlink(f"{self.paths.names}/{name}")
        self._empty(aside)
        remove_tree(self.run_folder(identity))

    def _empty(self, folder: str) -> None:
        try:
            remove_tree(folder)
        except FileNotFoundError:
            pass

    def sweep(self) -> None:
        """Remove what killed commands of this node left aside."""
        for folder in abandoned(self.paths.tmp, "container", "pod"):
            self._empty(folder)
        try:
            folders = os.listdir(self.paths.run_containers)
        except FileNotFoundError:
            return
        for identity in folders:
            if os.path.exists(self.path(identity)):
                continue
            lock = Lock(f"{self.run_folder(identity)}/lock", block=False)
            if lock.acquire():
                # The record was there before its run folder, so it is gone for good.
                self.drop_run_folder(identity)
                lock.release()

    # live facts

    def read_live(self, identity: str) -> Document | None:
        """What runs, as it was when it was written in this boot; None where nothing was."""
        try:
            live: Document = read_record(f"{self.run_folder(identity)}/live.json", _LIVE)
        except FileNotFoundError:
            return None
        return live if live.get("boot") == this_boot() else None

    def write_live(self, identity: str, live: Document) -> None:
        live["boot"] = this_boot()
        write_json(f"{self.run_folder(identity)}/live.json", live)

    def clear_live(self, identity: str) -> None:
        for name in ("live.json", "attach", "stop", "health.json"):
            try:
                os.unlink(f"{self.run_folder(identity)}/{name}")
            except FileNotFoundError:
                pass


def process_of(live: Document, role: str) -> Process | None:
    """A process that live.json names, whether it lives or not."""
    value = live.get(role)
    if not isinstance(value, list) or len(value) != 2:
        return None
    return Process(*value) if all(isinstance(one, int) for one in value) else None


def remove_tree(path: str) -> None:
    """Remove a folder with all in it, in a user namespace where it holds files of subordinate ids."""
    from rootless.linux import tree

    try:
        tree.remove(None, path)
        return
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.ENOTEMPTY):
            raise
    from rootless.linux.userns import fork_in_userns
    from rootless.runtime.idmap import default_idmap

    # By a descriptor, as folders on the way may be closed to the namespace's root.
    parent = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        name = os.path.basename(path)
        fork_in_userns(default_idmap(), lambda: tree.remove(parent, name, force=True)).wait()
    finally:
        os.close(parent)
