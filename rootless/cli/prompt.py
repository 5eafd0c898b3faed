"""Asking before something is removed."""

from __future__ import annotations

import os
import sys


def agreed(warning: str) -> bool:
    """Whether the user says yes; what cannot be read is a no."""
    text = f"WARNING! {warning}\nAre you sure you want to continue? [y/N] "
    os.write(1, text.encode("utf-8", "surrogateescape"))
    return sys.stdin is not None and sys.stdin.readline().strip().lower().startswith("y")
