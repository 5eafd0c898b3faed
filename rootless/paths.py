"""Every path of the engine. No other module joins them; nothing here creates or locks.

`data` lasts: $XDG_DATA_HOME/rootless, for root /var/lib/rootless. `run` is node-local and gone after a reboot:
$XDG_RUNTIME_DIR/rootless where that variable names a folder of our own with mode 0700, else a private folder that is
found again the same way by cron, su and batch jobs.
"""

from __future__ import annotations

import os
import stat

from rootless.errors import RootlessError

# statfs(2) f_type of file systems that several nodes share: containers on them are kept apart by node.
_NETWORK_FS = {
    0x6969,  # NFS
    0xFF534D42,  # CIFS
    0xFE534D42,  # SMB2
    0x0BD00BD0,  # Lustre
    0x47504653,  # GPFS
    0x19830326,  # BeeGFS
    0x5346414F,  # AFS
    0x00C36400,  # Ceph
    0x20030528,  # OrangeFS
    0x01021997,  # 9p
}


#: Inside `rootless unshare` the user is root, but the store is still the user's.
UNSHARED_DATA = "_ROOTLESS_DATA"
UNSHARED_RUN = "_ROOTLESS_RUN"


# Where a private folder is made when nobody has made one for the user: emptied by a reboot, or by time.
_SHARED = ("/dev/shm", "/tmp")


class Paths:
    """The folders below one data root and one run root."""

    __slots__ = ("data", "run", "_node", "_elsewhere")

    def __init__(self, data: str, run: str) -> None:
        self.data = data
        self.run = run
        self._node: str | None = None
        self._elsewhere: dict[str, str] = {}

    def move(self, part: str, folder: str) -> None:
        """Have a part ("images", "networks" or "volumes") lie apart from the rest."""
        self._elsewhere[part] = os.path.abspath(folder)

    # persistent
    @property
    def node(self) -> str:
        """The folder of what belongs to this node: the data root, or one by host name where nodes share it."""
        if self._node is None:
            self._node = self.data
            if is_network_fs(self.data):
                self._node = f"{self.data}/nodes/{os.uname().nodename}"
        return self._node

    @property
    def images(self) -> str:
        return self._elsewhere.get("images") or f"{self.data}/images"

    @property
    def containers(self) -> str:
        return f"{self.node}/containers"

    @property
    def names(self) -> str:
        return f"{self.node}/names"

    def container(self, identity: str) -> str:
        return f"{self.node}/containers/{identity}"

    @property
    def volumes(self) -> str:
        return self._elsewhere.get("volumes") or f"{self.data}/volumes"

    def volume(self, name: str) -> str:
        return f"{self.volumes}/{name}"

    @property
    def networks(self) -> str:
        return self._elsewhere.get("networks") or f"{self.node}/networks"

    @property
    def pods(self) -> str:
        return f"{self.node}/pods"

    @property
    def secrets(self) -> str:
        return f"{self.data}/secrets"

    @property
    def tmp(self) -> str:
        return f"{self.data}/tmp"

    @property
    def events(self) -> str:
        return f"{self.node}/events.log"

    @property
    def updates(self) -> str:
        return f"{self.node}/auto-update.json"

    # until the next boot
    def run_container(self, identity: str) -> str:
        return f"{self.run}/containers/{identity}"

    @property
    def run_containers(self) -> str:
        return f"{self.run}/containers"

    @property
    def run_networks(self) -> str:
        return f"{self.run}/networks"

    @property
    def cache(self) -> str:
        return f"{self.run}/cache"


def is_network_fs(path: str) -> bool:
    """Whether the nearest existing parent of `path` is on a file system that several machines mount."""
    while True:
        try:
            # One with a block device is of this machine; asking further would load ctypes for every command.
            if os.major(os.stat(path).st_dev):
                return False
            from rootless.linux.fs import fs_type

            return fs_type(path) in _NETWORK_FS
        except FileNotFoundError:
            path = os.path.dirname(path)


def home() -> str:
    """$HOME, or the home folder that the user database gives."""
    value = os.environ.get("HOME")
    if value and value.startswith("/"):
        return value
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        raise RootlessError(
            f"uid {os.getuid()} has no home folder: $HOME is unset and the user database has no entry",
            hint="set HOME, or give --root and --runroot",
        ) from None


def data_home() -> str:
    """The folder of what lasts, by XDG_DATA_HOME; root's is /var/lib/rootless."""
    if os.geteuid() == 0:
        return os.environ.get(UNSHARED_DATA, "/var/lib/rootless")
    value = os.environ.get("XDG_DATA_HOME")
    base = value if value and value.startswith("/") else f"{home()}/.local/share"
    return f"{base}/rootless"


def config_home() -> str:
    """XDG_CONFIG_HOME, or ~/.config where that is no absolute path."""
    value = os.environ.get("XDG_CONFIG_HOME")
    return value if value and value.startswith("/") else f"{home()}/.config"


def _is_own_private(path: str) -> bool:
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.geteuid()
        and not status.st_mode & 0o077
    )


def runtime_home() -> str:
    """The base folder of what is gone after a reboot; made where it must be ours (case 47: never trusted by name)."""
    uid = os.geteuid()
    if uid == 0:
        return "/run"
    value = os.environ.get("XDG_RUNTIME_DIR")
    if value and value.startswith("/") and _is_own_private(value):
        return value
    usual = f"/run/user/{uid}"
    if _is_own_private(usual):
        return usual
    for parent in _SHARED:
        private = f"{parent}/rootless-{uid}"
        try:
            os.mkdir(private, 0o700)
        except FileExistsError:
            pass
        except OSError:
            continue
        if _is_own_private(private):
            return private
    raise RootlessError(
        f"no private run-time folder: $XDG_RUNTIME_DIR, {usual} and /tmp/rootless-{uid} are missing or not owned by uid "
        f"{uid} with mode 0700",
        hint=f"`loginctl enable-linger` makes {usual}; or give --runroot",
    )


def find(root: str | None = None, runroot: str | None = None) -> Paths:
    """The engine's paths, from the command line's `--root` and `--runroot` or else the environment."""
    data = os.path.abspath(root) if root else data_home()
    run = os.path.abspath(runroot) if runroot else ""
    if not run and not root and os.geteuid() == 0:
        run = os.environ.get(UNSHARED_RUN, "")
    if not run:
        run = f"{runtime_home()}/rootless"
        if root:
            # Another store is another set of containers: it has its own live facts, found again by its path.
            import hashlib

            run = f"{run}/{hashlib.sha256(data.encode()).hexdigest()[:12]}"
    return Paths(data, run)
