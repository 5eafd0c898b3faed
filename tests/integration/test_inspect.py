"""`inspect` and `container inspect`: Podman's document, its templates, and its words for what is not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import Engine

DOCUMENT = Path(__file__).parents[1] / "data/podman/inspect.json"


def shape(value: Any, at: str = "") -> dict[str, str]:
    """Every field's path and kind, but for those below maps of the user's own keys."""
    found: dict[str, str] = {}
    if isinstance(value, dict):
        for key, item in value.items():
            found[f"{at}.{key}"] = type(item).__name__
            if key not in ("Networks", "Annotations", "Labels", "Ports"):
                found.update(shape(item, f"{at}.{key}"))
    return found


# What a container has only while it runs, or where this engine has no such thing.
ABSENT = {".GraphDriver.Data.MergedDir", ".State.CgroupPath", ".State.ConmonPid"}


def test_document_has_podmans_fields(rootless: Engine) -> None:
    """Same keys in the same order and of the same types as Podman 5.4.2's of a running container."""
    rootless.ok("run", "-d", "--name", "c2", "--network", "none", "host", "sleep", "1000")
    ours = rootless.inspect("c2")
    theirs = json.loads(DOCUMENT.read_text())[0]
    wanted = {key: kind for key, kind in shape(theirs).items() if key not in ABSENT}
    got = {key: kind for key, kind in shape(ours).items() if key not in ABSENT}
    assert list(got) == list(wanted)
    differing = {key: (got[key], kind) for key, kind in wanted.items() if got[key] != kind}
    assert differing in ({}, {".Config.Labels": ("NoneType", "dict")})


def test_indentation_is_podmans(rootless: Engine) -> None:
    rootless.ok("create", "--name", "web", "host", "true")
    assert rootless("inspect", "web").out.startswith('[\n     {\n          "Id": "')


def test_state_tells_what_the_kernel_says(rootless: Engine) -> None:
    rootless.ok("create", "--name", "web", "host", "sh", "-c", "exit 3")
    state = rootless.inspect("web")["State"]
    assert (state["Status"], state["Running"], state["Pid"]) == ("created", False, 0)
    assert state["StartedAt"] == state["FinishedAt"] == "0001-01-01T00:00:00Z"
    assert rootless("start", "--attach", "web").code == 3
    state = rootless.inspect("web")["State"]
    assert (state["Status"], state["ExitCode"], state["Pid"]) == ("exited", 3, 0)
    assert state["FinishedAt"] > state["StartedAt"] > "2020"


def test_running_pid_is_inits(rootless: Engine) -> None:
    rootless.ok("run", "-d", "--name", "web", "--network", "none", "host", "sleep", "4242")
    pid = rootless.inspect("web")["State"]["Pid"]
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x004242\x00"


def test_options_are_shown(rootless: Engine) -> None:
    rootless.ok(
        *(
            "create",
            "--name",
            "web",
            "-v",
            "/tmp:/mnt:ro",
            "--tmpfs",
            "/tt",
            "--label",
            "a=b",
            "-p",
            "18080:80",
        ),
        *(
            "-e",
            "X=1",
            "--cap-add",
            "NET_ADMIN",
            "--cap-drop",
            "KILL",
            "--stop-signal",
            "USR1",
            "--read-only",
        ),
        *("--ulimit", "core=0:0", "--entrypoint", "/bin/echo", "host", "hi", "there"),
    )
    found = rootless.inspect("web")
    assert (found["Path"], found["Args"]) == ("/bin/echo", ["hi", "there"])
    assert found["Config"]["Entrypoint"] == ["/bin/echo"] and found["Config"]["Cmd"] == [
        "hi",
        "there",
    ]
    assert found["Config"]["Labels"] == {"a": "b"} and "X=1" in found["Config"]["Env"]
    assert found["Config"]["StopSignal"] == "SIGUSR1"
    assert found["Config"]["CreateCommand"][:4] == ["rootless", "create", "--name", "web"]
    assert found["Config"]["ExposedPorts"] == {"80/tcp": {}}
    binding = {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "18080"}]}
    assert found["NetworkSettings"]["Ports"] == found["HostConfig"]["PortBindings"] == binding
    host = found["HostConfig"]
    assert host["Binds"] == ["/tmp:/mnt:ro,rprivate,rbind"]
    assert host["Tmpfs"] == {"/tt": "rw,rprivate,nosuid,nodev,tmpcopyup"}
    assert (host["CapAdd"], host["CapDrop"]) == (["CAP_NET_ADMIN"], ["CAP_KILL"])
    assert host["ReadonlyRootfs"] is True
    assert {"Name": "RLIMIT_CORE", "Soft": 0, "Hard": 0} in host["Ulimits"]
    assert found["Mounts"] == [
        {
            "Type": "bind",
            "Source": "/tmp",
            "Destination": "/mnt",
            "Driver": "",
            "Mode": "",
            "Options": ["rbind"],
            "RW": False,
            "Propagation": "rprivate",
        }
    ]


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ("{{.Name}}", "web"),
        ("{{.State.Status}} {{.State.ExitCode}}", "created 0"),
        ("{{.Config.Labels.a}} {{.Config.Labels.x}}", "b <no value>"),
        ('{{index .Config.Labels "a"}}', "b"),
        ("{{.LockNumber}} {{.Config.SdNotifyMode}}", "0 container"),
        ("{{.State.StartedAt}}", "0001-01-01 00:00:00 +0000 UTC"),
        ("{{.State.StartedAt.IsZero}}", "true"),
        ("{{json .State.StartedAt}}", '"0001-01-01T00:00:00Z"'),
        ("{{json .HostConfig.RestartPolicy}}", '{"Name":"no","MaximumRetryCount":0}'),
        (
            "{{.HostConfig.CapAdd}}{{.HostConfig.VolumesFrom}}{{.HostConfig.CgroupConf}}",
            "[][]map[]",
        ),
        ("{{range .Mounts}}{{.Src}}:{{.Dst}}{{end}}", "/tmp:/mnt"),
        ("table {{.Name}}", "web"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "down"),
    ],
)
def test_templates(rootless: Engine, template: str, wanted: str) -> None:
    rootless.ok("create", "--name", "web", "--label", "a=b", "-v", "/tmp:/mnt", "host", "true")
    assert rootless.ok("inspect", "--format", template, "web") == wanted


def test_id_by_both_names_and_created_in_seconds(rootless: Engine) -> None:
    identity = rootless.ok("create", "--name", "web", "host", "true")
    assert rootless.ok("inspect", "-f", "{{.Id}} {{.ID}}", "web") == f"{identity} {identity}"
    seconds = int(rootless.ok("inspect", "-f", "{{.Created.Unix}}", "web"))
    assert rootless.ok("inspect", "-f", '{{.Created.UTC.Format "2006-01-02"}}', "web").startswith(
        "20"
    )
    assert seconds > 1_700_000_000


def test_size(rootless: Engine) -> None:
    rootless.ok(
        "run",
        "--name",
        "web",
        "--network",
        "none",
        "host",
        "sh",
        "-c",
        "head -c 5000 /dev/zero > /root/f",
    )
    found = json.loads(rootless.ok("container", "inspect", "--size", "web"))
    assert found[0]["SizeRw"] >= 5000
    assert found[0]["SizeRootFs"] >= found[0]["SizeRw"]
    assert "SizeRw" not in rootless.inspect("web")


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (("inspect", "nosuch"), 'Error: no such object: "nosuch"'),
        (("container", "inspect", "nosuch"), "Error: no such container nosuch"),
        (("inspect", "--type", "image", "nosuch"), "Error: nosuch: image not known"),
        (("inspect", "--type", "pod", "nosuch"), "Error: no such pod nosuch"),
        (
            ("inspect", "--type", "network", "nosuch"),
            "Error: network nosuch: unable to find network with name or ID nosuch: network not found",
        ),
        (("inspect",), "Error: no names or ids specified"),
        (("inspect", "--latest", "web"), "Error: --latest and arguments cannot be used together"),
        (
            ("inspect", "--type", "foo", "web"),
            'Error: invalid type "foo": must be "image", "container", "pod", "network", "volume", or "all"',
        ),
        (
            ("inspect", "--type", "image", "--size", "x"),
            'Error: size is not supported for type "image"',
        ),
        (
            ("inspect", "--format", "{{.Foo}}", "web"),
            'Error: template: inspect:1:13: executing "inspect" at <.Foo>: '
            "can't evaluate field Foo in type interface {}",
        ),
        (
            ("inspect", "--format", "{{.State.Foo}}", "web"),
            'Error: template: inspect:1:19: executing "inspect" at <.State.Foo>: '
            "can't evaluate field Foo in type *define.InspectContainerState",
        ),
    ],
)
def test_errors_are_podmans(rootless: Engine, args: tuple[str, ...], error: str) -> None:
    rootless.ok("create", "--name", "web", "host", "true")
    assert rootless.fails(*args).splitlines()[-1] == error


def test_what_is_there_is_shown_beside_what_is_not(rootless: Engine) -> None:
    rootless.ok("create", "--name", "web", "host", "true")
    result = rootless("inspect", "-f", "{{.Name}}", "web", "nosuch", "neither")
    assert (result.code, result.out) == (125, "web\n")
    assert result.err == 'no such object: "neither"\nError: no such object: "nosuch"\n'
    assert rootless("inspect", "nosuch").out == "[]\n"


def test_latest(rootless: Engine) -> None:
    rootless.ok("create", "--name", "one", "host", "true")
    rootless.ok("create", "--name", "two", "host", "true")
    assert rootless.ok("container", "inspect", "-l", "-f", "{{.Name}}") == "two"


def test_image_by_name(rootless: Engine) -> None:
    rootless.ok("run", "--rm", "host", "true")
    (found,) = json.loads(rootless.ok("inspect", "--type", "image", "host"))
    assert found["RepoTags"] == ["localhost/host:latest"]
