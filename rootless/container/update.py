"""Changing what was decided at a container's creation: its limits, at once where it runs, and its restart policy."""

from __future__ import annotations

from rootless.container import cgroup_manager
from rootless.container.options import CreateOptions
from rootless.container.spec_resources import resources
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rootless.container.engine import Engine

# Two ways to say one thing: the one that is given takes the other's place.
_REPLACES = {
    "cpus": ("cpu_period", "cpu_quota"),
    "cpu_period": ("cpus",),
    "cpu_quota": ("cpus",),
    "memory": ("memory_swap",),
}


def update(engine: Engine, identity: str, flags: Mapping[str, Any]) -> None:
    """Change the options that are given, in the record and, for limits, in the kernel.

    Raises where a limit cannot be kept, and leaves everything as it was then.
    """
    from rootless.container.status import status_of

    given = {name.replace("-", "_"): value for name, value in flags.items()}
    with engine.containers.lock(identity):
        status = status_of(engine, identity)
        options = CreateOptions.from_json(status.record["options"])
        if "memory_swap" in given and "memory" not in given and options.memory:
            given["memory"] = str(options.memory)  # the two are checked together
        changed = CreateOptions.from_flags(given, [])
        fresh = CreateOptions()
        for name in given:
            for other in _REPLACES.get(name, ()):
                setattr(options, other, getattr(fresh, other))
        record = status.record
        checks = [name for name in given if name.startswith(("health_", "no_healthcheck"))]
        if checks:
            record = _with_check(record, options, changed, checks)
        plain = [name for name in given if name not in checks]
        for name in (*plain, "restart_tries") if "restart" in given else plain:
            setattr(options, name, getattr(changed, name))
        wanted = _wanted(given, changed, options)
        if wanted:
            live = status.live if status.is_running else None
            _apply(engine, identity, live, options, wanted)
        engine.containers.write(identity, {**record, "options": options.to_json()})
    if checks:
        from rootless.container.healthcheck import reload

        reload(engine, identity)


def _with_check(
    record: dict[str, Any], options: CreateOptions, changed: CreateOptions, given: list[str]
) -> dict[str, Any]:
    """The record with another health check, and the options beside it changed; what is not given stays."""
    from rootless.container.healthcheck import merge

    for name in ("log_destination", "max_log_count", "max_log_size", "on_failure"):
        if f"health_{name}" in given:
            setattr(options, f"health_{name}", getattr(changed, f"health_{name}"))
    if changed.health_startup is not None:
        options.health_startup = changed.health_startup
    check = merge({**(record.get("health") or {}), **(changed.health or {})}, None)
    if changed.health is not None and changed.health.get("Test") == ["NONE"]:
        check = None
        options.health_startup = None
    if check is None and options.health_startup:
        raise RootlessError(
            "cannot set a startup healthcheck when there is no regular healthcheck: invalid argument",
            hint="give --health-cmd",
        )
    if check is None and options.health_on_failure != "none":
        raise RootlessError(
            f"cannot set on-failure action to {options.health_on_failure} without a health check",
            hint="give --health-cmd",
        )
    record = {key: value for key, value in record.items() if key != "health"}
    return record if check is None else {**record, "health": check}


def _wanted(
    given: Mapping[str, Any], changed: CreateOptions, options: CreateOptions
) -> dict[str, Any]:
    """The groups of limits in which something changes, whole: swap's is told from memory's, and a quota from its period."""
    whole = resources(options)
    wanted = {group: whole[group] for group in resources(changed) if group in whole}
    if "pids_limit" in given and "pids" not in wanted:
        wanted["pids"] = {"limit": -1}
    if ("cpus" in given or "cpu_quota" in given) and not (options.cpus or options.cpu_quota):
        wanted.setdefault("cpu", {})["quota"] = -1
        wanted["cpu"].setdefault("period", 100_000)
    return wanted


def _apply(
    engine: Engine,
    identity: str,
    live: dict[str, Any] | None,
    options: CreateOptions,
    wanted: dict[str, Any],
) -> None:
    from rootless.runtime.cgroup import Cgroup
    from rootless.runtime.cgroup_plan import plan

    if live is not None and live.get("cgroup"):
        Cgroup(live["cgroup"], live.get("scope", "")).update(wanted)
        return
    # Refused now, and not at the next start.
    plan(
        identity,
        wanted,
        mode=options.cgroups or "enabled",
        manager=cgroup_manager.wanted(engine),
        parent=options.cgroup_parent,
    )
    if live is not None:
        raise RootlessError(
            "it runs without a cgroup, so that its limits cannot be changed",
            hint="start it again from a session that has one",
        )
