"""OCI hooks (runtime-spec config.md, "POSIX-platform Hooks"): programs called at moments of a container's life.

Each gets the container's state on its standard input. One that fails makes creating or starting fail, with its own
last words; poststart and poststop only warn.
"""

from __future__ import annotations

import os
import select

from rootless import log
from rootless import quickjson as json
from rootless.errors import SetupError
from rootless.linux import fs, signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

# By whoever calls the runtime's commands, outside of the container.
_OUTSIDE = frozenset({"prestart", "createRuntime", "poststart", "poststop"})
_SAID = 4096  # bytes of a failing hook's standard error that its message carries


def state_document(
    spec: dict[str, Any], identity: str, bundle: str, status: str, pid: int
) -> dict[str, Any]:
    """The state that a hook is given (runtime.md, "State")."""
    document: dict[str, Any] = {
        "ociVersion": spec.get("ociVersion", "1.2.0"),
        "id": identity,
        "status": status,
        "bundle": bundle,
    }
    if pid:
        document["pid"] = pid
    if spec.get("annotations"):
        document["annotations"] = spec["annotations"]
    return document


def run(
    spec: dict[str, Any], moment: str, state: dict[str, Any], closed: Sequence[int] = ()
) -> None:
    """Call the hooks of one moment in their order, without `closed`; raises SetupError for the first that fails."""
    for index, hook in enumerate((spec.get("hooks") or {}).get(moment) or []):
        _call(hook, moment, index, state, closed)


def run_leniently(spec: dict[str, Any], moment: str, state: dict[str, Any]) -> None:
    """Call them all, and only warn of those that fail: poststart and poststop."""
    for index, hook in enumerate((spec.get("hooks") or {}).get(moment) or []):
        try:
            _call(hook, moment, index, state)
        except SetupError as error:
            log.warn(error.message)


def has(spec: dict[str, Any], *moments: str) -> bool:
    """Whether there are hooks for one of these moments."""
    hooks = spec.get("hooks") or {}
    return any(hooks.get(moment) for moment in moments)


def _call(
    hook: dict[str, Any],
    moment: str,
    index: int,
    state: dict[str, Any],
    closed: Sequence[int] = (),
) -> None:
    which = f"error running hook: {moment} #{index}: "
    path: str = hook["path"]
    if hook.get("env") is None and moment != "startContainer":
        environment = dict(os.environ)  # the caller's, which is never told to the container's files
    else:
        environment = dict(entry.partition("=")[::2] for entry in hook.get("env") or [])
    data = json.dumps(state).encode()
    input_read, input_write = os.pipe2(os.O_CLOEXEC)
    output = os.memfd_create(
        "hook", os.MFD_CLOEXEC
    )  # no pipe, which would hold up one that says much
    here = _enter(state["bundle"]) if moment in _OUTSIDE else -1
    try:
        try:
            pid = os.posix_spawn(
                path,
                hook.get("args") or [path],
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, input_read, 0),
                    (os.POSIX_SPAWN_DUP2, output, 1),
                    (os.POSIX_SPAWN_DUP2, output, 2),
                    *((os.POSIX_SPAWN_CLOSE, fd) for fd in closed),
                ],
                setsigdef=[13],
            )
        except OSError as error:
            os.close(input_write)
            raise SetupError(
                f"{which}{path}: {os.strerror(error.errno or 0).lower()}", stage="hooks"
            ) from error
        finally:
            os.close(input_read)
            if here >= 0:
                os.fchdir(here)
                os.close(here)
        try:
            os.write(input_write, data)  # a state is smaller than a pipe
        except BrokenPipeError:
            pass  # a hook need not read it
        os.close(input_write)
        status = _wait(pid, hook.get("timeout") or 0)
        said = os.pread(output, _SAID, 0)
    finally:
        os.close(output)
    words = " ".join(said.decode("utf-8", "replace").split())
    if status is None:
        raise SetupError(
            f"{which}{path}: did not end within {hook['timeout']} seconds", stage="hooks"
        )
    if status:
        how = f"exit status {status}" if status > 0 else f"signal: {_description(-status)}"
        raise SetupError(f"{which}{path}: {how}{': ' + words if words else ''}", stage="hooks")


def _enter(bundle: str) -> int:
    """Go to the bundle, where runc's and crun's hooks are; a descriptor of where we were, -1 where it is gone."""
    here = os.open(".", fs.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(bundle)
    except OSError:
        os.close(here)
        return -1
    return here


def _description(number: int) -> str:
    """What a signal means, in the C library's words."""
    return (signal.strsignal(number) or str(number)).lower()


def _wait(pid: int, timeout_s: float) -> int | None:
    """The exit status, or None where the time was up and the hook has been killed."""
    if timeout_s > 0:
        pidfd = os.pidfd_open(pid)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(int(timeout_s * 1000)):
                os.kill(pid, 9)
                os.waitpid(pid, 0)
                return None
        finally:
            os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
