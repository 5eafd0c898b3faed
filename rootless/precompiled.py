"""The compiled code of what the commands load, in one file beside Python's own compiled files.

Python looks for each module by itself: a dozen system calls and interpreted code before the first of its bytes is read. For
the 90 modules of `start` this was 20 to 25 % of the processor time of importing them (20.3 to 16.4 ms on a slow machine;
what is left is unmarshalling, a third, and running the modules). Here it is one look into an index, and one read.

    magic | length of the index | whose; stamp; module -> source, its time and size, whether a package, where its code is
    stamp, code | stamp, code | …

An entry counts only while its source is as it was, so nothing is to be kept up to date by hand: where a command has loaded
something from elsewhere and may write beside the compiled files, it writes the file anew at its end (precompile.py). The
stamp is another one each time: a code that is read after the file has been replaced is seen to be another's, which neither
an inode's number nor a time tells for sure.
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
    from types import ModuleType

    Entry = tuple[str, int, int, bool, int, int]

#: Another layout of the file needs another number.
MAGIC = b"rl2" + MAGIC_NUMBER
STAMP_SIZE = 16


class Precompiled:
    """The first finder, and the loader, of what the file has."""

    __slots__ = ("path", "key", "stamp", "codes_at", "entries", "before")

    def __init__(self, compiled: str, source: str) -> None:
        """The paths of one of our compiled files and of its source."""
        folder = compiled.rpartition("/")[0]
        self.path = f"{folder}/commands.{sys.implementation.cache_tag}.bin" if folder else ""
        # Another package, or another Python's standard library, at the same place has the file written anew.
        self.key = (source.rpartition("/")[0], sys.base_prefix, sys.version)
        self.stamp = b""
        self.codes_at = 0
        self.entries: dict[str, Entry] = {}
        self.before = len(sys.modules)
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
                key, stamp, entries = loads(start[head + 4 : end])
                if key == self.key:
                    self.entries = entries
                    self.codes_at = end
                    self.stamp = stamp
        except (OSError, EOFError, ValueError, TypeError):
            pass  # damaged: written anew
        finally:
            posix.close(fd)

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
        source = entry[0]
        spec = ModuleSpec(name, self, origin=source, loader_state=code)  # type: ignore[arg-type]  # all that a loader needs
        spec.has_location = True
        spec.cached = self.path  # working out the usual place takes longer than all the rest
        if entry[3]:
            spec.submodule_search_locations = [source.rpartition("/")[0]]
        return spec

    def read(self, entry: Entry) -> bytes:
        """An entry's code; b"" where it is not its source's any more, or the file another one."""
        source, time_ns, size, _, at, length = entry
        status = posix.stat(source)
        if status.st_mtime_ns != time_ns or status.st_size != size:
            return b""
        # Not held open: a container's first process is a copy of ours.
        fd = posix.open(self.path, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            data = posix.pread(fd, STAMP_SIZE + length, self.codes_at + at)
        finally:
            posix.close(fd)
        if len(data) != STAMP_SIZE + length or data[:STAMP_SIZE] != self.stamp:
            return b""
        return data[STAMP_SIZE:]

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
        names = [
            name
            for name, module in list(sys.modules.items())[self.before :]
            if name not in self.entries and hasattr(module, "__cached__") and is_ours(name)
        ]
        if names and not sys.dont_write_bytecode:
            from rootless.precompile import write

            write(self, names)


def is_ours(name: str) -> bool:
    """Not what a command loads for help or for an image: that is large, seldom needed, and somebody else's."""
    top = name.partition(".")[0]
    return top in ("rootless", "slirp") or top in sys.stdlib_module_names
