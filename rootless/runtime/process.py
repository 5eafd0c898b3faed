"""A process document's last steps, the same for a container's init and for an exec: limits, ids, capabilities, execve.

What runs here is in the container's root already: nothing is imported and nothing looked up on the host's behalf.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys

from rootless.errors import CommandNotExecutable, CommandNotFound, SetupError
from rootless.linux import fs, libc, prctl, signal
from rootless.linux.sched import join_session_keyring, personality
from rootless.runtime import capabilities, folders, sync

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from rootless.linux import sockets as socket
    from rootless.linux.idmap import IdMap
    from rootless.runtime import seccomp
    from rootless.runtime.rootfs import Root

_PERSONALITIES = {"LINUX": 0, "LINUX32": 8}


class Plan:
    """What a process is given; everything in it was made ready before the fork.

    `in_root` is called inside the finished root with the process document, which it may complete (users by name).
    """

    __slots__ = (
        "spec", "root", "idmap", "stdio", "preserve_fds", "in_root", "filter", "filter_flags", "new_namespaces",
        "die_with_parent", "listener", "identity", "bundle", "gate", "own_namespaces", "keyring", "no_pivot",
        "deep_read_only", "keep_groups",
    )  # fmt: skip

    def __init__(
        self,
        spec: dict[str, Any],
        root: Root | None,
        idmap: IdMap | None,
        *,
        stdio: tuple[int, int, int] | None,
        preserve_fds: Sequence[int] = (),
        in_root: Callable[[dict[str, Any]], object] | None = None,
        filter: bytes | None = None,
        filter_flags: int = 0,
        new_namespaces: frozenset[str] = frozenset(),
        own_namespaces: frozenset[str] = frozenset(),
        die_with_parent: bool = True,
        listener: seccomp.Listener | None = None,
        identity: str = "",
        bundle: str = "",
        gate: socket.socket | None = None,
        keyring: str = "",
        no_pivot: bool = False,
        deep_read_only: bool = True,
    ) -> None:
        self.no_pivot = no_pivot
        self.deep_read_only = (
            deep_read_only  # whether `ro` of an rbind mount means what is mounted below it, too
        )
        self.keep_groups = (spec.get("annotations") or {}).get("run.oci.keep_original_groups") in (
            "1",
            "true",
        )  # crun's
        self.keyring = keyring  # the name of a session keyring to make, for the caller's not to be the program's
        self.gate = gate
        self.identity = identity
        self.bundle = bundle
        self.listener = listener
        self.spec = spec
        self.root = root  # None for an exec
        self.idmap = idmap
        self.stdio = stdio
        self.preserve_fds = preserve_fds
        self.in_root = in_root
        self.filter = filter
        self.filter_flags = filter_flags
        self.new_namespaces = new_namespaces
        self.own_namespaces = own_namespaces  # those, and what is joined of others but the caller's
        self.die_with_parent = die_with_parent


def preload(linux: dict[str, Any], process: dict[str, Any]) -> None:
    """Before the fork: load what this process needs in the container's root, where `import` finds nothing new."""
    if process.get("terminal"):
        from rootless.runtime import terminal  # noqa: F401
    if process.get("rlimits"):
        import resource  # noqa: F401
    if process.get("scheduler") or process.get("ioPriority"):
        from rootless.runtime import priority  # noqa: F401
    if linux.get("seccomp"):
        from rootless.runtime import seccomp  # noqa: F401
    if linux.get("sysctl"):
        from rootless.runtime import sysctl  # noqa: F401


def forbid_imports() -> None:
    """From here on a module would come from the container's own files: an import that was forgotten before the fork
    fails instead (security case 12)."""
    sys.meta_path.clear()
    sys.path.clear()
    sys.path_hooks.clear()


def become_inside_root(*, keep_groups: bool = False) -> None:
    """Take uid and gid 0 of the joined user namespace, where they are mapped, to set up the process with its rights."""
    try:
        if not keep_groups:
            os.setgroups([])
    except PermissionError:
        pass
    try:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    except OSError:
        pass  # an id map without root: the process keeps the caller's id until it takes its own


def reset_signals() -> None:
    """Python ignores SIGPIPE and SIGXFSZ and catches SIGINT; the user's program shall find the defaults, unblocked."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT,
                   signal.SIGCHLD, signal.SIGWINCH, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGTSTP,
                   signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT):  # fmt: skip
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def enter_process(
    process: dict[str, Any],
    plan: Plan,
    channel: sync.Channel,
    *,
    slave: int = -1,
    last: Callable[[], None] | None = None,
) -> None:
    """Become the program of a process document: terminal, limits, ids, capabilities, filter, `last`, execve."""
    user = process.get("user") or {}
    uid, gid = user.get("uid", 0), user.get("gid", 0)
    if slave >= 0:
        from rootless.runtime import terminal  # loaded by whoever has opened it

        terminal.take_controlling(slave)
        os.fchmod(slave, 0o620)
        try:
            os.fchown(slave, uid, -1)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EPERM, errno.EROFS):
                raise
        stdio: tuple[int, int, int] | None = (slave, slave, slave)
    else:
        stdio = plan.stdio
        if stdio is not None:
            give_stdio(stdio, uid)
    if process.get("scheduler") or process.get("ioPriority"):
        from rootless.runtime import priority

        priority.set_scheduling(process)
    is_there = enter_cwd(process.get("cwd") or "/", uid, gid, before_ids=True)
    groups = None if plan.keep_groups else user.get("additionalGids")
    if plan.keyring:
        try:
            join_session_keyring(plan.keyring)
        except OSError:
            pass  # a kernel without keys, a filter around us or a quota used up: runc and crun go on as well
    sets = capabilities.Sets(process.get("capabilities"))
    no_new_privs = bool(process.get("noNewPrivileges"))
    sets.drop_bounding()
    sets.keep()
    set_ids(uid, gid, groups)
    os.umask(user["umask"] if user.get("umask") is not None else 0o022)
    personality_of(process, plan)  # before a filter that may forbid it
    sets.lower()
    if no_new_privs:
        prctl.prctl(prctl.PR_SET_NO_NEW_PRIVS, 1)
    if not is_there:
        enter_cwd(process.get("cwd") or "/", uid, gid, before_ids=False)
    set_labels(process)
    environment = to_environment(process.get("env") or [])
    program = find_program(process.get("args") or [], environment)
    refuse_magic(program)
    if plan.die_with_parent:
        prctl.prctl(prctl.PR_SET_PDEATHSIG, signal.SIGKILL)  # the change of ids has cleared it
    if stdio is not None:
        move_stdio(stdio)
    set_limits(
        process
    )  # after all that needs descriptors of its own: the limit may be lower than what is open
    fs.close_range(3, flags=4)  # CLOSE_RANGE_CLOEXEC: the channel tells of success by closing
    for fd in plan.preserve_fds:
        os.set_inheritable(fd, True)
    # Last of all: a filter may forbid what any step above needs, and old ones do forbid newer calls.
    if plan.filter is not None and not no_new_privs:
        # Without no_new_privs a filter needs CAP_SYS_ADMIN: before the capabilities go (seccomp(2)).
        permitted = prctl.capget()[1]
        prctl.capset(permitted, permitted, 0)
        load_filter(plan, channel)
    sets.apply()
    if plan.filter is not None and no_new_privs:
        load_filter(plan, channel)
    if last is not None:
        last()
    execute(program, process["args"], environment)


def give_stdio(stdio: tuple[int, int, int], uid: int) -> None:
    """Make the pipes the user's own, so that /dev/stdout can be opened again by it."""
    for fd in stdio:
        status = os.fstat(fd)
        if stat.S_ISFIFO(status.st_mode) and status.st_uid != uid:
            try:
                os.fchown(fd, uid, -1)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.EROFS):
                    raise


def move_stdio(stdio: tuple[int, int, int]) -> None:
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in stdio]
    for number, fd in enumerate(high):
        os.dup2(fd, number, inheritable=True)


def set_limits(process: dict[str, Any]) -> None:
    limits = process.get("rlimits")
    if not limits:
        return
    import resource  # loaded by `preload`

    for limit in limits:
        name = limit["type"]
        number = getattr(resource, name, None)
        if number is None:
            raise SetupError(f"process.rlimits: unknown limit {name}", stage="process")
        soft, hard = (
            resource.RLIM_INFINITY if _is_no_limit(value) else value
            for value in (limit["soft"], limit["hard"])
        )
        try:
            resource.setrlimit(number, (soft, hard))
        except (OSError, ValueError) as error:
            have = resource.getrlimit(number)[1]
            raise SetupError(
                f"{name} {limit['soft']}:{limit['hard']}: not permitted",
                stage="process",
                hint=f"a user may not go above the hard limit of {have}",
            ) from error


def _is_no_limit(value: int) -> bool:
    return value < 0 or value >= 0xFFFFFFFFFFFFFFFF or value == 0x7FFFFFFFFFFFFFFF


def set_ids(uid: int, gid: int, groups: list[int] | None) -> None:
    if groups is not None:
        try:
            os.setgroups(groups)
        except PermissionError:
            if not {gid}.issuperset(groups):
                raise SetupError(
                    f"supplementary groups {groups}: setgroups is denied where one id is mapped",
                    stage="process",
                    hint="--group-add needs subordinate ids in /etc/subgid",
                ) from None
    try:
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise SetupError(
            f"user {uid}:{gid}: not mapped in this container",
            stage="process",
            errno=error.errno or 0,
            hint="more subordinate ids, or --userns=keep-id with one that is mapped",
        ) from error


def make_cwd(cwd: str) -> None:
    """Make the folder that a container's first process begins in; for `exec` a missing one is a mistake."""
    try:
        os.stat(cwd)
    except FileNotFoundError:
        root = os.open("/", fs.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        os.close(folders.make_dirs(root, cwd, 0o755))
        os.close(root)


def enter_cwd(cwd: str, uid: int, gid: int, *, before_ids: bool) -> bool:
    """chdir with root's rights, and where those do not do (False) with the user's, as runc and crun do it.

    Refuses a folder outside of the root (security case 2).
    """
    try:
        os.chdir(cwd)
    except FileNotFoundError:
        raise CommandNotFound(f"chdir to {cwd}: no such file or directory") from None
    except PermissionError:
        if before_ids:
            return False
        raise SetupError(
            f"working directory {cwd}: permission denied for {uid}:{gid}", stage="process"
        ) from None
    except NotADirectoryError:
        raise SetupError(f"working directory {cwd}: is no folder", stage="process") from None
    try:
        here = os.getcwd()
    except FileNotFoundError:
        here = ""
    if not here.startswith("/"):
        raise SetupError(
            f"working directory {cwd}: lies outside of the container's root", stage="process"
        )
    return True


def load_filter(plan: Plan, channel: sync.Channel) -> None:
    assert plan.filter is not None
    listener = plan.listener
    if listener is not None:
        listener.wait(lambda fd: channel.send(sync.LISTENER, fd=fd))
    from rootless.runtime import seccomp

    made = seccomp.load(plan.filter, plan.filter_flags)
    if made is not None and listener is not None:
        listener.publish(made)


def personality_of(process: dict[str, Any], plan: Plan) -> None:
    wanted = (plan.spec.get("linux") or {}).get("personality")
    if wanted:
        if wanted.get("domain") not in _PERSONALITIES:
            raise SetupError(
                f"linux.personality.domain: unknown {wanted.get('domain')}", stage="process"
            )
        personality(_PERSONALITIES[wanted["domain"]])


def set_labels(process: dict[str, Any]) -> None:
    """AppArmor and SELinux labels take effect at the next execve."""
    for key, paths in (
        (
            "apparmorProfile",
            ("/proc/thread-self/attr/apparmor/exec", "/proc/thread-self/attr/exec"),
        ),
        ("selinuxLabel", ("/proc/thread-self/attr/exec",)),
    ):
        label = process.get(key)
        if not label:
            continue
        value = f"exec {label}" if key == "apparmorProfile" else label
        failure: OSError | None = None
        for path in paths:
            try:
                fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
                if fs.fd_fs_type(fd) != fs.PROC_SUPER_MAGIC:
                    raise SetupError(
                        f"process.{key}: /proc of the container is no proc", stage="process"
                    )
                os.write(fd, value.encode())
                os.close(fd)
                break
            except OSError as error:
                failure = error
        else:
            assert failure is not None
            raise SetupError(
                f"process.{key} {label}: {os.strerror(failure.errno or 0).lower()}",
                stage="process",
                hint="the host's kernel has that security module off, or does not know the label",
            ) from failure


def to_environment(entries: list[str]) -> dict[bytes, bytes]:
    environment: dict[bytes, bytes] = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if equals and name:
            environment[os.fsencode(name)] = os.fsencode(value)
    return environment


def find_program(args: list[str], environment: dict[bytes, bytes]) -> list[str]:
    """The paths to try, in order: the program itself or its places along the container's PATH."""
    if not args or not args[0]:
        raise CommandNotFound("no command is given, and the image names none")
    program = args[0]
    if "/" in program:
        return [program]
    folders = os.fsdecode(
        environment.get(b"PATH", b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    )
    return [f"{folder or '.'}/{program}" for folder in folders.split(":")]


def check_program(process: dict[str, Any]) -> None:
    """Raise for a program that is not there, while whoever creates the container still listens."""
    args = process.get("args") or []
    if not args:
        return  # a container can be made of it, and says what is missing when it is started (runtime.md, "Start")
    candidates = find_program(args, to_environment(process.get("env") or []))
    denied = False
    for path in candidates:
        try:
            mode = os.stat(os.path.join(process.get("cwd") or "/", path)).st_mode
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                return  # whether it can be run shows when it is
            continue
        if mode & 0o111:
            return
        denied = True
    if denied:
        raise CommandNotExecutable(f"{args[0]}: permission denied")
    raise missing(args[0], candidates)


def missing(program: str, candidates: list[str]) -> CommandNotFound:
    if len(candidates) == 1 and "/" in program:
        return CommandNotFound(f"{program}: no such file or directory in the container")
    return CommandNotFound(f"executable file {program!r} not found in $PATH")


def execute(candidates: list[str], args: list[str], environment: dict[bytes, bytes]) -> None:
    """execve the first candidate that is there; raises CommandNotFound (127) or CommandNotExecutable (126)."""
    denied: OSError | None = None
    for path in candidates:
        try:
            os.execve(path, args, environment)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            denied = error
            if error.errno != errno.EACCES:
                break
    if denied is not None:
        raise CommandNotExecutable(f"{args[0]}: {os.strerror(denied.errno or 0).lower()}")
    if len(candidates) == 1 and "/" in args[0]:
        if os.path.lexists(args[0]) and os.path.isfile(args[0]):
            raise CommandNotFound(
                f"{args[0]}: its interpreter or loader is missing in the container"
            )
    raise missing(args[0], candidates)


def refuse_magic(candidates: list[str]) -> None:
    """Refuse to run what one of /proc's magic links names: the engine's own interpreter (security case 1)."""
    for path in candidates:
        try:
            fd = fs.openat2(libc.AT_FDCWD, path, fs.O_PATH, 0, fs.RESOLVE_NO_MAGICLINKS)
        except OSError as error:
            if error.errno == errno.ELOOP and os.path.exists(path):
                raise CommandNotExecutable(
                    f"{path}: leads through a link of /proc to a file of the host"
                ) from None
            continue
        mode = os.fstat(fd).st_mode
        os.close(fd)
        if stat.S_ISREG(mode) and mode & 0o111:
            return  # this one is run


def finish(
    channel: sync.Channel, spec: dict[str, Any], identity: str, bundle: str, status: str, pid: int
) -> bytes:
    """Wait for the execve of a process, whose filter's listener goes to its agent; what went wrong, or nothing."""
    while True:
        kind, data, fd = channel.receive()
        if kind != sync.LISTENER:
            return data if kind == sync.FAILED else b""
        give_listener(fd, spec, identity, bundle, status, pid)


def give_listener(
    fd: int, spec: dict[str, Any], identity: str, bundle: str, status: str, pid: int
) -> None:
    """Send a filter's listener to the agent that its document names, and close it."""
    from rootless.runtime import hooks, seccomp

    state = hooks.state_document(spec, identity, bundle, status, pid)
    try:
        seccomp.send_listener(spec["linux"]["seccomp"], fd, pid, state)
    finally:
        os.close(fd)
