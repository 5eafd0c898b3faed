"""Unpacked layers by chain id: `layers/HEX/diff`, with `layer.json` and `recipe` beside it.

Invariant: a folder under `layers` is a whole layer with the diff ID that its record says; it was unpacked under `tmp`
and renamed. Layers are unpacked once and never written again. Lean: `run` asks this module where its layers are.
"""

from __future__ import annotations

import errno
import os

from rootless import quickjson as json
from rootless.errors import RootlessError
from rootless.files import Lock, make_dirs, read_record, write_atomic
from rootless.oci.digest import is_digest, sha256
from rootless.storage.blobs import explain_full
from rootless.storage.forms import note, on_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from rootless.linux.idmap import IdMap
    from rootless.storage.unpack import Helper, Job


_count = 0


class LayerError(RootlessError):
    """A layer cannot be unpacked, or is not what its image says."""


def chain_ids(diff_ids: list[str]) -> list[str]:
    """Return the chain id of each layer, base first (image-spec, config.md, "Layer ChainID")."""
    chains: list[str] = []
    for diff_id in diff_ids:
        if not is_digest(diff_id):
            raise LayerError(f"not a valid diff ID in the image's config: {str(diff_id)[:200]!r}")
        chains.append(sha256(f"{chains[-1]} {diff_id}".encode()) if chains else diff_id)
    return chains


def folder_name(chain: str) -> str:
    """A chain id as a file name; a base layer with another algorithm than sha256 says so."""
    if not is_digest(chain):
        raise LayerError(f"not a valid chain id: {chain[:200]!r}")
    algorithm, _, value = chain.partition(":")
    return value if algorithm == "sha256" else f"{algorithm}-{value}"


class LayerStore:
    """The layers below one folder, and read-only ones of additional stores."""

    __slots__ = (
        "_fallbacks",
        "_tmp",
        "force_mask",
        "idmap",
        "ignore_chown_errors",
        "limits",
        "mode",
        "root",
        "sync",
    )

    def __init__(
        self, root: str, tmp: str, idmap: Callable[[], IdMap], fallbacks: tuple[str, ...] = ()
    ) -> None:
        self.root = root
        self._tmp = tmp
        self._fallbacks = fallbacks
        self.idmap = idmap
        self.ignore_chown_errors = False
        # The mode of every file in a store for others, who get owners and modes from xattrs (Podman's force_mask).
        self.force_mask: int | None = None
        self.limits: dict[str, int] = {}
        self.sync = False
        self.mode = 0o600

    def folder(self, chain: str) -> str:
        """The layer's folder, in this store or an additional one."""
        name = folder_name(chain)
        own = f"{self.root}/{name}"
        if self._fallbacks and not os.path.isdir(own):
            for root in self._fallbacks:
                if os.path.isdir(f"{root}/{name}"):
                    return f"{root}/{name}"
        return own

    def is_own(self, chain: str) -> bool:
        """Whether the layer lies in this store, and not (only) in an additional one."""
        return os.path.isdir(f"{self.root}/{folder_name(chain)}")

    def path(self, chain: str) -> str:
        return f"{self.folder(chain)}/diff"

    def has(self, chain: str) -> bool:
        return os.path.isdir(self.path(chain))

    def record(self, chain: str) -> dict[str, Any]:
        """What is known of a layer: diff_id, parent, size (of the archive), entries, spoiled, map."""
        record: dict[str, Any] = read_record(
            f"{self.folder(chain)}/layer.json", {"diff_id": str, "parent?": str, "map?": dict}
        )
        return record

    def is_rebuildable(self, chain: str) -> bool:
        """Whether the very same archive can be made from the folder."""
        try:
            return not self.record(chain).get("spoiled")
        except FileNotFoundError:
            return False

    def all(self) -> Iterator[str]:
        """Yield the chain ids of the store's own layers."""
        try:
            names = os.listdir(self.root)
        except FileNotFoundError:
            return
        for name in names:
            algorithm, dash, value = name.partition("-")
            chain = f"{algorithm}:{value}" if dash else f"sha256:{name}"
            if is_digest(chain):
                yield chain

    def lock(self, chain: str) -> Lock:
        make_dirs(self._tmp)
        return Lock(f"{self._tmp}/layer-{folder_name(chain)}.lock")

    def begin(
        self, chain: str, parent: str, diff_id: str, helper: Helper, *, own: bool = False
    ) -> Staging | None:
        """Return a folder to unpack into, or None where the layer is (or, after waiting, has come) there.

        `own` makes one in this store though an additional one has it as well.
        """
        is_there = self.is_own if own else self.has
        if is_there(chain):
            return None
        lock = self.lock(chain)
        lock.acquire()
        try:
            if is_there(chain):
                self._unlock(lock)
                return None
            folder = f"{self._tmp}/layer-{folder_name(chain)}"
            if os.path.lexists(folder):
                clear(folder, helper)
            self._make_folder(folder, helper)
            return Staging(self, helper, lock, folder, chain, parent, diff_id)
        except BaseException:
            self._unlock(lock)
            raise

    def begin_new(self, helper: Helper) -> Staging:
        """Return a folder for a layer whose diff ID is known only at its end (import, commit)."""
        global _count
        _count += 1
        make_dirs(self._tmp)
        folder = f"{self._tmp}/layer-new-{os.uname().nodename}-{os.getpid()}-{_count}"
        lock = Lock(f"{folder}.lock")
        lock.acquire()
        try:
            if os.path.lexists(folder):
                clear(folder, helper)
            self._make_folder(folder, helper)
            return Staging(self, helper, lock, folder, "", "", "sha256:")
        except BaseException:
            self._unlock(lock)
            raise

    def _make_folder(self, folder: str, helper: Helper) -> None:
        from rootless.storage.placement import make_apart

        os.mkdir(folder, 0o700)
        make_apart(folder, "diff", 0o755)
        if os.geteuid() == 0:
            own_by_namespace_root(f"{folder}/diff", helper.idmap)
        make_dirs(self.root)

    def _unlock(self, lock: Lock) -> None:
        # Unlinked while held: whoever waits on the old file finds that it is gone and looks again.
        try:
            os.unlink(lock.path)
        except FileNotFoundError:
            pass
        lock.release()

    def remove(self, chain: str, helper: Helper) -> None:
        """Remove a layer: out of sight by one rename, then for good."""
        name = folder_name(chain)
        trash = f"{self._tmp}/trash-{name}-{os.getpid()}"
        make_dirs(self._tmp)
        try:
            os.rename(f"{self.root}/{name}", trash)
        except FileNotFoundError:
            return
        clear(trash, helper)

    def sweep(self, helper: Callable[[], Helper]) -> None:
        """Remove what crashed commands left; what another process works on is locked and stays."""
        try:
            names = os.listdir(self._tmp)
        except FileNotFoundError:
            return
        for name in names:
            path = f"{self._tmp}/{name}"
            if name.startswith("trash-"):
                clear(path, helper())
            elif name.startswith("layer-"):
                lock = Lock(path if name.endswith(".lock") else f"{path}.lock", block=False)
                if not lock.acquire():
                    continue
                folder = path.removesuffix(".lock")
                if os.path.isdir(folder):
                    clear(folder, helper())
                self._unlock(lock)


class Staging:
    """A layer being unpacked. Ends with commit or abort."""

    __slots__ = ("_folder", "_helper", "_job", "_lock", "_store", "chain", "diff_id", "parent")

    def __init__(
        self,
        store: LayerStore,
        helper: Helper,
        lock: Lock,
        folder: str,
        chain: str,
        parent: str,
        diff_id: str,
    ) -> None:
        self._store = store
        self._helper = helper
        self._lock = lock
        self._folder = folder
        self._job: Job | None = None
        self.chain = chain
        self.parent = parent
        self.diff_id = diff_id

    @property
    def folder(self) -> str:
        """Where the files are until commit."""
        return f"{self._folder}/diff"

    def start(
        self,
        source: int,
        start: int = 0,
        size: int = 0,
        *,
        follow: bool = False,
        stream: bool = False,
        compression: str | None = None,
    ) -> Job:
        """Unpack from a file: `size` bytes from `start` on, or, with `follow`, as job.advance() tells; with `stream`,
        what comes to its end."""
        diff = os.open(f"{self._folder}/diff", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        recipe = os.open(
            f"{self._folder}/recipe", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
        )
        try:
            self._job = self._helper.run(
                "unpack",
                # With the lock: it is free when the worker is gone as well, whoever was killed first.
                [source, diff, recipe, self._lock.fd],
                start=start,
                size=size,
                follow=follow,
                stream=stream,
                compression=compression,
                algorithm=self.diff_id.partition(":")[0],
                limits=self._store.limits,
                ignore_chown_errors=self._store.ignore_chown_errors,
                force_mask=self._store.force_mask,
            )
        finally:
            os.close(diff)
            os.close(recipe)
        return self._job

    def finish(self) -> dict[str, Any]:
        """Wait for the unpacking and compare the diff ID; the layer is then complete but not yet visible."""
        assert self._job is not None
        try:
            result = self._job.wait()
        except OSError as error:
            raise explain_full(error, self._store.root) from error
        self._job = None
        if not self.chain:
            self.diff_id = result["diff_id"]
        elif result["diff_id"] != self.diff_id:
            raise LayerError(
                f"layer {self.diff_id}: the unpacked bytes have diff ID {result['diff_id']}"
            )
        return result

    def name(self, parent: str) -> str:
        """Settle a new layer's place upon its parent; return its chain id."""
        self.parent = parent
        self.chain = sha256(f"{parent} {self.diff_id}".encode()) if parent else self.diff_id
        return self.chain

    def commit(self, result: dict[str, Any]) -> None:
        """Let the layer appear under its chain id."""
        record = {
            "chain": self.chain,
            "parent": self.parent,
            "diff_id": self.diff_id,
            "size": result["size"],
            "entries": result["entries"],
            "spoiled": result["spoiled"],
            "map": on_host(self._helper.idmap).to_json(),
        }
        if self._store.force_mask is not None:
            record["force_mask"] = self._store.force_mask
        if record["spoiled"]:
            os.unlink(f"{self._folder}/recipe")
        data = json.dumps(record, separators=(",", ":")).encode()
        write_atomic(f"{self._folder}/layer.json", data, self._store.mode)
        if self._store.mode & 0o004:
            os.chmod(self._folder, 0o755)
            if not record["spoiled"]:
                os.chmod(f"{self._folder}/recipe", self._store.mode)
        if self._store.sync:
            sync_file_system(self._folder)
        note(self._store, self._helper.idmap, masked=self._store.force_mask is not None)
        try:
            os.rename(self._folder, f"{self._store.root}/{folder_name(self.chain)}")
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            # A new layer's place was not locked, and somebody made the very same one.
            clear(self._folder, self._helper)
        self._store._unlock(self._lock)

    def commit_new(self, parent: str, result: dict[str, Any]) -> None:
        """Let a new layer appear upon its parent, unless the very same one is there already."""
        if self._store.has(self.name(parent)):
            self.abort()
        else:
            self.commit(result)

    def abort(self) -> None:
        if self._job is not None:
            self._job.cancel()
            self._job = None
        if self._lock.fd >= 0:
            try:
                clear(self._folder, self._helper)
            except (OSError, RootlessError):
                pass  # the helper may be what failed; what it leaves goes with the next one, and the first error leads
            finally:
                self._store._unlock(self._lock)


def own_by_namespace_root(path: str, idmap: IdMap) -> None:
    """Give a folder that real root made to the namespace's root."""
    from rootless.linux.idmap import to_host

    uid, gid = to_host(idmap.uids, 0), to_host(idmap.gids, 0)
    if uid is not None and gid is not None:
        os.chown(path, uid, gid)


def clear(folder: str, helper: Helper) -> None:
    """Remove a layer's folder, whose files belong to ids that only the helper may touch."""
    try:
        diff = os.open(
            f"{folder}/diff", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        )
    except FileNotFoundError:
        pass
    else:
        try:
            helper.run("empty", [diff]).wait()
        finally:
            os.close(diff)
        os.rmdir(f"{folder}/diff")
    for name in os.listdir(folder):
        try:
            os.unlink(f"{folder}/{name}")
        except IsADirectoryError:
            os.rmdir(f"{folder}/{name}")  # as make_apart() leaves it when it is killed halfway
    os.rmdir(folder)


def sync_file_system(path: str) -> None:
    """syncfs(2) for a user who asked to survive a power cut."""
    from rootless.linux import libc

    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.function("syncfs", libc.c_int, libc.c_int)(fd) < 0:
            libc.fail(path)
    finally:
        os.close(fd)
