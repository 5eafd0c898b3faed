"""`info` and `version`: the kernel's and the host's facts, under Podman's names."""

from __future__ import annotations

import json
import os

from rootless import __version__
from tests.support.engine import Engine


def test_facts_are_the_host_s(rootless: Engine) -> None:
    facts = json.loads(rootless.ok("info", "--format", "json"))
    host, store = facts["host"], facts["store"]
    assert host["kernel"] == os.uname().release and host["hostname"] == os.uname().nodename
    assert host["cpus"] == os.cpu_count()
    assert host["security"]["rootless"] is True
    assert host["idMappings"]["uidmap"][0] == {"container_id": 0, "host_id": os.getuid(), "size": 1}
    assert host["os"] == "linux" and host["serviceIsRemote"] is False
    assert store["graphRoot"] == str(rootless.data) and store["runRoot"] == str(rootless.run)
    assert store["graphDriverName"] in ("overlay", "vfs")
    assert store["containerStore"] == {"number": 0, "paused": 0, "running": 0, "stopped": 0}
    assert facts["version"]["Version"] == __version__


def test_counts(rootless: Engine) -> None:
    rootless.ok("create", "--network", "none", "host", "true")
    rootless.ok("run", "-d", "--network", "none", "host", "sleep", "4646")
    form = "{{.Store.ContainerStore.Number}} {{.Store.ContainerStore.Running}} {{.Store.ContainerStore.Stopped}}"
    assert rootless.ok("info", "--format", form) == "2 1 1"


def test_templates_use_go_s_names(rootless: Engine) -> None:
    form = "{{.Host.Security.Rootless}} {{.Host.OCIRuntime.Name}} {{.Host.OS}} {{.Version.Version}}"
    assert rootless.ok("info", "-f", form) == f"true rootless linux {__version__}"
    assert rootless.ok("info", "-f", "{{.Store.GraphRoot}}") == str(rootless.data)
    assert rootless.ok("system", "info", "-f", "{{.Host.RemoteSocket.Exists}}") == "false"
    assert json.loads(rootless.ok("info", "-f", "{{json .Host.Distribution}}"))["distribution"]
    assert rootless.fails("info", "-f", "{{.Host.Foo}}") == (
        'Error: template: info:1:7: executing "info" at <.Host.Foo>: '
        "can't evaluate field Foo in type *define.HostInfo\n"
    )


def test_yaml_is_the_default(rootless: Engine) -> None:
    lines = rootless.ok("info").splitlines()
    assert lines[0] == "host:" and "store:" in lines and "version:" in lines
    assert f"  graphRoot: {rootless.data}" in lines


def test_version(rootless: Engine) -> None:
    rows = dict(line.split(":", 1) for line in rootless.ok("version").splitlines())
    assert rows["Version"].strip() == __version__ and rows["OS/Arch"].strip().startswith("linux/")
    for form in ("{{.Client.Version}}", "{{.Server.Version}}", "{{.Version}}"):
        assert rootless.ok("version", "--format", form) == __version__
    assert (
        json.loads(rootless.ok("version", "--format", "json"))["Client"]["Version"] == __version__
    )
    assert (
        rootless.ok("--version").split()[-1]
        == json.loads(rootless.ok("version", "--format", "json"))["Client"]["APIVersion"]
    )
