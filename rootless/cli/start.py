"""`rootless start`: start containers that exist."""

from __future__ import annotations

from rootless.cli.options import DETACH_KEYS, LATEST, filter_option
from rootless.cli.table import Command, Option
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation
    from rootless.container.engine import Engine

OPTIONS = (
    Option("all", "bool", "Every container"),
    Option("attach", "bool", "Stay with the container and show its output", short="a"),
    DETACH_KEYS,
    filter_option(),
    Option("interactive", "bool", "Keep standard input open", short="i"),
    LATEST,
    Option("sig-proxy", "bool", "Pass on signals to the process; the default with --attach"),
)


def check(inv: Invocation) -> None:
    every, latest, attach = inv.flag("all"), inv.flag("latest"), inv.flag("attach")
    if not (inv.args or latest or every or inv.words("filter")):
        raise Usage("start requires at least one argument")
    if every and latest:
        raise Usage("--all and --latest cannot be used together")
    if inv.args and latest:
        raise Usage("--latest and containers cannot be used together")
    if inv.args and every:
        raise Usage("either start all containers or the container(s) provided in the arguments")
    if attach and every:
        raise Usage("you cannot start and attach all containers at once")
    if attach and len(inv.args) > 1:
        raise Usage("you cannot start and attach multiple containers at once")
    if inv.flag("sig-proxy") and not attach:
        raise Usage("you cannot use sig-proxy without --attach: invalid argument")


def main(inv: Invocation) -> int:
    from rootless.cli.many import each
    from rootless.cli.selection import select
    from rootless.container.engine import open_engine
    from rootless.container.status import CREATED, EXITED

    engine = open_engine(inv.globals)
    chosen, missing = select(engine, inv, wanted=lambda one: one.word in (CREATED, EXITED))
    if inv.flag("attach"):
        if missing:
            raise missing[0]
        return _attached(engine, inv, chosen[0][1])

    def act(text: str, identity: str) -> str:
        from rootless.container.attach import Session
        from rootless.container.supervise import start

        link = start(engine, identity)
        if link is not None:
            Session(link, stdin=False, tty=False, sig_proxy=False).wait_running()
        return text

    return each(chosen, missing, act)


def _attached(engine: Engine, inv: Invocation, identity: str) -> int:
    from rootless.container.attach import Session
    from rootless.container.attaching import attach
    from rootless.container.options import CreateOptions
    from rootless.container.status import INITIALIZED, status_of
    from rootless.container.supervise import start
    from rootless.runtime.attach import START

    record = engine.containers.read(identity)
    options = CreateOptions.from_json(record["options"])
    proxy = inv.flag("sig-proxy") or not inv.given("sig-proxy")
    keys = inv.text("detach-keys") if inv.given("detach-keys") else options.detach_keys
    waits = status_of(engine, identity).word == INITIALIZED
    link = start(engine, identity, attached=True)
    if link is None:
        code = attach(engine, identity, stdin=inv.flag("interactive"), keys=keys, sig_proxy=proxy)
        return 0 if code is None else code
    session = Session(
        link,
        stdin=inv.flag("interactive") or options.interactive,
        tty=options.tty,
        detach_keys=keys,
        sig_proxy=proxy,
    )
    session.attach()
    if waits:
        link.send(START)
    session.wait_running()
    code = session.run()
    return 0 if code is None else code


COMMAND = Command(
    "[options] CONTAINER [CONTAINER...]",
    main,
    OPTIONS,
    args=check,
    description="Starts containers that were created or have ended.",
    examples=("start web", "start --attach --interactive shell"),
    complete="containers",
)
