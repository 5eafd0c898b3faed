"""Cases of networks: starts with each helper and on bridges, traffic through published ports and between containers."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.containers import WAITER, Case
from tests.bench.sides import IMAGE, Side

_number = itertools.count()
_BYTES = 256 << 20
_CONNECTIONS = 200
# busybox's: 256 MiB to whoever connects, in large pieces, lest they be what is measured; and a page to whoever asks.
_SOURCE = ("nc", "-ll", "-p", "7000", "-e", "dd", "if=/dev/zero", "bs=1M", f"count={_BYTES >> 20}")
_PAGES = ("sh", "-c", "echo hello > /tmp/index.html; exec httpd -f -p 7000 -h /tmp")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _run(*options: str) -> Callable[[Side, str], float]:
    return lambda side, _: side.seconds("run", "--rm", *options, IMAGE, "true")


def _networks(side: Side) -> str:
    name = f"net{next(_number)}"
    side.ok("network", "create", name)
    return name


@contextlib.contextmanager
def _with_network(side: Side) -> Iterator[str]:
    """A network that nobody is on: its first container makes everything."""
    name = _networks(side)
    yield name
    side.ok("network", "rm", name)


@contextlib.contextmanager
def _with_neighbour(side: Side) -> Iterator[str]:
    """A network with a container on it."""
    with _with_network(side) as name:
        side.ok("run", "--detach", "--network", name, "--name", f"{name}c", IMAGE, *WAITER)
        yield name
        side.ok("rm", "--force", "--time", "0", f"{name}c")


def _on_network(side: Side, name: str) -> float:
    return side.seconds("run", "--rm", "--network", name, IMAGE, "true")


def _server(
    network: tuple[str, ...], command: tuple[str, ...]
) -> Callable[[Side], contextlib.AbstractContextManager[str]]:
    @contextlib.contextmanager
    def prepare(side: Side) -> Iterator[str]:
        port, name = _free_port(), f"server{next(_number)}"
        side.ok(
            "run",
            "--detach",
            *network,
            "--publish",
            f"127.0.0.1:{port}:7000",
            "--name",
            name,
            IMAGE,
            *command,
        )
        deadline = time.monotonic() + 10
        while not _answers(port) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield str(port)
        side.ok("rm", "--force", "--time", "0", name)

    return prepare


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as one:
            one.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return bool(one.recv(1))
    except OSError:
        return False


def _connected(side: Side, port: str) -> socket.socket:
    try:
        return socket.create_connection(("127.0.0.1", int(port)), 30)
    except OSError as error:
        raise RuntimeError(f"{side.name}: port {port}: {error}") from error


def _fetch(side: Side, port: str) -> float:
    begin = time.perf_counter()
    got = 0
    with _connected(side, port) as one:
        while chunk := one.recv(1 << 20):
            got += len(chunk)
    if got < _BYTES:
        raise RuntimeError(f"got {got} bytes of {_BYTES}")
    return time.perf_counter() - begin


def _connect(side: Side, port: str) -> float:
    begin = time.perf_counter()
    for _number in range(_CONNECTIONS):
        with _connected(side, port) as one:
            one.sendall(b"GET / HTTP/1.0\r\n\r\n")
            while one.recv(4096):
                pass
    return time.perf_counter() - begin


@contextlib.contextmanager
def _pair(side: Side) -> Iterator[str]:
    """A source on a network, and a container to draw from it."""
    with _with_network(side) as name:
        side.ok("run", "--detach", "--network", name, "--name", f"{name}s", IMAGE, *_SOURCE)
        side.ok("run", "--detach", "--network", name, "--name", f"{name}c", IMAGE, *WAITER)
        address = side.ok(
            "inspect",
            "--format",
            "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
            f"{name}s",
        )
        yield f"{name}c {address}"
        side.ok("rm", "--force", "--time", "0", f"{name}c", f"{name}s")


def _between(side: Side, what: str) -> float:
    name, address = what.split()
    return side.seconds("exec", name, "sh", "-c", f"nc {address} 7000 </dev/null >/dev/null")


def _twenty(*options: str, helper: str = "") -> Callable[[Side, str], float]:
    """The memory of twenty containers on one network, their programs not counted.

    :param helper: by what the network is connected to the outside, where it is not what each side chooses
    """

    def measure(side: Side, _: str) -> float:
        before = set(side.engine.processes())
        with _with_network(side) as network, _settings(side, helper):
            names = [f"{network}m{at}" for at in range(20)]
            with side.settling():
                for name in names:
                    words = ("--detach", "--network", network, "--name", name, *options)
                    side.ok("run", *words, IMAGE, *WAITER)
            total, lines = side.pss_kib(before, skip=("sh -c trap", "sleep 100000"))
            for line in lines if os.environ.get("BENCH_VERBOSE") else ():
                print(f"  {side.name}: {line}")
            side.ok("rm", "--force", "--time", "0", *names)
        return float(total)

    return measure


@contextlib.contextmanager
def _settings(side: Side, helper: str) -> Iterator[None]:
    if not helper:
        yield
        return
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(f'[network]\ndefault_rootless_network_cmd = "{helper}"\n')
        file.flush()
        side.engine.env["CONTAINERS_CONF_OVERRIDE"] = file.name
        yield
        del side.engine.env["CONTAINERS_CONF_OVERRIDE"]


def _cpu(measure: Callable[[Side, str], float]) -> Callable[[Side, str], float]:
    """The processor time of what carries the port, in seconds: on a busy machine steadier than the time that passes."""

    def on_cpu(side: Side) -> dict[int, int]:
        return {
            pid: sum(
                int(thread.read_text().split()[0])
                for thread in Path(f"/proc/{pid}/task").glob("*/schedstat")
            )
            for pid, text in side.engine.processes().items()
            if any(word in text for word in ("relay", "pasta", "rootlessport", "slirp4netns"))
        }

    def take(side: Side, port: str) -> float:
        before = on_cpu(side)
        measure(side, port)
        return sum(spent - before.get(pid, 0) for pid, spent in on_cpu(side).items()) / 1e9

    return take


CASES = [
    Case("run, slirp4netns", _run("--network", "slirp4netns")),
    Case("run, first on a network", _on_network, prepare=_with_network),
    Case("run, second on a network", _on_network, prepare=_with_neighbour),
    Case("run -p", _run("-p", "127.0.0.1::80")),
    Case("256 MiB, published port", _fetch, prepare=_server((), _SOURCE), rounds=10),
    Case(
        "256 MiB, port on a network",
        _fetch,
        prepare=_server(("--network", "podman"), _SOURCE),
        rounds=10,
    ),
    Case("256 MiB between two", _between, prepare=_pair, rounds=10),
    Case("200 requests, port", _connect, prepare=_server((), _PAGES), rounds=10),
    Case(
        "200 requests, on a network",
        _connect,
        prepare=_server(("--network", "podman"), _PAGES),
        rounds=10,
    ),
    Case(
        "CPU of 256 MiB, network",
        _cpu(_fetch),
        prepare=_server(("--network", "podman"), _SOURCE),
        rounds=5,
    ),
    Case(
        "CPU of 200 requests, network",
        _cpu(_connect),
        prepare=_server(("--network", "podman"), _PAGES),
        rounds=5,
    ),
    Case("memory, 20 on a network", _twenty(), rounds=2, unit="KiB", slow=True),
    Case(
        "memory, 20 by slirp4netns",
        _twenty(helper="slirp4netns"),
        rounds=2,
        unit="KiB",
        slow=True,
    ),
    Case("memory, 20 with ports", _twenty("-p", "127.0.0.1::80"), rounds=2, unit="KiB", slow=True),
]
