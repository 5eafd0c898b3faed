"""Units of `generate systemd`: they start, hold, come again after every death, stop in time, and answer after a reboot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from rootless.data import data_path
from tests.vm.guest.conftest import Command, Services, cgroup_of, containers, journal, pids, until

#: Answers with $GREETING; /eat takes more memory than it may have.
SERVER = """
import os, signal, socket
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
listener = socket.create_server(("", 8000))
print("serving", flush=True)
while True:
    end, _ = listener.accept()
    if b"/eat" in end.recv(4096):
        bytearray(300 << 20)
    end.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + os.environ["GREETING"].encode())
    end.close()
"""
SHARED = Path.home() / "web"


def fetch(port: int, path: str = "/") -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


QUADLET = f"""\
[Container]
ContainerName=quad
Image=host
Exec=python3 -IS /web/serve.py
PublishPort=127.0.0.1:8089:8000
Volume={SHARED}:/web:ro
Environment=GREETING=good-evening
StopTimeout=5
PodmanArgs=--memory=64m --memory-swap=64m --label=keep

[Service]
Restart=always
RestartSec=0

[Install]
WantedBy=default.target
"""
GENERATORS = "/etc/systemd/user-generators"


def web(rootless: Command, name: str, port: int, *more: str) -> None:
    SHARED.mkdir(exist_ok=True)
    (SHARED / "serve.py").write_text(SERVER)
    (SHARED / "web.env").write_text("GREETING=good-morning\n")
    rootless.ok(
        "create", "--name", name, "--label", "keep", "--memory", "64m", "--memory-swap", "64m", "-v", f"{SHARED}:/web:ro",
        "--env-file", f"{SHARED}/web.env", "-p", f"127.0.0.1:{port}:8000", *more, "host", "python3", "-IS", "/web/serve.py",
    )  # fmt: skip


def verify(path: Path) -> str:
    done = Command("systemd-analyze")("--user", "verify", str(path))
    return f"{done.returncode} {done.stdout}{done.stderr}".strip()


@pytest.mark.before_reboot
def test_expected_a_web_service_begins(rootless: Command) -> None:
    """Generated as a user would do it, enabled, and left for the reboot."""
    folder = Services.folder
    folder.mkdir(parents=True, exist_ok=True)
    web(rootless, "web", 8088)
    said = subprocess.run(
        ["rootless", "generate", "systemd", "--new", "--files", "--name", "web"],
        cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    unit = folder / "container-web.service"
    assert said.strip() == str(unit)
    rootless.ok("rm", "web")
    assert verify(unit) == "0"
    assert "good-morning" not in unit.read_text()
    ctl = Command("systemctl", "--user")
    ctl.ok("daemon-reload")
    ctl.ok("enable", "--now", unit.name)
    until(lambda: fetch(8088) == "good-morning", "it answers")


def restarted(services: Services, unit: str, before: int, port: int) -> None:
    services.await_restart(unit, before)
    until(lambda: fetch(port) != "", f"{unit} answers again")


LONE = """\
[Container]
ContainerName=lone
Image=host
Exec=sleep 100000
Network=none
PodmanArgs=--label=keep --stop-signal=KILL

[Install]
WantedBy=default.target
"""


@pytest.mark.before_reboot
def test_without_a_generator_install_writes_the_unit(
    rootless: Command, services: Services, tmp_path: Path
) -> None:
    """What a user can do alone: systemd knows no folder of a user's own for generators."""
    (tmp_path / "lone.container").write_text(LONE)
    rootless.ok("quadlet", "install", str(tmp_path / "lone.container"))
    assert services.show("lone.service", "FragmentPath") == str(services.folder / "lone.service")
    services.ctl.ok("start", "lone.service")
    assert "active/running" in rootless.ok("quadlet", "list")


@pytest.mark.after_reboot
def test_it_has_come_with_the_boot(rootless: Command, services: Services) -> None:
    until(
        lambda: services.show("lone.service", "ActiveState") == "active", "it runs after the boot"
    )
    rootless.ok("quadlet", "rm", "--force", "lone.container")
    assert not (services.folder / "lone.service").exists()
    assert services.show("lone.service", "LoadState") == "not-found"


@pytest.mark.before_reboot
def test_expected_the_same_service_as_a_quadlet_file_begins(sudo: Command) -> None:
    """Our generator in the place of Podman's, which reads the same files."""
    shipped = data_path("systemd-units", "rootless-user-generator")
    sudo.ok("mkdir", "-p", GENERATORS)
    sudo.ok("ln", "-sf", "/dev/null", f"{GENERATORS}/podman-user-generator")
    sudo.ok("ln", "-sf", shipped, f"{GENERATORS}/rootless-user-generator")
    folder = Path.home() / ".config/containers/systemd"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "quad.container").write_text(QUADLET)
    ctl = Command("systemctl", "--user")
    ctl.ok("daemon-reload")
    ctl.ok("start", "quad.service")
    until(lambda: fetch(8089) == "good-evening", "it answers")


def meets_its_limit(rootless: Command, services: Services, unit: str, name: str, port: int) -> None:
    """What takes more than it may is killed, and the unit starts again; its lines are in the journal."""
    identity = rootless.ok("ps", "-q", "--no-trunc", "--filter", f"name=^{name}$")
    monitor, inside = pids(identity)
    limit = Path(f"/sys/fs/cgroup{cgroup_of(inside)}/memory.max")
    assert limit.read_text().strip() == str(64 << 20)
    assert services.main_pid(unit) == monitor
    before = int(services.show(unit, "NRestarts"))
    assert fetch(port, "/eat") == ""
    services.await_restart(unit, before)
    until(lambda: fetch(port) != "", f"{unit} answers again")
    events = rootless.ok(
        "events", "--stream=false", "--filter", f"container={identity}", "--format", "{{.Status}}"
    )
    assert "oom" in events.split()
    entries = journal(f"CONTAINER_NAME={name}", f"CONTAINER_ID_FULL={identity}")
    assert [entry["MESSAGE"] for entry in entries][:1] == ["serving"]
    assert {entry["CONTAINER_ID"] for entry in entries} == {identity[:12]}
    assert {entry["_SYSTEMD_USER_UNIT"] for entry in entries} == {unit}


def test_expected_it_holds_its_limit(rootless: Command, services: Services) -> None:
    meets_its_limit(rootless, services, "container-web.service", "web", 8088)


def test_expected_the_quadlet_holds_its_limit(rootless: Command, services: Services) -> None:
    meets_its_limit(rootless, services, "quad.service", "quad", 8089)


@pytest.mark.after_reboot
def test_expected_both_answer_with_nobody_logged_in(sudo: Command) -> None:
    """Their manager had begun before the first session of their user's was opened, which is ours, and has started both."""
    until(lambda: fetch(8088) == "good-morning", "the one answers after the reboot")
    until(lambda: fetch(8089) == "good-evening", "the other does")
    sessions = [
        int(sudo.ok("loginctl", "show-session", "-p", "TimestampMonotonic", "--value", line.split()[0]))
        for line in sudo.ok("loginctl", "list-sessions", "--no-legend").splitlines()
        if " user " in line and "manager" not in line
    ]  # fmt: skip
    # A session that starts the manager is older than it.
    manager = f"user@{os.getuid()}.service"
    began = sudo.ok("systemctl", "show", "-p", "InactiveExitTimestampMonotonic", "--value", manager)
    assert sessions and all(0 < int(began) < session for session in sessions)
    for unit in ("container-web.service", "quad.service"):
        wanted = Command("systemctl", "--user").ok("show", "-p", "WantedBy", "--value", unit)
        assert "default.target" in wanted.split()


@pytest.mark.after_reboot
def test_expected_they_still_hold_their_limits_and_stop(
    rootless: Command, services: Services
) -> None:
    meets_its_limit(rootless, services, "container-web.service", "web", 8088)
    services.ctl.ok("disable", "--now", "container-web.service")
    services.ctl.ok("stop", "quad.service")
    for unit in ("container-web.service", "quad.service"):
        assert services.show(unit, "Result") == "success"
    assert (fetch(8088), fetch(8089)) == ("", "")
    assert rootless.ok("ps", "-aq", "--filter", "name=^(web|quad)$") == ""


def plain(rootless: Command, name: str) -> None:
    """What ends at the first signal, and costs no network helper."""
    rootless.ok(
        "create", "--name", name, "--label", "keep", "--network", "none", "--stop-signal", "KILL", "host", "sleep", "100000"
    )  # fmt: skip


def deaths(services: Services, unit: str, kinds: tuple[str, ...]) -> None:
    """kill -9 of the container, of the monitor and of both."""
    for victims in kinds:
        monitor = services.main_pid(unit)
        title = Path(f"/proc/{monitor}/cmdline").read_bytes().rstrip(b"\0 ").decode()
        assert title.startswith("rootless monitor ")
        _, inside = pids(title.split()[2])
        before = int(services.show(unit, "NRestarts"))
        for pid in {"container": [inside], "monitor": [monitor], "both": [inside, monitor]}[
            victims
        ]:
            os.kill(pid, signal.SIGKILL)
        services.await_restart(unit, before)
        until(lambda: services.show(unit, "ActiveState") == "active", f"runs again: {victims}")
        assert not Path(f"/proc/{inside}").exists()
    services.ctl.ok("stop", unit)
    assert services.show(unit, "Result") == "success"


def test_it_comes_again_after_every_death(rootless: Command, services: Services) -> None:
    """And takes over its name each time, the first time from a container that was there."""
    plain(rootless, "mortal")
    unit = services.generated(rootless, "mortal", "--new", "--restart-sec", "0")
    left = rootless.ok("create", "--name", "mortal", "host", "true")
    services.ctl.ok("start", unit)
    assert rootless.ok("ps", "-aq", "--no-trunc", "--filter", "name=mortal") not in ("", left)
    deaths(services, unit, ("container", "monitor", "both"))
    said = [entry["MESSAGE"] for entry in journal(f"USER_UNIT={unit}")]
    assert [one for one in said if one.startswith("Started ")]
    assert not [one for one in said if "not our child" in one]
    assert rootless.ok("ps", "-aq", "--filter", "name=mortal") == ""


def test_without_new_the_same_container_starts_and_stops(
    rootless: Command, services: Services
) -> None:
    plain(rootless, "steady")
    unit = services.generated(
        rootless, "steady", "--restart-policy", "always", "--restart-sec", "0"
    )
    assert verify(services.folder / unit) == "0"
    before = containers()
    services.ctl.ok("start", unit)
    deaths(services, unit, ("monitor", "both"))
    assert rootless.ok("inspect", "--format", "{{.State.Status}}", "steady") == "exited"
    assert containers() == before
    rootless.ok("rm", "steady")


def test_options_of_units(rootless: Command, services: Services, tmp_path: Path) -> None:
    """All of them at once; systemd reads the unit without a word, and says of it what was asked for."""
    rootless.ok("create", "--name", "many", "host", "sleep", "1000")
    services.add("first.service", "[Service]\nExecStart=/bin/true\n")
    [[name, text]] = json.loads(
        rootless.ok(
            "generate", "systemd", "--new", "--name", "--no-header", "--format", "json", "--restart-policy", "always",
            "--restart-sec", "7", "--start-timeout", "80", "--stop-timeout", "9", "--wants", "first.service", "--after",
            "first.service", "--requires", "basic.target", "--container-prefix", "con", "--separator", "_", "-e",
            "WORD=two words", "many",
        )
    ).items()  # fmt: skip
    assert name == "con_many"
    assert not text.startswith("#")
    unit = services.add(f"{name}.service", text)
    assert verify(services.folder / unit) == "0"
    services.ctl.ok("daemon-reload")
    shown = services.ctl.ok(
        "show",
        unit,
        "-p",
        "Restart,RestartUSec,TimeoutStartUSec,TimeoutStopUSec,Wants,After,Requires,Environment,Type",
    )
    facts = dict(line.split("=", 1) for line in shown.splitlines())
    assert (facts["Restart"], facts["RestartUSec"], facts["Type"]) == ("always", "7s", "notify")
    assert (facts["TimeoutStartUSec"], facts["TimeoutStopUSec"]) == ("1min 20s", "1min 9s")
    assert "first.service" in facts["Wants"] and "first.service" in facts["After"]
    assert "basic.target" in facts["Requires"]
    assert '"WORD=two words"' in facts["Environment"]
    rootless.ok("rm", "many")


def test_instances_of_a_template(rootless: Command, services: Services) -> None:
    rootless.ok("create", "--name", "kin", "--network", "none", "host", "sleep", "1000")
    unit = services.generated(rootless, "kin", "--new", "--template", "--stop-timeout", "0")
    assert unit == "container-kin@.service"
    assert verify(services.folder / unit) == "0"
    services.ctl.ok("start", "container-kin@one.service")
    assert rootless.ok("ps", "--format", "{{.Names}}", "--filter", "name=kin") == "kin-one"
    services.ctl.ok("stop", "container-kin@one.service")
    assert rootless.ok("ps", "-aq", "--filter", "name=kin") == ""
