"""auto-update: services whose containers are labelled for it get newer images, and their old ones back where they fail.

A unit is restarted by systemd; it counts as updated once its container runs and, where it has a health check, is healthy.
What was tried is kept in a history: a digest that had to be taken back is not tried again until there is another one.
"""

from __future__ import annotations

import subprocess
import time

from rootless import log
from rootless.container.filters import health_of
from rootless.container.status import RUNNING, Status, all_statuses
from rootless.errors import RootlessError
from rootless.files import Lock, make_private_dir, read_json, write_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.container.engine import Engine
    from rootless.image.session import Access
    from rootless.image.store import Image

LABEL = "io.containers.autoupdate"
AUTHFILE = "io.containers.autoupdate.authfile"
UNIT = "PODMAN_SYSTEMD_UNIT"
POLICIES = {"registry": "registry", "image": "registry", "local": "local"}
UPDATED, KEPT, PENDING, FAILED, BACK = "true", "false", "pending", "failed", "rolled back"
_KEPT_ENTRIES = 20
_SYSTEMCTL_S = 900
_HEALTH_S = 600.0
_LOOK_S = 0.25
_SETTLED_S = 3


class Task:
    """One container that may be updated, and what came of it."""

    __slots__ = (
        "status",
        "unit",
        "policy",
        "name",
        "updated",
        "problem",
        "old",
        "old_digest",
        "new_digest",
    )

    def __init__(self, status: Status) -> None:
        labels = status.record.get("labels") or {}
        self.status = status
        self.unit: str = labels.get(UNIT, "")
        self.policy: str = labels.get(LABEL, "")
        self.name: str = (status.record.get("image") or {}).get("raw", "")
        self.updated = KEPT
        self.problem = ""
        self.old: Image | None = None
        self.old_digest = ""
        self.new_digest = ""

    def fail(self, why: str) -> None:
        self.updated, self.problem = FAILED, why

    def to_json(self) -> dict[str, str]:
        return {
            "Unit": self.unit,
            "Container": f"{self.status.id[:12]} ({self.status.name})",
            "ContainerName": self.status.name,
            "ContainerID": self.status.id,
            "Image": self.name,
            "Policy": self.policy,
            "Updated": self.updated,
        }


def find(engine: Engine) -> list[Task]:
    """Running containers with the label."""
    wanted = [one for one in all_statuses(engine) if (one.record.get("labels") or {}).get(LABEL)]
    return [Task(one) for one in wanted if one.word == RUNNING and _policy(one) != "disabled"]


def _policy(status: Status) -> str:
    return str(status.record["labels"][LABEL])


class Updater:
    """One run over all containers."""

    __slots__ = ("engine", "access", "dry_run", "rollback", "history", "names")

    def __init__(self, engine: Engine, access: Access, *, dry_run: bool, rollback: bool) -> None:
        self.engine = engine
        self.access = access
        self.dry_run = dry_run
        self.rollback = rollback
        self.history = read_history(engine)
        self.names: dict[str, str] = {}  # image name → its newest digest, asked once

    def run(self) -> list[Task]:
        make_private_dir(self.engine.paths.node)
        with Lock(f"{self.engine.paths.updates}.lock"):
            tasks = find(self.engine)
            for task in tasks:
                try:
                    self._look(task)
                except RootlessError as error:
                    task.fail(f"{task.status.name}: {error.message}")
            units = dict.fromkeys(task.unit for task in tasks if task.updated == PENDING)
            if not self.dry_run:
                for unit in units:
                    self._update(
                        unit, [one for one in tasks if one.unit == unit and one.updated == PENDING]
                    )
                write_json(self.engine.paths.updates, self.history)
        return tasks

    # what there is

    def _look(self, task: Task) -> None:
        if task.policy not in POLICIES:
            raise RootlessError(
                f"{LABEL}={task.policy}: no such policy; there are registry and local"
            )
        if not task.unit:
            raise RootlessError(
                f"it has no label {UNIT}: only what a systemd unit starts can be restarted"
            )
        store = self.engine.images
        task.old = store.get(task.status.record["image"]["id"])
        if task.old is None:
            raise RootlessError("its image is gone", hint="make the container anew")
        task.old_digest = task.old.digest
        if POLICIES[task.policy] == "local":
            newest = store.find(task.name)
            if newest is not None and newest.id != task.old.id:
                task.new_digest = newest.digest
                task.updated = PENDING
        else:
            self._look_at_registry(task)
        if task.updated == PENDING and self._was_bad(task):
            task.updated = KEPT
            log.warn(f"{task.name}: {task.new_digest} failed before and is not tried again")

    def _look_at_registry(self, task: Task) -> None:
        from rootless.image import pull, reference
        from rootless.image.session import Session

        ref = reference.parse(task.name)
        first = task.name.partition("/")[0]
        if "/" not in task.name or not ("." in first or ":" in first or first == "localhost"):
            raise RootlessError(f"{task.name} is a short name: say which registry it is from")
        if ref.digest:
            return  # pinned: that is what was asked for
        digest = self.names.get(task.name)
        if digest is None:
            with Session(self._access(task)) as session:
                digest = pull.find_at(ref.with_default_tag(), session).digest
            self.names[task.name] = digest
        assert task.old is not None
        if digest not in task.old.digests:
            task.new_digest = digest
            task.updated = PENDING

    def _access(self, task: Task) -> Access:
        """The command's options, or the logins that the container's label names."""
        authfile = task.status.record["labels"].get(AUTHFILE)
        if not authfile or self.access.authfile:
            return self.access
        from rootless.image.session import Access

        return Access(authfile=authfile, tls_verify=self.access.tls_verify)

    def _was_bad(self, task: Task) -> bool:
        entries = self.history.get(task.name) or []
        return any(one["digest"] == task.new_digest and one["result"] == BACK for one in entries)

    # changing it

    def _update(self, unit: str, tasks: list[Task]) -> None:
        """Pull, restart, look whether it is well; else bring back what was."""
        try:
            for task in tasks:
                if POLICIES[task.policy] == "registry":
                    self._pull(task)
        except RootlessError as error:
            for task in tasks:
                task.fail(f"{task.status.name}: {error.message}")
            return
        problem = self._restart(unit)
        if not problem:
            for task in tasks:
                task.updated = UPDATED
                self._note(task, UPDATED)
            return
        for task in tasks:
            task.fail(f"{unit}: {problem}")
        if not self.rollback:
            return
        for task in tasks:
            assert task.old is not None
            self.engine.images.tag(task.old, self._full(task.name), task.old_digest)
        again = self._restart(unit)
        for task in tasks:
            self._note(task, BACK)
            if again:
                task.problem += f"; and with the image from before: {again}"
            else:
                task.updated = BACK

    def _pull(self, task: Task) -> None:
        from rootless.image import pull

        pull.ensure_image(
            self.engine.images, task.name, pull.PullOptions(pull.ALWAYS, None, self._access(task))
        )

    @staticmethod
    def _full(name: str) -> str:
        from rootless.image import reference

        return str(reference.parse(name).with_default_tag())

    def _restart(self, unit: str) -> str:
        """Restart a unit and see it well; what was wrong, or nothing."""
        try:
            done = subprocess.run(
                ["systemctl", "--user", "restart", unit],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SYSTEMCTL_S, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"cannot be restarted: {error}"
        if done.returncode:
            return f"did not start: {(done.stderr or done.stdout).strip().splitlines()[-1:] or done.returncode}"
        deadline = time.monotonic() + _HEALTH_S
        while True:
            mine = [
                one
                for one in all_statuses(self.engine)
                if (one.record.get("labels") or {}).get(UNIT) == unit
            ]
            if not mine or any(one.word != RUNNING for one in mine):
                return "its container does not run"
            words = {health_of(one) for one in mine if one.record.get("health")}
            if "unhealthy" in words:
                return "its container is unhealthy"
            if words <= {"healthy"} and (words or all(_has_settled(one) for one in mine)):
                return ""
            if time.monotonic() > deadline:
                return "its container has not become healthy"
            time.sleep(
                _LOOK_S
            )  # the monitor tells nobody but its clients; a service may take minutes

    def _note(self, task: Task, result: str) -> None:
        entry = {
            "digest": task.new_digest,
            "before": task.old_digest,
            "unit": task.unit,
            "time": int(time.time()),
            "result": result,
        }
        self.history[task.name] = [entry, *(self.history.get(task.name) or [])][:_KEPT_ENTRIES]


def _has_settled(status: Status) -> bool:
    """Whether a container has run for a while: without a health check, that is what there is to go by."""
    started = (status.live or {}).get("started_at") or 0
    return time.time_ns() - int(started) > _SETTLED_S * 1_000_000_000


def read_history(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Image name → what was tried, the latest first."""
    try:
        found: dict[str, list[dict[str, Any]]] = read_json(engine.paths.updates)
    except FileNotFoundError:
        return {}
    return found
