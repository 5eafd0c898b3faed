"""What `linux.resources` of runtime-spec comes to in the control files of cgroups(7), version 2."""

from __future__ import annotations

from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # controller ("" for the core's own files), file, what to write, what a user calls it
    Setting = tuple[str, str, str, str]


def settings(resources: dict[str, Any]) -> list[Setting]:
    """What `linux.resources` comes to in the files of version 2, as crun and runc convert it."""
    found: list[Setting] = []
    _memory(found, resources.get("memory") or {})
    _cpu(found, resources.get("cpu") or {})
    limit = (resources.get("pids") or {}).get("limit")
    if limit is not None:
        found.append(
            (
                "pids",
                "pids.max",
                _or_max(limit if limit > 0 else -1),
                "the limit of processes (--pids-limit)",
            )
        )
    _block_io(found, resources.get("blockIO") or {})
    for entry in resources.get("hugepageLimits") or ():
        name = f"hugetlb.{entry['pageSize']}"
        for file in (f"{name}.max", f"{name}.rsvd.max"):
            found.append(("hugetlb", file, str(entry["limit"]), "the limit of huge pages"))
    for device, entry in (resources.get("rdma") or {}).items():
        words = [device]
        for key, word in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object")):
            if entry.get(key) is not None:
                words.append(f"{word}={entry[key]}")
        found.append(("rdma", "rdma.max", " ".join(words), "the limit of RDMA handles"))
    network = resources.get("network") or {}
    for key in ("classID", "priorities"):
        if network.get(key):
            raise _only_v1(f"network.{key}")
    for file, value in (resources.get("unified") or {}).items():
        if "/" in file or file.startswith(".") or "." not in file:
            raise RootlessError(
                f'linux.resources.unified: "{file}" is not the name of a control file'
            )
        controller = file.partition(".")[0]
        label = f"{file} (--cgroup-conf)"
        found.append(("" if controller == "cgroup" else controller, file, value, label))
    return found


def _only_v1(field: str) -> RootlessError:
    return RootlessError(f"linux.resources.{field}: exists with cgroups of version 1 only")


def _or_max(value: int) -> str:
    return "max" if value < 0 else str(value)


def _memory(found: list[Setting], memory: dict[str, Any]) -> None:
    for key in ("kernel", "kernelTCP", "swappiness"):
        if memory.get(key) not in (None, 0, -1) or (key == "swappiness" and memory.get(key) == 0):
            raise _only_v1(f"memory.{key}")
    if memory.get("disableOOMKiller"):
        raise _only_v1("memory.disableOOMKiller")
    limit, swap, reservation = (memory.get(key) or 0 for key in ("limit", "swap", "reservation"))
    if limit:
        found.append(("memory", "memory.max", _or_max(limit), "the memory limit (--memory)"))
    if swap:
        # Here the limit is of both together, there of swap alone.
        if swap > 0:
            if limit <= 0:
                raise RootlessError(
                    "linux.resources.memory.swap: needs a limit of memory, which it includes"
                )
            if swap < limit:
                raise RootlessError(
                    "linux.resources.memory.swap: is below the limit of memory, which it includes"
                )
            swap -= limit
        found.append(
            ("memory", "memory.swap.max", _or_max(swap), "the limit of swap (--memory-swap)")
        )
    if reservation:
        label = "the memory reservation (--memory-reservation)"
        found.append(("memory", "memory.low", _or_max(reservation), label))


def _cpu(found: list[Setting], cpu: dict[str, Any]) -> None:
    for key in ("realtimeRuntime", "realtimePeriod"):
        if cpu.get(key):
            raise _only_v1(f"cpu.{key}")
    shares, quota, period = (cpu.get(key) or 0 for key in ("shares", "quota", "period"))
    if shares:
        # 2…262144 upon 1…10000, as the field converts it.
        shares = min(max(shares, 2), 262144)
        weight = 1 + (shares - 2) * 9999 // 262142
        found.append(("cpu", "cpu.weight", str(weight), "the CPU weight (--cpu-shares)"))
    if quota or period:
        value = "max" if quota <= 0 else str(quota)
        label = "the CPU limit (--cpus, --cpu-quota)"
        found.append(("cpu", "cpu.max", f"{value} {period}" if period else value, label))
    if cpu.get("burst") is not None:
        found.append(("cpu", "cpu.max.burst", str(cpu["burst"]), "the CPU burst"))
    if cpu.get("idle") is not None:
        found.append(("cpu", "cpu.idle", str(cpu["idle"]), "the CPU's idle class"))
    for key in ("cpus", "mems"):
        if cpu.get(key):
            found.append(
                ("cpuset", f"cpuset.{key}", cpu[key], f"the set of {key} (--cpuset-{key})")
            )


def _block_io(found: list[Setting], block: dict[str, Any]) -> None:
    if block.get("leafWeight"):
        raise _only_v1("blockIO.leafWeight")
    label = "the weight of block I/O (--blkio-weight)"
    if block.get("weight"):
        found.append(("io", "io.weight", f"default {_io_weight(block['weight'])}", label))
    for entry in block.get("weightDevice") or ():
        if entry.get("leafWeight"):
            raise _only_v1("blockIO.weightDevice.leafWeight")
        if entry.get("weight"):
            value = f"{entry['major']}:{entry['minor']} {_io_weight(entry['weight'])}"
            found.append(("io", "io.weight", value, label))
    for key, word in (
        ("throttleReadBpsDevice", "rbps"),
        ("throttleWriteBpsDevice", "wbps"),
        ("throttleReadIOPSDevice", "riops"),
        ("throttleWriteIOPSDevice", "wiops"),
    ):
        for entry in block.get(key) or ():
            value = f"{entry['major']}:{entry['minor']} {word}={entry['rate'] or 'max'}"
            found.append(
                ("io", "io.max", value, "the limit of block I/O (--device-read-bps and its kin)")
            )


def _io_weight(weight: int) -> int:
    """10…1000 upon 1…10000."""
    return 1 + (max(weight, 10) - 10) * 9999 // 990
