"""Reading what events.py writes: from the start, since a time, and on as it grows.

Following sleeps in the kernel (inotify on the log's folder): a file that is renamed when it is full is read to its end
first, then its successor.
"""

from __future__ import annotations

import os
import select
import time

from rootless import quickjson
from rootless.errors import Usage
from rootless.files import make_private_dir
from rootless.linux import inotify
from rootless.moments import date_ns, moment_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    Event = dict[str, Any]
    Predicate = Callable[[Event], bool]


class Log:
    """The log and the one before it, read line by line."""

    __slots__ = ("path", "_fd", "_rest")

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1
        self._rest = b""

    def skip(self) -> None:
        """Pass over what there is by now."""
        self._open(self.path)
        if self._fd >= 0:
            os.lseek(self._fd, 0, os.SEEK_END)

    def read(self) -> Iterator[Event]:
        """What there is and has not been read yet, beginning with the older file."""
        if self._fd < 0:
            self._open(f"{self.path}.1")
            yield from self._lines()
            self._open(self.path)
        yield from self._lines()
        while self._is_replaced():
            self._open(self.path)
            yield from self._lines()

    def _open(self, path: str) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._rest = b""
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            self._fd = -1

    def _is_replaced(self) -> bool:
        try:
            now = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if self._fd < 0:
            return True
        mine = os.fstat(self._fd)
        return (now.st_dev, now.st_ino) != (mine.st_dev, mine.st_ino)

    def _lines(self) -> Iterator[Event]:
        while self._fd >= 0:
            data = os.read(self._fd, 1 << 16)
            if not data:
                return
            lines = (self._rest + data).split(b"\n")
            self._rest = lines.pop()
            for line in lines:
                try:
                    event = quickjson.loads(line)
                    event["TimeNano"] = date_ns(event["Time"])
                except (ValueError, KeyError, TypeError):
                    continue  # cut off by a full disk
                yield event


def read(
    path: str,
    fits: Predicate,
    *,
    since_ns: int = 0,
    until_ns: int = 0,
    from_start: bool = True,
    follow: bool = False,
) -> Iterator[Event]:
    """Events that fit; with `follow` it ends at `until_ns` only, or never."""
    log = Log(path)
    watch = -1
    if follow:
        make_private_dir(os.path.dirname(path))
        watch = inotify.inotify_init1()
        inotify.inotify_add_watch(
            watch,
            os.path.dirname(path),
            inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_TO,
        )
    if not from_start:
        log.skip()
    while True:
        for event in log.read():
            moment = event["TimeNano"]
            if moment >= since_ns and (not until_ns or moment <= until_ns) and fits(event):
                yield event
        if not follow:
            return
        poll = select.poll()
        poll.register(watch, select.POLLIN)
        if until_ns:
            left = until_ns - time.time_ns()
            if left <= 0 or not poll.poll(left // 1_000_000 + 1):
                follow = False  # one more look, for what came in the last moment
        else:
            poll.poll()
        try:
            os.read(watch, 1 << 16)
        except BlockingIOError:
            pass


def border(text: str, name: str) -> int:
    """--since and --until in nanoseconds; a span of --until lies ahead, as in Podman."""
    try:
        return moment_ns(text, future=name == "until")
    except ValueError:
        raise Usage(
            f"failed to parse event filters: unable to convert {name} time of {text}: unable to interpret time value"
        ) from None


def matcher(words: Iterable[str]) -> Predicate:
    """A test by Podman's filters: values of one key are alternatives, all keys must fit."""
    by_key: dict[str, list[Predicate]] = {}
    for word in words:
        key, _, value = word.partition("=")
        make = _FILTERS.get(key.lower())
        if make is None or "=" not in word:
            raise Usage(f"failed to parse event filters: {key} is an invalid filter")
        by_key.setdefault("event" if key == "status" else key.lower(), []).append(make(value))
    if "label" in by_key:
        labels = by_key.pop("label")
        by_key["label"] = [lambda event: all(test(event) for test in labels)]
    tests = list(by_key.values())
    return lambda event: all(any(test(event) for test in row) for row in tests)


def _object(kind: str) -> Callable[[str], Predicate]:
    def make(value: str) -> Predicate:
        return lambda event: (
            event.get("Type") == kind
            and (
                event.get("Name") == value
                or (bool(value) and str(event.get("ID", "")).startswith(value))
            )
        )

    return make


def _status(value: str) -> Predicate:
    wanted = "died" if value == "die" else value  # Docker's word
    return lambda event: event.get("Status") == wanted


def _volume(value: str) -> Predicate:
    return lambda event: (
        event.get("Type") == "volume" and str(event.get("Name", "")).startswith(value)
    )


def _type(value: str) -> Predicate:
    return lambda event: str(event.get("Type", "")).lower() == value.lower()


def _label(value: str) -> Predicate:
    key, sign, wanted = value.partition("=")

    def fits(event: Event) -> bool:
        labels = event.get("Attributes") or {}
        return key in labels and (not sign or labels[key] == wanted)

    return fits


_FILTERS: dict[str, Callable[[str], Predicate]] = {
    "container": _object("container"),
    "event": _status,
    "image": _object("image"),
    "label": _label,
    "network": _object("network"),
    "pod": _object("pod"),
    "secret": _object("secret"),
    "status": _status,
    "type": _type,
    "volume": _volume,
}
