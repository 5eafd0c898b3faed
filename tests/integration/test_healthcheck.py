"""Health checks, as the monitor runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support import images
from tests.support.engine import Engine

QUICK = ("--health-interval", "50ms", "--health-retries", "2")
FOR_EVER = ("host", "sleep", "1000")


def health(rootless: Engine, name: str) -> Any:
    return json.loads(rootless.ok("inspect", "--format", "{{json .State.Health}}", name))


def test_becomes_unhealthy_and_healthy_again(rootless: Engine) -> None:
    rootless.ok("run", "-d", "--name", "hc1", "--health-cmd", "test -e /tmp/ok", *QUICK, *FOR_EVER)
    rootless.ok("wait", "--condition", "unhealthy", "hc1")
    assert health(rootless, "hc1")["FailingStreak"] >= 2
    assert "(unhealthy)" in rootless.ok("ps", "--format", "{{.Status}}")
    assert rootless.ok("ps", "--filter", "health=unhealthy", "--format", "{{.Names}}") == "hc1"
    result = rootless("healthcheck", "run", "hc1")
    assert (result.code, result.out) == (1, "unhealthy\n")
    rootless.ok("exec", "hc1", "touch", "/tmp/ok")
    rootless.ok("wait", "--condition", "healthy", "hc1")
    assert rootless("healthcheck", "run", "hc1").code == 0
    assert health(rootless, "hc1")["FailingStreak"] == 0
    rootless.ok("stop", "-t", "0", "hc1")
    assert rootless.fails("healthcheck", "run", "hc1") == "Error: container hc1 is not running\n"
    assert health(rootless, "hc1")["Status"] == "healthy"
    events = rootless.ok(
        "events", "--stream=false", "--filter", "event=health_status", "--filter", "container=hc1"
    )
    assert "health_status=unhealthy" in events and "health_status=healthy" in events


def test_output_is_bounded_and_counted(rootless: Engine) -> None:
    rootless.ok(
        "run", "-d", "--name", "hc2", "--health-cmd", "yes | head -c 3000000; exit 3", "--health-interval", "disable",
        "--health-max-log-size", "10", "--health-max-log-count", "2", *FOR_EVER,
    )  # fmt: skip
    assert health(rootless, "hc2") == {"Status": "starting", "FailingStreak": 0, "Log": []}
    for _ in range(3):
        assert rootless("healthcheck", "run", "hc2").code == 1
    log = health(rootless, "hc2")["Log"]
    assert [(one["ExitCode"], one["Output"]) for one in log] == [(1, "y\n" * 5)] * 2


def test_a_check_that_takes_too_long_is_ended(rootless: Engine) -> None:
    rootless.ok(
        "run", "-d", "--name", "hc3", "--health-cmd", "sleep 500", "--health-interval", "disable",
        "--health-timeout", "1s", *FOR_EVER,
    )  # fmt: skip
    assert rootless("healthcheck", "run", "hc3").code == 1
    assert health(rootless, "hc3")["Log"][0]["ExitCode"] == -1
    assert "sleep 500" not in rootless.ok("top", "hc3", "args")


def test_a_command_that_is_not_there_fails(rootless: Engine) -> None:
    check = ("--health-cmd", '["/nowhere"]', "--health-interval", "disable")
    rootless.ok("run", "-d", "--name", "hc4", *check, *FOR_EVER)
    assert rootless("healthcheck", "run", "hc4").out == "unhealthy\n"
    assert health(rootless, "hc4")["Log"][0]["ExitCode"] == 1


def test_the_container_ends_while_a_check_runs(rootless: Engine) -> None:
    check = ("--health-cmd", "sleep 500", "--health-interval", "disable")
    rootless.ok("run", "-d", "--name", "hc5", *check, *FOR_EVER)
    waiting = rootless.popen("healthcheck", "run", "hc5", stdout=-1)
    while "sleep 500" not in rootless.ok("top", "hc5", "args"):
        pass
    rootless.ok("rm", "-f", "-t", "0", "hc5")
    out, _ = waiting.communicate(timeout=20)
    assert (waiting.returncode, out) in ((1, b"stopped\n"), (1, b"unhealthy\n"))


def test_on_failure(rootless: Engine) -> None:
    failing = ("--health-cmd", "false", *QUICK)
    for action, code in (("kill", "137"), ("stop", "143")):
        name = f"hc-{action}"
        rootless.ok(
            "run", "-d", "--name", name, *failing, "--health-on-failure", action, "--init=false", "host",
            "sh", "-c", "trap 'exit 143' TERM; while :; do sleep 0.1; done",
        )  # fmt: skip
        assert rootless.ok("wait", name) == code


def test_on_failure_restart(rootless: Engine, tmp_path: Path) -> None:
    rootless.ok(
        "run", "-d", "--name", "hc6", "--health-cmd", "test -e /mark/good", *QUICK, "--health-on-failure", "restart",
        "-v", f"{tmp_path}:/mark", "--stop-timeout", "0",
        "host", "sh", "-c", "test -e /mark/first && touch /mark/good; touch /mark/first; exec sleep 1000",
    )  # fmt: skip
    rootless.ok("wait", "--condition", "healthy", "hc6")
    assert rootless.inspect("hc6")["RestartCount"] == 1


def test_startup_check_comes_first(rootless: Engine) -> None:
    rootless.ok(
        "run", "-d", "--name", "hc7", "--health-cmd", "true", *QUICK,
        "--health-startup-cmd", "test -e /tmp/up", "--health-startup-interval", "50ms", *FOR_EVER,
    )  # fmt: skip
    result = rootless("healthcheck", "run", "hc7")
    assert (result.code, result.out) == (1, "starting\n")
    assert health(rootless, "hc7")["Status"] == "starting"
    rootless.ok("exec", "hc7", "touch", "/tmp/up")
    rootless.ok("wait", "--condition", "healthy", "hc7")


def test_failures_in_the_start_period_do_not_count(rootless: Engine) -> None:
    check = ("--health-cmd", "false", "--health-retries", "1", "--health-interval", "disable")
    rootless.ok("run", "-d", "--name", "hc8", *check, "--health-start-period", "1h", *FOR_EVER)
    assert rootless("healthcheck", "run", "hc8").code == 1
    found = health(rootless, "hc8")
    assert (found["Status"], found["FailingStreak"], len(found["Log"])) == ("starting", 0, 1)


def test_log_destination(rootless: Engine, tmp_path: Path) -> None:
    check = ("--health-cmd", "echo well", "--health-interval", "disable")
    rootless.ok(
        "run", "-d", "--name", "hc9", *check, "--health-log-destination", str(tmp_path), *FOR_EVER
    )
    rootless.ok("healthcheck", "run", "hc9")
    identity = rootless.inspect("hc9")["Id"]
    kept = json.loads((tmp_path / f"{identity}-healthcheck.log").read_text())
    assert kept["Status"] == "healthy" and kept["Log"][-1]["Output"] == "well\n"


def test_none(rootless: Engine) -> None:
    rootless.ok("run", "-d", "--name", "hc10", *FOR_EVER)
    assert (
        rootless.fails("healthcheck", "run", "hc10")
        == "Error: container hc10 has no defined healthcheck\n"
    )
    wanted = ("run", "--rm", "--health-on-failure", "kill", "host", "true")
    assert "without a health check" in rootless.fails(*wanted)


def test_a_paused_container_is_not_checked(rootless: Engine) -> None:
    rootless.ok(
        "run",
        "-d",
        "--name",
        "hc11",
        "--health-cmd",
        "true",
        "--health-interval",
        "disable",
        *FOR_EVER,
    )
    rootless.ok("pause", "hc11")
    assert "is paused" in rootless.fails("healthcheck", "run", "hc11")
    rootless.ok("unpause", "hc11")
    rootless.ok("healthcheck", "run", "hc11")


def test_update_of_a_running_container(rootless: Engine) -> None:
    rootless.ok("run", "-d", "--name", "hc12", *FOR_EVER)
    rootless.ok("update", "--health-cmd", "test -e /tmp/ok", *QUICK, "hc12")
    rootless.ok("wait", "--condition", "unhealthy", "hc12")
    rootless.ok("update", "--health-cmd", "true", "hc12")
    rootless.ok("wait", "--condition", "healthy", "hc12")
    assert rootless.inspect("hc12")["Config"]["Healthcheck"]["Retries"] == 3
    rootless.ok("update", "--health-retries", "7", "hc12")
    found = rootless.inspect("hc12")["Config"]["Healthcheck"]
    assert (found["Test"], found["Retries"]) == (["CMD-SHELL", "true"], 7)
    rootless.ok("update", "--no-healthcheck", "hc12")
    assert "no defined healthcheck" in rootless.fails("healthcheck", "run", "hc12")
    assert rootless.inspect("hc12")["State"]["Status"] == "running"


def test_startup_check_needs_a_check(rootless: Engine, tmp_path: Path) -> None:
    """The image's is enough, as for Podman."""
    startup = ("--health-startup-cmd", "true", "--network", "none")
    error = rootless.fails("create", *startup, "host", "true")
    assert "cannot set a startup healthcheck when there is no regular healthcheck" in error
    assert rootless.ok("ps", "-aq") == ""
    archive = images.busybox_archive(
        tmp_path / "a.tar", "localhost/checked:latest", Healthcheck={"Test": ["CMD", "true"]}
    )
    rootless.ok("load", "--input", str(archive))
    rootless.ok("create", "--name", "hc20", *startup, "localhost/checked", "true")
    shown = rootless.inspect("hc20")["Config"]["StartupHealthCheck"]
    assert shown["Test"] == ["CMD-SHELL", "true"]
