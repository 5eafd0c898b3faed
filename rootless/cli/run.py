"""`rootless run`: create a container, start it and, unless it is detached, stay with it."""

from __future__ import annotations

import os

from rootless import log
from rootless.cli.container_options import RUN
from rootless.cli.output import is_terminal
from rootless.cli.table import Command
from rootless.container.attach import Session, parse_detach_keys
from rootless.container.creation import create
from rootless.container.engine import open_engine
from rootless.container.options import CreateOptions
from rootless.container.supervise import start
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.table import Invocation
    from rootless.container.engine import Engine
    from rootless.image.session import Reporter

OPTIONS = RUN


def main(inv: Invocation) -> int:
    options = CreateOptions.from_invocation(inv)
    if options.tty and options.interactive and not is_terminal(0):
        log.warn(
            "The input device is not a TTY. The --tty and --interactive flags might not work properly"
        )
    engine = open_engine(inv.globals)
    keys = options.detach_keys or engine.config.text("engine", "detach_keys")
    if keys:
        parse_detach_keys(keys, exit_code=126)
    record = create(engine, options, lambda: reporter(quiet=options.quiet))
    try:
        return run(engine, record, options, keys)
    except (RootlessError, KeyboardInterrupt):  # the latter before a signal is the container's
        discard(engine, record, options)
        raise


def reporter(*, quiet: bool) -> Reporter:
    from rootless.cli import registry_options

    return registry_options.reporter(quiet=quiet)


def run(engine: Engine, record: dict[str, Any], options: CreateOptions, keys: str | None) -> int:
    attached = not options.detach
    link = start(engine, record["id"], attached=attached)
    assert link is not None
    session = Session(
        link,
        stdin=options.interactive,
        tty=options.tty,
        detach_keys=keys,
        sig_proxy=options.sig_proxy,
    )
    if attached:
        streams = [one.lower() for one in options.attach] or ["stdout", "stderr"]
        session.attach(stdout="stdout" in streams, stderr="stderr" in streams)
    session.wait_running()
    if not attached:
        os.write(1, f"{record['id']}\n".encode())
        return 0
    try:
        code = session.run()
    except RootlessError as error:
        error.exit_code = 126  # Podman's, where it is not the container that failed but we with it
        raise
    return 0 if code is None else code


def discard(engine: Engine, record: dict[str, Any], options: CreateOptions) -> None:
    """A container that could not be started is kept as `created`, as Podman does, unless `--rm` is given."""
    if options.rm:
        from rootless.container.lifecycle import remove

        try:
            remove(engine, record["id"], force=True, volumes=True)
        except RootlessError:
            pass


COMMAND = Command(
    "[options] IMAGE [COMMAND [ARG...]]",
    main,
    OPTIONS,
    args=(1, None),
    interspersed=False,
    description="Makes a container from an image and runs a command in it.",
    examples=("run -it host bash", "run -d --name web -p 8080:80 nginx", "run --rm busybox date"),
    complete="images",
)
