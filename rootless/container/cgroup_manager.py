"""Who makes the containers' cgroups: systemd, where a manager of this user runs, or we ourselves. Lean."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.container.engine import Engine


def wanted(engine: Engine) -> str:
    """What was asked for: systemd or cgroupfs; "" for the best there is."""
    return engine.settings.get("cgroup-manager") or engine.config.text("engine", "cgroup_manager")


def effective(engine: Engine) -> str:
    """What it comes to on this host."""
    # As runtime/scope.py looks for the manager, which is not imported for this one word.
    folders = {f"/run/user/{os.geteuid()}", os.environ.get("XDG_RUNTIME_DIR") or "/run"}
    found = any(
        os.path.exists(f"{one}/{name}") for one in folders for name in ("systemd/private", "bus")
    )
    return "systemd" if found and wanted(engine) != "cgroupfs" else "cgroupfs"
