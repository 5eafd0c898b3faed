"""The calls and numbers of `signal` without its enums, which cost 5 ms at each start. Names of signals: signals.py."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from signal import *  # noqa: F403
else:
    from _signal import *  # noqa: F403
