"""commit: what a container changed, as a layer; and that a container of the result sees the same."""

from __future__ import annotations

import pytest

from tests.support.engine import Engine

pytestmark = pytest.mark.needs("userns", "subids", "overlay")

SCRIPT = (
    "echo new > /new; rm /etc/group; mkdir /d; chown 5:6 /d; chmod 4755 /new; ln /new /hard; "
    "ln -s new /soft; mkfifo /fifo; rm -r /home/app; mkdir /home/app; touch /home/app/only"
)
CHECK = (
    "cat /new; ls /etc/group 2>/dev/null; stat -c '%u:%g %a' /d /new; stat -c %h /hard; readlink /soft; "
    "stat -c %F /fifo; ls /home/app"
)
SEEN = ["new", "5:6 755", "0:0 4755", "2", "new", "fifo", "only"]


@pytest.fixture
def changed(rootless: Engine, busybox: str) -> str:
    """A container that has run SCRIPT."""
    rootless.ok("run", "--name", "changed", "--network", "none", busybox, "sh", "-c", SCRIPT)
    return "changed"


@pytest.mark.parametrize("words", [[], ["--squash"], ["-f", "docker"]])
def test_the_image_holds_what_the_container_did(
    rootless: Engine, busybox: str, changed: str, words: list[str]
) -> None:
    identity = rootless.ok("commit", *words, changed, "local/changed")
    assert (
        rootless("run", "--rm", "--network", "none", "local/changed", "sh", "-c", CHECK).lines
        == SEEN
    )
    [found] = rootless("image", "inspect", "local/changed").json
    assert found["Id"] == identity
    assert len(found["RootFS"]["Layers"]) == (1 if words == ["--squash"] else 2)
    assert ("docker" in found["ManifestType"]) == (words == ["-f", "docker"])
    rootless.ok("rmi", "local/changed")


def test_a_container_that_is_a_plain_copy(rootless: Engine, busybox: str) -> None:
    vfs = ("--storage-driver", "vfs")
    rootless.ok(*vfs, "run", "--name", "copy", "--network", "none", busybox, "sh", "-c", SCRIPT)
    rootless.ok("commit", "copy", "local/copied")
    lines = rootless("run", "--rm", "--network", "none", "local/copied", "sh", "-c", CHECK).lines
    assert lines == SEEN
    changed = rootless("image", "diff", "local/copied").lines
    assert {"A /new", "D /etc/group", "A /home/app/only"} <= set(changed)
    assert not any(line.endswith("/bin/busybox") for line in changed)
    rootless.ok("rm", "copy")
    rootless.ok("rmi", "local/copied")


def test_settings_and_changes(rootless: Engine, busybox: str) -> None:
    rootless.ok(
        "create", "--name", "c", "--env", "A=1", "--user", "app", "--workdir", "/tmp",
        "--label", "l=1", "--expose", "90", busybox, "sleep", "9",
    )  # fmt: skip
    rootless.ok("commit", "c", "local/plain")
    [plain] = rootless("image", "inspect", "local/plain").json
    config = plain["Config"]
    assert "A=1" in config["Env"]
    assert (config["User"], config["WorkingDir"], config["Cmd"]) == ("app", "/tmp", ["sleep", "9"])
    assert config["Labels"] == {"l": "1"}
    assert config["ExposedPorts"] == {"90/tcp": {}}
    changes = [
        'CMD ["x","y"]', "ENV Q=R B='two words'", "EXPOSE 80/udp", "VOLUME /v /w", "USER u:g", "WORKDIR sub",
        "ENTRYPOINT /bin/foo", 'LABEL a=b c="d e"', "ONBUILD RUN x", "STOPSIGNAL SIGUSR1",
    ]  # fmt: skip
    words = [word for change in changes for word in ("-c", change)]
    rootless.ok("commit", "-f", "docker", "-a", "me", "-m", "note", *words, "c", "local/full")
    [full] = rootless("image", "inspect", "local/full").json
    config = full["Config"]
    assert config["Cmd"] == ["x", "y"]
    assert config["Entrypoint"] == ["/bin/sh", "-c", "/bin/foo"]
    assert {"Q=R", "B=two words", "A=1"} <= set(config["Env"])
    assert config["ExposedPorts"] == {"90/tcp": {}, "80/udp": {}}
    assert config["Volumes"] == {"/v": {}, "/w": {}}
    assert (config["User"], config["WorkingDir"]) == ("u:g", "/tmp/sub")
    assert config["Labels"] == {"l": "1", "a": "b", "c": "d e"}
    assert (config["OnBuild"], config["StopSignal"]) == (["RUN x"], "SIGUSR1")
    assert (full["Author"], full["Comment"]) == ("me", "note")
    rootless.ok("rm", "c")
    rootless.ok("rmi", "local/plain", "local/full")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nosuch"], "no such container"),
        (["-m", "x", "c"], "messages are only compatible with the docker image format (-f docker)"),
        (["-f", "foo", "c"], "unrecognized image format"),
        (["-c", "FROM x", "c"], "invalid instruction FROM"),
        (["c", "BAD NAME"], "invalid reference format"),
    ],
)
def test_mistakes(rootless: Engine, busybox: str, words: list[str], message: str) -> None:
    rootless.ok("create", "--name", "c", busybox)
    result = rootless("commit", *words)
    assert result.code == 125
    assert message in result.err


def test_a_running_container_may_be_held_meanwhile(rootless: Engine, busybox: str) -> None:
    rootless.ok("run", "-d", "--name", "r", "--network", "none", busybox, "sleep", "60")
    rootless.ok("commit", "--pause", "r", "local/held")
    assert rootless.ok("ps", "--format", "{{.State}}") == "running"
    rootless.ok("rm", "-f", "-t", "0", "r")
    rootless.ok("rmi", "local/held")


def test_committing_the_host_image_gives_a_host_image(rootless: Engine) -> None:
    rootless.ok("run", "--name", "h", "--network", "none", "host", "sh", "-c", "echo x > /root/x")
    rootless.ok("commit", "h", "local/hosted")
    assert rootless.ok("run", "--rm", "--network", "none", "local/hosted", "cat", "/root/x") == "x"
    rootless.ok("rm", "h")
    rootless.ok("rmi", "local/hosted")
