"""`rootless-oci run` against crun and runc on one bundle: the time from the spawn to the end of `true` in it.

A Python start is part of ours and can be beaten by nobody: it is measured beside, and taken off for one of the targets.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench.sides import finish
from tests.support.oci import base_spec, command, make_rootfs

NAME = "oci run"
#: What a round of ours may take of runc's; and, without the interpreter's start, of crun's.
OF_RUNC, OF_CRUN = 1.0, 2.0


def measure(rounds: int) -> dict[str, list[float]]:
    """Seconds of every round by program; the order changes from round to round."""
    with tempfile.TemporaryDirectory(prefix="oci-", dir="/tmp") as folder:
        bundle = _bundle(Path(folder))
        programs = {"rootless-oci": command(), "python": [sys.executable, "-I", "-S", "-c", "pass"]}
        programs |= {name: [name] for name in ("runc", "crun") if shutil.which(name)}
        times: dict[str, list[float]] = {name: [] for name in programs}
        for at in range(rounds + 1):
            for name in sorted(programs, reverse=bool(at % 2)):
                words = list(programs[name])
                if name != "python":
                    words += [
                        "--root",
                        f"{folder}/{name}",
                        "run",
                        "--bundle",
                        str(bundle),
                        f"b{at}",
                    ]
                begin = time.perf_counter()
                code = finish(
                    subprocess.Popen(words, stdin=-3, stdout=-3, stderr=-3, env={**os.environ})
                )
                if at:  # the first warms up
                    times[name].append(time.perf_counter() - begin)
                if code:
                    raise RuntimeError(f"{' '.join(words)}: exit status {code}")
    return times


def _bundle(folder: Path) -> Path:
    """A bundle that each of them runs for an unprivileged user: runc adds no user namespace by itself."""
    bundle = folder / "bundle"
    make_rootfs(bundle / "rootfs")
    spec: dict[str, Any] = base_spec("true")
    spec["linux"]["namespaces"].append({"type": "user"})
    for key, own in (("uidMappings", os.getuid()), ("gidMappings", os.getgid())):
        spec["linux"][key] = [{"containerID": 0, "hostID": own, "size": 1}]
    (bundle / "config.json").write_text(json.dumps(spec))
    return bundle


def report(times: dict[str, list[float]]) -> list[str]:
    """Medians, and for each target the median of the rounds' ratios."""
    lines = [
        f"{NAME:<26} "
        + "  ".join(f"{name} {statistics.median(row) * 1000:.1f}" for name, row in times.items())
    ]
    ours, start = times["rootless-oci"], times["python"]
    if "runc" in times:
        ratios = [a / b for a, b in zip(ours, times["runc"], strict=True)]
        lines.append(_line("  of runc's time", ratios, OF_RUNC))
    if "crun" in times:
        ratios = [(a - p) / b for a, p, b in zip(ours, start, times["crun"], strict=True)]
        lines.append(_line("  of crun's, without python", ratios, OF_CRUN))
    return lines


def _line(what: str, ratios: list[float], target: float) -> str:
    middle = statistics.median(ratios)
    text = f"{middle:>7.2f}  ({min(ratios):.2f} to {max(ratios):.2f})".ljust(26)
    return f"{what:<46} {text} {target:.2f} {'yes' if middle <= target else 'NO'}"
