"""The image store as the configuration and --storage-opt want it, and the stores of others that it reads. Lean: `run` comes
through here."""

from __future__ import annotations

import os

from rootless.errors import RootlessError
from rootless.image.store import ImageStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootless.paths import Paths

# --storage-opt, as far as images are concerned; the others are for who mounts roots.
_OPTIONS = ("ignore_chown_errors", "additionalimagestore", "force_mask", "keep_blobs", "sync")


def open_store(paths: Paths, options: Iterable[str] = ()) -> ImageStore:
    """The store as the configuration and --storage-opt want it."""
    from rootless import config

    settings = config.load(paths.cache)
    given: dict[str, str] = {}
    shared = settings.texts("storage", "additionalimagestores")
    for option in options:
        key, _, value = option.partition("=")
        key = key.rpartition(".")[2]
        if key == "additionalimagestore":
            shared.append(value)
        elif key in _OPTIONS:
            given[key] = value
        elif key not in ("mount_program", "mountopt"):
            raise RootlessError(
                f"--storage-opt {option}: unknown option",
                hint=f"known are {', '.join(_OPTIONS)}, mount_program and mountopt",
            )

    def flag(key: str) -> bool:
        if key not in given:
            return settings.flag("storage", key)
        if given[key] not in ("true", "false"):
            raise RootlessError(f"--storage-opt {key}={given[key]}: neither true nor false")
        return given[key] == "true"

    additional = []
    for root in shared:
        folder = f"{root.rstrip('/')}/images"
        check_shared(folder)
        additional.append(folder)
    store = ImageStore(paths, additional=additional)
    store.keep_blobs = flag("keep_blobs")
    store.layers.ignore_chown_errors = flag("ignore_chown_errors")
    store.layers.force_mask = force_mask(
        given.get("force_mask", settings.text("storage", "force_mask"))
    )
    sync = given.get("sync", settings.text("storage", "sync"))
    if sync == "filesystem":
        store.blobs.sync = store.layers.sync = True
    elif sync not in ("", "none"):
        raise RootlessError(f"storage option sync={sync}: neither none nor filesystem")
    return store


def force_mask(text: str) -> int | None:
    """Podman's force_mask: the mode of every file of a store that others shall read, or None."""
    if not text:
        return None
    if text in ("shared", "private"):
        return 0o755 if text == "shared" else 0o700
    try:
        return int(text, 8) & 0o777
    except ValueError:
        raise RootlessError(
            f"storage option force_mask={text}: neither shared, private nor an octal mode"
        ) from None


def check_shared(folder: str) -> None:
    """Refuse an additional store that another ordinary user could write: what is in it is run as is (case 39)."""
    path = folder
    while True:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            if path == folder:
                return
            raise
        except PermissionError:
            raise _closed(folder) from None
        if path == folder and not os.access(path, os.R_OK | os.X_OK):
            raise _closed(folder)
        if status.st_uid not in (0, os.geteuid()):
            raise RootlessError(
                f"{folder}: the additional image store is not used: {path} belongs to uid {status.st_uid}",
                hint="it and the folders above must belong to root or to you",
            )
        if status.st_mode & 0o022 and not status.st_mode & 0o1000:
            raise RootlessError(
                f"{folder}: the additional image store is not used: {path} is writable by others"
            )
        if path == "/":
            return
        path = os.path.dirname(path)


def _closed(folder: str) -> RootlessError:
    from rootless.image.adopt import fill_hint

    return RootlessError(
        f"{folder}: the additional image store cannot be read: permission denied",
        hint=fill_hint(folder),
    )
