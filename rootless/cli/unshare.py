"""`rootless unshare`: run a command in the user namespace that containers' files belong to."""

from __future__ import annotations

import os

from rootless.cli.table import Command, Option
from rootless.errors import CommandNotExecutable, CommandNotFound, RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation
    from rootless.container.engine import Engine
    from rootless.linux.userns import Child

OPTIONS = (
    Option("rootless-netns", "bool", "Join the network namespace of user-defined networks as well"),
)


def main(inv: Invocation) -> int:
    from rootless.container.engine import open_engine

    words = inv.args or [os.environ.get("SHELL", "")]
    if not words[0]:
        raise RootlessError("no command specified and no $SHELL specified")
    if os.geteuid() == 0:
        raise RootlessError("please use unshare with rootless")
    engine = open_engine(inv.globals)
    if inv.flag("rootless-netns"):
        return _in_network(engine, words)
    return _in_userns(engine, words)


def _in_userns(engine: Engine, words: list[str]) -> int:
    from rootless.linux.userns import fork_in_userns

    command = Program(words, environment(engine))
    return command.wait(fork_in_userns(engine.idmap, command.exec))


def _in_network(engine: Engine, words: list[str]) -> int:
    """In the one network namespace that the user's networks share, and in the user namespace that owns it."""
    from rootless.linux.sched import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWUSER, setns, unshare
    from rootless.linux.userns import become_root, fork_reporting
    from rootless.netsession import Line

    line = Line(engine.paths, engine.config)
    line.open()
    command = Program(words, environment(engine))

    def body() -> None:
        setns(line.userns, CLONE_NEWUSER)
        become_root(line.idmap())
        unshare(CLONE_NEWNS)
        setns(line.netns, CLONE_NEWNET)
        command.exec()

    try:
        return command.wait(fork_reporting(body))
    finally:
        line.close()


def environment(engine: Engine) -> dict[str, str]:
    """What tells rootless, and the tools that know Podman, whose store it is."""
    from rootless.paths import UNSHARED_DATA, UNSHARED_RUN

    return {
        **os.environ,
        UNSHARED_DATA: engine.paths.data,
        UNSHARED_RUN: engine.paths.run,
        "_CONTAINERS_ROOTLESS_UID": str(os.getuid()),
        "_CONTAINERS_ROOTLESS_GID": str(os.getgid()),
        "_CONTAINERS_USERNS_CONFIGURED": "done",
        "CONTAINERS_GRAPHROOT": engine.paths.data,
        "CONTAINERS_RUNROOT": engine.paths.run,
    }


class Program:
    """The command: a child becomes it, and the parent hands on to it the signals that come meanwhile."""

    __slots__ = ("_mask", "env", "words")

    def __init__(self, words: list[str], env: dict[str, str]) -> None:
        import signal

        self.words = words
        self.env = env
        # None may come between the fork and `wait`.
        numbers = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def exec(self) -> None:
        """execvp(3), in Podman's words where it fails."""
        import signal

        # Python ignores these, and what is ignored stays so in the program.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        name = self.words[0]
        try:
            os.execvpe(name, self.words, self.env)
        except FileNotFoundError:
            why = (
                "no such file or directory" if "/" in name else "executable file not found in $PATH"
            )
            raise CommandNotFound(f'exec: "{name}": {why}') from None
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise CommandNotExecutable(f"fork/exec {name}: {why}") from None

    def wait(self, child: Child) -> int:
        import signal

        # What the terminal sends reaches both: it is the command's to answer, as in a shell.
        for number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda received, _frame: os.kill(child.pid, received))
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        status = child.wait_status()
        return 128 - status if status < 0 else status


COMMAND = Command(
    "[options] [COMMAND [ARG...]]",
    main,
    OPTIONS,
    args=(0, None),
    interspersed=False,
    description=(
        "Runs a command, or the shell, as root of the user namespace in which containers run, "
        "where files of theirs can be read and removed."
    ),
    examples=("unshare id", "unshare cat /proc/self/uid_map", "unshare rm -r volume-folder"),
)
