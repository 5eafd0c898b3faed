"""Progress bars of pulls and pushes, for people at a terminal."""

from __future__ import annotations

import threading
from typing import Any

from rootless.cli.registry_options import say
from rootless.image.session import Progress, Reporter


class Bar(Progress):
    def __init__(self, bars: Bars, label: str, size: int) -> None:
        self._bars = bars
        self._label = label
        self._size = size
        self._number: int | None = None

    def advance(self, count: int) -> None:
        self._number = self._bars.advance(self._number, self._label, self._size, count)

    def done(self, word: str = "done") -> None:
        self._bars.finish(self._number, f"{self._label} {word}")


class Bars(Reporter):
    """One bar per blob in flight; a finished one becomes a line above them.

    rich, and the thread that it draws with, start with the first bytes: by then the helper that unpacks has been
    forked, which must come before any thread.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._live: Any = None
        self._open = 0

    def say(self, line: str) -> None:
        with self._lock:
            self._print(line)

    def blob(self, kind: str, digest: str, size: int) -> Progress:
        return Bar(self, f"Copying {kind} {digest.partition(':')[2][:12]}", size)

    def advance(self, task: int | None, label: str, size: int, count: int) -> int:
        with self._lock:
            live = self._started()
            if task is None:
                task = live.add_task(label, total=size)
                self._open += 1
            live.advance(task, count)
            return task

    def finish(self, task: int | None, line: str) -> None:
        with self._lock:
            if task is not None:
                self._started().remove_task(task)
                self._open -= 1
            self._print(line)
            if not self._open:
                self.stop()

    def stop(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _print(self, line: str) -> None:
        if self._live is None:
            say(line)
        else:
            from rootless.cli.output import printable

            self._started().console.print(printable(line, 2), markup=False, highlight=False)

    def _started(self) -> Any:
        if self._live is None:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )
            from rich.progress import Progress as Live

            live = Live(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            live.start()
            self._live = live
        return self._live
