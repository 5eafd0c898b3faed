"""Records of foreground `run`s that were killed before they could take them away (Slurm ends a job's tasks so).

Whoever makes or lists containers of the same root takes them away, since nobody else will: for a batch system the id is
that of a task which has ended, and which it does not name again.
"""

from __future__ import annotations

from rootless.errors import NotFound, RootlessError
from rootless.linux.process import is_alive
from rootless.ocicli import records
from rootless.ocicli.delete import forget

# A look at one costs 40 microseconds: those of more are looked at by `list`, which reads them all.
_FEW = 32


def sweep(root: str, *, but: str = "") -> None:
    """Take away all that is left over in `root`, where it holds few."""
    names = records.identities(root)
    if len(names) > _FEW:
        return
    for name in names:
        if name != but:
            take_away(records.Record(root, name))


def take_away(record: records.Record) -> bool:
    """Take away a record, if both its container and who ran it are gone; whether that was so."""
    try:
        if not _is_left_over(record.load()):
            return False
        with record.lock():
            if not _is_left_over(record.load()):
                return False
            forget(record)
    except (NotFound, OSError, RootlessError):
        return False  # somebody was faster, or it is damaged: `delete --force` is for those
    return True


def _is_left_over(record: records.Record) -> bool:
    who = record.data.get("runner")
    if not who or who["namespace"] != records.pid_namespace():
        return False  # elsewhere the numbers mean other processes
    return not record.is_alive() and not is_alive(who["pid"], who["start_time"])
