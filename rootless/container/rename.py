"""Giving a container another name."""

from __future__ import annotations

from rootless.container import events
from rootless.state import check_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.container.engine import Engine


def rename(engine: Engine, identity: str, name: str) -> None:
    """Raises Conflict where the name is taken. What runs goes on; its own files tell the old name until it restarts."""
    check_name(name)
    table = engine.containers
    with table.lock(identity):
        record = table.read(identity)
        if record["name"] != name:
            table.rename(identity, record, name)
    events.container_event(engine, record, "rename")
