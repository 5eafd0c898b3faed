"""What completes a value or an argument on the command line: one function per kind of thing, named in the tables."""

from __future__ import annotations


def signals(_begun: str) -> list[str]:
    import signal

    return sorted(name.removeprefix("SIG") for name in signal.Signals.__members__ if name.isalnum())
