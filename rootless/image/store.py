"""The images: one record per image id, one file per name, and no other database.

    blobs/ALGORITHM/HEX    layers as they came, configs, manifests          storage/blobs.py
    layers/CHAIN/diff      layers unpacked                                  storage/layers.py
    records/ID             an image: what it is made of
    names/NAME             a name: the image's id, its manifest's digest
    tmp/                   what is on its way in

Invariant: an image exists when its record does, and the record is written last, by one rename; so a crash leaves the
whole image or none of it. Reads take no lock. Writers hold `hold()` from before they rely on a layer until their
record is there; only who has `exclusive()` removes layers and blobs. Lean: `run` comes through here.
"""

from __future__ import annotations

import os
import time

from rootless.errors import Conflict, NotFound, RootlessError
from rootless.files import (
    MEND,
    Lock,
    make_dirs,
    make_private_dir,
    read_bytes,
    read_record,
    write_atomic,
    write_json,
)
from rootless.image.reference import Reference, candidates, is_image_id, parse
from rootless.oci.digest import is_hex, sha256
from rootless.storage.blobs import BlobStore
from rootless.storage.layers import LayerStore, chain_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    # ImageStore.list() hides the built-in type from its annotations.
    Strings = list[str]
    Images = list["Image"]
    Pairs = list[tuple[str, str]]

    from rootless.linux.idmap import IdMap
    from rootless.paths import Paths
    from rootless.storage.unpack import Helper

# Longer names do not fit a file name on some file systems; they are kept under their digest.
_NAME_MAX = 200
HOST_NAME = "localhost/host:latest"
_ORIGINS_MAX = 8


_RECORD = {
    "id": str, "config_digest": str, "digest?": str, "digests?": list, "chains": list, "config": dict,
}  # fmt: skip


class ImageInUse(RootlessError):
    """Containers or images keep the image."""

    exit_code = 2


class ImageUnknown(NotFound):
    """No such image."""


class Image:
    """One image as its record describes it."""

    __slots__ = ("_names", "record", "store")

    def __init__(self, store: ImageStore, record: dict[str, Any]) -> None:
        self.store = store
        self.record = record
        self._names: list[str] | None = None

    @property
    def history(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.config.get("history") or []
        return found

    @property
    def labels(self) -> dict[str, str]:
        found: dict[str, str] = (self.config.get("config") or {}).get("Labels") or {}
        return found

    @property
    def id(self) -> str:
        identity: str = self.record["id"]
        return identity

    @property
    def config(self) -> dict[str, Any]:
        """The OCI image config."""
        config: dict[str, Any] = self.record["config"]
        return config

    @property
    def digest(self) -> str:
        """The digest of the manifest under which the image came or was made."""
        digest: str = self.record["digest"]
        return digest

    @property
    def digests(self) -> list[str]:
        """Every manifest or index digest by which the image is known."""
        digests: list[str] = self.record["digests"]
        return digests

    @property
    def layers(self) -> list[str]:
        """The chain ids, base first."""
        chains: list[str] = self.record["chains"]
        return chains

    @property
    def origins(self) -> list[tuple[str, bool]]:
        """The repositories that have the blobs of its manifest, and whether they were asked without TLS checks."""
        found: list[tuple[str, bool]] = self.record.get("origins") or []
        return found

    @property
    def diff_ids(self) -> list[str]:
        found: list[str] = self.config["rootfs"].get("diff_ids") or []
        return found

    @property
    def size(self) -> int:
        """Podman's size: the layers' archives, unpacked, and the documents."""
        size: int = self.record["size"]
        return size

    @property
    def created(self) -> float:
        """When it was made, in seconds since the epoch."""
        created: float = self.record["created"]
        return created

    @property
    def is_host(self) -> bool:
        """Whether this machine's /usr and so on belong into its containers. Known from our own record, never from
        the image's labels (security case 36)."""
        return bool(self.record.get("host"))

    @property
    def is_list(self) -> bool:
        """Whether it stands for a manifest list (image/lists.py)."""
        return bool(self.record.get("list"))

    @property
    def read_only(self) -> bool:
        """Whether it lies in an additional store."""
        return bool(self.record.get("read_only"))

    @property
    def repo_digests(self) -> list[str]:
        """Each repository of its names with each digest that it is known by."""
        repositories = sorted({_repository(name) for name in self.names})
        return [f"{name}@{digest}" for name in repositories for digest in self.digests]

    @property
    def names(self) -> list[str]:
        if self._names is None:
            self._names = self.store.names_of(self.id)
        return self._names

    def manifest(self) -> bytes:
        """The bytes of the manifest."""
        return self.store.blobs.read(self.digest)

    def config_bytes(self) -> bytes:
        return self.store.blobs.read(self.record["config_digest"])


class ImageStore:
    """The images of one user, and of the additional stores that are shared with them."""

    __slots__ = (
        "_idmap",
        "additional",
        "blobs",
        "keep_blobs",
        "layers",
        "locks",
        "observe",
        "root",
    )

    def __init__(
        self,
        paths: Paths,
        *,
        additional: Iterable[str] = (),
        idmap: Callable[[], IdMap] | None = None,
    ) -> None:
        self.root = paths.images
        self.additional = tuple(additional)
        self.locks = paths.cache
        # Whether compressed layers are kept beside the unpacked ones although they could be fetched again.
        self.keep_blobs = False
        # Called with status, name, id and error of what is done to an image, for those who keep a log of it.
        self.observe: Callable[[str, str, str, str], None] | None = None
        self._idmap = idmap
        tmp = f"{self.root}/tmp"
        self.blobs = BlobStore(
            f"{self.root}/blobs", tmp, tuple(f"{root}/blobs" for root in self.additional)
        )
        self.layers = LayerStore(
            f"{self.root}/layers",
            tmp,
            self.idmap,
            tuple(f"{root}/layers" for root in self.additional),
        )

    def tell(self, status: str, name: str, identity: str = "", error: str = "") -> None:
        """Say what was done to an image, in Podman's words of `events`: pull, tag, remove…"""
        if self.observe is not None:
            self.observe(status, name, identity, error)

    def idmap(self) -> IdMap:
        """The id map of unpacked layers: the caller's, which is the user's default one."""
        if self._idmap is None:
            # Passed in by tests and by whoever has another; the runtime knows this user's ranges.
            from rootless.runtime.idmap import default_idmap

            return default_idmap()
        return self._idmap()

    def helper(self) -> Helper:
        """Start the helper that unpacks and removes layers; call it before starting threads."""
        from rootless.storage.unpack import Helper

        return Helper(self.idmap())

    @property
    def is_public(self) -> bool:
        """Whether the store is made for others to read (force_mask=shared)."""
        mask = self.layers.force_mask
        return mask is not None and mask & 0o005 == 0o005

    def make(self) -> None:
        """Make the store's folders; layers may hold set-uid files, so nobody else gets in (security case 39) but to
        a store for others, whose files have neither such bits nor capabilities."""
        make_private_dir(os.path.dirname(self.root))
        public = self.is_public
        self.blobs.mode = self.layers.mode = 0o644 if public else 0o600
        for name in ("", "/blobs", "/layers", "/records", "/names", "/tmp"):
            try:
                os.mkdir(self.root + name, 0o700)
            except FileExistsError:
                pass
            if public and name != "/tmp":
                os.chmod(self.root + name, 0o755)
        if public:
            os.chmod(os.path.dirname(self.root), 0o755)

    # Locks

    def hold(self) -> Lock:
        """The lock, to be entered, that keeps layers and blobs from being removed; shared by all who add images."""
        return self._lock(shared=True, block=True)

    def exclusive(self, *, block: bool = True) -> Lock:
        """The lock, to be entered, that keeps everybody from relying on layers and blobs, to remove unused ones."""
        return self._lock(shared=False, block=block)

    def _lock(self, *, shared: bool, block: bool) -> Lock:
        make_dirs(self.root)
        return Lock(f"{self.root}/lock", shared=shared, block=block)

    # Reading

    def lowers(self, image: Image) -> Strings:
        """The folders of an image's layers, topmost first."""
        path = self.layers.path
        return [path(chain) for chain in reversed(image.layers)]

    def get(self, identity: str) -> Image | None:
        """Return the image with a full id."""
        for root in (self.root, *self.additional):
            try:
                record = read_record(f"{root}/records/{identity}", _RECORD)
            except FileNotFoundError:
                continue
            if record.get("id") != identity:
                raise RootlessError(
                    f"{root}/records/{identity}: damaged record: it is not this image's", hint=MEND
                )
            if root is not self.root:
                record["read_only"] = True
            return Image(self, record)
        return None

    def lookup(self, text: str) -> Image:
        """Find an image by name, digest, id or the start of its id; ImageUnknown where there is none."""
        image = self.find(text)
        if image is None:
            raise ImageUnknown(f"{text}: image not known")
        return image

    def find(self, text: str) -> Image | None:
        name = self.resolve(text)
        if name is not None:
            image = self.get(self._name(name)[0])
            if image is not None:
                return image
        if is_image_id(text):
            found = self._by_id(text.removeprefix("sha256:"))
            if found is not None:
                return found
        if os.path.isdir(f"{self.root}/lists"):
            from rootless.image import lists

            known = lists.find(self, text)
            return known.here() if known is not None else None
        return None

    def resolve(self, text: str) -> str | None:
        """Return the name under which a reference is kept here, or None."""
        if text.startswith("sha256:") or (len(text) == 64 and is_hex(text)):
            return None
        try:
            reference = parse(text)
        except RootlessError:
            if is_image_id(text):
                return None
            raise
        tagged = reference.with_default_tag()
        for candidate in candidates(tagged):
            found = self._kept(candidate)
            if found is not None:
                return found
        if not reference.domain:
            # As Podman does: a short name also finds what was pulled from any registry.
            return self._by_suffix(tagged)
        return None

    def _kept(self, reference: Reference) -> str | None:
        name = str(reference)
        if self._name(name)[0]:
            return name
        if reference.digest:
            # A name with this repository, whose image is known by this digest.
            prefix = reference.name
            for name, (identity, _) in self._all_names().items():
                if _repository(name) == prefix:
                    image = self.get(identity)
                    if image is not None and reference.digest in image.digests:
                        return name
        return None

    def _by_suffix(self, reference: Reference) -> str | None:
        suffix = f"/{reference}"
        found = [name for name in self._all_names() if name.endswith(suffix)]
        return min(found) if found else None

    def _by_id(self, prefix: str) -> Image | None:
        if len(prefix) == 64:
            return self.get(prefix)
        matches = {name for name in self.ids() if name.startswith(prefix)}
        if len(matches) > 1:
            raise RootlessError(
                f"{prefix}: the id is ambiguous: {len(matches)} images start with it"
            )
        return self.get(matches.pop()) if matches else None

    def ids(self) -> Strings:
        """The ids of all records."""
        found: list[str] = []
        for root in (self.root, *self.additional):
            try:
                names = os.listdir(f"{root}/records")
            except FileNotFoundError:
                continue
            found += [name for name in names if len(name) == 64 and is_hex(name)]
        return found

    def own_ids(self) -> Strings:
        """The ids of the records of this store itself."""
        try:
            names = os.listdir(f"{self.root}/records")
        except FileNotFoundError:
            return []
        return [name for name in names if len(name) == 64 and is_hex(name)]

    def list(self) -> Images:
        """Every image, the newest first."""
        names: dict[str, list[str]] = {}
        for name, (identity, _) in self._all_names().items():
            names.setdefault(identity, []).append(name)
        images = []
        for identity in dict.fromkeys(self.ids()):
            image = self.get(identity)
            if image is not None:
                image._names = names.get(identity, [])
                images.append(image)
        images.sort(key=lambda image: (-image.created, image.id))
        return images

    def names_of(self, identity: str) -> Strings:
        """An image's names, the newest first."""
        return [name for name, (owner, _) in self._all_names().items() if owner == identity]

    def digest_of(self, name: str) -> str:
        """The digest under which a name was pulled or made."""
        return self._name(name)[1]

    def _name_path(self, root: str, name: str) -> str:
        # No name holds a plus sign, which therefore stands for the slash.
        file = name.replace("/", "+")
        if len(file) > _NAME_MAX:
            file = f"+{sha256(name.encode())[7:]}"
        return f"{root}/names/{file}"

    def _name(self, name: str) -> tuple[str, str]:
        """Return image id and digest of a name, or empty strings."""
        for root in (self.root, *self.additional):
            try:
                lines = (
                    read_bytes(self._name_path(root, name)).decode("utf-8", "replace").split("\n")
                )
            except FileNotFoundError:
                continue
            if len(lines) >= 3 and lines[2] == name:
                return lines[0], lines[1]
        return "", ""

    def _all_names(self) -> dict[str, tuple[str, str]]:
        """Every name with image id and digest, the newest first; our own hide those of additional stores."""
        dated: list[tuple[int, str, str, str]] = []
        seen: set[str] = set()
        for root in (self.root, *self.additional):
            try:
                files = list(os.scandir(f"{root}/names"))
            except FileNotFoundError:
                continue
            for file in files:
                if file.name.endswith(".tmp"):
                    continue
                try:
                    when = file.stat().st_mtime_ns
                    lines = read_bytes(file.path).decode("utf-8", "replace").split("\n")
                except FileNotFoundError:
                    continue
                if len(lines) >= 3 and len(lines[0]) == 64 and lines[2] not in seen:
                    seen.add(lines[2])
                    dated.append((-when, lines[2], lines[0], lines[1]))
        dated.sort()
        return {name: (identity, digest) for _, name, identity, digest in dated}

    def own_names(self) -> Pairs:
        """Name and image id of every name of this store, whether or not the image is there."""
        return [
            (name, identity)
            for name, (identity, _) in self._all_names().items()
            if os.path.exists(self._name_path(self.root, name))
        ]

    def damaged_names(self) -> Strings:
        """The files among the names that hold none, or not the one that they are called by."""
        found = []
        try:
            files = os.listdir(f"{self.root}/names")
        except FileNotFoundError:
            return []
        for file in files:
            if file.endswith(".tmp"):
                continue  # being written, or left by who was killed over it: collect() removes it
            path = f"{self.root}/names/{file}"
            lines = read_bytes(path).decode("utf-8", "replace").split("\n")
            if (
                len(lines) < 3
                or len(lines[0]) != 64
                or self._name_path(self.root, lines[2]) != path
            ):
                found.append(file)
        return found

    # Writing

    def add_image(
        self,
        config_bytes: bytes,
        manifest_bytes: bytes,
        names: Iterable[str] = (),
        *,
        digests: Iterable[str] = (),
        origins: Iterable[tuple[str, bool]] = (),
        host: bool = False,
    ) -> Image:
        """Write an image's record; its layers are there already. The caller holds `hold()`.

        `digests` are further ones by which it shall be known: an index's. `origins` are the repositories that have
        the blobs which are not kept here, with whether to ask them without TLS checks.
        """
        from rootless.oci.image import parse_config, parse_time

        identity = sha256(config_bytes)
        config = parse_config(config_bytes, f"image {identity[7:19]}")
        diff_ids = config["rootfs"].get("diff_ids") or []
        chains = chain_ids(diff_ids)
        for chain in chains:
            if not self.layers.has(chain):
                raise RootlessError(f"image {identity[7:19]}: layer {chain} is missing")
        self.make()
        self.blobs.put(config_bytes)
        digest = self.blobs.put(manifest_bytes)
        known = self.get(identity[7:])
        if known is not None and known.digest == digest:
            size = known.size
        else:
            size = len(config_bytes) + len(manifest_bytes)
            size += sum(self.layers.record(chain)["size"] for chain in chains)
        all_digests = [digest, *digests]
        all_origins = [(name, insecure) for name, insecure in origins]
        if known is not None and not known.read_only:
            all_digests += known.digests
            all_origins += [(name, insecure) for name, insecure in known.origins]
        record = {
            "id": identity[7:],
            "config_digest": identity,
            "digest": digest,
            "digests": list(dict.fromkeys(all_digests)),
            "chains": chains,
            "size": size,
            "created": parse_time(config.get("created") or ""),
            "config": config,
        }
        if host:
            record["host"] = True
        if all_origins:
            record["origins"] = [list(one) for one in dict.fromkeys(all_origins)][:_ORIGINS_MAX]
        if known is None or known.record != record:
            path = f"{self.root}/records/{identity[7:]}"
            write_json(path, record, self.blobs.mode, sync=self.blobs.sync)
        image = Image(self, record)
        for name in names:
            self.tag(image, name)
        return image

    def tag(self, image: Image, name: str, digest: str = "") -> str | None:
        """Give an image a full name; return the id of the image that had it."""
        reference = parse(name).with_default_tag()
        if not reference.domain:
            raise RootlessError(f"{name}: not a full image name")
        full = str(reference)
        self.make()
        before = self._name(full)[0]
        content = f"{image.id}\n{digest or image.digest}\n{full}\n"
        path = self._name_path(self.root, full)
        write_atomic(path, content.encode(), self.blobs.mode, sync=self.blobs.sync)
        # The kernel's own stamps are too coarse to tell the order of names given in one command.
        now = time.time_ns()
        try:
            os.utime(path, ns=(now, now))
        except FileNotFoundError:
            pass  # taken away again, perhaps with the image
        image._names = None
        if not image.is_list and self.get(image.id) is None:
            # Removed meanwhile; where the removal comes second, collect() takes the name away.
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
            raise ImageUnknown(f"{image.id[:12]}: image not known")
        if os.path.isdir(f"{self.root}/lists"):
            from rootless.image import lists

            lists.take_name(self, full)
        return before if before and before != image.id else None

    def untag(self, name: str) -> None:
        """Take a full name away; the image stays."""
        try:
            os.unlink(self._name_path(self.root, name))
        except FileNotFoundError:
            if self._name(name)[0]:
                raise Conflict(f"{name}: is in a read-only image store") from None
            raise ImageUnknown(f"{name}: tag not known") from None

    def forget(self, image: Image) -> None:
        """Remove an image's names and record. Its layers go with the next collect()."""
        if image.read_only:
            raise Conflict(f"image {image.id[:12]} is in a read-only image store")
        for name in self.names_of(image.id):
            try:
                os.unlink(self._name_path(self.root, name))
            except FileNotFoundError:
                continue
        try:
            os.unlink(f"{self.root}/records/{image.id}")
        except FileNotFoundError:
            pass


def _repository(name: str) -> str:
    name = name.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name
