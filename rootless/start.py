"""The first and the last of ours that runs: bin/rootless enters here, in an interpreter without `site`.

Nothing else is to be added: every command pays for it. The name is not `__main__` because `python -m rootless`
arrives there with `site` loaded and needs none of this.

Collecting garbage while modules load, and taking the interpreter apart at the end, were a fifth of all instructions of
`ps` (callgrind: 51.0 to 40.3 million, of which the bare interpreter has 20.1).
"""

from __future__ import annotations

import gc
import posix
import sys

from rootless.precompiled import Precompiled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import NoReturn


class LateSite:
    """The last finder: loads `site` once something is asked for that lies neither in the standard library nor beside us.

    That is a dependency of an editable install, or Debian's python3-systemd in an environment that sees the system's
    packages; and no command on its ordinary way.
    """

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        # The standard library itself probes for modules of other systems (msvcrt).
        if path is not None or name.partition(".")[0] in sys.stdlib_module_names:
            return None
        sys.meta_path.remove(LateSite)
        import site
        from importlib.machinery import PathFinder

        site.main()
        return PathFinder.find_spec(name)


LOADER_VARIABLES = ("LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT")


def give_back_variables() -> None:
    """Put back what bin/rootless has kept from the dynamic loader."""
    for key in [key for key in posix.environ if key.startswith(b"ROOTLESS_LD_")]:
        from os import environb

        environb[key.removeprefix(b"ROOTLESS_")] = environb.pop(key)


def _is_writable_inside(owner: int) -> bool:
    """Whether the interpreter's owner is an id that containers have: ours, but not host root's."""
    user = posix.geteuid()
    return owner == user and (user != 0 or b"_ROOTLESS_DATA" in posix.environ)


def seal() -> None:
    """Go on in an interpreter that no container can write to (security case 1)."""
    if _is_writable_inside(posix.stat("/proc/self/exe").st_uid):
        from rootless import sealed

        sealed.enter(sys.argv[1:])


def find_compiled() -> Precompiled:
    """Look for modules first where the compiled code of all that commands load is in one file."""
    finder = Precompiled(__spec__.cached or "", __file__)
    sys.meta_path.insert(0, finder)
    return finder


def main(name: str = "rootless") -> NoReturn:
    """Run the command in sys.argv, of `rootless` or of `rootless-oci`, and exit with its code."""
    sys.argv[0] = name
    if sys.flags.no_site:
        sys.meta_path.append(LateSite)
    seal()
    give_back_variables()
    precompiled = find_compiled()

    # Seldom, not never: the monitor lives on, and so may `logs --follow`.
    gc.set_threshold(50_000)

    # runc's options take words before the command; ours has commands that have one of another as their own.
    status = 130
    try:
        precompiled.load_first(name, sys.argv[1:] if name == "rootless-oci" else sys.argv[1:2])
        if name == "rootless-oci":
            from rootless.ocicli.main import main as command
        else:
            from rootless.__main__ import main as command

        status = command()
        precompiled.keep()
    except KeyboardInterrupt:
        pass  # before or after the command itself, which tells of its own
    if "threading" in sys.modules or "atexit" in sys.modules:
        sys.exit(status)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # closed by the caller, or nobody reads; what that means for the status is settled by now
    posix._exit(status)
