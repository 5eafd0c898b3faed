"""`generate systemd` on real containers."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.engine import Engine


def test_new_keeps_what_was_asked_for(rootless: Engine, tmp_path: Path) -> None:
    secret = tmp_path / "secret.env"
    secret.write_text("TOKEN=hidden\n")
    rootless.ok(
        "run", "-d", "--replace", "--name", "gs1", "-it", "--env-file", "secret.env", "-eFROM", "-e", "A=1 2",
        "--restart=always", "-p8080:80", "--network", "none", "host", "sleep", "1000",
        cwd=tmp_path, env={"FROM": "the shell"},
    )  # fmt: skip
    unit = rootless.ok("generate", "systemd", "--new", "-n", "gs1")
    assert "hidden" not in unit
    for piece in (
        "--env-file=secret.env", f"WorkingDirectory={tmp_path}", '"--env=A=1 2"', 'Environment="FROM=the shell"',
        "Restart=always", "--interactive", "--tty", "--publish=8080:80", "--replace", "--name=gs1", "--sdnotify=conmon",
        "--cgroups=split", "host sleep 1000",
    ):  # fmt: skip
        assert piece in unit, piece
    assert unit.count("--rm") == 1 and "--restart" not in unit
    rootless.ok("rm", "-f", "-t", "0", "gs1")


def test_start_and_stop_by_id_and_name(rootless: Engine, tmp_path: Path) -> None:
    identity = rootless.ok("create", "--name", "gs2", "--stop-timeout", "3", "host", "true")
    unit = rootless.ok("generate", "systemd", identity[:12])
    assert unit.startswith(f"# container-{identity}.service\n") and "TimeoutStopSec=63" in unit
    unit = rootless.ok("generate", "systemd", "--name", "--no-header", "--separator", "_", "gs2")
    assert unit.startswith("[Unit]\nDescription=rootless container_gs2.service\n")
    assert "start gs2" in unit
    written = rootless.ok(
        "generate", "systemd", "--files", "--format", "json", "-n", "gs2", cwd=tmp_path
    )
    assert json.loads(written) == {"container-gs2": str(tmp_path / "container-gs2.service")}
    assert (tmp_path / "container-gs2.service").read_text().endswith("WantedBy=default.target\n")


def test_case_48_values_of_variables_are_for_the_owner(rootless: Engine, tmp_path: Path) -> None:
    modes = {}
    for name, words in (("gs5", ("-e", "TOKEN=x")), ("gs6", ())):
        rootless.ok("create", "--name", name, *words, "host", "true")
        rootless.ok("generate", "systemd", "--new", "--files", "-n", name, cwd=tmp_path)
        modes[name] = (tmp_path / f"container-{name}.service").stat().st_mode & 0o777
    assert modes == {"gs5": 0o600, "gs6": 0o644}


def test_the_commands_of_a_unit_run(rootless: Engine, tmp_path: Path) -> None:
    """What the unit says, said by us: start with a name and a file that are left behind, stop, stop again."""
    rootless.ok("run", "-d", "--name", "gs3", "--network", "none", "host", "sleep", "1000")
    file = str(tmp_path / "id")
    start = (
        "run", f"--cidfile={file}", "--cgroups=no-conmon", "--rm", "--sdnotify=conmon", "-d", "--replace", "--name=gs3",
        "--network", "none", "host", "sleep", "1000",
    )  # fmt: skip
    rootless.ok(*start)
    rootless.ok("stop", "--ignore", "-t", "0", f"--cidfile={file}")
    rootless.ok("rm", "-f", "--ignore", "-t", "0", f"--cidfile={file}")
    assert rootless.ok("ps", "-aq") == ""


def test_refused(rootless: Engine) -> None:
    assert "no such container" in rootless.fails("generate", "systemd", "nobody")
    rootless.ok("create", "--name", "gs4", "host", "true")
    assert "not a valid restart policy" in rootless.fails(
        "generate", "systemd", "--restart-policy", "x", "gs4"
    )
    assert "pods are not available" in rootless.fails(
        "generate", "systemd", "--pod-prefix", "x", "gs4"
    )
    assert "accepts 1 arg(s)" in rootless.fails("generate", "systemd")
    assert "no name for a unit" in rootless.fails("generate", "systemd", "--separator", "/", "gs4")
