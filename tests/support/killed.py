"""A command that is killed at the Nth thing that it, or a process that it forks, changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.engine import Engine

KILLER = Path(__file__).with_name("killer.py")


def killed_at(engine: Engine, role: str, moment: int, *words: str) -> int:
    """Run a command with a kill (killer.py says of what); its exit status, negative where the command itself was hit."""
    done = subprocess.run(
        [sys.executable, str(KILLER), role, str(moment), *words],
        env={**engine.env, "PYTHONPATH": str(KILLER.parents[2])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode
