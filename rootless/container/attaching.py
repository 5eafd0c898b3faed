"""Attaching to a container that runs already."""

from __future__ import annotations

from rootless.container.attach import Session
from rootless.container.options import CreateOptions
from rootless.container.status import RUNNING, status_of
from rootless.errors import InvalidState, RootlessError
from rootless.runtime.attach import Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.container.engine import Engine


def attach(
    engine: Engine, identity: str, *, stdin: bool, keys: str | None, sig_proxy: bool
) -> int | None:
    """Join a running container; its exit code, or None after the detach keys."""
    status = status_of(engine, identity)
    if status.word != RUNNING:
        raise InvalidState("you can only attach to running containers")
    options = CreateOptions.from_json(status.record["options"])
    try:
        link = Link.connect(engine.containers.run_folder(identity))
    except OSError as error:
        raise RootlessError(
            f"container {status.name}: its monitor does not answer: {(error.strerror or '').lower()}"
        ) from None
    session = Session(
        link,
        stdin=stdin and options.interactive,
        tty=options.tty,
        detach_keys=options.detach_keys if keys is None else keys,
        sig_proxy=sig_proxy,
    )
    session.follow(status.pid)
    session.attach()
    session.wait_attached()
    return session.run()
