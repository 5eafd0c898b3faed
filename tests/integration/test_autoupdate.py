"""auto-update, with a stand-in for systemctl that does what the unit's restart would."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.registry import DockerRegistry

COMMAND = "test ! -e /bad && exec sleep 1000"


class Service:
    """A unit `web.service` whose container runs an image under a name that changes."""

    def __init__(
        self, rootless: Engine, folder: Path, image: str, policy: str, *options: str
    ) -> None:
        self.rootless = rootless
        self.start = (
            "run", "-d", "--replace", "--name", "web", "--network", "none", "--label", f"io.containers.autoupdate={policy}",
            *options, image, "sh", "-c", COMMAND,
        )  # fmt: skip
        self.image = image
        words = " ".join(f"'{word}'" for word in (*rootless.program, *self.start))
        script = folder / "systemctl"
        script.write_text(f"#!/bin/sh\n[ \"$*\" = '--user restart web.service' ] && exec {words}\n")
        script.chmod(0o755)
        self.env = {"PODMAN_SYSTEMD_UNIT": "web.service", "PATH": f"{folder}:{os.environ['PATH']}"}
        rootless.ok(*self.start, env=self.env)

    def update(self, *words: str, code: int = 0) -> str:
        result = self.rootless("auto-update", *words, "--format", "json", env=self.env)
        assert result.code == code, result
        (row,) = json.loads(result.out)
        assert (row["Unit"], row["ContainerName"], row["Image"]) == (
            "web.service",
            "web",
            self.image,
        )
        return str(row["Updated"])

    @property
    def running(self) -> str:
        return str(self.rootless.inspect("web")["Image"])

    def newer(self, command: str) -> str:
        """Give the image's name to another image, which `command` in a container has made."""
        self.rootless.ok(
            "run", "--name", "maker", "--network", "none", self.image, "sh", "-c", command
        )
        self.rootless.ok("commit", "-q", "maker", self.image)
        self.rootless.ok("rm", "maker")
        return str(self.rootless.inspect(self.image, "image")["Id"])


@pytest.fixture
def image(rootless: Engine, busybox: str) -> str:
    name = "localhost/app:1"
    rootless.ok("tag", busybox, name)
    return name


def test_local(rootless: Engine, image: str, tmp_path: Path) -> None:
    service = Service(rootless, tmp_path, image, "local")
    assert service.update() == "false"
    newer = service.newer("touch /better")
    assert service.update("--dry-run") == "pending"
    assert service.running != newer
    assert service.update() == "true"
    assert service.running == newer
    assert service.update() == "false"


def test_an_image_that_fails_is_taken_back_and_not_tried_again(
    rootless: Engine, image: str, tmp_path: Path
) -> None:
    service = Service(rootless, tmp_path, image, "local")
    before = service.running
    bad = service.newer("touch /bad")
    assert service.update(code=125) == "rolled back"
    assert service.running == before
    assert rootless.inspect(image, "image")["Id"] == before
    rootless.ok("tag", bad, image)
    assert service.update() == "false"
    assert "rolled back  (web.service)" in rootless.ok("auto-update", "--history")


def test_unhealthy_is_taken_back(rootless: Engine, image: str, tmp_path: Path) -> None:
    service = Service(
        rootless, tmp_path, image, "local", "--health-cmd", "test ! -e /sick", "--health-interval", "50ms",
    )  # fmt: skip
    before = service.running
    service.newer("touch /sick")
    assert service.update(code=125) == "rolled back"
    assert service.running == before
    service.newer("touch /well")
    assert service.update() == "true"
    assert service.running != before


def test_without_rollback(rootless: Engine, image: str, tmp_path: Path) -> None:
    service = Service(rootless, tmp_path, image, "local")
    bad = service.newer("touch /bad")
    assert service.update("--rollback=false", code=125) == "failed"
    assert rootless.inspect(image, "image")["Id"] == bad


@pytest.mark.needs("docker-registry")
def test_registry(rootless: Engine, busybox_archive: Path, image: str, tmp_path: Path) -> None:
    with DockerRegistry() as server:
        name = f"{server.host}/team/app:1"

        def upload(archive: str) -> None:
            words = [
                "skopeo",
                "copy",
                "-q",
                "--dest-tls-verify=false",
                f"docker-archive:{archive}",
                f"docker://{name}",
            ]
            subprocess.run(words, check=True, capture_output=True, timeout=60)

        upload(str(busybox_archive))
        rootless.ok("pull", "-q", "--tls-verify=false", name)
        service = Service(rootless, tmp_path, name, "registry")
        before = service.running
        assert service.update("--tls-verify=false") == "false"
        rootless.ok("run", "--name", "maker", "--network", "none", image, "touch", "/new")
        rootless.ok("commit", "-q", "maker", "localhost/made:1")
        rootless.ok("save", "-o", str(tmp_path / "made.tar"), "localhost/made:1")
        upload(str(tmp_path / "made.tar"))
        assert service.update("--tls-verify=false", "--dry-run") == "pending"
        assert service.update("--tls-verify=false") == "true"
        assert service.running != before
        assert service.update("--tls-verify=false") == "false"


def test_refused(rootless: Engine, image: str) -> None:
    label = ("run", "-d", "--network", "none", "--label")
    rootless.ok(*label, "io.containers.autoupdate=local", "--name", "u1", image, "sleep", "1000")
    assert "it has no label PODMAN_SYSTEMD_UNIT" in rootless.fails("auto-update")
    rootless.ok("rm", "-f", "-t", "0", "u1")
    env = {"PODMAN_SYSTEMD_UNIT": "x.service"}
    rootless.ok(
        *label, "io.containers.autoupdate=image?", "--name", "u2", image, "sleep", "1000", env=env
    )
    assert "no such policy" in rootless.fails("auto-update")
    rootless.ok("rm", "-f", "-t", "0", "u2")
    rootless.ok(
        *label,
        "io.containers.autoupdate=registry",
        "--name",
        "u3",
        "app:1",
        "sleep",
        "1000",
        env=env,
    )
    assert "is a short name" in rootless.fails("auto-update")
    rootless.ok("rm", "-f", "-t", "0", "u3")
    assert rootless.ok("auto-update") == ""
