"""Podman's own generator as the measure of ours: it is asked where it is installed, and its answers are kept as data.

    python3 -m tests.support.quadlet [/usr/libexec/podman/quadlet] > tests/data/podman/quadlet.json

records them anew (Podman 5.4.2; the binary of a Debian 13 root runs anywhere).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CASES = Path(__file__).parents[1] / "data/quadlet"
STORED = Path(__file__).parents[1] / "data/podman/quadlet.json"
VERSION = "5.4"
PLACES = (
    "/usr/libexec/podman/quadlet",
    "/usr/lib/podman/quadlet",
    f"{os.environ.get('DEBIAN13_ROOT', '/var/tmp/debian13')}/usr/libexec/podman/quadlet",
)


def folders_of(case: str) -> list[str]:
    """The folders that a case is made of, those first that win."""
    top = str(CASES / case)
    return [f"{top}/first", f"{top}/second", top] if case == "folders" else [top]


def binary() -> str:
    """Podman's generator of the version that is compared with; nothing where there is none."""
    for path in PLACES:
        try:
            done = subprocess.run(
                [path, "-version"], capture_output=True, text=True, timeout=30, check=False
            )
        except OSError:
            continue
        if done.stdout.startswith(f"{VERSION}."):
            return path
    return ""


def ask(path: str, case: str) -> dict[str, Any]:
    """What Podman makes of a case: units, links, messages, exit status."""
    with tempfile.TemporaryDirectory() as out:
        done = subprocess.run(
            [path, "-user", "-no-kmsg-log", out],
            env={"QUADLET_UNIT_DIRS": ":".join(folders_of(case)), "HOME": out},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        units, links = {}, {}
        for one in sorted(Path(out).rglob("*")):
            name = str(one.relative_to(out))
            if one.is_symlink():
                links[name] = os.readlink(one)
            elif one.is_file():
                units[name] = one.read_text().replace(str(CASES), "@CASES@")
    told = [
        line.partition("]: ")[2] or line
        for line in done.stderr.replace(str(CASES), "@CASES@").splitlines()
    ]
    return {"code": done.returncode, "units": units, "links": links, "messages": told}


def cases() -> list[str]:
    return sorted(path.name for path in CASES.iterdir() if path.is_dir())


if __name__ == "__main__":
    program = sys.argv[1] if len(sys.argv) > 1 else binary()
    json.dump({case: ask(program, case) for case in cases()}, sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")
