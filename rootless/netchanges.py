"""Networks of a container that exists: connect, disconnect, reload, and a definition that changes.

The router does it where the container runs; its record, its live record, and its hosts and resolv.conf follow.
"""

from __future__ import annotations

import os

from rootless.errors import Conflict, InvalidState, RootlessError
from rootless.netconnection import members
from rootless.netplan import wish_of
from rootless.netsession import Line
from rootless.network import write_in_place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.container.engine import Engine
    from rootless.container.status import Status


def _joined(engine: Engine, record: dict[str, Any]) -> dict[str, Any]:
    """The networks of a container's record by their names; for a container that can have any."""
    from rootless import netrecords

    options = record["options"]
    mode = options.get("network") or engine.config.text("network", "default_rootless_network_cmd")
    if mode != "bridge":
        raise Conflict(
            f'"{mode}" is not supported: invalid network mode',
            hint="only a container made with --network bridge or a network's name can change networks",
        )
    if not options.get("network") and not options.get("networks"):
        options = {**options, "networks": {"default": {}}}  # by the settings, not by its own
    return netrecords.of_container(engine.config, {**options, "network": mode})


def connect(engine: Engine, identity: str, network: dict[str, Any], given: dict[str, Any]) -> None:
    """Add a network to a container, at once where it runs."""
    from rootless.container.status import status_of

    with engine.containers.lock(identity):
        status = status_of(engine, identity)
        joined = _joined(engine, status.record)
        name = network["name"]
        if name in joined:
            raise Conflict(
                f'container {identity} is already connected to network "{name}": network is already connected'
            )
        if status.pid:
            request = {"op": "connect", "endpoint": identity, "wish": wish_of(network, given)}
            _change(engine, status, request)
        joined[name] = given
        _keep(engine, status.record, joined)


def disconnect(engine: Engine, identity: str, name: str) -> None:
    """Take a container off a network, at once where it runs."""
    from rootless.container.status import status_of

    with engine.containers.lock(identity):
        status = status_of(engine, identity)
        joined = _joined(engine, status.record)
        if name not in joined:
            raise Conflict(
                f"container {identity} is not connected to network {name}: network is not connected"
            )
        if status.pid:
            _change(engine, status, {"op": "disconnect", "endpoint": identity, "network": name})
        del joined[name]
        _keep(engine, status.record, joined)


def reload(engine: Engine, status: Status) -> None:
    """Make interfaces, rules and names of a running container anew."""
    _joined(engine, status.record)
    if not status.pid:
        raise InvalidState(
            f"container {status.name} is not running: only a running one has a network to reload"
        )
    _change(engine, status, {"op": "reload", "endpoint": status.id})


def redefine(engine: Engine, network: dict[str, Any]) -> None:
    """Tell the router, where there is one, of a changed definition."""
    line = Line(engine.paths, engine.config)
    try:
        if line.open(make=False):
            line.ask({"op": "network", "network": network})
    finally:
        line.close()


def _change(engine: Engine, status: Status, request: dict[str, Any]) -> None:
    line = Line(engine.paths, engine.config)
    # The monitor hears of it from the router and writes the same as we do, perhaps before us.
    before = _networks(engine, status)
    netns = os.open(f"/proc/{status.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not line.open(make=False):
            raise RootlessError(
                f"container {status.name}: the networks' router is gone",
                hint="restart the container",
            )
        reply = line.ask(request, [netns])
    finally:
        os.close(netns)
        line.close()
    live = engine.containers.read_live(status.id)
    if live is None or "network" not in live:
        return
    after = members(reply["networks"])
    live["network"]["networks"] = after
    engine.containers.write_live(status.id, live)
    _rewrite_files(engine.containers.run_folder(status.id), status, before, after)


def _networks(engine: Engine, status: Status) -> dict[str, Any]:
    """A running container's, as they are recorded."""
    live = engine.containers.read_live(status.id) or {}
    found: dict[str, Any] = (live.get("network") or {}).get("networks") or {}
    return found


def _rewrite_files(
    folder: str, status: Status, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """A running container's /etc/hosts and /etc/resolv.conf follow its addresses."""

    def addresses(found: dict[str, Any]) -> list[str]:
        return [address for member in found.values() for address, _ in member["addresses"]]

    def servers(found: dict[str, Any]) -> list[str]:
        return [server for member in found.values() for server in member["dns"]]

    gone = [address for address in addresses(before) if address not in addresses(after)]
    fresh = [address for address in addresses(after) if address not in addresses(before)]
    try:
        with open(f"{folder}/hosts", errors="replace") as file:
            lines = file.read().splitlines()
        names = [status.record["options"].get("hostname") or status.id[:12], status.name]
        lines = [line for line in lines if line.split()[:1] not in ([address] for address in gone)]
        lines += [f"{address}\t{' '.join(names)}" for address in fresh]
        write_in_place(folder, "hosts", "".join(f"{line}\n" for line in lines))
    except FileNotFoundError:
        pass
    try:
        with open(f"{folder}/resolv.conf", errors="replace") as file:
            lines = file.read().splitlines()
        old, new = servers(before), servers(after)
        lines = [
            line
            for line in lines
            if not (line.startswith("nameserver ") and line.split()[1] in old)
        ]
        at = next((i for i, line in enumerate(lines) if line.startswith("nameserver ")), len(lines))
        lines[at:at] = [f"nameserver {server}" for server in new]
        write_in_place(folder, "resolv.conf", "".join(f"{line}\n" for line in lines))
    except FileNotFoundError:
        pass


def _keep(engine: Engine, record: dict[str, Any], joined: dict[str, Any]) -> None:
    record["options"]["networks"] = joined
    engine.containers.write(record["id"], record)
