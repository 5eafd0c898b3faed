"""`rootless logs`: print what containers have written."""

from __future__ import annotations

import os

from rootless.cli.options import LATEST
from rootless.cli.table import Command, Option
from rootless.container.engine import open_engine
from rootless.container.logread import TIME, Log, Span, follow, read_all
from rootless.container.status import Status, all_statuses, status_of
from rootless.errors import NotFound, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.cli.table import Invocation
    from rootless.container.engine import Engine

OPTIONS = (
    Option("color", "bool", "Give each container's lines a colour of their own"),
    Option("follow", "bool", "Go on until the container ends", short="f"),
    LATEST,
    Option(
        "names", "bool", "With several containers: begin lines with the name, not the id", short="n"
    ),
    Option(
        "since",
        "str",
        "Only lines since a time, as in 10m or 2026-01-31T12:00:00",
        metavar="time",
    ),
    Option(
        "tail",
        "int",
        "Only the last lines of what there is; -1 for all",
        default=-1,
        metavar="lines",
    ),
    Option("timestamps", "bool", "Begin each line with its time", short="t"),
    Option("until", "str", "Only lines until a time", metavar="time"),
)

#: How long a container may take to be there again, for those who follow its log.
_RESTART_S = 60
_COLOURS = (37, 31, 33, 34, 35, 36, 32)


class Printer:
    """Writes one container's lines to the streams that they came from."""

    __slots__ = ("_begun", "after", "before", "timestamps")

    def __init__(self, before: bytes, *, timestamps: bool, colour: int | None) -> None:
        self.before = before
        self.after = b""
        self.timestamps = timestamps
        self._begun: set[bytes] = set()  # streams whose last line goes on
        if colour is not None:
            self.before = b"\033[%dm" % colour + before
            self.after = b"\033[0m"

    def print(self, lines: list[bytes]) -> None:
        text = self._decorated if self.before or self.timestamps else None
        out: list[bytes] = []
        current = b""
        for line in lines:
            stream = line[TIME + 1 : TIME + 7]
            if stream != current:
                if out:
                    _write(current, out)
                    out = []
                if stream not in (b"stdout", b"stderr"):
                    continue  # a line that a full disk has cut off
                current = stream
            out.append(line[TIME + 10 :] if text is None else text(line))
            if line[TIME + 8 : TIME + 9] != b"P":
                out.append(b"\n")
        if out:
            _write(current, out)

    def _decorated(self, line: bytes) -> bytes:
        text = line[TIME + 10 :]
        stream = line[TIME + 1 : TIME + 7]
        goes_on = stream in self._begun
        if line[TIME + 8 : TIME + 9] == b"P":
            self._begun.add(stream)
        else:
            self._begun.discard(stream)
        if goes_on:
            return text + self.after
        if self.timestamps:
            moment = line[:29] + (b"Z" if line[29:TIME] == b"+00:00" else line[29:TIME])
            text = moment + b" " + text
        return self.before + text + self.after


def _write(stream: bytes, parts: list[bytes]) -> None:
    fd = 1 if stream == b"stdout" else 2
    data = memoryview(b"".join(parts))
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError as error:
        from rootless.cli.output import unwritten

        raise unwritten(error) from None


def main(inv: Invocation) -> int:
    since = _moment(inv, "since", future=False)
    until = _moment(inv, "until", future=True)
    engine = open_engine(inv.globals)
    if inv.flag("latest"):
        statuses = all_statuses(engine)[-1:]
        if not statuses:
            raise NotFound("no containers to show the log of: no such container")
    else:
        lookup = engine.containers.lookup
        statuses = [status_of(engine, identity) for identity in [lookup(n) for n in inv.args]]
    sources = [(Log.of(status), Span(since, until), status) for status in statuses]
    printers = [
        _printer(inv, status, at, several=len(statuses) > 1) for at, status in enumerate(statuses)
    ]
    if len(sources) == 1:
        log, span, _ = sources[0]
        for lines in read_all(log, span, inv.number("tail")):
            printers[0].print(lines)
    else:
        for at, lines in _merged(sources, inv.number("tail")):
            printers[at].print(lines)
    if inv.flag("follow"):
        for at, lines in follow(sources, lambda status: _next_run(engine, status)):
            printers[at].print(lines)
    return 0


def _next_run(engine: Engine, status: Status) -> Status | None:
    """The run that `restart` begins after one that has ended."""
    import time

    from rootless.container.lifecycle import Restarting

    restarting = Restarting(engine, status.id)
    deadline = time.monotonic() + _RESTART_S
    while restarting and time.monotonic() < deadline:
        time.sleep(0.02)
    try:
        return status_of(engine, status.id)
    except NotFound:
        return None


def _moment(inv: Invocation, name: str, *, future: bool) -> int | None:
    text = inv.text(name)
    if not text:
        return None
    from rootless.moments import moment_ns

    try:
        return moment_ns(text, future=future)
    except ValueError:
        raise Usage(f'parsing --{name} "{text}": unable to interpret time value') from None


def _printer(inv: Invocation, status: Status, at: int, *, several: bool) -> Printer:
    before = ""
    if several:
        before = (status.name if inv.flag("names") else status.id[:12]) + " "
    colour = _COLOURS[at % len(_COLOURS)] if inv.flag("color") else None
    return Printer(before.encode(), timestamps=inv.flag("timestamps"), colour=colour)


def _merged(
    sources: list[tuple[Log, Span, Status]], tail: int
) -> Iterator[tuple[int, list[bytes]]]:
    """The lines of several containers in the order of their times, neighbours of one container together."""
    from heapq import merge

    def moments(at: int) -> Iterator[tuple[int, int, bytes]]:
        log, span, _ = sources[at]
        for lines in read_all(log, span, tail):
            for line in lines:
                yield span.moment(line), at, line

    block: list[bytes] = []
    last = 0
    for _, at, line in merge(*(moments(at) for at in range(len(sources)))):
        if block and (at != last or len(block) > 1000):
            yield last, block
            block = []
        block.append(line)
        last = at
    if block:
        yield last, block


def check(inv: Invocation) -> None:
    if inv.flag("latest"):
        if inv.args:
            raise Usage("--latest and containers cannot be used together")
    elif not inv.args:
        raise Usage("specify at least one container name or ID to log")


COMMAND = Command(
    "[options] CONTAINER [CONTAINER...]",
    main,
    OPTIONS,
    args=check,
    description="Prints what containers have written to standard output and standard error, each to its own.",
    examples=("logs web", "logs -f --tail 10 web", "logs --since 10m --names web db"),
    complete="containers",
)
