#!/bin/bash
# Ask Podman for the spec of each line of `specs.txt` (options of `podman create`) and print them as JSON lines:
#   debian13 run user tests/data/podman/record.sh < tests/data/podman/specs.txt |
#     python3 tests/data/podman/shrink.py > tests/data/podman/specs.json
# Podman 5.4.2 with runc: its crun refuses a host of mixed cgroups. `bb` is the image that is made here.
set -eu
export PODMAN_IGNORE_CGROUPSV1_WARNING=1
if ! podman image exists bb; then
  d=$(mktemp -d)
  mkdir -p "$d/bin" "$d/etc" "$d/tmp" "$d/data"
  cp /bin/busybox "$d/bin/"
  for a in sh ls cat id env mount sleep true; do ln -s busybox "$d/bin/$a"; done
  printf 'root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\n' >"$d/etc/passwd"
  printf 'root:x:0:\nwheel:x:10:alice\nalice:x:1000:\n' >"$d/etc/group"
  echo hi >"$d/data/f"
  tar -C "$d" -c . | podman import -q --change 'CMD ["/bin/sh"]' --change 'ENV FOO=bar' --change 'VOLUME /data' - bb >&2
fi
while IFS= read -r line; do
  [ -n "$line" ] || continue
  eval "set -- $line"
  id=$(podman --runtime runc create "$@" 2>/dev/null | tail -n 1)
  podman --runtime runc init "$id" >/dev/null 2>&1 || true
  file=$HOME/.local/share/containers/storage/overlay-containers/$id/userdata/config.json
  [ -f "$file" ] && python3 - "$line" "$id" "$file" <<'PYTHON'
import json, sys
line, identity, path = sys.argv[1:]
with open(path) as file:
    text = file.read()
spec = json.loads(text.replace(identity, "ID").replace(identity[:12], "SHORT").replace("/home/user/.local/share/containers/storage", "STORE"))
spec["linux"].pop("seccomp", None)
spec["root"]["path"] = "ROOT"
for mount in spec["mounts"]:
    if mount["source"].startswith("STORE/volumes/"):
        name = mount["source"].split("/")[2]
        mount["source"] = "VOLUME" if len(name) == 64 else f"VOLUME {name}"
    elif mount["source"].startswith("/run/user/"):
        mount["source"] = "FILE"
for namespace in spec["linux"]["namespaces"]:
    if "/netns/netns-" in namespace.get("path", ""):
        del namespace["path"]
print(json.dumps({"options": line, "spec": spec}, separators=(",", ":")))
PYTHON
  podman --runtime runc rm -f -t0 "$id" >/dev/null 2>&1 || true
done
