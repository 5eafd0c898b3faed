"""The compiled code of what the commands load, in one file beside Python's own compiled files.

Python looks for each module by itself: a dozen system calls and interpreted code before the first of its bytes is read. For
the 90 modules of `start` this was 20 to 25 % of the processor time of importing them (20.3 to 16.4 ms on a slow machine;
what is left is unmarshalling, a third, and running the modules). Here it is one look into an index, and one read.

What a command is known to load first (`FIRST`) is there once more in one piece, each module before those that import it: one
read for all of them, each name made once, and an import finds its module loaded. That saves another fifth of the 23 million
instructions of loading `rootless-oci run`.

    magic | length of the index | whose; stamp; command -> where its piece is; the modules' own index, as bytes
    stamp, code | stamp, code | … | stamp, piece | …

In the modules' own index: module -> source, its time and size, whether a package, where its code is. An entry counts only
while its source is as it was, so nothing is to be kept up to date by hand: where a command has loaded something from
elsewhere and may write beside the compiled files, it writes the file anew at its end (precompile.py). The stamp is another
one each time: a code that is read after the file has been replaced is seen to be another's, which neither an inode's number
nor a time tells for sure.
"""

from __future__ import annotations

import posix
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER
from marshal import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType

    Entry = tuple[str, int, int, bool, int, int]

#: Another layout of the file needs another number.
MAGIC = b"rl3" + MAGIC_NUMBER
STAMP_SIZE = 16

#: Modules that a command loads in any case; all that is loaded until it has the last of them is its piece.
FIRST = {
    "rootless-oci run": "ocicli.main ocicli.foreground",
    "rootless-oci create": "ocicli.main ocicli.create ocicli.leftovers",
    "rootless-oci start": "ocicli.main ocicli.start",
    "rootless-oci exec": "ocicli.main ocicli.execute",
    "rootless-oci state": "ocicli.main ocicli.state",
    "rootless-oci kill": "ocicli.main ocicli.kill",
    "rootless-oci delete": "ocicli.main ocicli.delete",
    "rootless run": (
        "__main__ cli.parse cli.run container.read_options image.opening runtime.idmap container.lifecycle runtime.seccomp"
    ),
    "rootless create": "__main__ cli.parse cli.create container.read_options image.opening",
    "rootless start": (
        "__main__ cli.parse cli.start cli.many cli.selection cli.output container.engine container.supervise "
        "container.attach container.lifecycle image.opening runtime.idmap runtime.seccomp"
    ),
    "rootless exec": "__main__ cli.parse cli.exec cli.selection container.engine container.execution",
    "rootless stop": (
        "__main__ cli.parse cli.stop cli.many cli.selection cli.output container.engine container.lifecycle"
    ),
    "rootless rm": (
        "__main__ cli.parse cli.rm cli.many cli.selection cli.output container.engine container.lifecycle linux.tree"
    ),
    "rootless ps": "__main__ cli.parse cli.ps",
}


class Precompiled:
    """The first finder, and the loader, of what the file has."""

    __slots__ = ("path", "key", "stamp", "codes_at", "pieces", "before", "command", "_index")

    def __init__(self, compiled: str, source: str) -> None:
        """The paths of one of our compiled files and of its source."""
        folder = compiled.rpartition("/")[0]
        self.path = f"{folder}/commands.{sys.implementation.cache_tag}.bin" if folder else ""
        # Another package, or another Python's standard library, at the same place has the file written anew.
        self.key = (source.rpartition("/")[0], sys.base_prefix, sys.version)
        self.stamp = b""
        self.codes_at = 0
        self.pieces: dict[str, tuple[int, int]] = {}
        self.before = len(sys.modules)
        self.command = ""
        self._index: bytes | dict[str, Entry] = {}
        try:
            fd = posix.open(self.path, posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:
            return
        try:
            head = len(MAGIC)
            start = posix.read(fd, 32768)
            if start[:head] == MAGIC:
                end = head + 4 + int.from_bytes(start[head : head + 4], "little")
                if len(start) < end:
                    start += posix.read(fd, end - len(start))
                key, stamp, pieces, index = loads(start[head + 4 : end])
                if key == self.key:
                    self.pieces = pieces
                    self._index = index
                    self.codes_at = end
                    self.stamp = stamp
        except (OSError, EOFError, ValueError, TypeError):
            pass  # damaged: written anew
        finally:
            posix.close(fd)

    def forget(self) -> None:
        """Take the file for an empty one."""
        self.pieces = {}
        self._index = {}

    @property
    def entries(self) -> dict[str, Entry]:
        if isinstance(self._index, bytes):
            try:
                self._index = loads(self._index)
            except (EOFError, ValueError, TypeError):
                self._index = {}
        index: dict[str, Entry] = self._index  # type: ignore[assignment]  # read above
        return index

    def load_first(self, program: str, words: Sequence[str]) -> None:
        """Load what the command that is among these words loads in any case.

        What fails is left to its import, where that is expected.
        """
        for word in words:
            self.command = f"{program} {word}"
            if self.command in FIRST:
                break
        else:
            self.command = ""
        if self.command not in self.pieces:
            return
        modules = sys.modules
        make_module = type(sys)
        try:
            for name, source, time_ns, size, package, code in self.piece(self.command):
                parent, _, child = name.rpartition(".")
                if name in modules or (parent and parent not in modules):
                    continue
                status = posix.stat(source)
                if status.st_mtime_ns != time_ns or status.st_size != size:
                    continue
                modules[name] = module = make_module(name)
                spec = self._spec(name, source, package)
                attributes = module.__dict__
                attributes.update(
                    __spec__=spec, __loader__=self, __file__=source, __cached__=self.path
                )
                attributes["__package__"] = name if package else parent
                if package:
                    attributes["__path__"] = spec.submodule_search_locations
                try:
                    exec(code, attributes)
                except BaseException:
                    del modules[name]
                    raise
                if parent:
                    setattr(modules[parent], child, module)
        except Exception:
            pass

    def piece(self, command: str) -> list[tuple[str, str, int, int, bool, CodeType]]:
        """Of each module its name, its source with its time and size, whether it is a package, and its code."""
        found: list[tuple[str, str, int, int, bool, CodeType]] = loads(
            self._read(*self.pieces[command])
        )
        return found

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        entry = self.entries.get(name)
        if entry is None:
            return None
        try:
            code = loads(self.read(entry))
        except (OSError, EOFError, ValueError, TypeError):
            del self.entries[name]
            return None
        spec = self._spec(name, entry[0], entry[3])
        spec.loader_state = code
        return spec

    def _spec(self, name: str, source: str, package: bool) -> ModuleSpec:
        spec = ModuleSpec(name, self, origin=source)  # type: ignore[arg-type]  # all that a loader needs
        spec.has_location = True
        spec.cached = self.path  # working out the usual place takes longer than all the rest
        if package:
            spec.submodule_search_locations = [source.rpartition("/")[0]]
        return spec

    def read(self, entry: Entry) -> memoryview:
        """An entry's code; nothing where it is not its source's any more, or the file another one."""
        source, time_ns, size, _, at, length = entry
        status = posix.stat(source)
        if status.st_mtime_ns != time_ns or status.st_size != size:
            return memoryview(b"")
        return self._read(at, length)

    def _read(self, at: int, length: int) -> memoryview:
        # Not held open: a container's first process is a copy of ours.
        fd = posix.open(self.path, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            data = posix.pread(fd, STAMP_SIZE + length, self.codes_at + at)
        finally:
            posix.close(fd)
        if len(data) != STAMP_SIZE + length or data[:STAMP_SIZE] != self.stamp:
            return memoryview(b"")
        # No copy, for which the kernel would have to find as many pages again.
        return memoryview(data)[STAMP_SIZE:]

    def create_module(self, spec: ModuleSpec) -> None:
        """The usual one."""

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None
        code = spec.loader_state
        spec.loader_state = None
        exec(code, module.__dict__)

    def keep(self) -> None:
        """At a command's end: write what it has loaded from elsewhere, if there is anything."""
        if sys.dont_write_bytecode:
            return
        loaded = list(sys.modules.items())[self.before :]
        names = [
            name
            for name, module in loaded
            if hasattr(module, "__cached__")
            and getattr(module, "__loader__", None) is not self
            and is_ours(name)
            and name not in self.entries
        ]
        is_new = self.command not in self.pieces and self.command != ""
        if (names or is_new) and posix.access(self.path.rpartition("/")[0] or "/", posix.W_OK):
            from rootless.precompile import write

            first = up_to(self.command, [name for name, _ in loaded]) if self.command else []
            write(self, names, {self.command: first} if first else {})


def up_to(command: str, loaded: list[str]) -> list[str]:
    """What of the loaded modules, in the order in which they were complete, a command loads in any case; nothing, if this
    one has ended before."""
    wanted = [f"rootless.{name}" for name in FIRST[command].split()]
    if not set(wanted).issubset(loaded):
        return []
    return loaded[: max(loaded.index(name) for name in wanted) + 1]


def is_ours(name: str) -> bool:
    """Not what a command loads for help or for an image: that is large, seldom needed, and somebody else's."""
    top = name.partition(".")[0]
    return top in ("rootless", "slirp") or top in sys.stdlib_module_names
