"""exec: a further process in a running container, from a document or from the command line."""

from __future__ import annotations

import os

from rootless import log
from rootless.errors import InvalidState, RootlessError, Usage
from rootless.files import read_bytes, write_atomic
from rootless.linux.process import open_pidfd
from rootless.oci.runtime import parse_process
from rootless.ocicli import records
from rootless.ocicli.create import preserved, send_console, send_pidfd
from rootless.ocicli.foreground import Forwarding, wait
from rootless.ocicli.inside import complete_process
from rootless.runtime.capabilities import Sets
from rootless.runtime.execute import Execution

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.ocicli.commandline import Given

#: What runc and crun give where the program could not be started, lest it be mistaken for its own status.
_NOT_STARTED = 255


def run(settings: Given, given: Given) -> int:
    """The command."""
    record = records.load(settings, given.words[0])
    try:
        return _run(record, given)
    except RootlessError as error:
        error.oci_code = _NOT_STARTED  # type: ignore[attr-defined]
        raise
    except OSError as error:
        failure = RootlessError(f"exec: {error.filename or ''}: {(error.strerror or '').lower()}")
        failure.oci_code = _NOT_STARTED  # type: ignore[attr-defined]
        raise failure from error


def _run(record: records.Record, given: Given) -> int:
    status = record.status()
    if status == records.PAUSED and not given.switch("ignore-paused"):
        raise InvalidState("cannot exec in a paused container (use --ignore-paused to override)")
    if status not in (records.RUNNING, records.CREATED, records.PAUSED):
        raise InvalidState(f"cannot exec in a {status} container: `{record.identity}`")
    spec = record.spec()
    process = document(spec, given)
    is_terminal = bool(process.get("terminal"))
    detach = given.switch("detach")
    socket = given.text("console-socket")
    if is_terminal and detach and not socket:
        raise Usage("cannot allocate a terminal without somebody to take it: use --console-socket")
    if socket and not is_terminal:
        raise Usage("--console-socket is for a process with a terminal (--tty)")
    execution = Execution(
        spec,
        process,
        stdio=None if is_terminal else (0, 1, 2),
        preserve_fds=preserved(given),
        in_root=complete_process,
        cache=f"{os.path.dirname(record.folder)}/.cache",
        move=_mover(record, given.texts("cgroup")),
        identity=record.identity,
        bundle=record.data["bundle"],
        plain_newlines=not socket and not os.isatty(1),
    )
    try:
        pidfd = open_pidfd(record.pid, record.data["start_time"])
    except ProcessLookupError:
        raise InvalidState(f"cannot exec in a stopped container: `{record.identity}`") from None
    try:
        execution.create(record.pid, pidfd)
    finally:
        os.close(pidfd)
    pid = execution.pid
    log.debug(f"container {record.identity}: the process of exec is {pid}")
    if is_terminal:
        execution.take_console()
        if socket:
            send_console(socket, execution.console)
            os.close(execution.console)
    if not detach:
        Forwarding(pid)
    if given.text("pidfd-socket"):
        send_pidfd(given.text("pidfd-socket"), pid)
    if given.text("pid-file"):
        write_atomic(given.text("pid-file"), str(pid).encode(), 0o644)
    execution.started()
    if detach:
        return 0
    return wait(pid, execution.console if is_terminal and not socket else -1)


def document(spec: dict[str, Any], given: Given) -> dict[str, Any]:
    """The process: the document of --process, or the container's own with what the command line says."""
    if given.text("process"):
        path = given.text("process")
        data = read_bytes("/dev/stdin" if path == "-" else path)
        process: dict[str, Any] = dict(parse_process(data, path))
        if given.switch("tty"):
            process["terminal"] = True
        return process
    if len(given.words) < 2:
        raise Usage("exec: neither a command nor --process is given")
    process = dict(spec.get("process") or {})
    process.pop("consoleSize", None)
    process["args"] = given.words[1:]
    process["terminal"] = given.switch("tty")
    if given.text("cwd"):
        if not given.text("cwd").startswith("/"):
            raise Usage(f"--cwd {given.text('cwd')}: is not an absolute path")
        process["cwd"] = given.text("cwd")
    if given.texts("env"):
        process["env"] = [*(process.get("env") or []), *given.texts("env")]
    if given.switch("no-new-privs"):
        process["noNewPrivileges"] = True
    if given.text("apparmor"):
        process["apparmorProfile"] = given.text("apparmor")
    if given.text("process-label"):
        process["selinuxLabel"] = given.text("process-label")
    if given.text("user") or given.texts("additional-gids"):
        process["user"] = _user(process.get("user") or {}, given)
    if given.texts("cap"):
        sets = dict(process.get("capabilities") or {})
        kinds = ["bounding", "effective", "permitted"]
        if (process.get("user") or {}).get("uid"):
            kinds += ["inheritable", "ambient"]  # or execve would take them from who is not root
        for kind in kinds:
            held = sets.get(kind) or []
            sets[kind] = [*held, *(name for name in given.texts("cap") if name not in held)]
        process["capabilities"] = sets
        for name in Sets(sets).unknown:
            log.warn(f"--cap {name}: unknown capability is left out")
    return process


def _user(user: dict[str, Any], given: Given) -> dict[str, Any]:
    user = dict(user)
    text = given.text("user")
    if text:
        uid, colon, gid = text.partition(":")
        if not uid.isdigit() or (colon and not gid.isdigit()):
            raise Usage(f"--user {text}: is no UID[:GID]")
        user["uid"] = int(uid)
        if colon:
            user["gid"] = int(gid)
    groups = given.texts("additional-gids")
    if not all(one.isdigit() for one in groups):
        raise Usage(f"--additional-gids {' '.join(groups)}: is no number of a group")
    if groups:
        user["additionalGids"] = [int(one) for one in groups]
    return user


def _mover(record: records.Record, wanted: list[str]) -> Callable[[], None] | None:
    """What puts the process into the container's cgroup, or into --cgroup below it."""
    path = record.data.get("cgroup")
    below = ""
    for one in wanted:
        below = one.rpartition(":")[2]  # all controllers have one hierarchy
    if not path:
        if below.strip("/"):
            raise RootlessError(f"--cgroup {below}: the container has no cgroup of its own")
        return None
    from rootless.runtime.cgroup import Cgroup

    if below.strip("/"):
        folder = os.path.normpath(f"{path}/{below.strip('/')}")
        if not folder.startswith(path) or not os.path.isdir(folder):
            raise RootlessError(f"--cgroup {below}: no such cgroup in the container's")
        group, init = Cgroup(folder, record.data.get("unit", "")), 0
    else:
        group, init = Cgroup(path, record.data.get("unit", "")), record.pid
    return lambda: group.add(os.getpid(), init)
