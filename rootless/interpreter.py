"""An interpreter for a process of ours that outlives the command: as bin/rootless starts it, so that no PYTHON* variable,
user folder or current folder reaches in, and nothing is read in vain."""

from __future__ import annotations

import os
import sys


def command(module: str) -> list[str]:
    """The command line that runs `main` of a module with the arguments that follow it; executed as sys.executable."""
    packages = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    prefix = ["-X", f"pycache_prefix={sys.pycache_prefix}"] if sys.pycache_prefix else []
    program = f"import sys; sys.path.append(sys.argv.pop(1)); from {module} import main; main()"
    return [sys.executable, "-I", "-S", *prefix, "-c", program, packages]
