"""Images from archives and folders: docker-archive, oci-archive, OCI layout, `dir`; and a bare root file system.

An archive is hostile (security cases 27, 28, 31, 32): its members are looked up by name in an index made here, never
opened by a path; each document is bounded; each digest and size is compared. A refused archive leaves nothing.
"""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor

from rootless.errors import NotFound, RootlessError
from rootless.image import platform as platforms
from rootless.image.intake import IncomingLayer, Intake
from rootless.image.reference import Reference, parse, parse_normalised
from rootless.linux.fs import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from rootless.oci import manifest as documents
from rootless.oci.digest import hasher, is_digest, sha256
from rootless.oci.document import (
    CONFIG_MAX_BYTES,
    MANIFEST_MAX_BYTES,
    BadDocument,
    parse_list,
    parse_object,
)
from rootless.oci.image import diff_ids, emit, parse_config
from rootless.oci.manifest import Index, Manifest
from rootless.storage import compress, tar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TypeGuard

    from rootless.image.platform import Platform
    from rootless.image.store import Image, ImageStore
    from rootless.storage.layers import Staging
    from rootless.storage.unpack import Helper

_MEMBERS_MAX = 100_000
_LINKS_MAX = 8
_REF_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"


class ArchiveError(RootlessError):
    """A file is not an archive of images, or must not be loaded."""


class Loaded:
    """What came out of an archive."""

    __slots__ = ("image", "names")

    def __init__(self, image: Image, names: list[str]) -> None:
        self.image = image
        self.names = names


# Members


class _Place:
    """Where a member's bytes are: descriptor, start, size."""

    __slots__ = ("fd", "size", "start")

    def __init__(self, fd: int, start: int, size: int) -> None:
        self.fd = fd
        self.start = start
        self.size = size

    def read(self, limit: int, what: str) -> bytes:
        if self.size > limit:
            raise ArchiveError(f"{what}: {self.size} bytes exceed the limit of {limit}")
        data = os.pread(self.fd, self.size, self.start)
        if len(data) != self.size:
            raise ArchiveError(f"{what}: cut off")
        return data

    def is_compressed(self) -> bool:
        return bool(compress.sniff(os.pread(self.fd, 6, self.start)))


class _FileInput(tar.Input):
    """A tar archive's headers from a seekable file, contents skipped."""

    __slots__ = ("_fd", "_position")

    def __init__(self, fd: int) -> None:
        super().__init__(lambda: b"")
        self._fd = fd
        self._position = 0

    @property
    def offset(self) -> int:
        return self._position

    def take(self, count: int) -> bytes:
        data = os.pread(self._fd, count, self._position)
        self._position += len(data)
        return data

    def skip(self, count: int) -> None:
        self._position += count


class TarMembers:
    """The members of an archive in a seekable file."""

    def __init__(self, fd: int, what: str) -> None:
        self.what = what
        self._fd = fd
        self._found: dict[str, _Place] = {}
        self._links: dict[str, str] = {}
        end = os.fstat(fd).st_size
        source = _FileInput(fd)
        reader = tar.Reader(source)
        while (entry := reader.next()) is not None:
            name = _member_name(os.fsdecode(entry.name))
            if len(self._found) + len(self._links) > _MEMBERS_MAX:
                raise ArchiveError(f"{what}: more than {_MEMBERS_MAX} members")
            if source.offset + entry.size > end:
                raise ArchiveError(f"{what}: the archive is cut off")
            # A later member of the same name counts, as for every tar.
            if entry.type == tar.REGULAR and entry.sparse is None:
                self._found[name] = _Place(fd, source.offset, entry.size)
                self._links.pop(name, None)
            elif entry.type in (tar.SYMLINK, tar.HARDLINK):
                target = os.fsdecode(entry.linkname)
                if entry.type == tar.SYMLINK:
                    target = f"{name.rpartition('/')[0]}/{target}"
                self._links[name] = _member_name(target)
                self._found.pop(name, None)
            source.skip(entry.size)

    def find(self, name: str) -> _Place | None:
        """Return where a member is. Links, as docker writes them for repeated layers, lead to members only."""
        for _ in range(_LINKS_MAX):
            place = self._found.get(name)
            if place is not None:
                return place
            if name not in self._links:
                return None
            name = self._links[name]
        raise ArchiveError(f"{self.what}: {name}: a loop of links")

    def close(self) -> None:
        pass


class FolderMembers:
    """The files of a folder; neither a link nor `..` is followed."""

    def __init__(self, path: str) -> None:
        self.what = path
        self._folder = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: list[int] = []

    def find(self, name: str) -> _Place | None:
        try:
            fd = openat2(
                self._folder,
                name,
                os.O_RDONLY | os.O_NONBLOCK,
                0,
                RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ArchiveError(f"{self.what}/{name}: cannot read it: {error.strerror}") from error
        self._open.append(fd)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ArchiveError(f"{self.what}/{name}: not a regular file")
        return _Place(fd, 0, status.st_size)

    def close(self) -> None:
        for fd in (self._folder, *self._open):
            os.close(fd)


def _member_name(name: str) -> str:
    """A member's name without what is nothing; `..` at the top stays and so matches no name that is asked for."""
    parts: list[str] = []
    for part in name.split("/"):
        if part in ("", "."):
            continue
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def open_members(store: ImageStore, source: str | int, what: str) -> TarMembers | FolderMembers:
    """Open a path or a descriptor; what is compressed or cannot be seeked is first written to a nameless file."""
    if isinstance(source, str):
        if os.path.isdir(source):
            return FolderMembers(source)
        try:
            fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NotFound(f"{source}: cannot read it: {(error.strerror or '').lower()}") from error
    else:
        fd = source
    status = os.fstat(fd)
    if stat.S_ISDIR(status.st_mode):
        raise ArchiveError(f"{what}: is a folder")
    seekable = stat.S_ISREG(status.st_mode) and os.lseek(fd, 0, os.SEEK_CUR) == 0
    if not seekable or compress.sniff(os.pread(fd, 6, 0)):
        fd = _spool(store, fd)
    try:
        return TarMembers(fd, what)
    except tar.TarError as error:
        raise ArchiveError(f"{what}: {error}") from error


def _spool(store: ImageStore, fd: int) -> int:
    store.make()
    out = os.open(f"{store.root}/tmp", os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    limit = store.layers.limits.get("max_bytes", 256 << 30)
    total = 0
    for block in compress.inflate(lambda: os.read(fd, 1 << 18)):
        total += len(block)
        if total > limit:
            raise ArchiveError(f"the archive is larger than the limit of {limit} bytes")
        view = memoryview(block)
        while view:
            view = view[os.write(out, view) :]
    return out


# Loading


def load(
    store: ImageStore,
    source: str | int,
    what: str,
    *,
    platform: Platform | None = None,
    only: str = "",
) -> list[Loaded]:
    """Load every image of an archive or folder, or `only` the one with that name (or `@` and its number)."""
    members = open_members(store, source, what)
    # Pulled images' names need folders; the helper is forked before any thread is.
    store.make()
    added: list[str] = []
    try:
        with store.helper() as helper:
            loader = _Loader(store, helper, members, what, platform or platforms.host(), added)
            loader.only = only
            return loader.run()
    except BaseException:
        store.remove_unused(added)
        raise
    finally:
        members.close()


class _Loader:
    def __init__(
        self,
        store: ImageStore,
        helper: Helper,
        members: TarMembers | FolderMembers,
        what: str,
        platform: Platform,
        added: list[str],
    ) -> None:
        self.store = store
        self.helper = helper
        self.members = members
        self.what = what
        self.platform = platform
        self.added = added
        self.only = ""

    def run(self) -> list[Loaded]:
        layout = self.members.find("oci-layout")
        if layout is not None and self.members.find("index.json") is not None:
            return self._oci(layout)
        listing = self.members.find("manifest.json")
        if listing is None:
            raise ArchiveError(
                f"{self.what}: neither a docker archive nor an OCI one: there is no manifest.json and no index.json"
            )
        data = listing.read(MANIFEST_MAX_BYTES, f"{self.what}: manifest.json")
        if data.lstrip()[:1] == b"{":
            return [self._dir(data)]
        return self._docker(data)

    # docker-archive

    def _docker(self, data: bytes) -> list[Loaded]:
        what = f"{self.what}: manifest.json"
        images = parse_list(data, what)
        if not images:
            raise ArchiveError(f"{what}: names no image")
        if self.only.startswith("@") and self.only[1:].isdigit():
            images = images[int(self.only[1:]) : int(self.only[1:]) + 1]
        checked = [self._docker_check(one, what) for one in images]
        if self.only and not self.only.startswith("@"):
            name = str(parse_normalised(self.only).with_default_tag())
            checked = [
                (config, places, [name]) for config, places, names in checked if name in names
            ]
        return [self._docker_image(*one) for one in checked]

    def _docker_check(self, one: object, what: str) -> tuple[bytes, list[_Place], list[str]]:
        if not isinstance(one, dict):
            raise BadDocument(f"{what}: not a list of objects")
        config_name, layers, tags = one.get("Config"), one.get("Layers"), one.get("RepoTags") or []
        if not isinstance(config_name, str) or not _are_texts(layers) or not _are_texts(tags):
            raise BadDocument(f"{what}: Config, Layers or RepoTags has the wrong type")
        config = self._member(config_name).read(CONFIG_MAX_BYTES, f"{self.what}: {config_name}")
        ids = diff_ids(parse_config(config, f"{self.what}: {config_name}"), self.what)
        if len(ids) != len(layers):
            raise ArchiveError(
                f"{self.what}: the config names {len(ids)} layers, manifest.json {len(layers)}"
            )
        names = [str(parse_normalised(tag).with_default_tag()) for tag in tags]
        return config, [self._member(name) for name in layers], names

    def _docker_image(self, config: bytes, places: list[_Place], names: list[str]) -> Loaded:
        ids = diff_ids(parse_config(config, self.what), self.what)
        descriptors = [
            {"mediaType": documents.DOCKER_LAYER, "size": place.size, "digest": diff_id}
            for place, diff_id in zip(places, ids, strict=True)
        ]

        def make_manifest() -> bytes:
            return emit(
                {
                    "schemaVersion": 2,
                    "mediaType": documents.DOCKER_MANIFEST,
                    "config": {
                        "mediaType": documents.DOCKER_CONFIG,
                        "size": len(config),
                        "digest": sha256(config),
                    },
                    "layers": descriptors,
                }
            )

        manifest = documents.parse(make_manifest(), self.what)
        assert isinstance(manifest, Manifest)
        with Intake(self.store, self.helper, config, manifest.data, manifest, self.what) as intake:
            self._each(
                list(zip(intake.layers(), places, strict=True)),
                lambda layer, place: layer.unpack_file(place.fd, place.start, place.size),
            )
            # A layer in the archive may be compressed: the manifest names the plain one that is kept.
            for descriptor, layer in zip(descriptors, intake.layers(), strict=True):
                descriptor["size"] = self.store.layers.record(layer.chain)["size"]
            intake.manifest_bytes = make_manifest()
            return Loaded(intake.commit(names), names)

    # OCI

    def _oci(self, layout: _Place) -> list[Loaded]:
        version = parse_object(
            layout.read(MANIFEST_MAX_BYTES, f"{self.what}: oci-layout"), f"{self.what}: oci-layout"
        ).get("imageLayoutVersion")
        if not isinstance(version, str) or version.split(".")[0] != "1":
            raise ArchiveError(f"{self.what}: OCI layout of unknown version {str(version)[:50]!r}")
        place = self._member("index.json")
        index = documents.parse(
            place.read(MANIFEST_MAX_BYTES, f"{self.what}: index.json"),
            f"{self.what}: index.json",
            documents.OCI_INDEX,
        )
        assert isinstance(index, Index)
        docker_tags = self._docker_tags()
        # Several names of one image are several entries for it.
        wanted: dict[str, tuple[documents.Descriptor, list[str]]] = {}
        for entry in index.manifests:
            if self.only and self.only != entry.annotations.get(_REF_NAME):
                continue
            names = wanted.setdefault(entry.digest, (entry, []))[1]
            name = entry.annotations.get(_CONTAINERD_NAME) or entry.annotations.get(_REF_NAME) or ""
            if name:
                names.append(self._oci_name(name))
        if not wanted and not self.only:
            raise ArchiveError(f"{self.what}: names no image")
        loaded = []
        for entry, names in wanted.values():
            manifest, digests = self._resolve(entry)
            manifest.check_image(self.what)
            names = list(dict.fromkeys(names + docker_tags.get(manifest.config.digest, [])))
            loaded.append(self._oci_image(manifest, names, digests))
        return loaded

    def _docker_tags(self) -> dict[str, list[str]]:
        """The names that a docker archive, which also has an OCI index, gives to each config."""
        listing = self.members.find("manifest.json")
        if listing is None:
            return {}
        found: dict[str, list[str]] = {}
        what = f"{self.what}: manifest.json"
        for one in parse_list(listing.read(MANIFEST_MAX_BYTES, what), what):
            if isinstance(one, dict) and isinstance(one.get("Config"), str):
                tags = one.get("RepoTags") or []
                if _are_texts(tags):
                    digest = f"sha256:{one['Config'].rpartition('/')[2].removesuffix('.json')}"
                    found[digest] = [str(parse_normalised(tag).with_default_tag()) for tag in tags]
        return found

    def _oci_name(self, name: str) -> str:
        reference = parse(name)
        if not reference.domain:
            reference = reference.with_domain("localhost")
        return str(reference.with_default_tag())

    def _resolve(self, entry: documents.Descriptor) -> tuple[Manifest, list[str]]:
        """Follow a descriptor, through indexes, to this platform's manifest."""
        digests: list[str] = []
        for _ in range(4):
            document = documents.parse(
                self._blob(entry, MANIFEST_MAX_BYTES),
                f"{self.what}: {entry.digest}",
                entry.media_type,
            )
            if isinstance(document, Manifest):
                return document, digests
            digests.append(entry.digest)
            entry = platforms.select(document, self.platform, self.what)
        raise ArchiveError(f"{self.what}: indexes nested too deep")

    def _blob(self, descriptor: documents.Descriptor, limit: int) -> bytes:
        """Read a document by its descriptor, compare size and digest."""
        place = self._blob_place(descriptor)
        data = place.read(limit, f"{self.what}: {descriptor.digest}")
        hash = hasher(descriptor.digest)
        hash.update(data)
        if hash.hexdigest() != descriptor.digest.partition(":")[2]:
            raise ArchiveError(
                f"{self.what}: {descriptor.digest}: the member has digest {hash.name}:{hash.hexdigest()}"
            )
        return data

    def _blob_place(self, descriptor: documents.Descriptor) -> _Place:
        assert is_digest(descriptor.digest)
        place = self._member(f"blobs/{descriptor.digest.replace(':', '/')}")
        if place.size != descriptor.size:
            raise ArchiveError(
                f"{self.what}: {descriptor.digest}: has {place.size} bytes instead of {descriptor.size}"
            )
        return place

    def _oci_image(self, manifest: Manifest, names: list[str], digests: list[str]) -> Loaded:
        config = self._blob(manifest.config, CONFIG_MAX_BYTES)
        places = [self._blob_place(layer) for layer in manifest.layers]
        return self._image(config, manifest, places, names, digests)

    # dir

    def _dir(self, data: bytes) -> Loaded:
        """The `dir` transport: manifest.json, and each blob under the hex part of its digest."""
        manifest = documents.parse(data, f"{self.what}: manifest.json")
        if not isinstance(manifest, Manifest):
            raise ArchiveError(f"{self.what}: an index in a folder of this kind cannot be loaded")
        manifest.check_image(self.what)
        places = []
        for descriptor in (manifest.config, *manifest.layers):
            place = self._member(descriptor.digest.partition(":")[2])
            if place.size != descriptor.size:
                raise ArchiveError(
                    f"{self.what}: {descriptor.digest}: has {place.size} bytes instead of {descriptor.size}"
                )
            places.append(place)
        config = places[0].read(CONFIG_MAX_BYTES, f"{self.what}: config")
        if sha256(config) != manifest.config.digest:
            raise ArchiveError(
                f"{self.what}: {manifest.config.digest}: the file has another digest"
            )
        return self._image(config, manifest, places[1:], [], [])

    # Common

    def _member(self, name: str) -> _Place:
        place = self.members.find(_member_name(name))
        if place is None:
            raise ArchiveError(f"{self.what}: has no member {name[:200]!r}")
        return place

    def _image(
        self,
        config: bytes,
        manifest: Manifest,
        places: list[_Place],
        names: list[str],
        digests: list[str],
    ) -> Loaded:
        def take(layer: IncomingLayer, place: _Place) -> None:
            if layer.digest == layer.diff_id and not place.is_compressed():
                layer.unpack_file(place.fd, place.start, place.size)
                return
            sink = layer.open()
            if sink is None:
                return
            with sink:
                position = sink.offset
                while position < place.size:
                    data = os.pread(
                        place.fd, min(1 << 20, place.size - position), place.start + position
                    )
                    if not data:
                        break
                    sink.write(data)
                    position += len(data)
                sink.finish()

        with Intake(self.store, self.helper, config, manifest.data, manifest, self.what) as intake:
            self._each(list(zip(intake.layers(), places, strict=True)), take)
            return Loaded(intake.commit(names, digests=digests), names)

    def _each(self, work: list[tuple[IncomingLayer, _Place]], take: Any) -> None:
        """Bring in several layers at once; the first error ends it."""
        for layer, _ in work:
            if not self.store.layers.has(layer.chain):
                self.added.append(layer.chain)
        missing = [one for one in work if not self.store.layers.has(one[0].chain)]
        if len(missing) < 2:
            for layer, place in missing:
                take(layer, place)
            return
        with ThreadPoolExecutor(len(os.sched_getaffinity(0)) + 1) as pool:
            futures = [pool.submit(take, layer, place) for layer, place in missing]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                for future in futures:
                    future.cancel()
                raise


def _are_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


# A bare root file system


def import_rootfs(
    store: ImageStore,
    source: int,
    config: dict[str, Any],
    names: Iterable[str] = (),
    *,
    message: str = "",
) -> Image:
    """Make an image of one layer from a tar archive, as it comes from a file or pipe.

    `config` is what the image's config shall say, architecture and os included.
    """
    import time

    from rootless.oci.image import rfc3339

    store.make()
    with store.helper() as helper, store.hold():
        diff_id, size = _import_layer(store, helper, source)
        created = rfc3339(time.time())
        document = {
            "created": created,
            **config,
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [
                {
                    "created": created,
                    # docker's words for it, which Podman writes as well
                    "created_by": f"/bin/sh -c #(nop) ADD file:{diff_id.partition(':')[2]} in /",
                    **({"comment": message} if message else {}),
                }
            ],
        }
        config_bytes = emit(document)
        manifest = emit(
            {
                "schemaVersion": 2,
                "mediaType": documents.OCI_MANIFEST,
                "config": {
                    "mediaType": documents.OCI_CONFIG,
                    "digest": sha256(config_bytes),
                    "size": len(config_bytes),
                },
                "layers": [
                    {
                        "mediaType": documents.OCI_LAYER,
                        "digest": diff_id,
                        "size": size,
                    }
                ],
            }
        )
        return store.add_image(config_bytes, manifest, [str(_full(name)) for name in names])


def _import_layer(store: ImageStore, helper: Helper, source: int) -> tuple[str, int]:
    staging = store.layers.begin_new(helper)
    try:
        staging.start(source, stream=True)
        result = staging.finish()
        if result["spoiled"]:
            # Kept as what it unpacks to, since its own bytes could not be made again.
            return _repack(store, helper, staging)
        if store.layers.has(staging.name("")):
            staging.abort()
        else:
            staging.commit(result)
    except BaseException:
        staging.abort()
        raise
    return staging.diff_id, result["size"]


def _repack(store: ImageStore, helper: Helper, first: Staging) -> tuple[str, int]:
    from rootless.image.commit import pack_layer

    try:
        return pack_layer(store, helper, [first.folder], "", raw=True)
    finally:
        first.abort()


def download(store: ImageStore, url: str) -> int:
    """Fetch a root file system from a web server into a nameless file."""
    from urllib import request
    from urllib.error import HTTPError, URLError

    class Redirects(request.HTTPRedirectHandler):
        """To http and https only: by default a server may send us to ftp as well."""

        def redirect_request(self, *args: Any) -> request.Request | None:
            if not str(args[-1]).startswith(("http://", "https://")):
                raise ArchiveError(f"{url}: the server redirects to {str(args[-1])[:200]!r}")
            return super().redirect_request(*args)

    store.make()
    limit = store.layers.limits.get("max_bytes", 256 << 30)
    out = os.open(f"{store.root}/tmp", os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    try:
        with request.build_opener(Redirects()).open(url, timeout=60) as answer:
            total = 0
            while data := answer.read(1 << 18):
                total += len(data)
                if total > limit:
                    raise ArchiveError(f"{url}: larger than the limit of {limit} bytes")
                view = memoryview(data)
                while view:
                    view = view[os.write(out, view) :]
            expected = answer.headers.get("Content-Length")
            if expected is not None and expected.isdigit() and int(expected) != total:
                raise ArchiveError(f"{url}: cut off after {total} of {expected} bytes")
    except (URLError, TimeoutError, ConnectionError, ValueError) as error:
        os.close(out)
        reason = error if isinstance(error, HTTPError) else getattr(error, "reason", None) or error
        raise ArchiveError(f"{url}: cannot fetch it: {reason}") from error
    except BaseException:
        os.close(out)
        raise
    os.lseek(out, 0, os.SEEK_SET)
    return out


def _full(name: str) -> Reference:
    reference = parse(name).with_default_tag()
    return reference if reference.domain else reference.with_domain("localhost")
