"""`ps`: what Podman 5.4.2 prints for containers in the same states."""

from __future__ import annotations

import json

import pytest

from tests.support.engine import Engine


@pytest.fixture
def three(rootless: Engine) -> Engine:
    """One created with all that a list can show, one running, one ended with status 3."""
    rootless.ok(
        "create", "--name", "pa", "-l", "a=b", "-l", "c=d", "--network", "none",
        "-v", "/tmp:/x", "-v", "psvol:/data", "--expose", "443", "--expose", "7000-7002/udp",
        "host", "sh", "-c", "echo hello world this is long",
    )  # fmt: skip
    rootless.ok("run", "-d", "--name", "pb", "--network", "none", "host", "sleep", "4242")
    rootless("run", "--name", "pc", "--network", "none", "host", "sh", "-c", "exit 3")
    return rootless


def test_table(three: Engine) -> None:
    heading, *rows = three.ok("ps", "-a").splitlines()
    assert heading.split("  ")[0] == "CONTAINER ID"
    assert heading.split() == "CONTAINER ID IMAGE COMMAND CREATED STATUS PORTS NAMES".split()
    starts = [
        heading.index(word) for word in ("IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES")
    ]
    cells = [
        [row[a:b].rstrip() for a, b in zip([0, *starts], [*starts, None], strict=True)]
        for row in rows
    ]
    ids = three.ok("ps", "-aq").splitlines()
    assert [row[0] for row in cells] == ids and all(len(one) == 12 for one in ids)
    assert {row[1] for row in cells} == {"localhost/host:latest"}
    assert [row[2] for row in cells] == ["sh -c echo hello ...", "sleep 4242", "sh -c exit 3"]
    assert all(row[3].endswith(" ago") for row in cells)
    assert cells[0][4] == "Created"
    assert cells[1][4].startswith("Up ")
    assert cells[2][4].startswith("Exited (3) ") and cells[2][4].endswith(" ago")
    assert cells[0][5] == "443/tcp, 7000-7002/udp"
    assert [row[6] for row in cells] == ["pa", "pb", "pc"]


def test_only_running_ones_unless_asked(three: Engine) -> None:
    names = ("--format", "{{.Names}}")
    assert three.ok("ps", *names) == "pb"
    assert three.ok("ps", "-a", *names).split() == ["pa", "pb", "pc"]
    assert three.ok("ps", "--filter", "status=exited", *names) == "pc"
    assert three.ok("ps", "--filter", "name=pc", *names) == ""
    assert three.ok("ps", "--last", "2", *names).split() == ["pb", "pc"]
    assert three.ok("ps", "--last", "0", *names) == "pb"
    assert three.ok("ps", "--latest", *names) == "pc"
    assert three.ok("container", "ls", *names) == "pb"


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["name=^p[ab]$"], "pa pb"),
        (["name=pa", "name=pb"], "pa pb"),
        (["name=("], ""),
        (["label=a"], "pa"),
        (["label=a=b", "label=c"], "pa"),
        (["label=a=x"], ""),
        (["label!=a"], "pb pc"),
        (["exited=3"], "pc"),
        (["exited=0"], ""),
        (["status=running", "status=created"], "pa pb"),
        (["status=stopped"], "pc"),
        (["volume=psvol"], "pa"),
        (["volume=psvol:/data"], "pa"),
        (["volume=/x"], "pa"),
        (["before=pb"], "pa"),
        (["since=pa"], "pb pc"),
        (["ancestor=host"], "pa pb pc"),
        (["ancestor=nothing-like-it"], ""),
        (["restart-policy=none"], "pa pb pc"),
        (["health=healthy"], ""),
        (["until=10m"], ""),
        (["until=2100-01-01"], "pa pb pc"),
        (["network=foo"], ""),
        (["pod=foo"], ""),
        (["command=^sh$"], "pa pc"),
        (["name=p", "status=exited"], "pc"),
    ],
)
def test_filters(three: Engine, filters: list[str], names: str) -> None:
    words = [word for one in filters for word in ("--filter", one)]
    assert three.ok("ps", "-a", "--format", "{{.Names}}", *words).split() == names.split()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--filter", "foo"], 'invalid filter "foo"'),
        (["--filter", "foo=x"], "foo is an invalid filter"),
        (["--filter", "status=foo"], "unknown container state: foo: invalid argument"),
        (["--filter", "until=x"], 'failed to parse value as time or duration: "x"'),
        (
            ["--filter", "before=nonex"],
            'no container with name or ID "nonex" found: no such container',
        ),
        (["--filter", "restart-policy=foo"], "foo invalid restart policy"),
        (["--latest", "--last", "1"], "last and latest are mutually exclusive"),
        (["-q", "--size"], "quiet conflicts with size and namespace"),
        (["-q", "--ns"], "quiet conflicts with size and namespace"),
        (["--size", "--ns"], "size and namespace options conflict"),
        (["-w", "1", "-l"], "the watch and latest flags cannot be used together"),
        (["extra"], "`rootless ps` takes no arguments"),
        (["--format", "{{.Names"], "template: ps:1: bad character U+007B '{'"),
        (
            ["--sort", "foo"],
            'invalid argument "foo" for "--sort" flag: "foo" is not a valid value.  Choose from: '
            "\"command, created, id, image, names, runningfor, size, status\"\nSee 'rootless ps --help'",
        ),
    ],
)
def test_mistakes(rootless: Engine, words: list[str], message: str) -> None:
    assert rootless.fails("ps", *words) == f"Error: {message}\n"


def test_a_field_that_is_not_there(three: Engine) -> None:
    assert three.fails("ps", "--format", "{{.Foo}}") == (
        'Error: template: ps:1:13: executing "ps" at <.Foo>: '
        "can't evaluate field Foo in type containers.psReporter\n"
    )


def test_templates(three: Engine) -> None:
    form = "{{.Names}} {{.Labels}} {{.Mounts}} {{.State}} {{.ExitCode}} {{.Exited}} {{.Restarts}}"
    assert three.ok("ps", "-a", "--format", form).splitlines() == [
        "pa map[a:b c:d] [/x /data] created 0 false 0",
        "pb map[] [] running 0 false 0",
        "pc map[] [] exited 3 true 0",
    ]
    assert three.ok("ps", "-a", "--format", '{{.Names}}={{.Label "a"}}').split() == [
        "pa=b",
        "pb=",
        "pc=",
    ]
    assert three.ok("ps", "-a", "--format", "{{range .}}{{.Names}};{{end}}") == "pa;pb;pc;"
    assert (
        three.ok("ps", "-a", "--format", r"{{.Names}}\t{{.State}}").splitlines()[0] == "pa\tcreated"
    )
    assert three.ok("ps", "-a", "--format", "table {{.Names}} {{.State}}").splitlines() == [
        "NAMES       STATE",
        "pa          created",
        "pb          running",
        "pc          exited",
    ]
    assert three.ok("ps", "-a", "--noheading", "--format", "table {{.Names}}").split() == [
        "pa",
        "pb",
        "pc",
    ]
    row = json.loads(three.ok("ps", "--format", "{{json .}}"))
    assert row["Names"] == ["pb"] and row["Command"] == ["sleep", "4242"]


def test_json(three: Engine) -> None:
    first, second, third = json.loads(three.ok("ps", "-a", "--format", "json"))
    assert (
        list(first)
        == (
            "AutoRemove Command Created CreatedAt CIDFile Exited ExitedAt ExitCode ExposedPorts Id Image ImageID "
            "IsInfra Labels Mounts Names Namespaces Networks Pid Pod PodName Ports Restarts Size StartedAt State Status"
        ).split()
    )
    assert first["ExposedPorts"] == {
        "443": ["tcp"],
        "7000": ["udp"],
        "7001": ["udp"],
        "7002": ["udp"],
    }
    assert first["Status"] == "Created" and first["StartedAt"] == -62135596800
    assert first["Labels"] == {"a": "b", "c": "d"} and second["Labels"] is None
    assert second["Pid"] > 0 and second["Status"].startswith("Up ")
    assert third["ExitCode"] == 3 and third["Exited"] and third["ExitedAt"] >= third["Created"]


def test_namespaces_are_the_kernel_s(three: Engine) -> None:
    import os

    heading, row = three.ok("ps", "--ns").splitlines()
    assert heading.split() == (
        "CONTAINER ID NAMES PID CGROUPNS IPC MNT NET PIDNS USERNS UTS".split()
    )
    cells = row.split()
    mount = os.readlink(f"/proc/{cells[2]}/ns/mnt")
    assert cells[1] == "pb" and cells[5] == mount.removeprefix("mnt:[").removesuffix("]")


def test_sizes(three: Engine) -> None:
    three.ok("exec", "pb", "sh", "-c", "head -c 100000 /dev/zero > /root/file")
    size = three.ok("ps", "--size", "--format", "{{.Size}}")
    assert size.startswith("100kB (virtual ")


def test_sorted(three: Engine) -> None:
    names = ("-a", "--format", "{{.Names}}", "--sort")
    assert three.ok("ps", *names, "names").split() == ["pa", "pb", "pc"]
    assert three.ok("ps", *names, "command").split() == ["pa", "pc", "pb"]
    ids = three.ok("ps", "-aq", "--sort", "id").split()
    assert ids == sorted(ids)


def test_empty(rootless: Engine) -> None:
    assert (
        rootless.ok("ps").split() == "CONTAINER ID IMAGE COMMAND CREATED STATUS PORTS NAMES".split()
    )
    assert rootless.ok("ps", "--noheading") == ""
    assert rootless.ok("ps", "-q") == ""
    assert rootless.ok("ps", "--format", "json") == "[]"


def test_case_50_labels_cannot_drive_the_terminal(rootless: Engine) -> None:
    import os
    import pty

    rootless.ok(
        "create", "--name", "esc", "-l", "x=a\033[2Jb\rc", "--network", "none", "host", "true"
    )
    raw = rootless("ps", "-a", "--format", '{{.Label "x"}}')
    assert raw.raw_out == b"a\033[2Jb\rc\n"  # data for a program stay as they are
    controller, terminal = pty.openpty()
    process = rootless.popen("ps", "-a", "--format", '{{.Label "x"}}', stdout=terminal)
    os.close(terminal)
    assert process.wait() == 0
    shown = os.read(controller, 4096)
    os.close(controller)
    assert shown == b"a\\x1b[2Jb\\x0dc\r\n"
