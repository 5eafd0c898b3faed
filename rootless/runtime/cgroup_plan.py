"""Control groups (cgroups(7), version 2): where a container's is made, and by whom.

    UNIT.scope           a delegated scope of systemd's; or the service that --cgroups=split divides
    ├── container        the container alone: limits, freezer, kill and statistics work here; root of its namespace
    └── monitor          the monitor and its helpers, so that a limit or a freeze does not meet them

With the cgroupfs manager the container's cgroup stands by itself, and the monitor stays where the command was.

`plan` decides before the fork, from what the host gives and what is asked for, and refuses a limit that cannot be kept.
Where no cgroup can be made a container runs without one. With version 1 there is none for an unprivileged user.
"""

from __future__ import annotations

import os

from rootless.errors import RootlessError, Usage
from rootless.linux.process import host_uid
from rootless.runtime.cgroup import (
    ROOT,
    Cgroup,
    limits_of,
    move,
    not_delegated,
    of_process,
    read_words,
    reason_of,
    write,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.runtime.limits import Setting

_CONTAINER = "container"
_MONITOR = "monitor"

# A job's environment, and what is in its cgroup's path: the engine stays where the batch system has put it. With version
# 2 Slurm's is NODE_slurmstepd.scope/job_1.
_BATCH = (
    ("Slurm", "SLURM_JOB_ID", ("/slurm", "_slurmstepd.scope/")),
    ("PBS", "PBS_JOBID", ("/pbs_jobs",)),
    ("LSF", "LSB_JOBID", ("/lsf/",)),
    ("HTCondor", "_CONDOR_SLOT", ("/htcondor",)),
    ("Grid Engine", "SGE_JOB_SPOOL_DIR", ("/sge/",)),
)


# what this host gives


class Host:
    """The hierarchy as this process finds it."""

    __slots__ = ("batch", "own", "version")

    def __init__(self, version: int, own: str, batch: str) -> None:
        self.version = version  # 2, 1 (with or without an idle v2 beside it), 0 for none
        self.own = own  # the folder of this process's cgroup, "" where it is not visible
        self.batch = batch  # the batch system whose job this is

    @property
    def reason(self) -> str:
        """Why there can be no cgroups at all, or nothing."""
        if self.version == 1:
            return "this host has cgroups of version 1, which a user cannot be given"
        if self.version == 0:
            return "no cgroup file system is mounted"
        return ""


def detect() -> Host:
    """Look at the hierarchy; three system calls."""
    own = ""
    names = ""
    has_v1 = False
    try:
        with open("/proc/self/cgroup", "rb") as file:
            for line in file.read().decode("utf-8", "surrogateescape").splitlines():
                number, _, path = line.split(":", 2)
                names += path + "\n"
                if number == "0":
                    own = path
                else:
                    has_v1 = True
    except FileNotFoundError:
        return Host(0, "", "")
    if os.access(f"{ROOT}/cgroup.controllers", os.F_OK):
        version = 2
    else:
        version = 1 if has_v1 else 0
    # A path that leads upwards is one outside the cgroup namespace.
    folder = "" if version != 2 or not own or own.startswith("/..") else ROOT + own.rstrip("/")
    return Host(version, folder, batch_of(own, names))


def batch_of(own: str, names: str) -> str:
    """The batch system whose job a process with these cgroups is; "" for none."""
    for system, variable, words in _BATCH:
        # A log-in's cgroup is no job's, though its environment may speak of one (`salloc`).
        by_variable = variable in os.environ and not own.startswith("/user.slice/")
        if by_variable or any(word in names for word in words):
            return system
    return ""


def delegated_controllers() -> list[str]:
    """The controllers that this user's systemd manager may hand on; the system's for root."""
    return read_words(f"{_manager_folder()}/cgroup.controllers")


def _manager_folder() -> str:
    uid = host_uid()
    return f"{ROOT}/user.slice/user-{uid}.slice/user@{uid}.service" if uid else ROOT


# the plan


class Plan:
    """Where a container's cgroup will be and what will be written to it; made before the fork, carried out after it."""

    __slots__ = (
        "_settings",
        "base",
        "cgroup",
        "manager",
        "monitored",
        "name",
        "reason",
        "slice",
        "stop_timeout_s",
        "unit",
    )

    def __init__(self, manager: str, name: str) -> None:
        self.manager = manager  # systemd, cgroupfs, split or none
        self.name = name
        self.unit = ""  # the scope, with systemd
        self.slice = ""
        self.base = ""  # the folder in which UNIT is made, without systemd
        self.reason = ""  # why there is none
        self.monitored = True  # whether the monitor gets its own cgroup beside the container's
        self.stop_timeout_s: int | None = None
        self.cgroup: Cgroup | None = None
        self._settings: list[Setting] = []

    @property
    def limits(self) -> bool:
        return bool(self._settings)

    def enter(self, pid: int, monitor: int | None = None) -> None:
        """Make the cgroup and move init into it, and the monitor into the one beside it."""
        if self.manager == "none":
            return
        others = [monitor] if monitor is not None and self.monitored else []
        try:
            if self.manager == "cgroupfs":
                folder = self.base
                _make_all(folder)
                self.cgroup = Cgroup(f"{folder}/{self.name}")
            else:
                systemd = self.manager == "systemd"
                folder = self._make_scope([pid, *others]) if systemd else self.base
                self.cgroup = Cgroup(f"{folder}/{_CONTAINER}", self.unit)
            if self.manager == "split":
                _evacuate(folder)
            _make(self.cgroup.path)
            if others:
                _make(f"{folder}/{_MONITOR}")
                move(f"{folder}/{_MONITOR}", others)
            move(self.cgroup.path, [pid])
            _hand_down(folder)
        except OSError as error:
            raise RootlessError(
                f"cannot make the container's cgroup in {error.filename or self.base}: {reason_of(error)}"
            ) from error
        try:
            self.apply_limits()
        except RootlessError:
            self.cgroup.remove()  # with init in it, which could not begin anyway
            self.cgroup = None
            raise

    def apply_limits(self) -> None:
        if self.cgroup is not None:
            self.cgroup.write(self._settings)

    def _make_scope(self, pids: list[int]) -> str:
        from rootless.runtime import scope

        try:
            scope.start(
                self.unit,
                pids,
                slice_name=self.slice,
                description=f"rootless container {self.name}",
                stop_timeout_s=self.stop_timeout_s,
            )
        except RootlessError as error:
            raise RootlessError(
                f"cannot make the scope {self.unit}: {error.message}", hint=error.hint
            ) from error
        folder = of_process(pids[0])
        if f"/{self.unit}" not in folder:
            raise RootlessError(f"systemd has not moved the container into {self.unit}")
        return folder[: folder.index(f"/{self.unit}") + len(self.unit) + 1]


def plan(
    identity: str,
    resources: dict[str, Any] | None = None,
    *,
    mode: str = "enabled",
    manager: str = "",
    parent: str = "",
    cgroups_path: str = "",
    default_pids: int = 0,
    stop_timeout_s: int | None = None,
) -> Plan:
    """Decide on a container's cgroup. Raises where what is asked for cannot be had.

    `mode` is --cgroups, `manager` --cgroup-manager ("" for the best there is), `parent` --cgroup-parent; an OCI caller
    gives the runtime-spec's `cgroups_path` instead of it. `default_pids` is a limit that holds where it can.
    """
    host = detect()
    wanted = limits_of(resources)
    chosen = _choose(host, f"rootless-{identity}", mode, manager, parent, cgroups_path)
    if parent and chosen.manager == "none" and mode != "disabled":
        raise RootlessError(
            f"cannot use the parent cgroup {parent} (--cgroup-parent): {chosen.reason}",
            hint=_hint_for_none(chosen),
        )
    chosen.stop_timeout_s = stop_timeout_s
    chosen.monitored = mode == "enabled" and chosen.manager == "systemd"
    available = _available(chosen, host)
    _check(chosen, wanted, available)
    if (
        default_pids
        and "pids" in (available or ())
        and not any(file == "pids.max" for _, file, _, _ in wanted)
    ):
        wanted.append(
            ("pids", "pids.max", str(default_pids), "the limit of processes (--pids-limit)")
        )
    chosen._settings = wanted
    return chosen


def _choose(host: Host, name: str, mode: str, manager: str, parent: str, cgroups_path: str) -> Plan:
    if mode == "disabled":
        return _none(name, "it was started with --cgroups=disabled")
    if host.reason:
        return _none(name, host.reason)
    if mode == "split":
        return _split(host, name)
    if parent:
        if manager == "cgroupfs" and parent.endswith(".slice"):
            raise Usage(
                "systemd slice received as cgroup parent when using cgroupfs: invalid argument"
            )
        if manager == "systemd" and not parent.endswith(".slice"):
            raise Usage(
                "did not receive systemd slice as cgroup parent when using systemd to manage cgroups: invalid argument"
            )
    if cgroups_path.count(":") == 2:
        parent, prefix, base = cgroups_path.split(":")
        name = f"{prefix}-{base}" if prefix else base
        manager = manager or "systemd"
    elif cgroups_path:
        manager = manager or "cgroupfs"
        parent, _, name = cgroups_path.rstrip("/").rpartition("/")
    by_systemd = manager == "systemd" or (
        manager == "" and not host.batch and not parent.startswith("/")
    )
    if by_systemd:
        from rootless.runtime import scope

        if scope.is_available():
            chosen = Plan("systemd", name)
            chosen.unit = name if name.endswith((".scope", ".slice")) else f"{name}.scope"
            chosen.slice = parent or ("user.slice" if host_uid() else "machine.slice")
            return chosen
    return _by_folders(host, name, parent, explicit=manager == "cgroupfs")


def _none(name: str, reason: str) -> Plan:
    chosen = Plan("none", name)
    chosen.reason = reason
    return chosen


def _split(host: Host, name: str) -> Plan:
    """--cgroups=split: the cgroup of a service that has it delegated is divided between monitor and container."""
    base = host.own
    if os.path.basename(base) == _MONITOR:
        base = os.path.dirname(base)  # started again by the monitor of before
    if not base or not _is_ours(base):
        raise RootlessError(
            f"--cgroups=split: {base or 'the cgroup of this process'} is not delegated to uid {host_uid()}",
            hint="start it from a unit with Delegate=yes",
        )
    chosen = Plan("split", name)
    chosen.base = base
    return chosen


def _by_folders(host: Host, name: str, parent: str, *, explicit: bool) -> Plan:
    if parent and not parent.endswith(".slice"):
        candidates = [ROOT + os.path.normpath("/" + parent.lstrip("/"))]
    elif host_uid() == 0 and not host.batch:
        candidates = [ROOT]
    elif host.batch and not explicit:
        candidates = [host.own]
    else:
        # Beside our own one, where processes are no hindrance; in it where that is all that is ours.
        candidates = [os.path.dirname(host.own), host.own] if host.own else []
    for base in candidates:
        if base and _is_ours(base):
            chosen = Plan("cgroupfs", name)
            chosen.base = base
            return chosen
        if base and parent and host_uid() == 0:
            chosen = Plan("cgroupfs", name)
            chosen.base = base
            return chosen
    if host.batch:
        return _none(name, f"this is a {host.batch} job, whose cgroup is not delegated to its user")
    if parent:
        return _none(name, f"{candidates[0]} does not belong to uid {host_uid()}")
    return _none(
        name, f"no systemd manager of uid {host_uid()} runs, and no cgroup is delegated to it"
    )


def _is_ours(folder: str) -> bool:
    """Whether cgroups can be made in a folder and processes moved between them."""
    return os.access(folder, os.W_OK) and os.access(f"{folder}/cgroup.procs", os.W_OK)


def _available(chosen: Plan, host: Host) -> list[str] | None:
    """The controllers that a container's cgroup can have; None where that shows only when it is made."""
    if chosen.manager == "none":
        return []
    if chosen.manager == "systemd":
        folder = _manager_folder()
        return read_words(f"{folder}/cgroup.controllers") if os.path.isdir(folder) else None
    enabled = read_words(f"{chosen.base}/cgroup.subtree_control")
    present = read_words(f"{chosen.base}/cgroup.controllers")
    if (
        chosen.manager == "cgroupfs"
        and chosen.base != ROOT
        and read_words(f"{chosen.base}/cgroup.procs")
    ):
        return enabled  # cgroups(7), no internal processes: with some in it no more can be enabled
    return present


def _check(chosen: Plan, wanted: list[Setting], available: list[str] | None) -> None:
    for controller, _, _, label in wanted:
        if chosen.manager == "none":
            raise RootlessError(f"cannot set {label}: {chosen.reason}", hint=_hint_for_none(chosen))
        if controller and available is not None and controller not in available:
            raise not_delegated(controller, label)


def _hint_for_none(chosen: Plan) -> str:
    if "version 1" in chosen.reason:
        return "leave it out, or boot with systemd.unified_cgroup_hierarchy=1"
    if "job" in chosen.reason:
        return "leave it out: the job's own limits hold"
    if "manager" in chosen.reason:
        return "leave it out, or log in by ssh or on a console; `loginctl enable-linger` keeps a manager running"
    return "leave it out"


# making


def _make(folder: str) -> None:
    try:
        os.mkdir(folder, 0o755)
    except FileExistsError:
        pass


def _make_all(folder: str) -> None:
    """Make a cgroup and those above it, each with the controllers of the one above."""
    if not os.path.isdir(folder):
        above = os.path.dirname(folder)
        _make_all(above)
        _hand_down(above)
        _make(folder)


def _hand_down(folder: str) -> None:
    """Enable for the cgroups in `folder` whatever controllers it has; those that cannot be show when they are needed."""
    missing = set(read_words(f"{folder}/cgroup.controllers")) - set(
        read_words(f"{folder}/cgroup.subtree_control")
    )
    if not missing:
        return
    path = f"{folder}/cgroup.subtree_control"
    try:
        write(path, " ".join(f"+{name}" for name in sorted(missing)))
    except OSError:
        for name in sorted(missing):  # all or nothing, in one write: each for itself
            try:
                write(path, f"+{name}")
            except OSError:
                continue


def _evacuate(folder: str) -> None:
    """Move the processes of a cgroup into one below it, since those of a cgroup that hands controllers down are none."""
    below = f"{folder}/{_MONITOR}"
    _make(below)
    for _ in range(10):  # until no fork has slipped through
        pids = read_words(f"{folder}/cgroup.procs")
        if not pids:
            return
        for pid in pids:
            try:
                write(f"{below}/cgroup.procs", pid)
            except ProcessLookupError:
                continue
