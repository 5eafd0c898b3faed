"""What the runtime knows of a container between two calls, and where: ROOT/ID/.

    state.json     who init is and what it was made of; called creating.json until init is ready
    config.json    the configuration as it was made of: the bundle's own may change meanwhile
    start          the socket at which init waits for `start`; gone once that has come
    lock           held by whoever changes the container

A folder is made exclusively: that is how an id is taken. The files are an implementation's own: `state` is what others
read.
"""

from __future__ import annotations

import errno
import os

from rootless import quickjson as json
from rootless.errors import Conflict, NotFound, RootlessError, Usage
from rootless.files import Lock, make_dirs, read_bytes, write_atomic, write_json
from rootless.linux.process import is_alive, start_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.ocicli.commandline import Given

CREATING, CREATED, RUNNING, PAUSED, STOPPED = "creating", "created", "running", "paused", "stopped"
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-.")


def in_user_namespace() -> bool:
    """Whether this process is in a user namespace below the host's."""
    with open("/proc/self/uid_map", "rb") as file:
        return file.read().split() != [b"0", b"0", b"4294967295"]


def pid_namespace() -> int:
    """The one that numbers of processes are of."""
    return os.stat("/proc/self/ns/pid").st_ino


def find_root(settings: Given) -> str:
    """The folder of all records: --root, else one that is private to this user and gone after a reboot."""
    given = settings.text("root")
    if given:
        return os.path.abspath(given)
    value = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.geteuid() == 0:
        # Root of a user namespace (podman's) is the user, whose folder it is.
        if not in_user_namespace():
            return "/run/rootless-oci"
        if value.startswith("/") and os.access(value, os.W_OK):
            return f"{value}/rootless-oci"
        if os.access("/run", os.W_OK):
            return "/run/rootless-oci"
        from rootless.files import make_private_dir

        with open("/proc/self/uid_map", "rb") as file:
            owner = int(file.read().split()[1])
        make_private_dir(f"/tmp/rootless-{owner}")
        return f"/tmp/rootless-{owner}/rootless-oci"
    from rootless.paths import runtime_home

    return f"{runtime_home()}/rootless-oci"


def check_id(identity: str) -> None:
    """Refuse an id that is no plain name of a folder."""
    if not identity:
        raise Usage("the container ID is empty")
    if "/" in identity:
        raise Usage(f"invalid character `/` in the ID `{identity}`: no container ID")
    if identity[0] == "." or not _PLAIN.issuperset(identity):
        raise Usage(f"invalid container ID format: {identity!r}")


class Record:
    """One container's folder and what its state.json says."""

    __slots__ = ("folder", "data", "identity")

    def __init__(self, root: str, identity: str) -> None:
        check_id(identity)
        self.identity = identity
        self.folder = f"{root}/{identity}"
        self.data: dict[str, Any] = {}

    # making

    def take(self) -> None:
        """Make the folder, and with it take the id."""
        try:
            os.mkdir(self.folder, 0o700)
        except FileNotFoundError:
            make_dirs(os.path.dirname(self.folder))
            return self.take()
        except FileExistsError:
            from rootless.ocicli.leftovers import take_away

            if take_away(self):
                self.data = {}
                return self.take()
            raise Conflict(f"container `{self.identity}` already exists") from None

    def write(self) -> None:
        write_json(f"{self.folder}/state.json", self.data)

    def write_creating(self) -> None:
        """Write it while init is at work: others are to see what is there, and that it is not ready."""
        write_json(f"{self.folder}/creating.json", self.data)

    def set_created(self) -> None:
        os.rename(f"{self.folder}/creating.json", f"{self.folder}/state.json")

    def write_config(self, data: bytes) -> None:
        write_atomic(f"{self.folder}/config.json", data)

    def remove(self) -> None:
        """Remove the folder."""
        while True:
            for name in os.listdir(self.folder):
                try:
                    os.unlink(f"{self.folder}/{name}")
                except IsADirectoryError:
                    import shutil

                    shutil.rmtree(f"{self.folder}/{name}", ignore_errors=True)
                except FileNotFoundError:
                    pass
            try:
                return os.rmdir(self.folder)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                # Somebody has come for the lock in between, and will find no container under it.

    # reading

    def load(self) -> Record:
        """Read it; NotFound where there is no such container."""
        # It may be ready between the first look and the second.
        for name in ("state.json", "creating.json", "state.json"):
            try:
                data = read_bytes(f"{self.folder}/{name}")
            except (FileNotFoundError, NotADirectoryError):
                continue
            try:
                self.data = json.loads(data)
            except ValueError as error:
                raise RootlessError(f"{self.folder}/{name}: damaged: {error}") from None
            if name == "creating.json":
                self.data["creating"] = True
            return self
        raise NotFound(f"container `{self.identity}` does not exist")

    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = json.loads(read_bytes(f"{self.folder}/config.json"))
        return spec

    @property
    def pid(self) -> int:
        pid: int = self.data.get("pid", 0)
        return pid

    def is_alive(self) -> bool:
        return is_alive(self.pid, self.data.get("start_time", 0))

    def set_init(self, pid: int) -> None:
        self.data["pid"] = pid
        self.data["start_time"] = start_time(pid) if pid else 0

    def set_runner(self) -> None:
        """Say that this process will take the record away; should it be killed, others do (leftovers.py)."""
        pid = os.getpid()
        namespace = pid_namespace()
        self.data["runner"] = {"pid": pid, "start_time": start_time(pid), "namespace": namespace}

    def status(self) -> str:
        """The word for its state at this moment."""
        if not self.is_alive():
            return STOPPED
        if self.data.get("creating"):
            return CREATING
        if os.path.lexists(f"{self.folder}/start"):
            return CREATED
        if self.is_paused():
            return PAUSED
        return RUNNING

    def is_paused(self) -> bool:
        path = self.data.get("cgroup")
        if path:
            from rootless.runtime.cgroup import Cgroup

            if Cgroup(path).is_frozen():
                return True
        return bool(self.data.get("paused"))

    def lock(self) -> Lock:
        """For whoever changes the container; NotFound where it has been removed meanwhile."""
        return _RecordLock(f"{self.folder}/lock", make_folder=False)

    def state(self) -> dict[str, Any]:
        """What `state` shows, with runc's fields."""
        status = self.status()
        data = self.data
        return {
            "ociVersion": data.get("ociVersion", "1.0.0"),
            "id": self.identity,
            "pid": self.pid if status != STOPPED else 0,
            "status": status,
            "bundle": data.get("bundle", ""),
            "rootfs": data.get("rootfs", ""),
            "created": data.get("created", ""),
            "owner": _user_name(data.get("owner", 0)),
            "annotations": data.get("annotations") or {},
        }


class _RecordLock(Lock):
    __slots__ = ()

    def acquire(self) -> bool:
        try:
            return super().acquire()
        except FileNotFoundError:
            name = os.path.basename(os.path.dirname(self.path))
            raise NotFound(f"container `{name}` does not exist") from None


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def identities(root: str) -> list[str]:
    """The ids of all containers, in order."""
    try:
        names = os.listdir(root)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if not name.startswith("."))


def load(settings: Given, identity: str) -> Record:
    return Record(find_root(settings), identity).load()


def timestamp() -> str:
    """Now, as RFC 3339 has it, to the nanosecond."""
    import time

    now = time.time_ns()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9)) + f".{now % 10**9:09}Z"
