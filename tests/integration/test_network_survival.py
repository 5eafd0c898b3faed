"""Networks where something dies: the command or its monitor at each moment of a start, and whoever takes a port meanwhile."""

from __future__ import annotations

import pytest

from tests.support import host
from tests.support.engine import Engine
from tests.support.killed import killed_at
from tests.support.traffic import answers, eventually, free_port, refuses, serve

pytestmark = pytest.mark.needs("userns", "subids", "tun")

MOST = 200


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("network", "role", "step"),
    [("pasta", "monitor", 1), ("slirp4netns", "monitor", 3), ("podman", "monitor", 2), ("podman", "command", 3)],
)  # fmt: skip
def test_start_killed_at_each_moment(fresh: Engine, network: str, role: str, step: int) -> None:
    """Neither helper, relay nor router outlives it, the port is free again, and the next start works."""
    host.require("nft" if network == "podman" else network)
    port = free_port()
    words = ("run", "-d", "--name", "w", "--network", network, "-p", f"127.0.0.1:{port}:7000", "host", "sleep", "999")  # fmt: skip
    fresh.ok(*words)
    fresh.ok("rm", "-f", "-t0", "w")
    for moment in range(1, MOST, step):
        code = killed_at(fresh, role, moment, *words)
        if code == 0 and fresh("ps", "--quiet").lines:
            assert moment > 10
            return
        assert eventually(lambda: not fresh.processes(), 20), (moment, fresh.processes())
        # What dies has no command line any more, and its sockets for a moment still.
        assert eventually(lambda: refuses("127.0.0.1", port), 5), moment
        fresh.ok("rm", "-f", "-t0", "--all")
    pytest.fail(f"more than {MOST} moments")


@pytest.mark.needs("nft")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("step", [2])
def test_start_interrupted_at_each_moment(fresh: Engine, step: int) -> None:
    """By Ctrl-C, also while the networks' router is being made: the command ends, and nothing else holds on."""
    port = free_port()
    words = ("run", "-d", "--name", "w", "--network", "podman", "-p", f"127.0.0.1:{port}:7000", "host", "sleep", "999")  # fmt: skip
    fresh.ok(*words)
    fresh.ok("rm", "-f", "-t0", "w")
    for moment in range(1, MOST, step):
        code = killed_at(fresh, "command:2", moment, *words)
        assert code in (0, 130, -2), moment  # -2: before there is a command
        fresh.ok("rm", "-f", "-t0", "--all")
        assert eventually(lambda: not fresh.processes(), 20), (moment, fresh.processes())
        assert eventually(lambda: refuses("127.0.0.1", port), 5), moment
        if code == 0:
            assert moment > 10
            return
    pytest.fail(f"more than {MOST} moments")


@pytest.mark.parametrize("network", ["pasta", "slirp4netns", "podman"])
def test_ports_taken_over_while_a_container_is_stopped(net: Engine, network: str) -> None:
    """Released with the stop, told by the start who has them now, and had again once they are free."""
    host.require("nft" if network == "podman" else network)
    port = free_port()
    words = ("--network", network, "-p", f"127.0.0.1:{port}:7000")
    serve(net, "first", *words)
    net.ok("restart", "-t0", "first")
    assert eventually(lambda: answers(port))
    net.ok("stop", "-t0", "first")
    assert refuses("127.0.0.1", port)
    serve(net, "second", *words)
    message = net.fails("start", "first")
    assert f"cannot publish port 127.0.0.1:{port}/tcp: address already in use by " in message
    assert "(pid " in message
    assert len(message.splitlines()) == 1
    assert net.inspect("first")["State"]["Status"] == "exited"
    assert answers(port)
    net.ok("rm", "-f", "-t0", "second")
    net.ok("start", "first")
    assert eventually(lambda: answers(port))
