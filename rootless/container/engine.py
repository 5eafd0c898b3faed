"""What every command on containers needs at hand: paths, settings, records and images, each made when first used."""

from __future__ import annotations

import os

from rootless import config, paths
from rootless.errors import RootlessError, Usage
from rootless.state import Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.config import Config
    from rootless.image.store import ImageStore
    from rootless.linux.idmap import IdMap
    from rootless.paths import Paths


# Global options that stand for a setting of containers.conf.
_SETTINGS = (
    ("events-backend", "engine", "events_logger"),
    ("network-cmd-path", "engine", "network_cmd_path"),
)
# Parts of the data root that an option or a setting puts elsewhere.
_PARTS = (
    ("imagestore", "images", "storage", "imagestore"),
    ("network-config-dir", "networks", "network", "network_config_dir"),
    ("volumepath", "volumes", "engine", "volume_path"),
)


class Engine:
    """One user's engine on this node."""

    __slots__ = ("paths", "settings", "containers", "_config", "_images")

    def __init__(self, where: Paths, settings: dict[str, Any] | None = None) -> None:
        self.paths = where
        self.settings = settings or {}  # the command line's global options
        self.containers = Table(where)
        self._config: Config | None = None
        self._images: ImageStore | None = None

    @property
    def config(self) -> Config:
        if self._config is None:
            self._config = config.load(self.paths.cache, self.settings.get("module") or ())
            for option, table, key in _SETTINGS:
                if self.settings.get(option):
                    self._config.override(table, key, self.settings[option])
        return self._config

    @property
    def images(self) -> ImageStore:
        if self._images is None:
            from rootless.image.opening import open_store

            self._images = open_store(self.paths, self.settings.get("storage-opt") or ())
            self._images.observe = self._image_event
        return self._images

    def _image_event(self, status: str, name: str, identity: str, error: str) -> None:
        from rootless.container.events import emit

        attributes = {"Error": error} if error else {}
        emit(self, "image", status, name, identity, **attributes)

    @property
    def idmap(self) -> IdMap:
        from rootless.runtime.idmap import default_idmap

        return default_idmap()


def open_engine(settings: dict[str, Any]) -> Engine:
    """The engine that a command line's global options name, or else the configuration, at the usual place."""
    root, runroot = settings.get("root"), settings.get("runroot")
    where = paths.find(root, runroot)
    found = Engine(where, settings)
    if not root and config.may_move_store():
        # Settings are kept in the run folder of the usual place, which is what says whether there is another.
        placed = found.config.data_root()
        run = runroot or found.config.run_root()
        if placed or run != runroot:
            kept = found.config
            found = Engine(paths.find(placed, run), settings)
            found._config = kept
    _check_owner(found.paths.data)
    for option, part, table, key in _PARTS:
        if settings.get(option):
            found.paths.move(part, settings[option])
            _check_owner(settings[option])
        elif not root and (folder := found.config.text(table, key)):
            # Podman's place, and its own kind of files: ours lie below.
            found.paths.move(part, f"{folder}/rootless")
    if settings.get("events-backend") == "journald":
        from rootless.systemd.journal import SOCKET, is_there

        if not is_there():
            raise Usage(
                f"--events-backend journald: there is no journal to write to at {SOCKET}; "
                "events are kept in a file (--events-backend file)"
            )
    for folder in settings.get("hooks-dir") or ():
        if not os.path.isdir(folder):
            raise Usage(f"--hooks-dir {folder}: no such directory")
    if (program := settings.get("network-cmd-path")) and not os.access(program, os.X_OK):
        raise Usage(f"--network-cmd-path {program}: no such program")
    if settings.get("runtime") or settings.get("runtime-flag"):
        from rootless.container import runtimes

        runtimes.choose(found)  # whatever the command: one that is not there is refused
    if settings.get("config"):
        os.environ["DOCKER_CONFIG"] = settings["config"]
    return found


def _check_owner(folder: str) -> None:
    """Somebody else's store, or one that somebody else can write to, is no store (security cases 39 and 52)."""
    try:
        status = os.stat(folder)
    except OSError:
        return  # not made yet; or unreadable, which whoever reads it says better
    if status.st_uid != os.geteuid():
        raise RootlessError(
            f"{folder}: belongs to uid {status.st_uid}, not to uid {os.geteuid()}",
            hint="give --root a folder of your own",
        )
    if status.st_mode & 0o022:
        raise RootlessError(
            f"{folder}: others may write to it", hint=f"`chmod go-w {folder}`, or another --root"
        )
