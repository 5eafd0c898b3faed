"""Where the files that we ship lie: `config/` and `systemd-units/`, beside the package or at the top of a checkout."""

from __future__ import annotations

import os

_HERE = os.path.dirname(os.path.abspath(__file__))


def data_path(folder: str, *names: str) -> str:
    """Return the path of a shipped file or folder: data_path("config", "seccomp.json")."""
    # The wheel puts the folders below the package; importlib.resources would find them too, for 15 ms.
    base = _HERE + "/share"
    if not os.path.isdir(f"{base}/{folder}"):
        base = os.path.dirname(_HERE)
    return "/".join((base, folder, *names))
