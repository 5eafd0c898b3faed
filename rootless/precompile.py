"""Writing the file of compiled code that precompiled.py reads.

Whoever installs the engine into a folder that its users may not write to calls `python3 -I -m rootless.precompile`.
"""

from __future__ import annotations

import marshal
import os
import sys
from importlib import import_module
from importlib.machinery import SourceFileLoader

from rootless.files import write_atomic
from rootless.precompiled import MAGIC, STAMP_SIZE, Precompiled, is_ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootless.precompiled import Entry

#: What the commands of a container's life begin with, and what they load only once they need it.
_COMMANDS = """
    __main__
    cli.create cli.exec cli.inspect cli.kill cli.logs cli.many cli.parse cli.ps cli.rm cli.run cli.selection cli.start cli.stop
    cli.wait
    container.attach container.attaching container.creation container.execution container.inside container.lifecycle
    container.inspect container.logread container.read_options container.supervise container.userns
    image.store ocicli.main ocicli.create ocicli.delete ocicli.execute ocicli.foreground ocicli.kill ocicli.start
    ocicli.state
    runtime.attach runtime.execute runtime.idmap runtime.launch runtime.seccomp runtime.sysctl runtime.terminal
"""


def write(kept: Precompiled, names: Iterable[str]) -> None:
    """Put these modules, all loaded, to what is there; where the folder is not ours to write, nothing happens."""
    folder = os.path.dirname(kept.path)
    if not os.access(folder, os.W_OK):
        return
    codes: list[tuple[str, str, int, int, bool, bytes]] = []
    for name, entry in kept.entries.items():
        try:
            code = kept.read(entry)
        except OSError:
            continue
        if code:
            codes.append((name, *entry[:4], code))
    for name in names:
        spec = getattr(sys.modules.get(name), "__spec__", None)
        if spec is None or type(spec.loader) is not SourceFileLoader or not spec.origin:
            continue
        try:
            status = os.stat(spec.origin)
            compiled = spec.loader.get_code(name)
            after = os.stat(spec.origin)
        except (OSError, ImportError, SyntaxError):
            continue
        seen = (status.st_mtime_ns, status.st_size)
        if seen == (after.st_mtime_ns, after.st_size):
            package = spec.submodule_search_locations is not None
            codes.append((name, spec.origin, *seen, package, marshal.dumps(compiled)))
    if len(codes) == len(kept.entries):
        return  # built into the interpreter, or somebody else's
    try:
        write_atomic(kept.path, _file(kept.key, codes), 0o644)
        os.chmod(kept.path, 0o644)  # for all, whatever the umask of who installs
    except OSError:
        pass  # a full disk: every module is still found in its own file


def _file(key: tuple[str, str, str], codes: list[tuple[str, str, int, int, bool, bytes]]) -> bytes:
    index: dict[str, Entry] = {}
    stamp = os.urandom(STAMP_SIZE)
    parts = []
    at = 0
    for name, source, time_ns, size, package, code in codes:
        index[name] = (source, time_ns, size, package, at, len(code))
        at += STAMP_SIZE + len(code)
        parts += [stamp, code]
    data = marshal.dumps((key, stamp, index))
    return b"".join((MAGIC, len(data).to_bytes(4, "little"), data, *parts))


def main() -> int:
    """Write it from what the commands of a container's life load; the exit status."""
    import rootless.precompiled

    spec = rootless.precompiled.__spec__
    file = Precompiled(spec.cached or "", spec.origin or "")
    for name in _COMMANDS.split():
        import_module(f"rootless.{name}")
    import_module("slirp.pasta")
    file.entries.clear()
    write(file, [name for name in sys.modules if is_ours(name)])
    return 0 if os.path.exists(file.path) else 1


if __name__ == "__main__":
    sys.exit(main())
