"""The networks' router and the relays of published ports, asleep as programs of some hundred bytes: nobody notices but
the memory."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support import host
from tests.support.engine import Engine
from tests.support.traffic import (
    CLIENT,
    ask,
    digest,
    eventually,
    exchange,
    free_port,
    refuses,
    router,
    serve,
)

pytestmark = pytest.mark.needs("userns", "subids", "tun", "nft")

_ASLEEP_KIB = 64


def relay(engine: Engine) -> int:
    (pid,) = (pid for pid, text in engine.processes().items() if text == "rootless relay")
    return pid


def is_asleep(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return False
    return int(text.split("Private_Dirty:")[1].split()[0]) < _ASLEEP_KIB


def descriptors(pid: int) -> int:
    assert eventually(lambda: is_asleep(pid))
    return len(os.listdir(f"/proc/{pid}/fd"))


def reach(engine: Engine, name: str) -> bool:
    done = engine("exec", "c", "python3", "-Ic", CLIENT, name, "7000")
    return done.out.split()[:1] == [digest(b"hello")]


def test_router_sleeps_and_knows_everything_when_it_wakes(sleepy: Engine) -> None:
    for name in ("a", "b"):
        sleepy.ok("network", "create", name)
    serve(sleepy, "w", "--network", "a:alias=web")
    sleepy.ok("run", "-d", "--name", "c", "--network", "b", "host", "sleep", "300")
    pid = router(sleepy)
    before = descriptors(pid)
    for _ in range(3):
        assert not reach(sleepy, "w.dns.podman")
        sleepy.ok("network", "connect", "a", "c")
        assert reach(sleepy, "web")
        sleepy.ok("restart", "-t0", "c")
        assert reach(sleepy, "w")
        sleepy.ok("network", "disconnect", "a", "c")
        assert descriptors(pid) == before
    assert router(sleepy) == pid
    status = Path(f"/proc/{pid}/status").read_text()
    assert int(status.split("CapEff:")[1].split()[0], 16) == 1 << 10 | 1 << 12 | 1 << 21
    outside = [one for one, title in sleepy.processes().items() if "--config-net" in title]
    for one in outside:
        os.kill(one, signal.SIGKILL)

    def is_made_anew() -> bool:
        now = [one for one, title in sleepy.processes().items() if "--config-net" in title]
        return bool(now) and now != outside and is_asleep(pid)

    assert eventually(is_made_anew, 30)
    sleepy.ok("rm", "-f", "-t0", "--all")
    assert eventually(lambda: not router(sleepy))


@pytest.mark.parametrize("network", ["podman", "pasta", "slirp4netns"])
def test_relay_sleeps_between_its_clients(sleepy: Engine, network: str) -> None:
    if network != "podman":
        host.require(network)
    tcp, udp = free_port(), free_port()
    words = ("--network", network, "-p", f"127.0.0.1:{tcp}:7000", "-p", f"127.0.0.1:{udp}:7000/udp")
    serve(sleepy, "w", *words)
    if "rootless relay" not in sleepy.processes().values():
        return  # a pasta that needs none
    pid = relay(sleepy)
    before = descriptors(pid)
    for size in (5, 3_000_000, 300_000):
        got = exchange("127.0.0.1", tcp, b"x" * size)
        assert got[:2] == [digest(b"x" * size), str(size)]
        assert eventually(lambda: is_asleep(pid))
        assert descriptors(pid) == before
    assert ask("127.0.0.1", udp).endswith(" ping")
    assert relay(sleepy) == pid


def test_sleeping_relay_ends_with_its_monitor(sleepy: Engine) -> None:
    port = free_port()
    serve(sleepy, "w", "--network", "podman", "-p", f"127.0.0.1:{port}:7000")
    pid = relay(sleepy)
    assert eventually(lambda: is_asleep(pid))
    os.kill(sleepy.inspect("w")["State"]["ConmonPid"], signal.SIGKILL)
    assert eventually(lambda: refuses("127.0.0.1", port))
    assert eventually(lambda: not os.path.exists(f"/proc/{pid}/fd/0"))
