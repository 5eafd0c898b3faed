"""`events`: what was written, what is being written, and Podman's words for both."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from rootless.container.event_log import Log, matcher
from tests.support.engine import Engine


def log(rootless: Engine, *args: str) -> list[str]:
    return rootless.ok("events", "--stream=false", *args).splitlines()


def test_a_life(fresh: Engine) -> None:
    identity = fresh.ok(
        "create", "--name", "web", "--label", "a=b", "--network", "none", "host", "false"
    )
    assert fresh("start", "--attach", "web").code == 1
    fresh.ok("rename", "web", "old")
    fresh.ok("rm", "old")
    statuses = log(fresh, "--filter", "type=container", "--format", "{{.Status}}")
    assert statuses == ["create", "init", "start", "died", "cleanup", "rename", "remove"]
    line = log(fresh, "--filter", "event=create", "--filter", "container=web")[0]
    assert line.endswith(
        f" +0000 UTC container create {identity} (image=localhost/host:latest, name=web, a=b)"
    ) or (f" container create {identity} (image=localhost/host:latest, name=web, a=b)" in line)
    short = log(fresh, "--filter", "event=create", "--no-trunc=false", "--filter", "label=a=b")[0]
    assert f" create {identity[:12]} (" in short
    died = json.loads(log(fresh, "--filter", "event=die", "--format", "json")[0])
    assert (
        died["ContainerExitCode"] == 1
        and died["ID"] == identity
        and died["Attributes"] == {"a": "b"}
    )
    assert list(died) == [
        "ContainerExitCode",
        "ID",
        "Image",
        "Name",
        "Status",
        "time",
        "timeNano",
        "Type",
        "Attributes",
    ]


def test_what_is_asked_for_stands_before_what_follows(fresh: Engine) -> None:
    """Podman's order: `stop` before `died`, `restart` before both."""
    fresh.ok("run", "-d", "--name", "web", "--network", "none", "host", "sleep", "100")
    fresh.ok("restart", "-t", "0", "web")
    fresh.ok("stop", "-t", "0", "web")
    statuses = log(fresh, "--filter", "container=web", "--format", "{{.Status}}")
    assert [word for word in statuses if word != "cleanup"] == [
        "create", "init", "start", "restart", "stop", "died", "init", "start", "stop", "died"
    ]  # fmt: skip


def test_a_container_renamed_while_it_runs_dies_by_its_new_name(fresh: Engine) -> None:
    fresh.ok("run", "-d", "--name", "old", "--network", "none", "host", "sleep", "100")
    fresh.ok("rename", "old", "new")
    fresh.ok("stop", "-t", "0", "new")
    assert log(fresh, "--filter", "event=died", "--format", "{{.Name}}") == ["new"]


def test_times(fresh: Engine) -> None:
    fresh.ok("create", "--name", "web", "host", "true")
    assert len(log(fresh, "--since", "1h", "--filter", "event=create")) == 1
    assert log(fresh, "--until", "2020-01-01T00:00:00Z") == []
    assert len(log(fresh, "--until", "1h", "--filter", "event=create")) == 1
    assert log(fresh, "--since", "2100-01-01T00:00:00Z") == []
    # A time that has passed ends the stream by itself.
    assert (
        fresh.ok("events", "--until", "0s", "--filter", "event=create", "--format", "{{.Name}}")
        == "web"
    )


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (("--filter", "foo=b"), "failed to parse event filters: foo is an invalid filter"),
        (("--filter", "foo"), "failed to parse event filters: foo is an invalid filter"),
        (
            ("--since", "foo"),
            "failed to parse event filters: unable to convert since time of foo: unable to interpret time value",
        ),
        (("foo",), "`rootless events` takes no arguments"),
    ],
)
def test_errors_are_podmans(rootless: Engine, args: tuple[str, ...], error: str) -> None:
    assert rootless.fails("events", "--stream=false", *args) == f"Error: {error}\n"


def test_template_with_a_wrong_field(rootless: Engine) -> None:
    rootless.ok("create", "--name", "web", "host", "true")
    assert rootless.fails("events", "--stream=false", "--format", "{{.Foo}}") == (
        'Error: template: events:1:2: executing "events" at <.Foo>: can\'t evaluate field Foo in type system.Event\n'
    )


def test_following_sleeps_and_wakes(fresh: Engine) -> None:
    """Without --since only what comes is shown, at once, and the wait costs no time of the processor."""
    fresh.ok("create", "--name", "before", "host", "true")
    process = fresh.popen(
        "events", "--filter", "event=create", "--format", "{{.Name}}", stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    # It follows once it sleeps in its inotify descriptor.
    while "anon_inode:inotify" not in descriptors(process.pid):
        pass
    fresh.ok("create", "--name", "after", "host", "true")
    assert process.stdout.readline() == b"after\n"
    ticks = cpu_ticks(process.pid)
    fresh.ok("create", "--name", "last", "host", "true")
    assert process.stdout.readline() == b"last\n"
    assert cpu_ticks(process.pid) - ticks < 20
    process.terminate()
    process.wait()
    process.stdout.close()


def descriptors(pid: int) -> list[str]:
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            continue
    return found


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def entry(name: str, second: int = 0) -> bytes:
    return (
        b'{"Name":"%s","Status":"create","Time":"2026-01-01T00:00:%02dZ","Type":"container","ID":"12ab"}\n'
        % (
            name.encode(),
            second,
        )
    )


def test_a_full_log_is_read_to_its_end_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    Path(f"{path}.1").write_bytes(entry("oldest"))
    path.write_bytes(entry("one"))
    reader = Log(str(path))
    assert [event["Name"] for event in reader.read()] == ["oldest", "one"]
    with path.open("ab") as file:
        file.write(entry("two") + entry("cut")[:20])
    os.rename(path, f"{path}.1")
    path.write_bytes(b"damaged\n" + entry("three"))
    assert [event["Name"] for event in reader.read()] == ["two", "three"]
    assert list(reader.read()) == []


def test_filters() -> None:
    event = {
        "Name": "web",
        "ID": "12ab",
        "Type": "container",
        "Status": "died",
        "Attributes": {"a": "b"},
    }
    for words, fits in (
        (["container=web"], True),
        (["container=12"], True),
        (["container=we"], False),
        (["image=web"], False),
        (["event=die"], True),
        (["status=died", "event=start"], True),
        (["event=start", "event=stop"], False),
        (["label=a"], True),
        (["label=a=b", "label=c"], False),
        (["type=Container", "label=a=b"], True),
        (["volume=web"], False),
    ):
        assert matcher(words)(event) is fits, words


def test_restart_and_init(fresh: Engine) -> None:
    """As Podman 5.4.2: a start is preceded by init, which is told once where `init` came before; and restart by nothing."""
    fresh.ok("create", "--name", "r", "--network", "none", "host", "sleep", "1000")
    fresh.ok("init", "r")
    fresh.ok("start", "r")
    fresh.ok("restart", "-t", "0", "r")
    told = log(fresh, "--filter", "container=r", "--format", "{{.Status}}")
    assert [one for one in told if one in ("create", "init", "start", "restart")] == [
        "create", "init", "start", "restart", "init", "start",
    ]  # fmt: skip
    fresh.ok("rm", "-f", "-t", "0", "r")
