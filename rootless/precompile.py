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
from rootless.precompiled import FIRST, MAGIC, STAMP_SIZE, Precompiled, is_ours, up_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rootless.precompiled import Entry

    Code = tuple[str, str, int, int, bool, bytes]

#: What the commands of a container's life begin with, and what they load only once they need it.
_COMMANDS = """
    __main__
    cli.create cli.exec cli.inspect cli.kill cli.logs cli.many cli.parse cli.ps cli.rm cli.run cli.selection cli.start cli.stop
    cli.wait
    container.attach container.attaching container.creation container.execution container.inside container.lifecycle
    container.inspect container.logread container.read_options container.supervise container.userns
    image.host image.opening linux.tree
    ocicli.main ocicli.create ocicli.delete ocicli.execute ocicli.foreground ocicli.kill ocicli.leftovers ocicli.start
    ocicli.state
    runtime.attach runtime.execute runtime.idmap runtime.launch runtime.seccomp runtime.sysctl runtime.terminal
"""


def write(kept: Precompiled, names: Iterable[str], first: Mapping[str, list[str]]) -> None:
    """Put these modules, all loaded, to what is there, and what commands load first."""
    codes: list[Code] = []
    for name, entry in kept.entries.items():
        try:
            code = kept.read(entry)
        except OSError:
            continue
        if code:
            codes.append((name, *entry[:4], bytes(code)))
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
    pieces: dict[str, list[str]] = {}
    for command in kept.pieces:
        try:
            pieces[command] = [name for name, *_ in kept.piece(command)]
        except (OSError, EOFError, ValueError, TypeError):
            continue
    pieces.update(first)
    if len(codes) == len(kept.entries) and len(pieces) == len(kept.pieces):
        return  # built into the interpreter, or somebody else's
    try:
        write_atomic(kept.path, _file(kept.key, codes, pieces), 0o644)
        os.chmod(kept.path, 0o644)  # for all, whatever the umask of who installs
    except OSError:
        pass  # a full disk: every module is still found in its own file


def _file(
    key: tuple[str, str, str], codes: Iterable[Code], pieces: Mapping[str, list[str]]
) -> bytes:
    stamp = os.urandom(STAMP_SIZE)
    parts: list[bytes] = []
    at = 0

    def add(data: bytes) -> tuple[int, int]:
        nonlocal at
        parts.extend((stamp, data))
        at += STAMP_SIZE + len(data)
        return at - STAMP_SIZE - len(data), len(data)

    index: dict[str, Entry] = {}
    known: dict[str, Code] = {}
    for entry in codes:
        name, source, time_ns, size, package, code = entry
        index[name] = (source, time_ns, size, package, *add(code))
        known[name] = entry
    places: dict[str, tuple[int, int]] = {}
    for command, names in pieces.items():
        # Read back together, so that a name is one object in all of them, and is written once.
        together = [
            (*known[name][:5], marshal.loads(known[name][5])) for name in names if name in known
        ]
        places[command] = add(marshal.dumps(together))
    data = marshal.dumps((key, stamp, places, marshal.dumps(index)))
    return b"".join((MAGIC, len(data).to_bytes(4, "little"), data, *parts))


#: As start.py does it: what is loaded before does not count.
_ASK = """
import sys
sys.path.append(sys.argv[1])
import rootless.start
before = len(sys.modules)
for name in sys.argv[2:]:
    __import__("rootless." + name)
print(*list(sys.modules)[before:])
"""


def _first(command: str) -> list[str]:
    """What a command loads first, as an interpreter that has loaded nothing yet says it."""
    from subprocess import run

    import rootless

    packages = os.path.dirname(os.path.dirname(rootless.__file__))
    words = [sys.executable, "-I", "-S", "-c", _ASK, packages, *FIRST[command].split()]
    return up_to(command, run(words, capture_output=True, check=True, text=True).stdout.split())


def main() -> int:
    """Write it from what the commands of a container's life load; the exit status."""
    import rootless.precompiled

    spec = rootless.precompiled.__spec__
    file = Precompiled(spec.cached or "", spec.origin or "")
    for name in _COMMANDS.split():
        import_module(f"rootless.{name}")
    import_module("slirp.pasta")
    file.forget()
    write(
        file,
        [name for name in sys.modules if is_ours(name)],
        {command: _first(command) for command in FIRST},
    )
    return 0 if os.path.exists(file.path) else 1


if __name__ == "__main__":
    sys.exit(main())
