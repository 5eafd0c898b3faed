"""A command on a pseudo-terminal, as a person at one would use it: what is typed and what is shown."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from typing import Any


class Terminal:
    """A process whose standard streams are a terminal of our own."""

    def __init__(self, popen: Any, *words: str, rows: int = 40, columns: int = 100) -> None:
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        self.process: subprocess.Popen[bytes] = popen(
            *words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        self.slave = slave
        self.seen = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str | bytes) -> None:
        os.write(self.master, text.encode() if isinstance(text, str) else text)

    def until(self, text: str, timeout_s: float = 30) -> str:
        """Read until the text is shown; what came up to there."""
        wanted = text.encode()
        deadline = time.monotonic() + timeout_s
        while wanted not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} was not shown, but {self.seen!r}"
            if select.select([self.master], [], [], min(left, 0.2))[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:
                    break
            else:
                assert self.process.poll() is None or wanted in self.seen, (
                    f"ended without {text!r}: {self.seen!r}"
                )
        head, _, self.seen = self.seen.partition(wanted)
        return (head + wanted).decode("utf-8", "replace")

    def until_raw(self) -> None:
        """Wait until the command has taken the terminal: what is typed before that is edited by the terminal itself."""
        deadline = time.monotonic() + 30
        while self.is_restored():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def wait(self, timeout_s: float = 30) -> int:
        deadline = time.monotonic() + timeout_s
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"still running; shown: {self.seen!r}"
            if select.select([self.master], [], [], 0.05)[0]:
                self.seen += os.read(self.master, 65536)
        return self.process.returncode

    def is_restored(self) -> bool:
        """Whether the terminal is in the mode that it was in before."""
        return termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
