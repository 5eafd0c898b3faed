"""The quadlet command and the generator's verb. What systemd makes of it is tested in the machine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from rootless.cli.table import ABSENT
from rootless.container.options import UNSUPPORTED
from rootless.systemd.quadlet_file import Value, split
from tests.support.engine import Engine

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "units").mkdir()
    return tmp_path / "units"


def test_dry_run_tells_of_mistakes(rootless: Engine, folder: Path) -> None:
    env = {"QUADLET_UNIT_DIRS": str(folder)}
    (folder / "good.container").write_text("[Container]\nImage=localhost/host\nExec=true\n")
    result = rootless("quadlet", "--dryrun", env=env)
    assert (result.code, result.err) == (0, "") and "---good.service---" in result.out
    (folder / "bad.container").write_text("[Container]\nImage=localhost/host\n\nExecs=true\n")
    result = rootless("quadlet", "--dryrun", env=env)
    assert result.code == 1 and "---good.service---" in result.out
    wanted = f"rootless quadlet: {folder}/bad.container:4: unsupported key 'Execs' in group 'Container'\n"
    assert result.err == wanted


def test_generator(rootless: Engine, folder: Path, tmp_path: Path) -> None:
    env = {"QUADLET_UNIT_DIRS": str(folder)}
    (folder / "a.container").write_text(
        "[Container]\nImage=localhost/host\n[Install]\nWantedBy=default.target\n"
    )
    out = tmp_path / "out"
    rootless.ok("quadlet-generator", str(out), str(out), str(out), env=env)
    assert (out / "a.service").is_file()
    assert (out / "default.target.wants/a.service").resolve() == out / "a.service"
    assert (out / "rootless-user-wait-network-online.service").is_file()
    (folder / "b.container").write_text("[Container]\n")
    assert rootless("quadlet-generator", str(out), str(out), str(out), env=env).code == 1
    rootless.fails("quadlet-generator", "one")


def test_install_list_print_rm(rootless: Engine, tmp_path: Path) -> None:
    good, bad = tmp_path / "web.container", tmp_path / "bad.container"
    good.write_text("[Container]\nImage=localhost/host\n[Install]\nWantedBy=default.target\n")
    bad.write_text("[Container]\n")
    config = rootless.home / ".config"
    env = {"QUADLET_UNIT_DIRS": str(tmp_path / "home")}
    assert "nothing was installed" in rootless.fails(
        "quadlet", "install", str(good), str(bad), env=env
    )
    assert not (tmp_path / "home").exists()
    rootless.ok("quadlet", "install", str(good), env=env)
    assert "is there already" in rootless.fails("quadlet", "install", str(good), env=env)
    rootless.ok("quadlet", "install", "--force", str(good), env=env)
    unit = config / "systemd/user/web.service"
    assert unit.is_file(), "without a generator its work is done by the command"
    assert (config / "systemd/user/default.target.wants/web.service").is_symlink()
    (row,) = json.loads(rootless.ok("quadlet", "list", "--format", "json", env=env))
    assert (row["Name"], row["UnitName"]) == ("web.container", "web.service")
    assert rootless.ok("quadlet", "print", "web.container", env=env) == good.read_text().rstrip()
    assert rootless.ok("quadlet", "rm", "web.service", env=env) == "web.container"
    assert not unit.exists()
    assert not (config / "systemd/user/default.target.wants/web.service").is_symlink()
    assert "no such quadlet" in rootless.fails("quadlet", "rm", "web.container", env=env)


def test_install_leaves_a_unit_of_the_users_own(rootless: Engine, tmp_path: Path) -> None:
    """Where no generator makes units, they are written beside the user's: over none of them."""
    source = tmp_path / "mine.container"
    source.write_text("[Container]\nImage=localhost/host\n")
    env = {"QUADLET_UNIT_DIRS": str(tmp_path / "home")}
    unit = rootless.home / ".config/systemd/user/mine.service"
    unit.parent.mkdir(parents=True, exist_ok=True)
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    told = rootless.fails("quadlet", "install", str(source), env=env)
    assert f"{unit} is there already" in told and "ServiceName=" in told
    assert not (tmp_path / "home/mine.container").exists()
    (tmp_path / "home").mkdir()
    (tmp_path / "home/mine.container").write_bytes(source.read_bytes())
    other = tmp_path / "other.container"
    other.write_text("[Container]\nImage=localhost/host\n")
    rootless.ok("quadlet", "install", str(other), env=env)
    assert unit.read_text() == "[Service]\nExecStart=/bin/true\n"
    assert (unit.parent / "other.service").is_file()
    rootless.ok("quadlet", "rm", "other.container", env=env)
    unit.unlink()


def test_the_command_of_a_file_runs(rootless: Engine, folder: Path) -> None:
    """The line that systemd would call, called by us."""
    (folder / "q1.container").write_text(
        '[Container]\nImage=host\nContainerName=q1\nNetwork=none\nEnvironment="A=1 2"\nExec=sh -c \'echo "$A"\'\n'
        "[Service]\nType=oneshot\n"
    )
    text = rootless.ok("quadlet", "--dryrun", env={"QUADLET_UNIT_DIRS": str(folder)})
    (command,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    words = split(Value(command.partition("=")[2], ""))
    assert words[0].startswith("/") and "--cgroups=split" in words
    # Systemd would fill in the specifiers, and there is a cgroup to split only in its unit.
    own = [word.replace("%t/%N", str(folder)) for word in words[1:] if word != "--cgroups=split"]
    assert rootless.ok(*own) == "1 2"


def test_what_is_not_there_yet_is_told(rootless: Engine, folder: Path) -> None:
    """As long as it is not there: the units are made as Podman makes them."""
    env = {"QUADLET_UNIT_DIRS": str(folder)}
    (folder / "p.pod").write_text("[Pod]\n")
    (folder / "k.kube").write_text("[Kube]\nYaml=/x.yml\n")
    (folder / "b.build").write_text("[Build]\nImageTag=localhost/b\nFile=/Containerfile\n")
    (folder / "c.container").write_text("[Container]\nImage=localhost/b\nPod=p.pod\nSecret=s\n")
    (folder / "w.container").write_text(
        "[Container]\nImage=localhost/b\nPodmanArgs=--no-such-option\n"
    )
    result = rootless("quadlet", "--dryrun", env=env)
    assert result.code == 0
    assert [line for line in result.out.splitlines() if line.startswith("---")] == [
        f"---{name}.service---" for name in ("b-build", "c", "w", "k", "p-pod")
    ]
    for name, command in (
        ("p.pod: p-pod", "pod"),
        ("k.kube: k", "kube"),
        ("b.build: b-build", "build"),
    ):
        told = (
            f"warning: {folder}/{name}.service cannot start: rootless has no command `{command}`: "
        )
        assert (told in result.err) == (command in ABSENT)
    told = f"{folder}/c.container: c.service cannot start: --"
    assert (told in result.err) == ("pod_id_file" in UNSUPPORTED or "secret" in UNSUPPORTED)
    assert "w.service cannot start: unknown flag: --no-such-option\n" in result.err


def test_the_generators_file_finds_its_command(
    rootless: Engine, folder: Path, tmp_path: Path
) -> None:
    """Linked to from where systemd looks, with a bare PATH and no home but the user database's."""
    (folder / "a.container").write_text("[Container]\nImage=localhost/a\n")
    link = tmp_path / "rootless-user-generator"
    link.symlink_to(ROOT / "systemd-units/rootless-user-generator")
    out = tmp_path / "out"
    done = subprocess.run(
        [str(link), *[str(out)] * 3], env={"QUADLET_UNIT_DIRS": str(folder), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "/rootless run --name " in (out / "a.service").read_text()


def test_mistakes(rootless: Engine) -> None:
    assert "say --dryrun or one of" in rootless.fails("quadlet")
    assert "not frobnicate" in rootless.fails("quadlet", "frobnicate")
    assert "names are missing" in rootless.fails("quadlet", "rm")
