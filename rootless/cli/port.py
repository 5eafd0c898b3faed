"""`rootless port`: the published ports of containers."""

from __future__ import annotations

from rootless.cli.options import LATEST, all_option
from rootless.cli.table import Command
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.table import Invocation
    from rootless.container.status import Status

OPTIONS = (all_option("Every container"), LATEST)


def check(inv: Invocation) -> None:
    every, latest = inv.flag("all"), inv.flag("latest")
    if every and latest:
        raise Usage("--all and --latest cannot be used together")
    if every and inv.args:
        raise Usage("no arguments are needed with --all")
    if len(inv.args) > 2:
        raise Usage("`port` accepts at most 2 arguments")
    if not (inv.args or every or latest):
        raise Usage("you must supply a running container name or id")


def lines(ports: list[dict[str, Any]]) -> list[tuple[int, str, str]]:
    """(container port, protocol, host address and port) of every published port, a range one by one."""
    found = []
    for port in ports:
        address = port.get("host_ip") or "0.0.0.0"
        shown = f"[{address}]" if ":" in address else address
        for step in range(int(port.get("range") or 1)):
            found.append(
                (
                    port["container_port"] + step,
                    port["protocol"],
                    f"{shown}:{port['host_port'] + step}",
                )
            )
    return found


def main(inv: Invocation) -> int:
    from rootless.cli.output import line
    from rootless.cli.selection import select
    from rootless.container.engine import open_engine
    from rootless.container.status import all_statuses, status_of
    from rootless.errors import NotFound

    engine = open_engine(inv.globals)
    wanted = ""
    statuses: list[Status]
    if inv.flag("all"):
        statuses = all_statuses(engine)
    elif inv.flag("latest"):
        wanted = inv.args[0] if inv.args else ""
        chosen, _ = select(engine, inv)
        statuses = [status_of(engine, identity) for _, identity in chosen]
    else:
        wanted = inv.args[1] if len(inv.args) > 1 else ""
        statuses = [status_of(engine, engine.containers.lookup(inv.args[0]))]
    number, protocol = _parse(wanted)
    hit = any_ports = False
    for status in statuses:
        live = status.live or {}
        if not status.is_running:
            continue
        network = live.get("network") or {}
        ports = network.get("ports") or status.record.get("ports") or []
        any_ports = any_ports or bool(ports)
        for port, kind, host in lines(ports):
            if wanted:
                if (port, kind) != (number, protocol):
                    continue
                hit = True
                line(host)
            elif inv.flag("all"):
                line(f"{status.id[:12]}\t{port}/{kind} -> {host}")
            else:
                line(f"{port}/{kind} -> {host}")
    if wanted and any_ports and not hit:
        raise NotFound(f'failed to find published port "{wanted}"')
    return 0


def _parse(text: str) -> tuple[int, str]:
    if not text:
        return 0, ""
    number, _, protocol = text.partition("/")
    if not number.isdecimal():
        raise Usage(f'port must be a number: "{number}"')
    return int(number), protocol or "tcp"


COMMAND = Command(
    "[options] CONTAINER [PORT]",
    main,
    OPTIONS,
    args=check,
    description="Lists the published ports of a container, or the host's for one of its ports.",
    examples=("port web", "port web 80/tcp"),
    complete="containers",
)
