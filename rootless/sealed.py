"""The engine run from a copy of its interpreter that nobody can write to (security case 1, CVE-2019-5736).

A program of a container may be `#!/proc/self/exe`: the kernel then runs the interpreter that was about to become it, and
a process of the container's has that file open. Where it belongs to the user (pyenv, a copied virtual environment), it
belongs to the container's root as well. So commands that may start a program in a container replace themselves first by
the same interpreter in a sealed memfd. An interpreter of the system's needs none of this, and costs one stat(2).
"""

from __future__ import annotations

import os
import sys

#: Commands that run no program of a container's: they go on as they are.
WITHOUT = frozenset(
    ("attach", "commit", "completion", "cp", "diff", "doctor", "events", "export", "help", "history", "image", "images",
     "import", "info", "inspect", "kill", "load", "login", "logout", "logs", "manifest", "mount", "network", "pause",
     "port", "ps", "pull", "push", "rename", "rm", "rmi", "save", "search", "secret", "stats", "stop", "system", "tag",
     "top", "umount", "unmount", "unpause", "untag", "update", "version", "volume", "wait", "--help", "-h", "--version",
     "-v")
)  # fmt: skip

_NAME = "rootless"
_F_ADD_SEALS = 1033
_ALL_SEALS = 0xF  # F_SEAL_SEAL, _SHRINK, _GROW, _WRITE: fcntl(2)
_MFD_EXEC = 0x10  # Linux 6.3; needed where vm.memfd_noexec is 1
#: The folders that a sealed interpreter's `$ORIGIN` meant; taken out again by `enter`.
_MARK = "_ROOTLESS_SEALED"


def enter(words: list[str]) -> None:
    """Go on as a sealed copy, where `words` may start a container's program; returns in it, or where there is no need."""
    if os.readlink("/proc/self/exe").startswith(f"/memfd:{_NAME}"):
        if os.environ.pop(_MARK, ""):
            os.environ.pop("LD_LIBRARY_PATH", None)
        return
    if not words or words[0] in WITHOUT:
        return
    try:
        copy, folders = _copy()
        environment = dict(os.environ)
        if folders:
            environment |= {_MARK: "1", "LD_LIBRARY_PATH": folders}
        # argv[0] tells the interpreter where its library is.
        os.execve(copy, [sys.executable, *sys.orig_argv[1:]], environment)
    except OSError as error:
        from rootless import log

        log.warn(
            f"{sys.executable} belongs to you, and a hostile container could overwrite it: it cannot be run from a "
            f"sealed copy: {(error.strerror or str(error)).lower()}"
        )


def _copy() -> tuple[int, str]:
    """A sealed memfd of the interpreter, and where it looks for libraries relative to itself."""
    import fcntl

    source = os.open("/proc/self/exe", os.O_RDONLY | os.O_CLOEXEC)
    try:
        copy = os.memfd_create(_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | _MFD_EXEC)
    except OSError:
        copy = os.memfd_create(_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    size = os.fstat(source).st_size
    done = 0
    while done < size:
        done += os.sendfile(copy, source, done, size - done)
    os.close(source)
    fcntl.fcntl(copy, _F_ADD_SEALS, _ALL_SEALS)
    return copy, _library_folders(copy)


def _library_folders(copy: int) -> str:
    """Its DT_RUNPATH with `$ORIGIN` resolved, which a memfd has none of; "" where it names none."""
    import mmap

    origin = os.path.dirname(os.path.realpath("/proc/self/exe"))
    with mmap.mmap(copy, 0, prot=mmap.PROT_READ) as data:
        at = max(data.find(b"$ORIGIN"), data.find(b"${ORIGIN}"))
        if at < 0:
            return ""
        start = data.rfind(b"\0", 0, at) + 1
        text = data[start : data.find(b"\0", at)].decode("utf-8", "surrogateescape")
    return text.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)
