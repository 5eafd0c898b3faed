"""Shrink `record.sh`'s lines: the first whole, of the others what differs. stdin to stdout."""

from __future__ import annotations

import json
import sys


def flat(spec: dict) -> dict:
    found = {}
    for section in ("process", "linux", "root", "annotations"):
        for key, value in (spec.get(section) or {}).items():
            found[f"{section}.{key}"] = value
    found["hostname"] = spec.get("hostname")
    for mount in spec["mounts"]:
        # --privileged gives all of the recording machine's devices: two are enough.
        if mount["source"].startswith("/dev/") and mount["source"] not in (
            "/dev/null",
            "/dev/fuse",
            "/dev/net/tun",
            "/dev/mqueue",
        ):
            continue
        words = [mount["type"], mount["source"], *sorted(mount.get("options") or [])]
        found[f"mount {mount['destination']}"] = words
    found["process.env"] = sorted(found["process.env"])
    found["linux.namespaces"] = sorted(
        n["type"] + ("=" + n["path"] if "path" in n else "") for n in found["linux.namespaces"]
    )
    return found


rows = [json.loads(line) for line in sys.stdin]
base = flat(rows[0]["spec"])
print("[")
print(json.dumps({"options": rows[0]["options"], "spec": base}, sort_keys=True))
for row in rows[1:]:
    spec = flat(row["spec"])
    delta = {k: v for k, v in spec.items() if base.get(k, None) != v}
    delta.update({k: None for k in base if k not in spec})
    print("," + json.dumps({"options": row["options"], "spec": delta}, sort_keys=True))
print("]")
