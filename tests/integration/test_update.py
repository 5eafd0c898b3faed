"""`rootless update` where no cgroup is delegated; that limits change in the kernel is tested in the machine of tests/vm."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.support.engine import Engine

pytestmark = pytest.mark.needs("userns", "subids")


def test_a_restart_policy_holds_for_the_container_that_runs(rootless: Engine) -> None:
    rootless.ok(
        "run", "-d", "--network", "none", "--name", "web", "host", "sh", "-c", "sleep 1000; true"
    )
    rootless.ok("update", "--restart", "on-failure:2", "web")
    policy = rootless.inspect("web")["HostConfig"]["RestartPolicy"]
    assert policy == {"Name": "on-failure", "MaximumRetryCount": 2}
    os.kill(
        rootless.inspect("web")["State"]["Pid"], signal.SIGKILL
    )  # a death that nobody asked for
    deadline = time.monotonic() + 30
    while rootless.inspect("web")["RestartCount"] < 1:
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no parameters are specified to update the container: invalid argument"),
        (("--cpuset-cpus", "x"), 'invalid value "x" for --cpuset-cpus'),
        (("--health-on-failure", "kill"), "without a health check"),
        (
            ("--memory-swappiness", "5"),
            "--memory-swappiness: swappiness exists with cgroup v1 only",
        ),
    ],
)
def test_mistakes(rootless: Engine, words: tuple[str, ...], message: str) -> None:
    rootless.ok("create", "--name", "web", "host", "true")
    done = rootless("update", *words, "web")
    assert done.code == 125
    assert message in done.err


@pytest.mark.needs("no-delegation")
def test_a_limit_that_cannot_be_kept_changes_nothing(rootless: Engine) -> None:
    rootless.ok("create", "--name", "web", "host", "true")
    before = rootless.inspect("web")["HostConfig"]
    done = rootless("update", "--memory", "64m", "web")
    assert done.code == 125
    assert "cannot set the memory limit (--memory):" in done.err
    assert rootless.inspect("web")["HostConfig"] == before
    assert "no container" in rootless("update", "--memory", "64m", "nosuch").err
