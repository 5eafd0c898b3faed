"""`rootless exec`: run a further process in a running container."""

from __future__ import annotations

from rootless.cli.options import DETACH_KEYS, LATEST
from rootless.cli.table import Command, Option
from rootless.errors import RootlessError, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation
    from rootless.container.execution import Exec

OPTIONS = (
    Option("detach", "bool", "Run in the background and print the session's id", short="d"),
    DETACH_KEYS,
    Option(
        "env",
        "list",
        "Environment variable; with no value, the host's",
        short="e",
        metavar="name[=value]",
    ),
    Option("env-file", "list", "File of environment variables", metavar="path"),
    Option("interactive", "bool", "Keep standard input open", short="i"),
    LATEST,
    Option("preserve-fd", "uints", "Descriptors to pass into the container", metavar="number,..."),
    Option("preserve-fds", "uint", "Number of descriptors from 3 on to pass into the container"),
    Option("privileged", "bool", "Give the process all capabilities that the container may have"),
    Option("tty", "bool", "Give the process a terminal", short="t"),
    Option("user", "str", "User of the process", short="u", metavar="user[:group]"),
    Option("workdir", "str", "Working directory", short="w", metavar="path"),
)

# As with Podman, where the process runs and what goes wrong is between it and us: no code of the process's own.
_SESSION_FAILED = 255


def check(inv: Invocation) -> None:
    if not inv.args and not inv.flag("latest"):
        raise Usage("exec requires the name or ID of a container or the --latest flag")
    if len(inv.args) < (1 if inv.flag("latest") else 2):
        raise Usage("must provide a non-empty command to start an exec session: invalid argument")


def main(inv: Invocation) -> int:
    from rootless.cli.selection import select
    from rootless.container.engine import open_engine
    from rootless.container.execution import Exec, ExecOptions

    engine = open_engine(inv.globals)
    names, command = (
        (inv.args[:0], inv.args) if inv.flag("latest") else (inv.args[:1], inv.args[1:])
    )
    inv.args = names
    chosen, missing = select(engine, inv)
    if missing:
        raise missing[0]
    options = ExecOptions(command)
    options.env = environment(inv)
    options.user = inv.text("user")
    options.cwd = inv.text("workdir")
    options.tty = inv.flag("tty")
    options.interactive = inv.flag("interactive")
    options.privileged = inv.flag("privileged")
    options.detach = inv.flag("detach")
    if inv.given("preserve-fds") or inv.given("preserve-fd"):
        from rootless.container.read_options import passed_descriptors

        options.preserve_fds = passed_descriptors(
            inv.number("preserve-fds"), inv.options["preserve-fd"]
        )
    session = Exec(engine, chosen[0][1], options)
    if inv.given("detach-keys"):
        from rootless.container.attach import parse_detach_keys

        # Of use on a terminal only, but to be right.
        parse_detach_keys(inv.text("detach-keys"), _SESSION_FAILED)
    if not (options.tty or options.detach):
        return session.run()
    return _through_monitor(session, inv)


def _through_monitor(exec: Exec, inv: Invocation) -> int:
    import os

    from rootless.container.attach import Session

    options = exec.options
    client = Session(
        exec.fork(),
        stdin=options.interactive,
        tty=options.tty,
        detach_keys=inv.text("detach-keys"),
        sig_proxy=False,
    )
    if options.detach:
        client.wait_running()
        os.write(1, f"{exec.identity}\n".encode())
        return 0
    client.attach()
    client.wait_running()
    try:
        code = client.run()
    except RootlessError as error:
        error.exit_code = _SESSION_FAILED
        raise
    return 0 if code is None else code


def environment(inv: Invocation) -> dict[str, str]:
    """`--env-file` and `-e`, in that order."""
    variables: dict[str, str] = {}
    if inv.words("env") or inv.words("env-file"):
        import os

        from rootless.container.env import parse_variables, read_env_file

        for path in inv.words("env-file"):
            variables.update(read_env_file(path, os.environ))
        variables.update(parse_variables(inv.words("env"), os.environ))
    return variables


COMMAND = Command(
    "[options] CONTAINER COMMAND [ARG...]",
    main,
    OPTIONS,
    args=check,
    interspersed=False,
    description="Runs a further process in a running container; its exit code becomes this command's.",
    examples=("exec -it web sh", "exec --user 1000 web id"),
    complete="containers",
)
