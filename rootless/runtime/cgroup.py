"""Control groups (cgroups(7), version 2): where a container's is made, by whom, and what is written to and read from it.

    UNIT.scope           a delegated scope of systemd's; or the service that --cgroups=split divides
    ├── container        the container alone: limits, freezer, kill and statistics work here; root of its namespace
    └── monitor          the monitor and its helpers, so that a limit or a freeze does not meet them

With the cgroupfs manager the container's cgroup stands by itself, and the monitor stays where the command was.

`plan` decides before the fork, from what the host gives and what is asked for, and refuses a limit that cannot be kept.
Where no cgroup can be made a container runs without one. With version 1 there is none for an unprivileged user.
"""

from __future__ import annotations

import errno
import os
import time

from rootless.errors import RootlessError, Usage
from rootless.linux.process import host_uid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.runtime.limits import Setting

ROOT = "/sys/fs/cgroup"
_CONTAINER = "container"
_MONITOR = "monitor"
_PATIENCE_S = 10.0

# A job's environment, and what its cgroup is called: the engine stays where the batch system has put it.
_BATCH = (
    ("Slurm", "SLURM_JOB_ID", "slurm"),
    ("PBS", "PBS_JOBID", "pbs_jobs"),
    ("LSF", "LSB_JOBID", "lsf/"),
    ("HTCondor", "_CONDOR_SLOT", "htcondor"),
    ("Grid Engine", "SGE_JOB_SPOOL_DIR", "sge/"),
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
    batch = ""
    for system, variable, word in _BATCH:
        # A log-in's cgroup is no job's, though its environment may speak of one (`salloc`).
        if (variable in os.environ and not own.startswith("/user.slice/")) or f"/{word}" in names:
            batch = system
            break
    # A path that leads upwards is one outside the cgroup namespace.
    folder = "" if version != 2 or not own or own.startswith("/..") else ROOT + own.rstrip("/")
    return Host(version, folder, batch)


def delegated_controllers() -> list[str]:
    """The controllers that this user's systemd manager may hand on; the system's for root."""
    return _words(f"{_manager_folder()}/cgroup.controllers")


def _manager_folder() -> str:
    uid = host_uid()
    return f"{ROOT}/user.slice/user-{uid}.slice/user@{uid}.service" if uid else ROOT


def _words(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().split()
    except OSError:
        return []


# the plan


def limits_of(resources: dict[str, Any] | None) -> list[Setting]:
    if not resources:
        return []
    from rootless.runtime.limits import settings

    return settings(resources)


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
                _move(f"{folder}/{_MONITOR}", others)
            _move(self.cgroup.path, [pid])
            _hand_down(folder)
        except OSError as error:
            raise RootlessError(
                f"cannot make the container's cgroup in {error.filename or self.base}: {_lower(error)}"
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
        return _words(f"{folder}/cgroup.controllers") if os.path.isdir(folder) else None
    enabled = _words(f"{chosen.base}/cgroup.subtree_control")
    present = _words(f"{chosen.base}/cgroup.controllers")
    if (
        chosen.manager == "cgroupfs"
        and chosen.base != ROOT
        and _words(f"{chosen.base}/cgroup.procs")
    ):
        return enabled  # cgroups(7), no internal processes: with some in it no more can be enabled
    return present


def _check(chosen: Plan, wanted: list[Setting], available: list[str] | None) -> None:
    for controller, _, _, label in wanted:
        if chosen.manager == "none":
            raise RootlessError(f"cannot set {label}: {chosen.reason}", hint=_hint_for_none(chosen))
        if controller and available is not None and controller not in available:
            raise _missing(controller, label)


def _missing(controller: str, label: str) -> RootlessError:
    return RootlessError(
        f"cannot set {label}: the {controller} controller is not delegated to uid {host_uid()}",
        hint="ask for /etc/systemd/system/user@.service.d/delegate.conf with the two lines `[Service]` and "
        "`Delegate=cpu cpuset io memory pids`, then `systemctl daemon-reload`, and log in again",
    )


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


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)


def _move(folder: str, pids: list[int]) -> None:
    for pid in pids:
        _write(f"{folder}/cgroup.procs", str(pid))


def _hand_down(folder: str) -> None:
    """Enable for the cgroups in `folder` whatever controllers it has; those that cannot be show when they are needed."""
    missing = set(_words(f"{folder}/cgroup.controllers")) - set(
        _words(f"{folder}/cgroup.subtree_control")
    )
    if not missing:
        return
    path = f"{folder}/cgroup.subtree_control"
    try:
        _write(path, " ".join(f"+{name}" for name in sorted(missing)))
    except OSError:
        for name in sorted(missing):  # all or nothing, in one write: each for itself
            try:
                _write(path, f"+{name}")
            except OSError:
                continue


def _evacuate(folder: str) -> None:
    """Move the processes of a cgroup into one below it, since those of a cgroup that hands controllers down are none."""
    below = f"{folder}/{_MONITOR}"
    _make(below)
    for _ in range(10):  # until no fork has slipped through
        pids = _words(f"{folder}/cgroup.procs")
        if not pids:
            return
        for pid in pids:
            try:
                _write(f"{below}/cgroup.procs", pid)
            except ProcessLookupError:
                continue


def _lower(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()


# a container's cgroup


class Stats:
    """A reading; a number that the kernel does not give is None."""

    __slots__ = (
        "block_read",
        "block_written",
        "cpu_ns",
        "memory_bytes",
        "memory_limit",
        "memory_peak",
        "oom_kills",
        "pids",
        "pids_limit",
        "system_ns",
        "throttled_ns",
        "time_ns",
        "user_ns",
    )

    def __init__(self) -> None:
        self.time_ns = time.time_ns()
        self.cpu_ns = self.user_ns = self.system_ns = self.throttled_ns = 0
        self.memory_bytes: int | None = None
        self.memory_limit: int | None = None
        self.memory_peak: int | None = None
        self.block_read: int | None = None
        self.block_written: int | None = None
        self.pids: int | None = None
        self.pids_limit: int | None = None
        self.oom_kills: int | None = None


class Cgroup:
    """A container's cgroup by its folder; `unit` is the scope around it, where there is one."""

    __slots__ = ("path", "unit")

    def __init__(self, path: str, unit: str = "") -> None:
        self.path = path
        self.unit = unit

    def exists(self) -> bool:
        return os.path.isdir(self.path)

    def write(self, wanted: list[Setting]) -> None:
        for controller, file, value, label in wanted:
            path = f"{self.path}/{file}"
            try:
                _write(path, value)
            except FileNotFoundError:
                if file == "memory.swap.max" or file.endswith(".rsvd.max"):
                    continue  # a kernel without swap accounting has no swap to limit
                if controller and controller not in _words(f"{self.path}/cgroup.controllers"):
                    raise _missing(controller, label) from None
                if file == "io.weight" and self._write_bfq(value):
                    continue
                raise RootlessError(f"cannot set {label}: this kernel has no {file}") from None
            except OSError as error:
                reason = _lower(error)
                if file == "io.weight" and error.errno == errno.EOPNOTSUPP:
                    reason = "the device's I/O scheduler knows no weights"
                raise RootlessError(f"cannot set {label} to {value}: {reason}") from None

    def _write_bfq(self, value: str) -> bool:
        try:
            _write(f"{self.path}/io.bfq.weight", value.removeprefix("default "))
        except OSError:
            return False
        return True

    def update(self, resources: dict[str, Any]) -> None:
        """Change the limits of a running container."""
        memory = resources.get("memory") or {}
        if memory.get("checkBeforeUpdate") and (memory.get("limit") or 0) > 0:
            current = _number(f"{self.path}/memory.current")
            if current is not None and current > memory["limit"]:
                raise RootlessError(
                    f"the memory limit {memory['limit']} is below the {current} bytes in use"
                )
        wanted = limits_of(resources)
        # Swap's limit stands apart from memory's here: which of the two is raised first does not matter.
        self.write(wanted)

    def add(self, pid: int, init: int = 0) -> None:
        """Move a process in, for `exec`; beside `init` where that has made cgroups of its own (systemd does)."""
        folder = of_process(init) if init else ""
        if not folder.startswith(f"{self.path}/"):
            folder = self.path
        try:
            _move(folder, [pid])
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM) and self._add_by_systemd(pid, folder):
                return
            raise RootlessError(
                f"cannot move process {pid} into {folder}: {_lower(error)}"
            ) from error

    def _add_by_systemd(self, pid: int, folder: str) -> bool:
        """From another branch of the tree, such as a log-in session's, and into what is a container's root's: systemd may
        what we may not."""
        from rootless.runtime import scope
        from rootless.runtime.delegation import unit_of

        unit = self.unit or unit_of(self.path)
        if not unit or not scope.is_available():
            return False
        scope.attach(unit, folder[folder.rindex(f"/{unit}/") + len(unit) + 1 :], [pid])
        return True

    def pids(self) -> list[int]:
        """Every process in it and below it."""
        found: list[int] = []
        for folder in self._folders():
            found.extend(int(word) for word in _words(f"{folder}/cgroup.procs"))
        return found

    def _folders(self) -> list[str]:
        """This folder and those below, the deepest first."""
        return [folder for folder, _, _ in os.walk(self.path, topdown=False)]

    # freezer

    def freeze(self) -> None:
        """Stop every process in it, and wait until they stand."""
        self._write_own("cgroup.freeze", "1")
        self._wait_for("frozen", "1", "freeze")

    def thaw(self) -> None:
        self._write_own("cgroup.freeze", "0")
        self._wait_for("frozen", "0", "thaw")

    def is_frozen(self) -> bool:
        return _keyed(f"{self.path}/cgroup.events").get("frozen") == 1

    def _write_own(self, file: str, value: str) -> None:
        try:
            _write(f"{self.path}/{file}", value)
        except OSError as error:
            raise RootlessError(f"{self.path}/{file}: {_lower(error)}") from error

    def _wait_for(self, key: str, value: str, what: str) -> None:
        """Wait for a word of cgroup.events, which poll(2) tells as an exception."""
        import select

        fd = os.open(f"{self.path}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        try:
            poll = select.poll()
            poll.register(fd, select.POLLPRI)
            deadline = time.monotonic() + _PATIENCE_S
            while f"{key} {value}".encode() not in os.pread(fd, 4096, 0).splitlines():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise RootlessError(
                        f"cannot {what} {self.path}: a process in it does not react"
                    )
                poll.poll(int(left * 1000) + 1)
        finally:
            os.close(fd)

    # the end

    def kill_all(self) -> None:
        """SIGKILL to everything in it at once, forks included; the processes may still be on their way out after it."""
        try:
            _write(f"{self.path}/cgroup.kill", "1")
        except FileNotFoundError:  # before Linux 5.14, or the cgroup is gone
            import signal

            # Frozen first: what does not run cannot fork away from the list.
            try:
                _write(f"{self.path}/cgroup.freeze", "1")
            except OSError:
                pass
            for pid in self.pids():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            try:
                _write(f"{self.path}/cgroup.freeze", "0")
            except OSError:
                pass

    def oom_killed(self) -> bool:
        """Whether the kernel has killed a process of it for want of memory."""
        return _keyed(f"{self.path}/memory.events").get("oom_kill", 0) > 0

    def remove(self) -> None:
        """Remove it with what is left in it; the scope around it is systemd's."""
        if os.path.isdir(self.path):
            if self.pids():
                self.kill_all()
                self._wait_for("populated", "0", "empty")
            folders = self._folders()
            if not all(_remove(folder) for folder in folders):
                from rootless.runtime.delegation import take_back

                take_back(folders)

    # reading

    def stats(self) -> Stats:
        """A reading of it all; RootlessError where the cgroup is gone."""
        stats = Stats()
        cpu = _keyed(f"{self.path}/cpu.stat")
        if not cpu and not self.exists():
            raise RootlessError(f"{self.path}: no such cgroup")
        stats.cpu_ns = cpu.get("usage_usec", 0) * 1000
        stats.user_ns = cpu.get("user_usec", 0) * 1000
        stats.system_ns = cpu.get("system_usec", 0) * 1000
        stats.throttled_ns = cpu.get("throttled_usec", 0) * 1000
        used = _number(f"{self.path}/memory.current")
        if used is not None:
            # What the page cache would give back at once is not counted, as Podman and Docker have it.
            stats.memory_bytes = max(
                0, used - _keyed(f"{self.path}/memory.stat").get("inactive_file", 0)
            )
            stats.memory_limit = self._memory_limit()
            stats.memory_peak = _number(f"{self.path}/memory.peak")
            stats.oom_kills = _keyed(f"{self.path}/memory.events").get("oom_kill")
        stats.pids = _number(f"{self.path}/pids.current")
        stats.pids_limit = _number(f"{self.path}/pids.max")
        if stats.pids is None:
            stats.pids = len(self.pids())
        try:
            with open(f"{self.path}/io.stat", encoding="ascii") as file:
                lines = file.read().split()
        except OSError:
            return stats
        stats.block_read = sum(int(word[7:]) for word in lines if word.startswith("rbytes="))
        stats.block_written = sum(int(word[7:]) for word in lines if word.startswith("wbytes="))
        return stats

    def _memory_limit(self) -> int:
        """The least of its own limit, those around it and the machine's memory."""
        limit = memory_total()
        folder = self.path
        while folder.startswith(ROOT + "/"):
            here = _number(f"{folder}/memory.max")
            if here is not None:
                limit = min(limit, here)
            folder = os.path.dirname(folder)
        return limit


def of_process(pid: int) -> str:
    """The folder of a process's cgroup; "" where there is none to be seen."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                if line.startswith("0::"):
                    path = line[3:].rstrip("\n").removesuffix(" (deleted)")
                    return "" if path.startswith("/..") else ROOT + path.rstrip("/")
    except (FileNotFoundError, ProcessLookupError):
        pass
    return ""


def memory_total() -> int:
    with open("/proc/meminfo", encoding="ascii") as file:
        return int(file.readline().split()[1]) * 1024


def _keyed(path: str) -> dict[str, int]:
    words = _words(path)
    return {key: int(value) for key, value in zip(words[::2], words[1::2], strict=False)}


def _number(path: str) -> int | None:
    """The number in a file; None for `max`, and where there is no such file."""
    words = _words(path)
    return int(words[0]) if words and words[0].isdigit() else None


def _remove(folder: str) -> bool:
    """Remove an empty cgroup, one whose last process is still on its way out after a moment; False where it is not ours."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            os.rmdir(folder)
            return True
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                return False
            if (
                error.errno != errno.EBUSY
                or _words(f"{folder}/cgroup.procs")
                or time.monotonic() > deadline
            ):
                # Somebody else's process is in it, or cgroups below it: theirs to remove.
                return True
            time.sleep(0.002)
