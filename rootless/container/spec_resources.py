"""`linux.resources` of a runtime-spec document: the limits of a container, at its creation and by `update`."""

from __future__ import annotations

import os

from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.container.options import CreateOptions


def resources(options: CreateOptions, default_pids: int = 0) -> dict[str, Any]:
    """`linux.resources` of a container's limits; `default_pids` is the one where none is asked for, 0 for none."""
    found: dict[str, Any] = {}
    memory: dict[str, Any] = {}
    if options.memory:
        memory["limit"] = options.memory
        # As Docker and Podman: the same again of swap.
        memory["swap"] = options.memory * 2 if options.memory_swap is None else options.memory_swap
    if options.memory_reservation:
        memory["reservation"] = options.memory_reservation
    if memory:
        found["memory"] = memory
    cpu: dict[str, Any] = {}
    if options.cpus:
        cpu["period"] = 100000
        cpu["quota"] = int(options.cpus * 100000)
    for name, attribute in (
        ("shares", "cpu_shares"),
        ("period", "cpu_period"),
        ("quota", "cpu_quota"),
        ("cpus", "cpuset_cpus"),
        ("mems", "cpuset_mems"),
    ):
        if getattr(options, attribute):
            cpu[name] = getattr(options, attribute)
    if cpu:
        found["cpu"] = cpu
    limit = options.pids_limit
    if limit is None:
        if default_pids:
            found["pids"] = {"limit": default_pids}
    elif limit > 0:
        found["pids"] = {"limit": limit}
    block: dict[str, Any] = {}
    if options.blkio_weight:
        block["weight"] = options.blkio_weight
    for name, key, values in (
        ("weightDevice", "weight", options.blkio_weight_device),
        ("throttleReadBpsDevice", "rate", options.device_read_bps),
        ("throttleWriteBpsDevice", "rate", options.device_write_bps),
        ("throttleReadIOPSDevice", "rate", options.device_read_iops),
        ("throttleWriteIOPSDevice", "rate", options.device_write_iops),
    ):
        if values:
            block[name] = [{**_device_number(path), key: value} for path, value in values.items()]
    if block:
        found["blockIO"] = block
    if options.cgroup_conf:
        found["unified"] = dict(options.cgroup_conf)
    return found


def _device_number(path: str) -> dict[str, int]:
    try:
        number = os.stat(path).st_rdev
    except OSError as error:
        raise Usage(f"{path}: {(error.strerror or '').lower()}") from None
    return {"major": os.major(number), "minor": os.minor(number)}
