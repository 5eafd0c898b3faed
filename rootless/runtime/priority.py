"""How a process is scheduled: its policy, nice value, I/O class and CPUs (config.md, `process.scheduler` and its kin).

sched_setattr(2), ioprio_set(2), sched_setaffinity(2).
"""

from __future__ import annotations

import os

from rootless.errors import SetupError
from rootless.linux.sched import ioprio_set, sched_setattr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_POLICIES = {
    "SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_ISO": 4, "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}  # fmt: skip
_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
_IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
_IO_CLASS_SHIFT = 13


def set_scheduling(process: dict[str, Any]) -> None:
    """Set what the document asks for; SetupError that names the field where the kernel refuses it."""
    scheduler = process.get("scheduler")
    if scheduler:
        _set_scheduler(scheduler)
    wanted = process.get("ioPriority")
    if wanted:
        level = _IO_CLASSES[wanted["class"]] << _IO_CLASS_SHIFT | wanted.get("priority", 0)
        try:
            ioprio_set(level)
        except OSError as error:
            raise SetupError(
                f"process.ioPriority {wanted['class']}: {os.strerror(error.errno or 0).lower()}",
                stage="process",
                hint="the real-time class needs privilege on the host",
            ) from error


def _set_scheduler(scheduler: dict[str, Any]) -> None:
    name = scheduler.get("policy", "")
    policy = _POLICIES.get(name)
    if policy is None:
        raise SetupError(f"process.scheduler: unknown policy {name}", stage="process")
    flags = 0
    for flag in scheduler.get("flags") or ():
        flags |= _FLAGS[flag]
    if name == "SCHED_DEADLINE":
        _check_deadline(scheduler)
    try:
        sched_setattr(
            policy,
            flags,
            scheduler.get("nice") or 0,
            scheduler.get("priority") or 0,
            scheduler.get("runtime") or 0,
            scheduler.get("deadline") or 0,
            scheduler.get("period") or 0,
        )
    except OSError as error:
        raise SetupError(
            f"process.scheduler {name}: {os.strerror(error.errno or 0).lower()}",
            stage="process",
            hint="real-time policies and negative nice values need privilege on the host",
        ) from error


def _check_deadline(scheduler: dict[str, Any]) -> None:
    runtime, deadline = scheduler.get("runtime") or 0, scheduler.get("deadline") or 0
    period = scheduler.get("period") or deadline
    for key, value in (("runtime", runtime), ("deadline", deadline)):
        if not value:
            raise SetupError(f"process.scheduler: SCHED_DEADLINE needs {key}", stage="process")
    if not runtime <= deadline <= period:
        raise SetupError(
            "process.scheduler: SCHED_DEADLINE wants runtime <= deadline <= period",
            stage="process",
        )


def set_affinity(cpus: str) -> None:
    """Bind this process to CPUs in the kernel's list format; SetupError where none of them is allowed."""
    wanted: set[int] = set()
    for part in cpus.replace(" ", "").strip(",").split(",") if cpus.strip() else ():
        first, dash, last = part.partition("-")
        wanted.update(range(int(first), int(last if dash else first) + 1))
    if wanted:
        try:
            os.sched_setaffinity(0, wanted)
        except (OSError, ValueError, OverflowError) as error:
            raise SetupError(
                f"process.execCPUAffinity {cpus}: {str(error).lower()}", stage="process"
            ) from error
