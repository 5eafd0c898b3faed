"""Cases of the container life cycle, memory and throughput."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator

from tests.bench.sides import IMAGE, Side, finish

_number = itertools.count()

# PID 1 has no default action for signals, so `sleep` alone would have stop wait for its timeout on either side.
WAITER = ("sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait")
LINE = "x" * 999


class Case:
    """A name, what it is to reach (a share of the peer's time), and how one round of it is measured.

    `measure` gets what `prepare` made for the side and returns seconds, or KiB where the unit says so.
    """

    def __init__(
        self,
        name: str,
        measure: Callable[[Side, str], float],
        *,
        target: float = 1.0,
        prepare: Callable[[Side], contextlib.AbstractContextManager[str]] | None = None,
        rounds: int | None = None,
        unit: str = "ms",
        slow: bool = False,
    ) -> None:
        self.name = name
        self.measure = measure
        self.target = target
        self.prepare = prepare or _nothing
        self.rounds = rounds
        self.unit = unit
        self.slow = slow


@contextlib.contextmanager
def _nothing(side: Side) -> Iterator[str]:
    yield ""


def _name() -> str:
    return f"bench{next(_number)}"


@contextlib.contextmanager
def _running(side: Side) -> Iterator[str]:
    name = _name()
    side.ok("run", "--detach", "--network", "none", "--name", name, IMAGE, *WAITER)
    try:
        yield name
    finally:
        side.ok("rm", "--force", "--time", "0", name)


@contextlib.contextmanager
def _stopped_with_log(side: Side) -> Iterator[str]:
    name = _name()
    side.ok("run", "--network", "none", "--name", name, IMAGE, "seq", "100")
    try:
        yield name
    finally:
        side.ok("rm", "--force", name)


@contextlib.contextmanager
def _hundred(side: Side) -> Iterator[str]:
    names = [_name() for _ in range(100)]
    try:
        _start_all(side, names)
        yield names[0]
    finally:
        side.ok("rm", "--force", "--ignore", "--time", "0", *names)


def _start_all(side: Side, names: list[str]) -> float:
    """Start a container for each name, all commands at once."""
    null = subprocess.DEVNULL
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as err:
        started = [
            side.engine.popen(
                "run",
                "-d",
                "--network",
                "none",
                "--name",
                name,
                IMAGE,
                *WAITER,
                stdin=null,
                stdout=null,
                stderr=err,
            )
            for name in names
        ]
        codes = [finish(process, 600) for process in started]
        taken = time.perf_counter() - begin
        if any(codes):
            err.seek(0)
            raise RuntimeError(
                f"{side.name}: {sum(map(bool, codes))} of {len(codes)} failed: {err.read()[:2000]!r}"
            )
    return taken


def _run_detached(side: Side, _: str) -> float:
    name = _name()
    taken = side.seconds("run", "-d", "--name", name, IMAGE, *WAITER)
    side.ok("rm", "--force", "--time", "0", name)
    return taken


def _create(side: Side, _: str) -> float:
    name = _name()
    taken = side.seconds("create", "--network", "none", "--name", name, IMAGE, *WAITER)
    side.ok("rm", name)
    return taken


def _start(side: Side, _: str) -> float:
    name = _name()
    side.ok("create", "--network", "none", "--name", name, IMAGE, *WAITER)
    taken = side.seconds("start", name)
    side.ok("rm", "--force", "--time", "0", name)
    return taken


def _stop(side: Side, _: str) -> float:
    with _running(side) as name:
        return side.seconds("stop", name)


def _rm_running(side: Side, _: str) -> float:
    name = _name()
    side.ok("run", "--detach", "--network", "none", "--name", name, IMAGE, *WAITER)
    return side.seconds("rm", "--force", "--time", "0", name)


def _parallel(side: Side, _: str) -> float:
    names = [_name() for _ in range(100)]
    taken = _start_all(side, names)
    side.ok("rm", "--force", "--time", "0", *names)
    return taken


def _memory(network: tuple[str, ...]) -> Callable[[Side, str], float]:
    def measure(side: Side, _: str) -> float:
        before = set(side.engine.processes())
        name = _name()
        with side.settling():
            side.ok("run", "--detach", "--name", name, *network, IMAGE, *WAITER)
        # The payload is the same on either side. Podman's pause process is there once for all containers.
        total, lines = side.pss_kib(before, skip=("sh -c trap", "sleep 100000", "catatonit -P"))
        for line in lines if os.environ.get("BENCH_VERBOSE") else ():
            print(f"  {side.name}: {line}")
        side.ok("rm", "--force", "--time", "0", name)
        return float(total)

    return measure


def _through_cat(side: Side, _: str) -> float:
    with subprocess.Popen(["head", "-c", "1G", "/dev/zero"], stdout=subprocess.PIPE) as source:
        assert source.stdout
        return side.seconds(
            "run", "--rm", "-i", "--network", "none", IMAGE, "cat", stdin=source.stdout.fileno()
        )


def _through_log(side: Side, _: str) -> float:
    name = _name()
    side.ok(
        "create",
        "--network",
        "none",
        "--log-opt",
        "max-size=50mb",
        "--name",
        name,
        IMAGE,
        "sh",
        "-c",
        f"yes {LINE} | head -c 1073741824",
    )
    begin = time.perf_counter()
    side.ok("start", name)
    if side.ok("wait", name) != "0":
        raise RuntimeError(f"{side.name}: the container that was to write 1 GB failed")
    taken = time.perf_counter() - begin
    side.ok("rm", "--force", name)
    return taken


def _command(*args: str) -> Callable[[Side, str], float]:
    """Time a command in which NAME stands for the container that was prepared."""
    return lambda side, name: side.seconds(*(name if word == "NAME" else word for word in args))


CASES = [
    Case(
        "run --rm --network none",
        _command("run", "--rm", "--network", "none", IMAGE, "true"),
        target=0.5,
    ),
    Case("run --rm", _command("run", "--rm", IMAGE, "true"), target=0.6),
    Case("run -d", _run_detached, target=0.6),
    Case("create", _create),
    Case("start", _start, target=0.5),
    Case("stop", _stop, target=0.5),
    Case("rm -f", _rm_running),
    Case("exec", _command("exec", "NAME", "true"), target=0.25, prepare=_running),
    Case("ps, 1 container", _command("ps"), prepare=_running),
    Case("inspect", _command("inspect", "NAME"), prepare=_running),
    Case("logs", _command("logs", "NAME"), prepare=_stopped_with_log),
    Case("ps, 100 containers", _command("ps"), prepare=_hundred, slow=True),
    Case("100 started at once", _parallel, rounds=3, slow=True),
    Case("memory, --network none", _memory(("--network", "none")), rounds=5, unit="KiB"),
    Case("memory", _memory(()), rounds=5, unit="KiB"),
    # The same helper on both sides: podman before 5.0 takes this one where we take pasta.
    Case("memory, slirp4netns", _memory(("--network", "slirp4netns")), rounds=5, unit="KiB"),
    Case("1 GB through run -i cat", _through_cat, rounds=3, slow=True),
    Case("1 GB into the log", _through_log, rounds=3, slow=True),
]
