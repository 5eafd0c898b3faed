"""Asking: before something is removed, and for passwords."""

from __future__ import annotations

import os
import sys

from rootless.errors import Usage


def agreed(warning: str) -> bool:
    """Whether the user says yes; what cannot be read is a no."""
    text = f"WARNING! {warning}\nAre you sure you want to continue? [y/N] "
    os.write(1, text.encode("utf-8", "surrogateescape"))
    return sys.stdin is not None and sys.stdin.readline().strip().lower().startswith("y")


def password(remedy: str) -> str:
    """Ask for a password without showing it; `remedy` is what to do where nobody can be asked."""
    if sys.stdin is not None and os.isatty(0):
        import getpass

        try:
            return getpass.getpass("Password: ")
        except EOFError:
            pass
    raise Usage("cannot ask for the password: standard input is no terminal", hint=remedy)
