"""Waiting for a container's state."""

from __future__ import annotations

import time

from rootless.container.lifecycle import wait_exit
from rootless.container.status import CREATED, EXITED, INITIALIZED, STOPPING, status_of
from rootless.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.container.engine import Engine
    from rootless.container.status import Status


def wait_for(engine: Engine, identity: str, conditions: list[str], interval_s: float) -> int:
    """Wait until one of the states holds (ended, where none is named); the exit code, -1 where there is none."""
    if not conditions or set(conditions) <= {"stopped", "exited"}:
        return wait_exit(engine, identity)
    while True:
        try:
            status = status_of(engine, identity)
        except NotFound:
            if "removing" in conditions:
                return -1
            raise
        if not words_of(status).isdisjoint(conditions):
            return status.exit_code if status.word == EXITED else -1
        time.sleep(interval_s)


def words_of(status: Status) -> set[str]:
    """What Podman calls a state, by all its words."""
    words = {status.word}
    if status.word == EXITED:
        words.add("stopped")
    elif status.word == CREATED:
        words.add("configured")
    elif status.word == INITIALIZED:
        words |= {"created", "initialized"}
    elif status.word == STOPPING:
        words.add("stopping")
    if status.record.get("health"):
        from rootless.container.filters import health_of

        health = health_of(status)
        words |= {health} if health else set()
    return words
