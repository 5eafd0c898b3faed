"""What every command on containers needs at hand: paths, settings, records and images, each made when first used."""

from __future__ import annotations

from rootless import config, paths
from rootless.state import Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.config import Config
    from rootless.image.store import ImageStore
    from rootless.linux.idmap import IdMap
    from rootless.paths import Paths


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
            self._config = config.load(self.paths.cache)
        return self._config

    @property
    def images(self) -> ImageStore:
        if self._images is None:
            from rootless.image.store import open_store

            self._images = open_store(self.paths)
        return self._images

    @property
    def idmap(self) -> IdMap:
        from rootless.runtime.idmap import default_idmap

        return default_idmap()


def open_engine(settings: dict[str, Any]) -> Engine:
    """The engine that a command line's global options name."""
    return Engine(paths.find(settings.get("root"), settings.get("runroot")), settings)
