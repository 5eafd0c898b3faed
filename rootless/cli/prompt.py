"""Asking before something is removed."""

from __future__ import annotations

import os
import sys


def agreed(warning: str) -> bool:
    """Whether the user says yes; what cannot be read is a no."""
    os.write(1, f"WARNING! {warning}\nAre you sure you want to continue? [y/N] ".encode())
    return sys.stdin.readline().strip().lower() in ("y", "yes")
