"""One line of `doctor`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GOOD, NOTE, BAD = "ok", "warning", "failed"
GIB = 1 << 30


class Finding:
    """What was looked at, how it is, and what to do about it."""

    __slots__ = ("remedy", "state", "subject", "text")

    def __init__(self, subject: str, state: str, text: str, remedy: str = "") -> None:
        self.subject = subject
        self.state = state
        self.text = text
        self.remedy = remedy

    def to_json(self) -> dict[str, Any]:
        return {
            "subject": self.subject,
            "state": self.state,
            "text": self.text,
            "remedy": self.remedy,
        }


def read(path: str) -> str:
    """A file of the kernel's or the host's; nothing where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
