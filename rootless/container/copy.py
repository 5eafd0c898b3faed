"""`cp`: what goes where, by the rules of Docker and Podman for names and trailing slashes.

    source      destination          result
    file        nothing there        that file (its folder has to be there; a name with `/` at its end is an error)
    file        file                 replaced
    file        folder               in the folder, under its own name
    folder      nothing there        made, with the source's content
    folder      folder               in the folder, under its own name; with SOURCE/. its content only
    folder      file                 an error, unless --overwrite replaces the file

Links named on the command line are followed; of those found below, the link is copied.
"""

from __future__ import annotations

import os

from rootless.container import transfer
from rootless.container.guest import Guest, host_owner, user_of, workdir_of
from rootless.errors import NotFound, RootlessError, Usage
from rootless.linux.idmap import to_container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.container.engine import Engine

NOT_THERE = "no such file or directory"
_DIRECTORY = "destination must be a directory when copying a directory"
# What the kernel shows there is not the container's.
_KERNEL = ("dev", "proc", "sys")


class Place:
    """One side of a copy: `container` is empty for the host; `path` is as it was written."""

    __slots__ = ("container", "path")

    def __init__(self, container: str, path: str) -> None:
        self.container = container
        self.path = path

    def __str__(self) -> str:
        return f'"{self.container}:{self.path}"' if self.container else f'"{self.path}"'


def parse(text: str) -> Place:
    """`[CONTAINER:]PATH`; what begins with a dot or a slash is a path of the host."""
    if text.startswith((".", "/")):
        return Place("", text)
    container, colon, path = text.partition(":")
    return Place(container, path) if colon else Place("", text)


class Found:
    """What a path leads to. Where nothing is: the folder and name under which it would be made."""

    __slots__ = ("exists", "folder", "name", "parent", "path")

    def __init__(self, exists: bool, folder: bool, path: str, parent: str, name: str) -> None:
        self.exists = exists
        self.folder = folder
        self.path = path
        self.parent = parent
        self.name = name


class Copy:
    """One call of `cp`."""

    __slots__ = ("engine", "archive", "overwrite")

    def __init__(self, engine: Engine, *, archive: bool = True, overwrite: bool = False) -> None:
        self.engine = engine
        self.archive = archive
        self.overwrite = overwrite

    def run(self, source: Place, destination: Place) -> None:
        if not source.path or not destination.path:
            raise Usage(f"invalid arguments {source}, {destination}: you must specify paths")
        if source.container and destination.container:
            self._between(source, destination)
        elif source.container:
            self._from(source, destination)
        elif destination.container:
            self._to(source, destination)
        else:
            raise Usage(
                f"{source.path} and {destination.path} are both on the host: name a container, as in web:/etc/hosts"
            )

    # sides

    def _guest(self, name: str) -> Guest:
        return Guest(self.engine, self._lookup(name))

    def _lookup(self, name: str) -> str:
        try:
            return self.engine.containers.lookup(name)
        except NotFound:
            raise NotFound(f'container "{name}" does not exist') from None

    def _inside(self, guest: Guest, place: Place) -> str:
        if place.path.startswith("/"):
            return place.path
        return f"{workdir_of(self.engine, guest.record)}/{place.path}"

    def _look(self, guest: Guest, path: str) -> Found:
        answer = guest.ask("look", path=path)
        if answer["found"]:
            real = answer["path"]
            return Found(
                True, answer["folder"], real, os.path.dirname(real), os.path.basename(real)
            )
        return Found(False, False, "", answer["parent"], answer["name"])

    def _source(self, guest: Guest, place: Place) -> Found:
        found = self._look(guest, self._inside(guest, place))
        if not found.exists:
            raise NotFound(
                f'"{place.path}" could not be found on container {place.container}: {NOT_THERE}'
            )
        return found

    def _target(self, guest: Guest, place: Place) -> Found:
        found = self._look(guest, self._inside(guest, place))
        if not found.exists and (place.path.endswith("/") or not found.parent):
            raise NotFound(
                f'"{place.path}" could not be found on container {place.container}: {NOT_THERE}'
            )
        return found

    def _owner(self, guest: Guest) -> list[int] | None:
        """Whom copied files are given to: the container's user, unless the owners are to be kept."""
        if not self.archive:
            return None
        answer = guest.ask("owner", user=user_of(self.engine, guest.record))
        return [answer["uid"], answer["gid"]]

    # directions

    def _to(self, source: Place, destination: Place) -> None:
        if source.path == "-":
            self._from_stdin(destination)
            return
        with self._guest(destination.container) as guest:
            found = host_source(source.path)
            target = self._target(guest, destination)
            folder, name, contents = place_for(found, source.path, target, overwrite=self.overwrite)
            owner = self._owner(guest)
            idmap = guest.idmap

            def map_owner(uid: int, gid: int) -> tuple[int, int]:
                return to_container(idmap.uids, uid) or 0, to_container(idmap.gids, gid) or 0

            def pack(out: int) -> None:
                packer = transfer.Packer(out, map_owner=map_owner)
                transfer.pack_path(packer, os.open, source.path, name, contents=contents)

            self._pour(guest, pack, folder, owner)

    def _from_stdin(self, destination: Place) -> None:
        from rootless.storage.compress import inflate

        with self._guest(destination.container) as guest:
            target = self._look(guest, self._inside(guest, destination))
            if not target.folder:
                raise RootlessError("destination must be a directory when copying from stdin")
            owner = self._owner(guest)

            first = os.read(0, transfer.PIECE)
            if not first:
                raise RootlessError(
                    "source must be a (compressed) tar archive when copying from stdin"
                )

            def read() -> bytes:
                nonlocal first
                data, first = first, b""
                return data or os.read(0, transfer.PIECE)

            def pour(out: int) -> None:
                for block in inflate(read):
                    view = memoryview(block)
                    while view:
                        view = view[os.write(out, view) :]

            self._pour(guest, pour, target.path, owner)

    def _pour(
        self, guest: Guest, pack: Callable[[int], None], folder: str, owner: list[int] | None
    ) -> None:
        """Write an archive here while the guest unpacks it; the guest's error is the reason where both fail."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            guest.send("unpack", (reader,), path=folder, owner=owner, overwrite=self.overwrite)
            os.close(reader)
            reader = -1
            try:
                pack(writer)
            except BrokenPipeError:
                pass
            finally:
                os.close(writer)
                writer = -1
            guest.answer()
        finally:
            for fd in (reader, writer):
                if fd >= 0:
                    os.close(fd)

    def _from(self, source: Place, destination: Place) -> None:
        with self._guest(source.container) as guest:
            found = self._source(guest, source)
            if destination.path == "-":
                self._to_stdout(guest, source, found)
                return
            target = host_target(destination.path)
            folder, name, contents = place_for(found, source.path, target, overwrite=self.overwrite)
            top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            reader, writer = os.pipe2(os.O_CLOEXEC)
            try:
                self._begin_pack(guest, found, name, contents, writer)
                os.close(writer)
                writer = -1
                transfer.Unpacker(top, overwrite=self.overwrite).run(
                    lambda: os.read(reader, transfer.PIECE)
                )
                os.close(reader)
                reader = -1
                guest.ask("packed")
            finally:
                for fd in (top, reader, writer):
                    if fd >= 0:
                        os.close(fd)

    def _begin_pack(
        self,
        guest: Guest,
        found: Found,
        name: str,
        contents: bool,
        out: int,
        owner: tuple[int, int] | None = None,
    ) -> None:
        skip = _KERNEL if found.path == "/" else ()
        guest.ask(
            "pack", (out,), path=found.path, name=name, contents=contents, skip=list(skip),
            owner=list(owner) if owner else None,
        )  # fmt: skip

    def _to_stdout(self, guest: Guest, source: Place, found: Found) -> None:
        if os.isatty(1):
            raise RootlessError(
                "refusing to write an archive to a terminal: redirect standard output"
            )
        answer = guest.ask("owner", user=user_of(self.engine, guest.record))
        owner = host_owner(guest.idmap, answer["uid"], answer["gid"])
        contents = found.path == "/" or only_contents(source.path)
        self._begin_pack(guest, found, found.name, contents, 1, owner)
        guest.ask("packed")

    def _between(self, source: Place, destination: Place) -> None:
        same = self._lookup(source.container) == self._lookup(destination.container)
        with self._guest(source.container) as giver:
            taker = giver if same else self._guest(destination.container)
            try:
                found = self._source(giver, source)
                target = self._target(taker, destination)
                folder, name, contents = place_for(
                    found, source.path, target, overwrite=self.overwrite
                )
                if (
                    same
                    and found.folder
                    and f"{folder}/{name}/".replace("//", "/").startswith(f"{found.path}/")
                ):
                    raise RootlessError(f"cannot copy {source.path} into itself")
                owner = self._owner(taker)
                reader, writer = os.pipe2(os.O_CLOEXEC)
                try:
                    self._begin_pack(giver, found, name, contents, writer)
                    os.close(writer)
                    writer = -1
                    taker.ask(
                        "unpack", (reader,), path=folder, owner=owner, overwrite=self.overwrite
                    )
                    os.close(reader)
                    reader = -1
                    giver.ask("packed")
                finally:
                    for fd in (reader, writer):
                        if fd >= 0:
                            os.close(fd)
            finally:
                if taker is not giver:
                    taker.close()


def host_source(path: str) -> Found:
    """What is to be copied from this host; NotFound where nothing is there."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise NotFound(
            f'"{path}" could not be found on the host: {(error.strerror or "").lower()}'
        ) from None
    import stat

    clean = os.path.normpath(path)
    name = os.path.basename(clean)
    if name in ("", ".", ".."):
        name = os.path.basename(os.path.realpath(path))
    return Found(True, stat.S_ISDIR(status.st_mode), clean, os.path.dirname(clean), name)


def host_target(path: str) -> Found:
    """A folder, or the folder and name that a file is to have; a link that is no folder's is replaced."""
    clean = os.path.normpath(path)
    if os.path.isdir(path):
        return Found(True, True, path, os.path.dirname(clean), os.path.basename(clean))
    parent = os.path.dirname(clean) or "."
    exists = os.path.lexists(clean)
    if not exists and (path.endswith("/") or not os.path.isdir(parent)):
        raise NotFound(f'"{path}" could not be found on the host: {NOT_THERE}')
    return Found(exists, False, path, parent, os.path.basename(clean))


def only_contents(path: str) -> bool:
    """Whether a path means what is in the folder, and not the folder."""
    return path == "." or path.endswith("/.")


def place_for(
    source: Found, written: str, target: Found, *, overwrite: bool
) -> tuple[str, str, bool]:
    """(folder to unpack in, name of the thing there, whether only a folder's content is meant)."""
    if source.folder and target.exists and not target.folder and not overwrite:
        raise RootlessError(_DIRECTORY)
    if not target.folder:
        return target.parent, target.name, False
    if source.folder and (only_contents(written) or not source.name):
        return target.path, "", True
    return target.path, source.name, False
