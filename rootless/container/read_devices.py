"""`--device` and the rates of devices."""

from __future__ import annotations

import os

from rootless.container.quantities import parse_size
from rootless.errors import Usage

# Not from `stat`, whose import costs more than this.
_S_IFMT, _S_IFCHR, _S_IFBLK, _S_IFDIR = 0o170000, 0o020000, 0o060000, 0o040000
_DEVICE_CHARACTERS = frozenset("rwm")


def parse_device(text: str) -> dict[str, str]:
    """Read `--device HOST[:CONTAINER[:PERMISSIONS]]`."""
    parts = text.split(":")
    if len(parts) > 3:
        raise Usage(f"invalid device specification: {text}")
    source = parts[0]
    target, permissions = source, "rwm"
    if len(parts) == 3:
        target, permissions = parts[1] or source, parts[2]
    elif len(parts) == 2:
        if parts[1].startswith("/"):
            target = parts[1]
        else:
            permissions = parts[1]
    if (
        not permissions
        or not _DEVICE_CHARACTERS.issuperset(permissions)
        or len(set(permissions)) != len(permissions)
    ):
        raise Usage(f"invalid device mode: {permissions}")
    return {"source": source, "path": os.path.normpath(target), "permissions": permissions}


def device_nodes(device: dict[str, str]) -> list[dict[str, str]]:
    """The device itself, or all those in a folder of devices."""
    source, target = device["source"], device["path"]
    try:
        mode = os.stat(source).st_mode
    except OSError as error:
        raise Usage(f"stat {source}: {(error.strerror or '').lower()}") from None
    if not target.startswith("/"):
        raise Usage(f"invalid device path in the container: {target}")
    if "w" not in device["permissions"] or "r" not in device["permissions"]:
        # There is no cgroup of devices to enforce it, and Podman would give both.
        raise Usage(
            f"--device {source}: access cannot be restricted to {device['permissions']} for a user's container",
            hint="give rwm, or a node whose own mode restricts you",
        )
    if mode & _S_IFMT != _S_IFDIR:
        if mode & _S_IFMT not in (_S_IFCHR, _S_IFBLK):
            raise Usage(f"{source}: not a device node")
        return [device]
    found = []
    for folder, _, names in os.walk(source):
        for name in sorted(names):
            path = f"{folder}/{name}"
            try:
                mode = os.stat(path).st_mode
            except OSError:
                continue
            if mode & _S_IFMT in (_S_IFCHR, _S_IFBLK):
                place = os.path.normpath(target + path[len(source) :])
                found.append({**device, "source": path, "path": place})
    if not found:
        raise Usage(f"{source}: no device nodes in it")
    return found


def is_cdi_device(text: str) -> bool:
    """Whether it is a CDI name: vendor.com/class=device."""
    vendor, slash, rest = text.partition("/")
    return bool(vendor and slash and "=" in rest and not text.startswith("/") and ":" not in vendor)


def split_device(text: str) -> tuple[str, str]:
    """Read `/dev/x:WORD`."""
    path, colon, rest = text.partition(":")
    if not colon or not path:
        raise Usage(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise Usage(f"bad format for device path: {text}")
    return path, rest


def device_rate(text: str, *, is_size: bool) -> tuple[str, int]:
    """Read `/dev/x:RATE`."""
    path, rate = split_device(text)
    unit = "<number>[<unit>]" if is_size else "<number>"
    wrong = f"invalid rate for device: {text}. The correct format is <device-path>:{unit}. Number must be a positive integer"
    if is_size:
        wrong += ". Unit is optional and can be kb, mb, or gb"
        try:
            value = parse_size(rate)
        except Usage:
            raise Usage(wrong) from None
    elif rate.isascii() and rate.isdigit():
        value = int(rate)
    else:
        raise Usage(wrong)
    return path, value
