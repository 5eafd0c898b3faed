"""run: create and start in one; in the foreground with our own streams, terminal, signals and exit status."""

from __future__ import annotations

import os

from rootless.linux import signal
from rootless.ocicli.create import Creation
from rootless.runtime import hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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
    signals: list[Forwarding] = []

    def meanwhile(pid: int) -> None:
        if not given.switch("keep"):
            record.set_runner()
        signals.append(Forwarding(pid, is_open=False))

    launch = make.create(gate=False, meanwhile=None if detach else meanwhile)
    try:
        pid = launch.pid
        for forwarding in signals:
            forwarding.is_open = True
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
    Forwarding(pid)
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


class Forwarding:
    """Passes on to the container's init whatever is sent to us; until it is open, what is sent means us, as before."""

    __slots__ = ("before", "fd", "is_open")

    def __init__(self, pid: int, *, is_open: bool = True) -> None:
        self.fd = os.pidfd_open(pid)
        self.is_open = is_open
        self.before: dict[int, Any] = {}
        for number in range(1, 65):
            if number in _OURS or number in (32, 33):
                continue
            try:
                self.before[number] = signal.signal(number, self._take)
            except (OSError, ValueError):
                continue

    def _take(self, number: int, frame: object) -> None:
        if self.is_open:
            try:
                signal.pidfd_send_signal(self.fd, number)
            except ProcessLookupError:
                pass
        elif callable(self.before.get(number)):
            self.before[number](number, frame)  # SIGINT: KeyboardInterrupt
        else:
            signal.signal(number, self.before.get(number) or signal.SIG_DFL)
            os.kill(os.getpid(), number)
            signal.signal(number, self._take)  # it was not one to die of
