"""The spec of a table of command lines, key by key against what Podman 5.4.2 made of the same.

`tests/data/podman/specs.json` was recorded by `record.sh` beside it. Where the engine differs on purpose, `_expected`
says so and why.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from rootless.cli.container_options import CREATE
from rootless.cli.table import Command
from rootless.container import mounts, spec
from rootless.container.options import CreateOptions
from rootless.container.user import add_groups, resolve_user
from tests.support import words as command_line

DATA = Path(__file__).parents[2] / "data/podman/specs.json"
PASSWD = b"root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\n"
GROUP = b"root:x:0:\nwheel:x:10:alice\nalice:x:1000:\n"
CONFIG = {"Cmd": ["/bin/sh"], "Env": ["FOO=bar"], "Volumes": {"/data": {}}}
ROWS = json.loads(DATA.read_text())
BASE = ROWS[0]["spec"]


# Where the engine makes another spec than Podman on purpose: the line, the key, and why.
DELIBERATE = {
    ("--network host bb", "mount /sys/fs/cgroup"): "a cgroup mount is no matter of the network",
    ("-v /tmp:/y/../w/ bb", "mount /w"): "a destination is cleaned before anything sees it",
    ("-v /tmp:/y/../w/ bb", "mount /y/../w/"): "",
    ("-v vv:/z:nocopy,noexec bb", "mount /z"): "nocopy is no option of a mount",
    ("--mount type=ramfs,dst=/q bb", "mount /q"): "a ramfs gets nosuid and nodev as a tmpfs does",
    ("--security-opt proc-opts=hidepid=2 bb", "mount /proc"): "nosuid, noexec and nodev stay",
    ("--ulimit host bb", "process.rlimits"): "the caller's limits are inherited as they are",
    ("--privileged bb", "mount /sys/fs/cgroup"): "writable only in a cgroup namespace of its own",
    ("--privileged -u 1000 bb", "mount /sys/fs/cgroup"): "",
    ("--privileged --cap-drop chown bb", "mount /sys/fs/cgroup"): "",
}


def read(words: list[str]) -> CreateOptions:
    command = Command("", lambda inv: 0, CREATE, args=(1, None), interspersed=False)
    return CreateOptions.from_invocation(command_line.parse("create", command, words))


def ours(words: list[str]) -> dict[str, Any]:
    options = read(words)
    host = spec.HostFacts("f" * 64, rootfs="ROOT")
    host.uids = host.gids = [(0, 1000, 1), (1, 100000, 65536)]
    host.node = "vm"
    host.cgroup_version = 1
    host.env = {"TERM": "vt100"}
    host.rlimits = {"nofile": (1024, 20000), "nproc": (96365, 96365), "core": (0, -1)}
    host.init_path = "/usr/libexec/podman/catatonit"
    host.devices = ["/dev/null", "/dev/fuse", "/dev/net/tun"]
    host.files = dict.fromkeys(("/run/.containerenv",), "FILE")
    if not options.no_hosts:
        host.files["/etc/hosts"] = "FILE"
    if not options.no_hostname:
        host.files["/etc/hostname"] = "FILE"
    if options.network != "none":
        host.files["/etc/resolv.conf"] = "FILE"
    if options.userns.startswith("keep-id"):
        inside = {"uid": 1000, "gid": 1000, "size": 65536}
        for word in options.userns.partition(":")[2].split(","):
            if word:
                inside[word.partition("=")[0]] = int(word.partition("=")[2])
        host.keep_id = inside["uid"], inside["gid"]
    host.user = resolve_user(spec.effective_user(options, CONFIG, host), PASSWD, GROUP)
    add_groups(host.user, spec.extra_groups_of(options, host.keep_id), GROUP)
    host.mounts = mounts.plan(options.mounts, CONFIG["Volumes"], options.image_volume)
    for mount in host.mounts:
        if mount["type"] == "volume":
            mount["path"] = f"VOLUME {mount['source']}".strip()
    return flat(spec.make_spec(options, CONFIG, host))


def flat(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for section in ("process", "linux", "root", "annotations"):
        for key, value in (document.get(section) or {}).items():
            found[f"{section}.{key}"] = value
    found["hostname"] = document.get("hostname")
    for mount in document["mounts"]:
        words = [mount["type"], mount["source"], *sorted(mount["options"])]
        found[f"mount {mount['destination']}"] = words
    found["process.env"] = sorted(found["process.env"])
    found["linux.namespaces"] = sorted(n["type"] for n in found["linux.namespaces"])
    return _comparable(found)


def _comparable(found: dict[str, Any]) -> dict[str, Any]:
    """Without what is absent in one writing and empty in the other."""
    found = {k: v for k, v in found.items() if v not in (None, False, {}, [], "")}
    sets = found.get("process.capabilities")
    if sets:
        found["process.capabilities"] = {k: sorted(v) for k, v in sets.items() if v}
    user = found.get("process.user")
    if user:
        # With the primary group among the others (security case 21), no list at all is a list of that group.
        user = {k: v for k, v in user.items() if v not in ([], None)}
        user["additionalGids"] = sorted({*user.get("additionalGids", ()), user.get("gid", 0)})
        found["process.user"] = user
    for key in ("linux.maskedPaths", "linux.readonlyPaths"):
        if key in found:
            found[key] = sorted(set(found[key]))
    if "process.rlimits" in found:
        found["process.rlimits"] = sorted(found["process.rlimits"], key=lambda r: str(r["type"]))
    return found


def _expected(row: dict[str, Any]) -> dict[str, Any]:
    found = {**BASE, **row["spec"]}
    found = {k: v for k, v in found.items() if v is not None}
    found["hostname"] = (found.get("hostname") or "").replace("SHORT", "f" * 12)
    found["process.env"] = [w.replace("SHORT", "f" * 12) for w in found["process.env"]]
    # A container always has a user namespace of its own here.
    found["linux.namespaces"] = sorted({*found["linux.namespaces"], "user"})
    if not any(option in row["options"] for option in ("--ipc none", "/dev/shm")):
        # Podman mounts it on the host and binds it: nothing is mounted outside a container here.
        shm = ["tmpfs", "shm", "mode=1777", "nodev", "noexec", "nosuid", "size=65536000"]
        if "--read-only-tmpfs=false" in row["options"]:
            shm = [*shm[:-2], "nosuid", "ro", "size=65536000"]
        found["mount /dev/shm"] = shm
    if "--read-only-tmpfs=false" in row["options"]:
        # A read-only tmpfs could not be filled: it is made read-only at the end.
        found["mount /dev"] = BASE["mount /dev"]
        found["linux.readonlyPaths"] = [*found["linux.readonlyPaths"], "/dev"]
    for key in list(found):
        # Podman's own notes, and properties of systemd units that no other runtime reads.
        if key.startswith(("annotations.io.podman", "annotations.org.systemd")):
            del found[key]
    found["annotations.io.container.manager"] = "rootless"
    return _comparable(found)


def _differences(row: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    theirs = _expected(row)
    mine = ours(shlex.split(row["options"]))
    for key in ("linux.uidMappings", "linux.gidMappings"):
        # Theirs maps the ids of a user namespace that all of a user's containers share.
        theirs.pop(key, None)
        mine.pop(key, None)
    return {
        key: (mine.get(key), theirs.get(key))
        for key in sorted({*mine, *theirs})
        if mine.get(key) != theirs.get(key) and (row["options"], key) not in DELIBERATE
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["options"])
def test_as_podman(row: dict[str, Any]) -> None:
    assert _differences(row) == {}
