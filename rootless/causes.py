"""The host's causes of errors: what an errno says of this machine, and what to do about it.

Loaded when something has failed, by whoever prints it. An error that names its remedy itself keeps it.
"""

from __future__ import annotations

import errno
import os

#: What was being tried where an error names no file: these calls have none.
_ATTEMPTS = {
    errno.EMFILE: "cannot open a file, pipe or socket",
    errno.ENFILE: "cannot open a file, pipe or socket",
    errno.EAGAIN: "cannot start a process",
    errno.ENOMEM: "cannot get memory",
    errno.ENOLCK: "cannot lock a file",
    errno.ENOSPC: "cannot write, or make a namespace or mount",
    errno.EDQUOT: "cannot make a key",
    errno.ENOSYS: "a system call is missing",
    errno.EPERM: "a system call was refused",
    errno.EACCES: "a system call was refused",
}
#: Steps of a container's start that no option of its user decides on.
_OURS = ("namespaces", "id map", "root file system", "pivot_root", "process", "start")
_DOCTOR = "`rootless doctor` looks at what this host allows"


def message(error: OSError, store: str) -> str:
    """The line for an error of the system: the file, or else the attempt, and the reason."""
    reason = (error.strerror or str(error)).lower()
    # Of a link or a renaming the second name is the one that was to be.
    name = error.filename2 if error.filename2 is not None else error.filename
    if name is None or isinstance(name, int) or not name:
        attempt = _ATTEMPTS.get(error.errno or 0, "")
        if error.errno == errno.ENOSPC and (full := _full_folder(store)):
            attempt = f"cannot write below {full}"  # write(2) names no file
        return f"{attempt}: {reason}" if attempt else reason
    return f"{os.fsdecode(name)}: {reason}"


def remedy(error: BaseException, store: str) -> str:
    """What to do about an error that has its cause in the host; nothing where it has not. `store` is the data folder."""
    if isinstance(error, OSError):
        name = error.filename2 if error.filename2 is not None else error.filename
        path = os.fsdecode(name) if isinstance(name, (str, bytes)) else ""
        return _by_number(error.errno or 0, path, store)
    if isinstance(error, MemoryError):
        return _by_number(errno.ENOMEM, "", store)
    number = getattr(error, "errno", 0)
    cause = (
        error.__cause__ or error.__context__
    )  # `from None` says how it reads, not what it came of
    if not number and isinstance(cause, OSError) and (cause.errno or 0) in _ALWAYS:
        number = cause.errno
    return _by_number(number, "", store, stage=getattr(error, "stage", "") or "other")


#: What is never the doing of whoever gave a command, whatever it was for.
_ALWAYS = (
    errno.EMFILE,
    errno.ENFILE,
    errno.EAGAIN,
    errno.ENOMEM,
    errno.ENOLCK,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EIO,
    errno.EFBIG,
    errno.ENOSYS,
)


def _by_number(number: int, path: str, store: str, *, stage: str = "") -> str:
    near = bool(path) and (f"{path}/".startswith(f"{store}/") or store.startswith(f"{path}/"))
    if path.startswith("inotify"):
        return _inotify(number)
    if number == errno.EMFILE:
        return f"a process may have {_limit('NOFILE')} files open (ulimit -n): raise it, or LimitNOFILE= of the service"
    if number == errno.ENFILE:
        return "the whole system's open files are used up: ask for a higher `sysctl fs.file-max`"
    if number == errno.EAGAIN and (not path or _is_program(path)):
        return (
            f"this user may have {_limit('NPROC')} processes (ulimit -u), and a cgroup's pids.max may be lower: end some, "
            "or raise LimitNPROC= and TasksMax= of the service"
        )
    if number == errno.ENOMEM:
        return "memory is used up, or what the cgroup or ulimit -v allows of it: end something, or raise the limit"
    if number == errno.ENOLCK:
        return (
            "the file system keeps no locks (NFS without its lock service?): give --root on another"
        )
    if number in (errno.ENOSPC, errno.EDQUOT):
        return _full(number, path, store, near)
    if number == errno.EROFS or (near and number in (errno.EACCES, errno.EPERM)):
        if near:
            return (
                "images and containers are kept there; --root or storage.conf puts them elsewhere"
            )
        return (
            "the file system is mounted read-only: mount it with rw, or name another place"
            if path
            else ""
        )
    if number == errno.EFBIG:
        return f"a file may be {_limit('FSIZE')} bytes long (ulimit -f): raise it"
    if number in (errno.ENOENT, errno.EACCES) and path.startswith(("/proc/", "/sys/")):
        return f"this seems to be a container itself, with its /proc or /sys masked: {_DOCTOR}"
    if number == errno.EIO:
        return "the disk or its file system reports an error: see the kernel's log (dmesg)"
    if number == errno.ENOSYS:
        return f"Linux {os.uname().release} has it not, or a seccomp filter around this process hides it: {_DOCTOR}"
    if number in (errno.EPERM, errno.EACCES) and stage in ("mount", *_OURS) and _restricted():
        return (
            "AppArmor takes all power from user namespaces: a profile that grants them to this command, or "
            "`sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
        )
    if number in (errno.EPERM, errno.EACCES) and (stage in _OURS or not (path or stage)):
        return (
            f"a security module, or a seccomp filter around this process, may forbid it: {_DOCTOR}"
        )
    if number == errno.ENODEV and stage:
        return (
            f"the kernel has no such file system or device, or its module is not loaded: {_DOCTOR}"
        )
    return ""


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _full_folder(store: str) -> str:
    """The folder of ours whose file system has nothing left."""
    for folder in (store, os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/dev/shm", "."):
        place = folder
        while place and not os.path.isdir(place):
            place = os.path.dirname(place)
        try:
            disk = os.statvfs(place)
        except OSError:
            continue
        if disk.f_blocks and (disk.f_bavail < 2 or (disk.f_files and not disk.f_favail)):
            return folder
    return ""


def _full(number: int, path: str, store: str, near: bool) -> str:
    if not path and number == errno.ENOSPC:
        path = _full_folder(store)
        near = path == store
    if near:
        return "`rootless system prune` frees what is not used; --root or storage.conf puts the store elsewhere"
    if not path and number == errno.ENOSPC:
        return (
            "what is used up may be the disk, fs.mount-max, or one of user.max_*_namespaces: "
            + _DOCTOR
        )
    if not path:
        return "what is used up may be the disk's quota (`quota -s`) or that of keys (kernel.keys.maxkeys)"
    while path and not os.path.isdir(path):
        path = os.path.dirname(path)
    if number == errno.EDQUOT:
        return f"this user's quota there is used up (`quota -s`): make room below {path or '/'}"
    try:
        disk = os.statvfs(path or "/")
    except OSError:
        return "make room there"
    what = "inodes" if disk.f_files and not disk.f_favail else "space"
    return f"the file system of {path or '/'} is out of {what}: make room there"


def _inotify(number: int) -> str:
    if number == errno.ENOSPC:
        return (
            "this user's watches are used up: ask for a higher `sysctl fs.inotify.max_user_watches`"
        )
    return (
        "this user's instances are used up: ask for a higher `sysctl fs.inotify.max_user_instances` "
        f"(or raise ulimit -n, which is {_limit('NOFILE')})"
    )


def _restricted() -> bool:
    try:
        with open("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") as file:
            return file.read().strip() == "1"
    except OSError:
        return False


def _limit(name: str) -> str:
    import resource

    value = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0]
    return "any number of" if value == resource.RLIM_INFINITY else str(value)
