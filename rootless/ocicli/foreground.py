"""run: create and start in one; in the foreground with our own streams, terminal, signals and exit status."""

from __future__ import annotations

import os

from rootless.linux import signal
from rootless.ocicli.create import Creation
from rootless.runtime import hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.ocicli.commandline import Given

_OURS = frozenset(
    {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGSEGV, signal.SIGBUS}
    | {signal.SIGILL, signal.SIGFPE, signal.SIGTTIN, signal.SIGTTOU, 23}  # SIGURG
)


def run(settings: Given, given: Given) -> int:
    """The command."""
    detach = given.switch("detach")
    make = Creation(settings, given, leaves=detach)
    record = make.record
    if not detach and not given.switch("keep"):
        record.set_runner()
    launch = make.create(gate=False)
    try:
        pid = launch.pid
        if not detach:
            forward_signals(pid)
        make.finish(pid)
        ready = None
        if record.data.get("notify"):
            from rootless.ocicli import notify

            ready = notify.bind(record)
            if not detach:
                notify.pass_on_beside(record, ready)
        if launch.console >= 0 and not os.isatty(1):
            from rootless.runtime import terminal

            terminal.plain_newlines(launch.console)
        launch.start()
        if hooks.has(make.spec, "poststart"):
            from rootless.ocicli.start import call_poststart

            call_poststart(record, make.spec)
        # Not before: the container need not wait for it.
        from rootless.ocicli import leftovers
        from rootless.ocicli.delete import end, forget

        leftovers.sweep(os.path.dirname(record.folder), but=record.identity)
        if detach:
            if ready is not None:
                notify.pass_on(record, ready, until_ready=True)
            return 0
        code = wait(pid, launch.console)
    except BaseException:
        from rootless.ocicli.delete import end, forget

        end(record)
        forget(record)
        raise
    if not given.switch("keep"):
        forget(record, make.spec)
    return code


def follow(pid: int) -> int:
    """Wait for the end of a process that need not be our child, passing signals on; 0, for its status is not ours."""
    fd = os.pidfd_open(pid)
    forward_signals(pid)
    try:
        return wait(pid, -1)
    except ChildProcessError:
        import select

        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll()
        return 0
    finally:
        os.close(fd)


def wait(pid: int, console: int) -> int:
    """Wait for the end of a child, with its terminal joined to ours where it has one; its exit status."""
    if console >= 0:
        from rootless.ocicli.console import serve

        status = serve(console, pid)
    else:
        status = os.waitpid(pid, 0)[1]
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def forward_signals(pid: int) -> None:
    """Pass on to the container's init whatever is sent to us."""
    fd = os.pidfd_open(pid)

    def pass_on(number: int, _: object) -> None:
        try:
            signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            pass

    for number in range(1, 65):
        if number in _OURS or number in (32, 33):
            continue
        try:
            signal.signal(number, pass_on)
        except (OSError, ValueError):
            continue
