"""Transient scopes: the cgroups that systemd's manager of this user (for root: of the system) makes on request.

org.freedesktop.systemd1(5), systemd.scope(5). Spoken directly with the manager over its private socket, which needs no
bus; over the bus where that socket is missing.
"""

from __future__ import annotations

import os
import time

from rootless.errors import Conflict
from rootless.linux.process import host_uid
from rootless.runtime import dbus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SERVICE = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_INFINITY = 2**64 - 1
_EXIT_S = 10.0  # for the scope of a run that has ended to go away


def sockets(uid: int) -> list[tuple[str, bool]]:
    """Where this user's manager may be heard: (path, whether it is a bus), best first.

    By the uid and not by $XDG_RUNTIME_DIR alone: cron, su and ssh without PAM come without that variable, while a
    lingering user's manager runs.
    """
    if uid == 0:
        return [("/run/systemd/private", False), ("/run/dbus/system_bus_socket", True)]
    folders = [f"/run/user/{uid}"]
    own = os.environ.get("XDG_RUNTIME_DIR", "")
    if own.startswith("/") and own != folders[0]:
        folders.append(own)
    return [
        (f"{folder}/{name}", name == "bus")
        for folder in folders
        for name in ("systemd/private", "bus")
    ]


def is_available() -> bool:
    """Whether there is a socket of the manager's; whether it answers shows when it is called."""
    return any(os.path.exists(path) for path, _ in sockets(host_uid()))


def connect() -> dbus.Connection:
    """Connect to the manager; OSError where none answers."""
    failure: OSError = FileNotFoundError(2, "no systemd manager of this user runs")
    for path, is_bus in sockets(host_uid()):
        try:
            connection = dbus.Connection(path, is_bus=is_bus)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                failure = error
            continue
        if is_bus:
            match = f"type='signal',interface='{_MANAGER}'"
            bus = "org.freedesktop.DBus"
            connection.call(bus, "/org/freedesktop/DBus", bus, "AddMatch", "s", match)
            connection.call(_SERVICE, _PATH, _MANAGER, "Subscribe")
        return connection
    raise failure


def start(
    unit: str,
    pids: list[int],
    *,
    slice_name: str,
    description: str,
    stop_timeout_s: int | None = None,
) -> None:
    """Make a delegated scope with `pids` in it, and wait until they are there."""
    properties: list[tuple[str, tuple[str, Any]]] = [
        ("Description", ("s", description)),
        ("Slice", ("s", slice_name)),
        ("PIDs", ("au", pids)),
        ("Delegate", ("b", True)),
        # A container that failed leaves no unit behind that would be in the way of its next start.
        ("CollectMode", ("s", "inactive-or-failed")),
        # The limits are the engine's, in the cgroup below; the manager's default for a scope is not the container's.
        ("TasksMax", ("t", _INFINITY)),
    ]
    if stop_timeout_s is not None:
        # To systemd 0 is no limit at all.
        properties.append(("TimeoutStopUSec", ("t", max(stop_timeout_s, 1) * 1_000_000)))
    with connect() as manager:
        deadline = time.monotonic() + _EXIT_S
        while True:
            try:
                _start(manager, unit, properties)
                return
            except dbus.CallError as error:
                if error.name != f"{_SERVICE}.UnitExists":
                    raise
                _wait_until_gone(manager, unit, deadline)


def _start(
    manager: dbus.Connection, unit: str, properties: list[tuple[str, tuple[str, Any]]]
) -> None:
    (job,) = manager.call(
        _SERVICE,
        _PATH,
        _MANAGER,
        "StartTransientUnit",
        "ssa(sv)a(sa(sv))",
        unit,
        "fail",
        properties,
        [],
    )
    while True:
        signal = manager.next_signal()
        if (
            signal is not None
            and signal.member == "JobRemoved"
            and len(signal.body) == 4
            and signal.body[1] == job
        ):
            if signal.body[3] != "done":
                raise dbus.CallError("", f"systemd could not start {unit}: {signal.body[3]}")
            return


def _wait_until_gone(manager: dbus.Connection, unit: str, deadline: float) -> None:
    """Wait for the end of the scope of the run before, whose last process is just ending."""
    while True:
        try:
            manager.call(_SERVICE, _PATH, _MANAGER, "GetUnit", "s", unit)
        except dbus.CallError:
            return
        signal = manager.next_signal(deadline)
        while signal is not None and signal.member != "UnitRemoved":
            signal = manager.next_signal(deadline)
        if signal is None:
            raise Conflict(
                f"the scope {unit} exists and has processes",
                hint=f"see `systemctl --user status {unit}`",
            )


def attach(unit: str, subgroup: str, pids: list[int]) -> None:
    """Move processes into a subgroup of a delegated unit, which the kernel refuses a user from a log-in session."""
    with connect() as manager:
        manager.call(
            _SERVICE, _PATH, _MANAGER, "AttachProcessesToUnit", "ssau", unit, subgroup, pids
        )
