"""update: other limits for a running container."""

from __future__ import annotations

from rootless.errors import InvalidState, RootlessError, Usage
from rootless.files import read_bytes
from rootless.oci.runtime import parse_resources
from rootless.ocicli import records
from rootless.runtime.cgroup import Cgroup
from rootless.runtime.cgroup_plan import detect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.ocicli.commandline import Given

# option → (part of linux.resources, field)
_FIELDS = {
    "blkio-weight": ("blockIO", "weight"),
    "cpu-period": ("cpu", "period"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-burst": ("cpu", "burst"),
    "cpu-share": ("cpu", "shares"),
    "cpu-rt-period": ("cpu", "realtimePeriod"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime"),
    "cpu-idle": ("cpu", "idle"),
    "cpuset-cpus": ("cpu", "cpus"),
    "cpuset-mems": ("cpu", "mems"),
    "kernel-memory": ("memory", "kernel"),
    "kernel-memory-tcp": ("memory", "kernelTCP"),
    "memory": ("memory", "limit"),
    "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"),
    "pids-limit": ("pids", "limit"),
}
_SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def run(settings: Given, given: Given) -> int:
    """The command."""
    record = records.load(settings, given.words[0])
    if record.status() == records.STOPPED:
        raise InvalidState(f"cannot update container `{record.identity}`: it is stopped")
    path = given.text("resources")
    if path:
        data = read_bytes("/dev/stdin" if path == "-" else path)
        resources: dict[str, Any] = dict(parse_resources(data, path))
    else:
        resources = from_options(given)
    for option in ("l3-cache-schema", "mem-bw-schema"):
        if given.text(option):
            raise Usage(f"--{option}: resctrl is for the host's root alone")
    if not record.data.get("cgroup"):
        raise RootlessError(
            f"cannot update container `{record.identity}`: it has no cgroup of its own"
            + (f", since {detect().reason}" if detect().reason else "")
        )
    with record.lock():
        Cgroup(record.data["cgroup"], record.data.get("unit", "")).update(resources)
    return 0


def from_options(given: Given) -> dict[str, Any]:
    """linux.resources from the command line's options."""
    resources: dict[str, Any] = {}
    for option, (part, field) in _FIELDS.items():
        text = given.text(option)
        if not text:
            continue
        value: int | str = text
        if part == "memory":
            value = _size(option, text)
        elif not option.startswith("cpuset"):
            try:
                value = int(text)
            except ValueError:
                raise Usage(f"--{option} {text}: is no number") from None
        resources.setdefault(part, {})[field] = value
    if not resources:
        raise Usage("update: neither --resources nor a limit is given")
    return resources


def _size(option: str, text: str) -> int:
    """Bytes, with a unit as runc takes it; -1 for none."""
    if text == "-1":
        return -1
    number = text.lower().removesuffix("ib").removesuffix("b")
    unit = number[-1:] if number[-1:].isalpha() else ""
    number = number.removesuffix(unit)
    if not number.isdigit() or unit not in _SIZES:
        raise Usage(f"--{option} {text}: is no size")
    return int(number) * _SIZES[unit]
