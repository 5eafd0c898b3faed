"""What no image needs any more: its layers and blobs, and what killed commands have left.

Who brings an image in notes it under `tmp` (Bringing); the note of a command that was killed or broke off stays. Its
layers and parts of blobs serve the same image's next pull. The next command that has brought something in finds the
note and collects what is left, whatever else it was; no reader pays for that.
"""

from __future__ import annotations

import os
import time

from rootless import quickjson as json
from rootless.files import make_dirs
from rootless.oci.digest import is_digest
from rootless.storage.blobs import explain_full
from rootless.storage.parallel import run_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rootless.image.store import Image, ImageStore
    from rootless.storage.unpack import Helper

# Layers that are removed at once: most of it is waiting for the file system.
_REMOVERS = 4
_UNFINISHED_S = 60
_NOTE = "begun-"
_count = 0


class Bringing:
    """Entered by who brings layers and blobs in: they are not collected meanwhile, and are noted until all is done."""

    __slots__ = ("_before", "_hold", "_note", "_store")

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._hold = store.hold()
        self._note = ""
        self._before: set[str] = set()

    def __enter__(self) -> Bringing:
        global _count
        _count += 1
        tmp = f"{self._store.root}/tmp"
        self._note = f"{tmp}/{_NOTE}{os.uname().nodename}-{os.getpid()}-{_count}"
        self._hold.acquire()
        try:
            make_dirs(tmp)
            _write_note(self._note)
            self._before = self._all()
        except OSError as error:
            self._hold.release()
            raise explain_full(error, self._store.root) from error
        return self

    def _all(self) -> set[str]:
        """What could be left: layers, and what is on its way to be one, or a blob."""
        names = os.listdir(f"{self._store.root}/tmp")
        return {*self._store.layers.all(), *(one for one in names if not one.startswith(_NOTE))}

    def settle(self) -> None:
        """After a failure: take the note away where nothing was left."""
        if self._all() <= self._before:
            self._done()

    def _done(self) -> None:
        try:
            os.unlink(self._note)
        except FileNotFoundError:
            pass  # collect() was here, or it has been settled already

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._done()
        else:
            self.settle()
        self._hold.release()


def _write_note(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def tidy(store: ImageStore, keep: Callable[[], Iterable[str]]) -> None:
    """Collect what commands have left that were killed or broke off, if there is any; for who has brought an image in.

    `keep` is asked only then.
    """
    try:
        names = os.listdir(f"{store.root}/tmp")
    except FileNotFoundError:
        return
    if any(name.startswith(_NOTE) for name in names):
        collect(store, keep())


def collect(
    store: ImageStore,
    keep: Iterable[str] = (),
    *,
    block: bool = False,
    copies: bool = False,
) -> int:
    """Remove layers and blobs that no record needs; return the freed blob bytes.

    `keep` names the images that containers use: of those, former host images live on. Where others are at work on
    the store it is left to the next command, unless `block`. With `copies`, what is here of additional stores'
    images (image/adopt.py) goes as well, unless containers use it.
    """
    lock = store.exclusive(block=block)
    if not lock.acquire():
        try:
            make_dirs(f"{store.root}/tmp")
            _write_note(f"{store.root}/tmp/{_NOTE}left")
        except OSError:
            pass  # a full disk is no reason for a removal to fail
        return 0
    helper: list[Helper] = []

    def get_helper() -> Helper:
        if not helper:
            helper.append(store.helper())
        return helper[0]

    try:
        used = set(keep)
        chains: set[str] = set()
        blobs: set[str] = set()
        images = store.list()
        known = {image.id for image in images}
        for name, identity in store.own_names():
            if identity not in known:
                store.untag(name)  # given while its image was removed
        for image in images:
            if image.read_only:
                if not copies or image.id in used:
                    chains.update(image.layers)
                continue
            if image.is_host and not image.names and image.id not in used:
                store.forget(image)  # the host's /etc as it was before
                continue
            chains.update(image.layers)
            blobs.update(_blobs_of(store, image))
        blobs.update(_listed_blobs(store))
        freed = 0
        for digest in list(store.blobs.all()):
            if digest not in blobs:
                freed += store.blobs.remove(digest)
        unused = [chain for chain in store.layers.all() if chain not in chains]
        if unused:
            worker = get_helper()
            run_all(unused, lambda chain: store.layers.remove(chain, worker), _REMOVERS)
        store.layers.sweep(get_helper)
        store.blobs.sweep()
        _sweep_unfinished(store)
        _sweep_notes(store)
        return freed
    finally:
        for one in helper:
            one.close()
        lock.release()


def remove_unused(store: ImageStore, chains: Iterable[str]) -> None:
    """Remove layers that a failed command brought, as far as no image has them meanwhile."""
    brought = [chain for chain in chains if store.layers.is_own(chain)]
    lock = store.exclusive(block=False)
    if not brought or not lock.acquire():
        return  # others are at work: the next collect() does it
    try:
        used = {chain for image in store.list() for chain in image.layers}
        with store.helper() as helper:
            for chain in reversed(brought):
                if chain not in used:
                    store.layers.remove(chain, helper)
    finally:
        lock.release()


def _sweep_unfinished(store: ImageStore) -> None:
    """Remove small files that somebody was killed over; writing one takes no minute."""
    limit = time.time() - _UNFINISHED_S
    for folder in ("names", "records", "blobs/sha256", "blobs/sha512"):
        try:
            files = list(os.scandir(f"{store.root}/{folder}"))
        except FileNotFoundError:
            continue
        for file in files:
            try:
                if file.name.endswith(".tmp") and file.stat().st_mtime < limit:
                    os.unlink(file.path)
            except FileNotFoundError:
                continue


def _sweep_notes(store: ImageStore) -> None:
    """Remove the notes; who wrote one holds the lock that collect() has alone."""
    tmp = f"{store.root}/tmp"
    for name in os.listdir(tmp) if os.path.isdir(tmp) else ():
        if name.startswith(_NOTE):
            os.unlink(f"{tmp}/{name}")


def _listed_blobs(store: ImageStore) -> set[str]:
    """The blobs that manifest lists keep; image/lists.py."""
    if not os.path.isdir(f"{store.root}/lists"):
        return set()
    from rootless.image import lists

    return {blob for one in lists.every(store) for _, blob in one.record["blobs"]}


def _blobs_of(store: ImageStore, image: Image) -> set[str]:
    found = {image.record["config_digest"], *image.digests}
    for digest in image.digests:
        try:
            manifest = json.loads(store.blobs.read(digest))
        except (FileNotFoundError, ValueError):
            continue
        if isinstance(manifest, dict):
            for layer in manifest.get("layers") or ():
                if isinstance(layer, dict) and is_digest(layer.get("digest")):
                    found.add(layer["digest"])
    return found
