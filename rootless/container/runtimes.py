"""Which OCI runtime runs a container: rootless's own, or another that is asked for.

By `--runtime NAME|PATH`, or containers.conf's `runtime`; a name's places are those of containers.conf's `runtimes`, or the
system's own folders. What a container was made with is kept in its record.
"""

from __future__ import annotations

import os

from rootless.errors import RootlessError, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.container.engine import Engine
    from rootless.runtime.external.program import ExternalRuntime

OWN = "rootless"
_FOLDERS = (
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/sbin",
    "/bin",
    "/run/current-system/sw/bin",
)


def choose(engine: Engine) -> dict[str, Any] | None:
    """The record's entry for what the command line or the configuration asks for; None for our own.

    Raises RootlessError, in Podman's words, where it is not there.
    """
    named = engine.settings.get("runtime") or engine.config.text("engine", "runtime")
    flags = [f"--{flag}" for flag in engine.settings.get("runtime-flag") or ()]
    if not named or named == OWN:
        if flags:
            raise Usage(
                f"--runtime-flag {flags[0][2:]}: rootless runs containers itself and takes no such flags",
                hint="name the runtime that they are for with --runtime",
            )
        return None
    return {"name": named, "path": find(engine, named), "flags": flags}


def find(engine: Engine, named: str) -> str:
    """The program of a runtime by its name or path."""
    if "/" in named:
        if not os.access(named, os.X_OK):
            raise RootlessError(
                f"no valid executable found for OCI runtime {named}: invalid argument"
            )
        return os.path.abspath(named)
    places = engine.config.mapping("engine", "runtimes").get(named)
    for path in places or [f"{folder}/{named}" for folder in _FOLDERS]:
        if os.access(path, os.X_OK):
            return str(path)
    raise RootlessError(
        f'default OCI runtime "{named}" not found: invalid argument',
        hint=f"install the package {named}, or leave out --runtime: rootless runs containers itself",
    )


def name_of(record: dict[str, Any]) -> str:
    """As `inspect` and `info` show it."""
    kept = record.get("runtime")
    return os.path.basename(kept["name"]) if kept else OWN


def version(program: str) -> str:
    """What a runtime says of itself; empty where it says nothing."""
    import subprocess

    try:
        done = subprocess.run(
            [program, "--version"], check=False, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def pid_inside(record: dict[str, Any], spec: dict[str, Any]) -> int:
    """The pid that the program will have in its own eyes, before another runtime has made it, for LISTEN_PID.

    Raises RootlessError where only the kernel knows: in a pid namespace that has processes already.
    """
    for entry in spec["linux"]["namespaces"]:
        if entry["type"] == "pid" and not entry.get("path"):
            return 1
    name = name_of(record)
    raise RootlessError(
        f"--runtime {name}: sockets from systemd need LISTEN_PID, which {name} cannot tell in a pid namespace that is shared",
        hint="leave out --runtime or --pid",
    )


def external(engine: Engine, record: dict[str, Any]) -> ExternalRuntime | None:
    """A container's own runtime, ready to be called; None where it is ours."""
    kept = record.get("runtime")
    if not kept:
        return None
    from rootless.runtime.external.program import ExternalRuntime

    if not os.access(kept["path"], os.X_OK):
        raise RootlessError(
            f"container {record['name']}: its runtime {kept['path']} is gone",
            hint="install it again, or make the container anew",
        )
    folder = f"{engine.containers.run_folder(record['id'])}/runtime"
    return ExternalRuntime(kept["path"], kept["flags"], folder, record["id"])
