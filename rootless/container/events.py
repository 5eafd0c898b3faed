"""Events, one JSON object a line: appended in one write, so that any number of commands can write at once.

Keys are those that Podman's file logger writes. A file that reaches its size is renamed, one older is kept.
"""

from __future__ import annotations

import os
import time

from rootless import quickjson as json
from rootless.files import make_private_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.container.engine import Engine

_MAX_SIZE = 1 << 20


def stamp(now_ns: int) -> str:
    """A time as Go's RFC3339Nano writes it."""
    second, rest = divmod(now_ns, 1_000_000_000)
    local = time.localtime(second)
    minutes = local.tm_gmtoff // 60
    zone = (
        "Z"
        if not minutes
        else f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
    )
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", local) + fraction + zone


def emit(
    engine: Engine,
    kind: str,
    status: str,
    name: str,
    identity: str,
    *,
    image: str = "",
    **attributes: Any,
) -> None:
    """Record an event; one that cannot be recorded (a full disk) is no reason for a command to fail."""
    backend = engine.config.text("engine", "events_logger")
    if backend == "none":
        return
    event: dict[str, Any] = {
        "Name": name,
        "Status": status,
        "Time": stamp(time.time_ns()),
        "Type": kind,
        "ID": identity,
    }
    if image:
        event["Image"] = image
    details = attributes.pop("labels", None)
    if details:
        event["Attributes"] = details
    event.update(attributes)
    if backend == "journald":
        # Beside the file, which `events` reads: not every user may read the journal.
        from rootless.systemd.journal import Journal, event_fields

        journal = Journal()
        journal.send(
            event_fields(event, f"{kind} {status} {identity} (image={image}, name={name})")
        )
        journal.close()
    path = engine.paths.events
    try:
        try:
            fd = os.open(
                path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except FileNotFoundError:
            make_private_dir(os.path.dirname(path))
            fd = os.open(
                path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        try:
            os.write(fd, json.dumps(event, separators=(",", ":")).encode() + b"\n")
            mine = os.fstat(fd)
            # Only while it is still this file: whoever wrote at the same time may have renamed it already.
            full = mine.st_size > _MAX_SIZE and os.stat(path).st_ino == mine.st_ino
        finally:
            os.close(fd)
        if full:
            os.rename(path, f"{path}.1")
    except OSError:
        pass


def container_event(engine: Engine, record: dict[str, Any], status: str, **attributes: Any) -> None:
    """Note an event of a container, with its image and labels."""
    image = record.get("image") or {}
    emit(
        engine,
        "container",
        status,
        record["name"],
        record["id"],
        image=image.get("name", ""),
        labels=record.get("labels"),
        **attributes,
    )
