"""What passes between systemd and a container: readiness, sockets, health, log lines and events."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import pytest

from tests.vm.guest.conftest import Command, Services, journal, until

RUN = "/usr/local/bin/rootless run --rm -d --replace --cgroups=split --network none"


def unit(run: str, *more: str) -> str:
    return "\n".join(
        [
            "[Service]", "Type=notify", "NotifyAccess=all", "Delegate=yes", "Environment=PODMAN_SYSTEMD_UNIT=%n",
            "TimeoutStopSec=60", *more, f"ExecStart={run}", "",
        ]
    )  # fmt: skip


def added(services: Services, name: str, text: str) -> str:
    services.add(name, text)
    services.ctl.ok("daemon-reload")
    return name


#: Ends when systemd asks: as pid 1 it would not without a handler.
SLEEP = """sh -c 'trap "exit 0" TERM; sleep 100000 & wait'"""
SAYS_READY = """\
import os, pathlib, signal, socket, time
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print("begun", os.environ["NOTIFY_SOCKET"], flush=True)
while not pathlib.Path("/shared/go").exists():
    time.sleep(0.1)
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
s.send(b"MAINPID=1\\nFDSTORE=1\\nSTATUS=at your service\\nREADY=1")
time.sleep(100000)
"""


def test_the_containers_program_says_that_it_is_ready(
    rootless: Command, services: Services, tmp_path: Path
) -> None:
    """Not before it; the main process is the monitor, whatever the program calls its own; the journal has its lines."""
    (tmp_path / "says.py").write_text(SAYS_READY)
    name = added(
        services, "sayer.service",
        unit(f"{RUN} --sdnotify=container --name sayer -v {tmp_path}:/shared:ro host python3 -IS /shared/says.py"),
    )  # fmt: skip
    services.ctl.ok("start", "--no-block", name)
    until(lambda: journal("CONTAINER_NAME=sayer"), "the program runs")
    assert services.show(name, "ActiveState") == "activating"
    (tmp_path / "go").touch()
    until(lambda: services.show(name, "ActiveState") == "active", "it has said READY=1")
    assert services.show(name, "StatusText") == "at your service"
    assert services.show(name, "NFileDescriptorStore") == "0"
    monitor, identity = rootless.ok(
        "inspect", "--format", "{{.State.ConmonPid}} {{.Id}}", "sayer"
    ).split()
    assert str(services.main_pid(name)) == monitor
    [entry] = journal(f"CONTAINER_ID_FULL={identity}")
    assert entry["MESSAGE"] == "begun /run/notify/notify.sock"
    services.ctl.ok("stop", name)
    assert services.show(name, "Result") == "success"


def test_ready_with_the_first_check_that_passes(
    rootless: Command, services: Services, tmp_path: Path
) -> None:
    """--sdnotify=healthy; `wait` and `ps` see the same."""
    name = added(
        services, "fit.service",
        unit(
            f"{RUN} --sdnotify=healthy --name fit --health-cmd 'test -e /shared/well' --health-interval 1s "
            f"--health-retries 100 -v {tmp_path}:/shared:ro host {SLEEP}"
        ),
    )  # fmt: skip
    services.ctl.ok("start", "--no-block", name)
    until(lambda: "(starting)" in rootless.ok("ps", "--format", "{{.Status}}"), "the column")
    assert services.show(name, "ActiveState") == "activating"
    with subprocess.Popen(
        ["rootless", "wait", "--condition", "healthy", "fit"], stdout=subprocess.DEVNULL
    ) as waiter:
        (tmp_path / "well").touch()
        until(lambda: services.show(name, "ActiveState") == "active", "it is healthy, and ready")
        assert waiter.wait(timeout=300) == 0
    assert "(healthy)" in rootless.ok("ps", "--format", "{{.Status}}")
    assert rootless("healthcheck", "run", "fit").returncode == 0
    services.ctl.ok("stop", name)


def test_unhealthy_and_killed_it_is_started_again(
    rootless: Command, services: Services, tmp_path: Path
) -> None:
    """--health-on-failure=kill leaves the restart to systemd."""
    name = added(
        services, "ill.service",
        unit(
            f"{RUN} --sdnotify=conmon --name ill --health-cmd 'test ! -e /shared/ill' --health-interval 1s "
            f"--health-retries 1 --health-on-failure kill -v {tmp_path}:/shared:ro host {SLEEP}",
            "Restart=always", "RestartSec=0",
        ),
    )  # fmt: skip
    services.ctl.ok("start", name)
    (tmp_path / "ill").touch()
    until(lambda: int(services.show(name, "NRestarts")) > 0, "systemd starts it again")
    (tmp_path / "ill").unlink()
    until(lambda: services.show(name, "ActiveState") == "active", "it runs")
    services.ctl.ok("stop", name)
    events = rootless.ok(
        "events", "--stream=false", "--filter", "container=ill", "--format", "{{.HealthStatus}}"
    )
    assert "unhealthy" in events.split()


def test_ignored_it_is_nobodys_word(rootless: Command, services: Services) -> None:
    """--sdnotify=ignore: a unit that waits for no word is started with its command, and the container hears of none."""
    run = f"{RUN} --sdnotify=ignore --log-driver journald --name deaf host sh -c"
    text = unit(f"{run} 'echo [$$NOTIFY_SOCKET]; exec sleep 100000'", "KillMode=mixed")
    text = text.replace("Type=notify", "Type=forking")
    name = added(services, "deaf.service", text)
    services.ctl.ok("start", name)
    until(lambda: journal("CONTAINER_NAME=deaf"), "the program runs")
    assert [entry["MESSAGE"] for entry in journal("CONTAINER_NAME=deaf")] == ["[]"]
    rootless.ok("rm", "-f", "-t", "0", "deaf")


ANSWERS = """\
import os, signal, socket
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
assert (os.environ["LISTEN_FDS"], os.environ["LISTEN_PID"]) == ("1", str(os.getpid())), dict(os.environ)
listener = socket.socket(fileno=3)
while True:
    end, _ = listener.accept()
    end.sendall((os.environ["LISTEN_FDNAMES"] + " " + os.environ.get("NOTIFY_SOCKET", "no-socket")).encode())
    end.close()
"""


def test_a_socket_starts_it_and_is_passed_on(
    rootless: Command, services: Services, tmp_path: Path
) -> None:
    """A container without a network answers on the host's port: the socket came from systemd."""
    (tmp_path / "answers.py").write_text(ANSWERS)
    run = f"{RUN} --sdnotify=conmon --name answers -v {tmp_path}:/shared:ro host python3 -IS /shared/answers.py"
    services.add("answers.service", unit(run))
    services.add(
        "answers.socket", "[Socket]\nListenStream=127.0.0.1:8095\nFileDescriptorName=web\n"
    )
    services.ctl.ok("daemon-reload")
    services.ctl.ok("start", "answers.socket")
    assert services.show("answers.service", "ActiveState") == "inactive"
    with socket.create_connection(("127.0.0.1", 8095), timeout=120) as end:
        assert end.recv(100) == b"web no-socket"
    assert services.show("answers.service", "ActiveState") == "active"
    services.ctl.ok("stop", "answers.socket", "answers.service")


def test_journald_as_log_driver(rootless: Command, tmp_path: Path) -> None:
    """Podman's fields, and what `logs` reads back; conmon's own beside them."""
    said = "printf 'one\\ntwo\\n'; echo bad >&2; printf unfinished; exit 3"
    done = rootless(
        "run", "--name", "told", "--network", "none", "--log-driver", "journald", "--log-opt", "tag=blue", "host", "sh", "-c", said
    )  # fmt: skip
    assert done.returncode == 3
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin/sh").write_bytes(Path("/usr/bin/busybox").read_bytes())
    (root / "bin/sh").chmod(0o755)
    podman = Command("podman")
    podman(
        "run", "--name", "theirs", "--network", "none", "--log-driver", "journald", "--log-opt", "tag=blue", "--rootfs",
        str(root), "/bin/sh", "-c", said,
    )  # fmt: skip
    try:
        until(lambda: len(journal("CONTAINER_NAME=theirs")) >= 4, "conmon has written")
        until(lambda: len(journal("CONTAINER_NAME=told")) >= 4, "we have")
        shapes = []
        for name in ("theirs", "told"):
            entries = [e for e in journal(f"CONTAINER_NAME={name}") if "PODMAN_EVENT" not in e]
            shapes.append(
                sorted(
                    (e["MESSAGE"].rstrip("\n"), e["PRIORITY"], e.get("CONTAINER_TAG"), e.get("SYSLOG_IDENTIFIER"), e.get("CONTAINER_PARTIAL_MESSAGE"), len(e["CONTAINER_ID"]), len(e["CONTAINER_ID_FULL"]))
                    for e in entries
                )
            )  # fmt: skip
        assert shapes[0] == shapes[1]
    finally:
        podman("rm", "-f", "theirs")
    assert rootless.ok("logs", "told").split() == ["one", "two", "unfinished"]
    assert rootless.ok("logs", "--tail", "1", "told") == "unfinished"
    assert rootless.ok("logs", "--since", "1h", "--until", "1s", "told") != ""
    assert rootless.ok("logs", "-t", "--tail", "1", "told").split()[1] == "unfinished"
    assert (
        rootless.ok("inspect", "--format", "{{.HostConfig.LogConfig.Type}}", "told") == "journald"
    )


def test_logs_follow_a_container_that_writes_to_the_journal(rootless: Command) -> None:
    rootless.ok(
        "run", "-d", "--name", "talker", "--network", "none", "--log-driver", "journald", "host", "sh", "-c",
        "for i in 1 2 3; do echo line $i; sleep 0.5; done",
    )  # fmt: skip
    assert rootless.ok("logs", "-f", "talker").splitlines() == ["line 1", "line 2", "line 3"]


def test_events_in_the_journal(rootless: Command, tmp_path: Path) -> None:
    conf = tmp_path / "containers.conf"
    conf.write_text('[engine]\nevents_logger = "journald"\n')
    with_conf = Command("env", f"CONTAINERS_CONF={conf}", "rootless")
    identity = with_conf.ok("create", "--name", "noted", "host", "true")
    [entry] = journal(f"PODMAN_ID={identity}", "PODMAN_EVENT=create")
    assert (entry["PODMAN_TYPE"], entry["PODMAN_NAME"]) == ("container", "noted")
    assert "host" in entry["PODMAN_IMAGE"]
    shown = with_conf.ok(
        "events",
        "--stream=false",
        "--filter",
        "event=create",
        "--format",
        "json",
        "--filter",
        "container=noted",
    )
    assert json.loads(shown.splitlines()[-1])["ID"] == identity
    assert with_conf.ok("info", "--format", "{{.Host.EventLogger}}") == "journald"


@pytest.fixture
def app(rootless: Command, tmp_path: Path) -> Command:
    """`app(TEXT)` makes localhost/app:1 anew, whose program sleeps and whose file says TEXT."""
    root = tmp_path / "app"
    (root / "bin").mkdir(parents=True)
    (root / "bin/sleep").write_bytes(Path("/usr/bin/busybox").read_bytes())
    (root / "bin/sleep").chmod(0o755)
    (root / "bin/cat").symlink_to("sleep")
    return Command(
        "sh", "-c",
        f'echo "$1" > {root}/version && tar -C {root} -c . | rootless import -q -c "CMD [\\"/bin/sleep\\",\\"100000\\"]" - localhost/app:1', "sh",
    )  # fmt: skip


def test_auto_update_by_its_timer(rootless: Command, services: Services, app: Command) -> None:
    """The shipped units as pip has installed them; the service finds the command by itself."""
    app.ok("old")
    rootless.ok(
        "create", "--name", "app", "--network", "none", "--stop-signal", "KILL", "--label", "io.containers.autoupdate=local", "localhost/app:1"
    )  # fmt: skip
    name = services.generated(rootless, "app", "--new")
    services.ctl.ok("start", name)
    assert rootless.ok("exec", "app", "cat", "/version") == "old"
    app.ok("new")
    shown = services.ctl.ok("cat", "rootless-auto-update.timer", "rootless-restart.service")
    assert "OnCalendar=daily" in shown
    services.ctl.ok("start", "rootless-auto-update.timer")
    assert services.show("rootless-auto-update.timer", "NextElapseUSecRealtime") != ""
    services.ctl.ok("stop", "rootless-auto-update.timer")
    services.ctl.ok("start", "rootless-auto-update.service")
    assert services.show("rootless-auto-update.service", "Result") == "success"
    assert services.show(name, "ActiveState") == "active"
    assert rootless.ok("exec", "app", "cat", "/version") == "new"
    services.ctl.ok("stop", name)


@pytest.mark.before_reboot
def test_the_restart_service(rootless: Command, services: Services) -> None:
    """Enabled before the reboot; here it starts and stops what asks for it, and leaves the rest."""
    rootless.ok(
        "create", "--name", "always", "--label", "keep", "--restart", "always", "--network", "none", "--stop-signal", "KILL", "host", "sleep", "100000"
    )  # fmt: skip
    rootless.ok("create", "--name", "never", "--label", "keep", "--network", "none", "host", "true")
    services.ctl.ok("enable", "--now", "rootless-restart.service")
    shown = rootless.ok("ps", "-a", "--format", "{{.Names}} {{.State}}").splitlines()
    assert {"always running", "never created"} <= set(shown)


@pytest.mark.after_reboot
def test_it_has_started_them_at_the_boot(rootless: Command, services: Services) -> None:
    state = "rootless inspect --format {{.State.Status}} always"
    until(lambda: Command(*state.split()).ok() == "running", "it runs after the boot")
    services.ctl.ok("disable", "--now", "rootless-restart.service")
    assert rootless.ok("inspect", "--format", "{{.State.Status}}", "always", "never").split() == [
        "exited",
        "created",
    ]
    rootless.ok("rm", "always", "never")
